"""Options that several commands share, and their output: results on stdout, progress on stderr."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from gpmt import allocations
from gpmt.cli.narration import set_verbose

_EXAMPLE_WIDTH = 76
_ALLOCATIONS = allocations.names()

AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON document instead of text.", show_default=False)
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print nothing but errors and warnings.", show_default=False)
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        callback=set_verbose,
        help="Print how long each step takes, and where an error was raised.",
        show_default=False,
    ),
]
Sparsities = Annotated[
    list[str] | None,
    typer.Option(
        "--sparsity",
        "-s",
        metavar="[PATTERN=]RATIO",
        help="Fraction of the prunable weights to prune: 0.9, 90% or 9/10. With a pattern, such as '*.attn.*=0.8', "
        "that of the weights it matches; given several times, the first match decides, and '*=0.9' is the rest.",
        show_default=False,
    ),
]
MinKept = Annotated[
    str,
    typer.Option(
        help="Weights that every tensor keeps: a number, or percent of all prunable weights such as 0.05%."
    ),
]
Minimums = Annotated[
    list[str] | None,
    typer.Option(
        "--min-kept",
        metavar="[PATTERN=]NUMBER",
        help="Weights that every tensor, or every block of it, keeps: a number, percent of all prunable weights such "
        "as 0.05%, or of each block as in '5% of tensor', or auto for a number that fits the sparsity. With a "
        "pattern, those of what it matches.",
        show_default=False,
    ),
]
Within = Annotated[
    str,
    typer.Option(
        help="network for one threshold, tensor for one and the same sparsity in every tensor, or row for the same "
        "sparsity in every row."
    ),
]
Pattern = Annotated[
    str | None,
    typer.Option(
        metavar="N:M",
        help="N of every M inputs of an output are kept, such as 2:4; --sparsity is then not needed.",
    ),
]
MaxMacs = Annotated[
    str | None,
    typer.Option(
        "--max-macs",
        metavar="MACS",
        help="The most multiply-accumulates that are left: a number, or a share such as 10%; alone, or with "
        "--sparsity. The network has to be known: --model.",
    ),
]
Split = Annotated[
    list[str] | None,
    typer.Option(
        "--split",
        metavar="PATTERN=PARTS",
        help="How tensors divide into blocks with a floor each: '*.qkv.weight=q,k,v' for equal parts of the outputs, "
        "a number of them, or 1 for none; may be given several times.",
    ),
]
ShowBlocks = Annotated[
    bool, typer.Option("--blocks", help="Show every block in a line of its own.", show_default=False)
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show what would be done, and write nothing.", show_default=False)
]
Jobs = Annotated[int, typer.Option("--jobs", "-j", min=1, help="Runs at a time, which share cores and GPUs.")]
Allocation = Annotated[str, typer.Option(help=f"{', '.join(_ALLOCATIONS[:-1])} or {_ALLOCATIONS[-1]}.")]
Seed = Annotated[int, typer.Option(help="For allocations and scores that draw at random.")]
Scope = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="Prune only these tensors: a name, a glob, or re:REGEX; may be given several times.",
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(metavar="PATTERN", help="Leave these tensors alone; may be given several times."),
]
Granularity = Annotated[
    str,
    typer.Option(
        metavar="UNIT",
        help="What is pruned as one, which --sparsity and --min-kept count: weight, row (an output, filter), channel "
        "(an input), column (of matrices) or 1x4 (four inputs of an output).",
    ),
]
RecipeName = Annotated[str, typer.Argument(help="A shipped recipe's name, or the path of a YAML file.")]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME",
        help="The network these weights belong to, such as resnet20 or torchvision:resnet50, to know its "
        "layers and count MACs. Files of gpmt run name it themselves.",
    ),
]
Scores = Annotated[
    str | None,
    typer.Option(
        "--scores",
        metavar="NAME|FILE",
        help="What ranks the weights in place of their magnitude: fisher, ria, snip, taylor or wanda (with "
        "--calibrate), synflow, magnitude, random, or a file of gpmt.scores.save. For wanda add --within row, for "
        "ria --within tensor.",
    ),
]
Calibrate = Annotated[
    str | None,
    typer.Option(
        metavar="DATA",
        help="What the network is run on: NAME:FOLDER of a data set such as cifar10, imagefolder or hf; digits; or "
        "for a language model a text (.txt, or .jsonl with a text in each line).",
    ),
]
CalibrationSamples = Annotated[
    int,
    typer.Option(
        "--calibration-samples",
        min=1,
        metavar="N",
        help="Training samples, or sequences of tokens, to calibrate on.",
    ),
]
CalibrationBatch = Annotated[
    int | None,
    typer.Option("--batch-size", min=1, metavar="N", help="Samples at a time; usually 64, of sequences 8."),
]
SequenceLength = Annotated[
    int | None,
    typer.Option(
        "--sequence-length",
        min=2,
        metavar="N",
        help="Tokens in a sequence; usually 512, or fewer where the network takes no more.",
    ),
]
Compensate = Annotated[
    bool,
    typer.Option(
        "--compensate",
        help="Let kept weights make up for pruned ones, as SparseGPT does (with --calibrate).",
        show_default=False,
    ),
]
Recalibrate = Annotated[
    bool,
    typer.Option(
        "--recalibrate",
        help="Measure the statistics of batch normalisation again after pruning (with --calibrate).",
        show_default=False,
    ),
]
InputShape = Annotated[
    str | None, typer.Option("--input", metavar="CxHxW", help="Shape of one input, such as 3x224x224.")
]


def examples(*commands: str) -> str:
    """Return commands for the end of a help page, each on lines that can be copied from 80 columns."""
    lines = [line for command in commands for line in _continued(command)]
    return "\n".join(["Examples", "", *lines])


def _continued(command: str) -> list[str]:
    """Break a command between words, not inside quotes nor before the value of an option; a shell takes the lines."""
    lines = [""]
    for word in re.findall(r"(?:--\S+ (?=[^-]))?(?:[^\s']|'[^']*')+", command):
        if lines[-1] and len(lines[-1]) + len(word) + 1 > _EXAMPLE_WIDTH:
            lines[-1] += " \\"
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return [lines[0], *(f"  {line}" for line in lines[1:])]


def print_json(document: Mapping[str, Any]) -> None:
    """Print a document on stdout."""
    print(json.dumps(document, indent=2, allow_nan=False))


def check_exists(path: Path) -> None:
    """Raise `CheckpointError` where there is nothing at `path`, before PyTorch is imported to read it."""
    if not path.exists():
        from gpmt.formats.file_format import read_head

        read_head(path)


def check_request(*, sparsity: str | None = None, min_kept: str = "0") -> None:
    """Raise `BudgetError` for a value that cannot be right for any network, before PyTorch is imported."""
    from gpmt.core.budget.budget import parse_min_kept, parse_sparsity

    if sparsity is not None:
        parse_sparsity(sparsity)
    parse_min_kept(min_kept, 0)
