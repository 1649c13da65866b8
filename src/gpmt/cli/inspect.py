"""``gpmt inspect``: what is in a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gpmt.cli.files import disk_size
from gpmt.cli.narration import working
from gpmt.cli.options import (
    AsJson,
    Exclude,
    InputShape,
    ModelName,
    Quiet,
    Scope,
    Verbose,
    check_exists,
    examples,
    print_json,
)

if TYPE_CHECKING:
    from gpmt.core.scope import Scope as FoundScope
    from gpmt.formats.arrays import MaskArray
    from gpmt.formats.checkpoint import Checkpoint
    from gpmt.verification import TensorCount

EXAMPLES = examples(
    "gpmt inspect resnet50.pth",
    "gpmt inspect model_best.pth.tar --model resnet20",
    "gpmt inspect masks.safetensors --json",
)


def inspect(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="Weights: files or folders of any known tool, those of runs, or masks.",
        ),
    ],
    scope: Scope = None,
    exclude: Exclude = None,
    model: ModelName = None,
    input_shape: InputShape = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Show what of a file can be pruned, what is zero already, and what else it holds.

    With several files and --json, the document is {"files": [...]}.
    """
    for path in paths:
        check_exists(path)
    silent = quiet or as_json
    documents = []
    for number, path in enumerate(paths):
        if number and not silent:
            print()
        documents.append(
            _inspect(path, scope=scope, exclude=exclude, model=model, input_shape=input_shape, silent=silent)
        )
    if as_json:
        print_json(documents[0] if len(documents) == 1 else {"files": documents})


def _inspect(
    path: Path,
    *,
    scope: list[str] | None,
    exclude: list[str] | None,
    model: str | None,
    input_shape: str | None,
    silent: bool,
) -> dict[str, Any]:
    """Print what is in one file unless `silent`, and return the same as a document."""
    from gpmt.formats.arrays import read_masks

    if (masks := read_masks(path)) is not None:
        return _inspect_masks(path, masks, silent)

    from gpmt.formats.load import load

    with working(f"reading {path}", quiet=silent):
        checkpoint = load(path)

    from gpmt.cli.network import find_network
    from gpmt.core.scope import find_scope
    from gpmt.verification import count_tensors

    with working(f"counting {path}", quiet=silent):
        network = find_network(checkpoint, model=model, input_shape=input_shape)
        target = network.module if network else checkpoint.state_dict
        found = find_scope(target, scope=scope or None, exclude=exclude or ())
        rows = count_tensors(found)
    macs = network.macs if network else None
    facts = _facts(checkpoint, found, rows)
    if not silent:
        _print(checkpoint, found, rows, facts, macs)
    return facts | {"dense_macs": macs}


def _print(
    checkpoint: Checkpoint,
    found: FoundScope,
    rows: tuple[TensorCount, ...],
    facts: dict[str, Any],
    macs: dict[str, int | None] | None,
) -> None:
    from gpmt.report.tables import console, count_table, totals

    screen, path = console(), checkpoint.path
    screen.print(count_table(rows, macs=macs, out=screen))
    screen.print(totals(facts["weights"], facts["kept"]))
    others = facts["other_tensors"]
    screen.print(str(found.judged))
    screen.print(f"{others['count']:,} other tensors, not in scope, with {others['values']:,} values")
    for name, further in found.aliases.items():
        screen.print(f"tied, counted once: {name} = {' = '.join(further)}")
    screen.print(f"{path}: {facts['format']}, {', '.join(facts['dtypes'])}, {facts['bytes']:,} bytes")
    if checkpoint.key or checkpoint.prefix:
        screen.print(f"weights under {checkpoint.key or 'no key'}, prefix {checkpoint.prefix or '(none)'}")
    if checkpoint.masks is not None:
        screen.print(f"it has masks of {len(checkpoint.masks)} tensors: {checkpoint.masks!r}")
    if checkpoint.other_keys:
        screen.print(f"also in it: {', '.join(checkpoint.other_keys)}")


def _facts(checkpoint: Checkpoint, found: FoundScope, rows: tuple[TensorCount, ...]) -> dict[str, Any]:
    inside = {*found.tensors, *(name for names in found.aliases.values() for name in names)}
    others = [tensor for name, tensor in checkpoint.state_dict.items() if name not in inside]
    kept, numel = sum(row.kept for row in rows), found.numel
    return {
        "file": str(checkpoint.path),
        "format": checkpoint.source,
        "bytes": disk_size(checkpoint.path),
        "key": checkpoint.key,
        "prefix": checkpoint.prefix,
        "other_keys": checkpoint.other_keys,
        "metadata": checkpoint.metadata,
        "masks": None if checkpoint.masks is None else len(checkpoint.masks),
        "dtypes": sorted({str(tensor.dtype).removeprefix("torch.") for tensor in found.tensors.values()}),
        "weights": numel,
        "kept": kept,
        "pruned": numel - kept,
        "sparsity": (numel - kept) / numel,
        "scope": found.judged.to_dict(),
        "other_tensors": {"count": len(others), "values": sum(tensor.numel() for tensor in others)},
        "tensors": [row.to_dict() | {"aliases": list(found.aliases.get(row.name, ()))} for row in rows],
    }


def _inspect_masks(path: Path, masks: Mapping[str, MaskArray], silent: bool) -> dict[str, Any]:
    from gpmt.formats.masks.hashes import mask_hash

    numel, kept = (sum(getattr(mask, key) for mask in masks.values()) for key in ("numel", "kept"))
    sparsity = (numel - kept) / numel if numel else 0.0
    if not silent:
        from gpmt.report.tables import console, mask_table

        screen = console()
        screen.print(mask_table(masks, out=screen))
        pruned = f"{numel - kept:,} of {numel:,} weights pruned ({sparsity:.4%})"
        screen.print(f"{path}: masks of {len(masks)} tensors; {pruned}")
    tensors = [
        {
            "name": name,
            "shape": list(mask.shape),
            "weights": mask.numel,
            "kept": mask.kept,
            "density": mask.kept / max(mask.numel, 1),
        }
        for name, mask in masks.items()
    ]
    shapes = {name: mask.shape for name, mask in masks.items()}
    return {
        "file": str(path),
        "format": "gpmt-masks",
        "bytes": path.stat().st_size,
        "weights": numel,
        "kept": kept,
        "pruned": numel - kept,
        "sparsity": sparsity,
        "digest": mask_hash(shapes, {name: mask.packed for name, mask in masks.items()}),
        "tensors": tensors,
    }
