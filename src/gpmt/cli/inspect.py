"""``gpmt inspect``: what is in a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
    from gpmt.core.scope.coverage import Coverage
    from gpmt.core.scope.judgement import Judgement
    from gpmt.core.scope.tensor_count import TensorCount
    from gpmt.formats.arrays import MaskArray

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
    request = _Request(scope, exclude, model, input_shape, silent)
    documents = []
    for number, path in enumerate(paths):
        if number and not silent:
            print()
        documents.append(_inspect(path, request))
    if as_json:
        print_json(documents[0] if len(documents) == 1 else {"files": documents})


@dataclass(frozen=True)
class _Request:
    """The options of the command."""

    scope: list[str] | None
    exclude: list[str] | None
    model: str | None
    input_shape: str | None
    silent: bool

    @property
    def plain(self) -> bool:
        """Whether no option asks for more than names, shapes and zeros."""
        return not (self.scope or self.exclude or self.model or self.input_shape)


def _inspect(path: Path, request: _Request) -> dict[str, Any]:
    """Print what is in one file unless it is to be silent, and return the same as a document."""
    from gpmt.formats.arrays import read_masks

    if (masks := read_masks(path)) is not None:
        return _inspect_masks(path, masks, request.silent)

    if request.plain and (contents := _without_torch(path, request.silent)):
        macs = None
    else:
        contents, macs = _with_torch(path, request)
    if not request.silent:
        _print(contents, macs)
    return contents.to_dict() | {"dense_macs": macs}


@dataclass
class _Contents:
    """What a file with weights holds; `others` are the tensors that are not in scope, and their values."""

    path: Path
    source: str
    rows: tuple[TensorCount, ...]
    judged: Judgement
    coverage: Coverage
    dtypes: list[str]
    others: tuple[int, int]
    metadata: Mapping[str, str]
    prefix: str
    key: str | None = None
    other_keys: list[str] = field(default_factory=list)
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    masks: int | None = None
    about_masks: str = ""

    @property
    def weights(self) -> int:
        """Number of prunable weights."""
        return sum(row.numel for row in self.rows)

    @property
    def kept(self) -> int:
        """Number of those that are not zero."""
        return sum(row.kept for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Return the contents as plain values, ready for JSON."""
        return {
            "file": str(self.path),
            "format": self.source,
            "bytes": disk_size(self.path),
            "key": self.key,
            "prefix": self.prefix,
            "other_keys": self.other_keys,
            "metadata": dict(self.metadata),
            "masks": self.masks,
            "dtypes": self.dtypes,
            "weights": self.weights,
            "kept": self.kept,
            "pruned": self.weights - self.kept,
            "sparsity": (self.weights - self.kept) / self.weights,
            "scope": self.judged.to_dict(),
            "coverage": self.coverage.to_dict(),
            "network_sparsity": self.coverage.whole_sparsity(self.weights - self.kept),
            "other_tensors": dict(zip(("count", "values"), self.others, strict=True)),
            "tensors": [
                row.to_dict() | {"aliases": list(self.aliases.get(row.name, ()))} for row in self.rows
            ],
        }


def _without_torch(path: Path, silent: bool) -> _Contents | None:
    """Look into a file whose network is not known, and whose tensors NumPy can read; None for any other."""
    from gpmt.core.scope.coverage import Coverage
    from gpmt.core.scope.judgement import BY_NAMES
    from gpmt.formats.array_counts import count_array, outside, prunable
    from gpmt.formats.arrays import read_weights
    from gpmt.formats.masks.summary import summary

    stored = read_weights(path)
    if stored is None or stored.record or stored.tied or (path.parent / "config.json").exists():
        return None
    found = prunable(stored.tensors)
    if not found:
        return None
    with working(f"counting {path}", quiet=silent):
        rows = tuple(
            count_array(name, kind, stored.tensors[name], stored.tensors) for name, kind in found.items()
        )
    others = [array.numel for name, array in stored.tensors.items() if name not in found]
    codes = stored.masks.values()
    return _Contents(
        path,
        stored.source,
        rows,
        BY_NAMES,
        Coverage(sum(row.numel for row in rows), outside(stored.tensors)),
        sorted({stored.tensors[name].dtype for name in found}),
        (len(others), sum(others)),
        stored.metadata,
        stored.prefix,
        masks=len(codes) or None,
        about_masks=summary(len(codes), sum(code.kept for code in codes), sum(code.numel for code in codes)),
    )


def _with_torch(path: Path, request: _Request) -> tuple[_Contents, dict[str, int | None] | None]:
    """Look into any file; return the MACs too where the network is known."""
    from gpmt.formats.load import load

    with working(f"reading {path}", quiet=request.silent):
        checkpoint = load(path)

    from gpmt.cli.network import find_network
    from gpmt.core.scope.scope import find_scope
    from gpmt.counting import count_tensors

    with working(f"counting {path}", quiet=request.silent):
        network = find_network(checkpoint, model=request.model, input_shape=request.input_shape)
        target = network.module if network else checkpoint.state_dict
        found = find_scope(target, scope=request.scope or None, exclude=request.exclude or ())
        rows = count_tensors(found)
    inside = {*found.tensors, *(name for names in found.aliases.values() for name in names)}
    others = [tensor.numel() for name, tensor in checkpoint.state_dict.items() if name not in inside]
    masks = checkpoint.masks
    contents = _Contents(
        checkpoint.path,
        checkpoint.source,
        rows,
        found.judged,
        found.coverage,
        sorted({str(tensor.dtype).removeprefix("torch.") for tensor in found.tensors.values()}),
        (len(others), sum(others)),
        checkpoint.metadata,
        checkpoint.prefix,
        checkpoint.key,
        checkpoint.other_keys,
        found.aliases,
        None if masks is None else len(masks),
        repr(masks),
    )
    return contents, network.macs if network else None


def _print(contents: _Contents, macs: dict[str, int | None] | None) -> None:
    from gpmt.terminal.tables import console, count_table, density_curve, totals

    screen, path = console(), contents.path
    rows = contents.rows
    screen.print(count_table(rows, macs=macs, out=screen))
    if line := density_curve([row.kept for row in rows], [row.numel for row in rows], out=screen):
        screen.print(line)
    screen.print(totals(contents.weights, contents.kept))
    if not contents.coverage.complete:
        whole = contents.coverage.whole_sparsity(contents.weights - contents.kept)
        screen.print(f"{whole:.4%} of the whole network, if nothing outside the scope is zero")
        for line in contents.coverage.lines(options=True):
            screen.print(line)
    screen.print(str(contents.judged))
    count, values = contents.others
    screen.print(f"{count:,} other tensors, not in scope, with {values:,} values")
    for name, further in contents.aliases.items():
        screen.print(f"tied, counted once: {name} = {' = '.join(further)}")
    screen.print(f"{path}: {contents.source}, {', '.join(contents.dtypes)}, {disk_size(path):,} bytes")
    if contents.key or contents.prefix:
        screen.print(f"weights under {contents.key or 'no key'}, prefix {contents.prefix or '(none)'}")
    if contents.masks is not None:
        screen.print(f"it has masks of {contents.masks} tensors: {contents.about_masks}")
    if contents.other_keys:
        screen.print(f"also in it: {', '.join(contents.other_keys)}")


def _inspect_masks(path: Path, masks: Mapping[str, MaskArray], silent: bool) -> dict[str, Any]:
    from gpmt.formats.masks.hashes import mask_hash

    numel, kept = (sum(getattr(mask, key) for mask in masks.values()) for key in ("numel", "kept"))
    sparsity = (numel - kept) / numel if numel else 0.0
    if not silent:
        from gpmt.terminal.tables import console, mask_table

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
