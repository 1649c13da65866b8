"""Model cards: the description of a network on a hub, with its sparsity."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from gpmt.core.scope.scope import find_scope
from gpmt.errors import CheckpointError
from gpmt.formats.checkpoint import Checkpoint
from gpmt.formats.suffixes import SPARSE_SUFFIX

Library = Literal["pytorch", "transformers", "timm"]

_TAGS = ("pruning", "sparse", "gpmt")
_ACCURACY = {"dense": "dense", "pruned": "pruned, not fine-tuned", "finetuned": "this network"}
_LARGEST_METRICS = 2**26
_LIBRARIES = {
    "transformers": """\
from transformers import AutoModel  # or the class that config.json names

model = AutoModel.from_pretrained(folder)  # this folder, or its name on the hub""",
    "timm": """\
import timm

model = timm.create_model(f"local-dir:{folder}", pretrained=True)  # on the hub: f"hf-hub:{name}\"""",
}

_PROGRAMS = {
    ".onnx": "import onnxruntime\n\nsession = onnxruntime.InferenceSession({})  # session.run(None, {{name: array}})",
    ".pt2": "import torch\n\nmodel = torch.export.load({}).module()",
}


def model_card(
    source: Checkpoint | Mapping[str, Tensor],
    *,
    name: str,
    base: str | None = None,
    metrics: Mapping[str, Any] | str | os.PathLike[str] | None = None,
    source_command: str | None = None,
    library: Library = "pytorch",
    file: str | None = None,
) -> str:
    """Return the model card of a network in Markdown, with the YAML header that hubs read; no licence is in it.

    Args:
        source: the weights, as a checkpoint or a state_dict.
        name: the title.
        base: what was pruned, e.g. "timm/resnet50.a1_in1k".
        metrics: the metrics.json of `gpmt run`, or its path, for the accuracy; by default the one beside a run's
            model.pt, where its counts are those of the weights.
        source_command: the command that made the network.
        library: what opens the folder: "transformers", "timm", or plain "pytorch".
        file: the file in the text on loading, whose suffix says how; by default the checkpoint's name, or
            "model.safetensors".

    Raises:
        CheckpointError: metrics that cannot be read, or that hold no accuracy.
        ScopeError: nothing is prunable.
    """
    checkpoint = source if isinstance(source, Checkpoint) else None
    state_dict = source.state_dict if isinstance(source, Checkpoint) else source
    masks = checkpoint.masks if checkpoint else None
    scope = find_scope(state_dict, scope=None if masks is None else list(masks))
    file = file or (checkpoint.path.name if checkpoint else "model.safetensors")
    rows = [(key, tensor, int(tensor.count_nonzero())) for key, tensor in scope.tensors.items()]
    weights, kept = scope.numel, sum(row[2] for row in rows)
    scores = _scores(metrics)
    if metrics is None and checkpoint is not None:
        scores = _scores_beside(checkpoint.path, weights, kept)
    fewest = min(rows, key=lambda row: row[2])
    dead = [key for key, _, left in rows if not left]
    parts = [
        _header(library, base),
        f"# {_plain(name)}",
        f"{weights - kept:,} of {weights:,} prunable weights are zero: a sparsity of "
        f"{(weights - kept) / weights:.4%}." + (f" Pruned from {_code(base)}." if base else ""),
        "Prunable weights are those of the tensors below; biases, norms and all else are not counted. Tied tensors "
        "count once.",
        _table(scores) if scores else "",
        "## Loading",
        _fenced("python", _loading(library, file, checkpoint)),
        "## Tensors",
        _tensor_table(rows),
        f"The fewest weights are kept in {_code(fewest[0])}: {fewest[2]:,} of {fewest[1].numel():,}. Tensors without "
        f"any weight left: {_listing(dead)}.",
        f"## How it was made\n\n{_fenced('', source_command)}" if source_command else "",
    ]
    text = "\n\n".join(part for part in parts if part) + "\n"
    return text.encode("utf-8", "backslashreplace").decode()  # names of files of torch.save may be no Unicode


def _header(library: str, base: str | None) -> str:
    lines = ["---", f"library_name: {library}", "tags:", *(f"- {tag}" for tag in _TAGS)]
    if base:
        lines.append(f"base_model: {json.dumps(base, ensure_ascii=False)}")  # a string of JSON is one of YAML
    return "\n".join([*lines, "---"])


def _tensor_table(rows: Iterable[tuple[str, Tensor, int]]) -> str:
    lines = ["| tensor | shape | weights | kept | sparsity |", "|---|---|---:|---:|---:|"]
    weights = kept = 0
    for name, tensor, left in rows:
        shape, size = "×".join(map(str, tensor.shape)), tensor.numel()
        cell = _code(name).replace("|", "\\|")
        lines.append(f"| {cell} | {shape} | {size:,} | {left:,} | {(size - left) / size:.2%} |")
        weights, kept = weights + size, kept + left
    lines.append(f"| total | | {weights:,} | {kept:,} | {(weights - kept) / weights:.4%} |")
    return "\n".join(lines)


def _listing(names: Sequence[str], limit: int = 10) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return (", ".join(map(_code, names[:limit])) or "none") + more


def _loading(library: Library, file: str, checkpoint: Checkpoint | None) -> str:
    """Return Python code that loads the weights: with the library, with PyTorch where it can, and with gpmt."""
    if library != "pytorch":
        return _LIBRARIES[library]
    if file.endswith(".json"):
        return "import gpmt\n\nmodel.load_state_dict(gpmt.load(folder).state_dict)  # this folder, and its network"
    quoted = json.dumps(file)
    for suffix, code in _PROGRAMS.items():
        if file.endswith(suffix):
            return code.format(quoted)
    either = f"import gpmt\n\nmodel.load_state_dict(gpmt.load({quoted}).state_dict)  # model: the network"
    other = file != checkpoint.path.name if checkpoint else False
    if file.endswith((SPARSE_SUFFIX, ".csr.pt", ".csc.pt")):
        return either
    if (
        checkpoint
        and not other
        and (checkpoint.prefix or checkpoint.source not in ("torch.save", "safetensors"))
    ):
        return either
    if file.endswith(".safetensors"):
        plain = f"from safetensors.torch import load_file\n\nstate_dict = load_file({quoted})"
    else:
        keys = checkpoint.key.split(".") if checkpoint and checkpoint.key else []
        inside = "".join(f"[{json.dumps(key)}]" for key in keys)
        plain = f"import torch\n\nstate_dict = torch.load({quoted}, weights_only=True){inside}"
    return f"{plain}\nmodel.load_state_dict(state_dict)  # model: the network\n\n# or, whatever the format:\n{either}"


def _scores_beside(path: Path, weights: int, kept: int) -> dict[str, Mapping[str, Any]]:
    """Return the accuracy in the metrics.json beside a run's model.pt, if its counts are those of the weights."""
    beside = path.parent / "metrics.json"
    if path.name != "model.pt" or not beside.is_file():
        return {}
    metrics = _read(beside)
    counted = (metrics.get("unit", "weights"), metrics.get("weights"), metrics.get("kept"))
    return _scores(metrics) if counted == ("weights", weights, kept) else {}


def _scores(metrics: Mapping[str, Any] | str | os.PathLike[str] | None) -> dict[str, Mapping[str, Any]]:
    """Return the accuracies in a run's metrics: name of the network -> its top-1, top-5 and images."""
    if metrics is None:
        return {}
    held = metrics if isinstance(metrics, Mapping) else _read(Path(metrics))
    scores = {label: held[key] for key, label in _ACCURACY.items() if _is_score(held.get(key))}
    if not scores:
        where = "metrics" if isinstance(metrics, Mapping) else str(metrics)
        raise CheckpointError(
            f"{where}: no accuracy is in it, such as that of finetuned; give the one of a gpmt run"
        )
    return scores


def _is_score(value: object) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("top1"), float) and 0 <= value["top1"] <= 1


def _table(scores: Mapping[str, Mapping[str, Any]]) -> str:
    lines = ["## Accuracy", "", "| network | top-1 | top-5 | test images |", "|---|---:|---:|---:|"]
    for label, score in scores.items():
        top5 = f"{score['top5']:.2%}" if isinstance(score.get("top5"), float) else ""
        images = f"{score['images']:,}" if isinstance(score.get("images"), int) else ""
        lines.append(f"| {label} | {score['top1']:.2%} | {top5} | {images} |")
    return "\n".join(lines)


def _read(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > _LARGEST_METRICS:
            raise ValueError("it is too large")
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is not the metrics.json of a gpmt run ({error}); give another"
        ) from None
    if not isinstance(held, Mapping):
        raise CheckpointError(f"{path} is not the metrics.json of a gpmt run (it holds a list); give another")
    return held


def _code(text: str) -> str:
    """Return a text as inline code of Markdown, whatever characters it has.

    >>> print(_code("a`b"))
    ``a`b``
    """
    text = re.sub(r"\s+", " ", text)
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    pad = " " if text[:1] == "`" or text[-1:] == "`" else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def _plain(text: str) -> str:
    """Return a text with the characters escaped that Markdown would interpret."""
    return re.sub(r"([\\`*_{}\[\]<>#|~&!])", r"\\\1", re.sub(r"\s+", " ", text).strip())


def _fenced(language: str, text: str) -> str:
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"
