"""``gpmt prune``: prune a checkpoint, without training."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gpmt.cli.files import Force
from gpmt.cli.narration import working
from gpmt.cli.options import (
    Allocation,
    AsJson,
    Calibrate,
    CalibrationBatch,
    CalibrationSamples,
    Compensate,
    DryRun,
    Exclude,
    Granularity,
    InputShape,
    MaxMacs,
    Minimums,
    ModelName,
    Pattern,
    Quiet,
    Recalibrate,
    Scope,
    Scores,
    Seed,
    SequenceLength,
    ShowBlocks,
    Sparsities,
    Split,
    Verbose,
    Within,
    check_exists,
    examples,
    print_json,
)
from gpmt.cli.requests import plan_options, sparsity_of, with_macs
from gpmt.cli.scoring import Prepared, Scoring, compensation_line
from gpmt.errors import BudgetError, CheckpointError

if TYPE_CHECKING:
    from gpmt.cli.narration import Tell
    from gpmt.cli.network import Network
    from gpmt.formats.checkpoint import Checkpoint
    from gpmt.planning.plan import Plan

_OTHER_SUFFIXES = (".bin", ".ckpt", ".h5", ".npz", ".onnx", ".pt2")
EXAMPLES = examples(
    "gpmt prune resnet50.pth -o pruned.pth --sparsity 0.9 --min-kept 0.05%",
    "gpmt prune model.safetensors -o pruned.safetensors --sparsity 90% --exclude 'classifier.*'",
    "gpmt prune resnet50.pth -o pruned.pth --sparsity 0.9 --model torchvision:resnet50 --input 3x224x224",
    "gpmt prune my-bert -o my-bert-sparse --sparsity 0.5",
    "gpmt prune vit.pth -o out.pth --sparsity '*.attn.*=0.8' --sparsity '*=0.9' --min-kept '5% of tensor'",
    "gpmt prune resnet50.pth -o pruned.pth --plan plan.json",
    "gpmt prune resnet50.pth -o pruned.pth --max-macs 20% --model torchvision:resnet50",
    "gpmt prune my-llm -o my-llm-2-4 --pattern 2:4",
    "gpmt prune resnet20.pth -o out.pth -s 0.9 --model resnet20 --scores fisher --calibrate cifar10:cifar",
    "gpmt prune my-llm -o sparse -s 0.5 --scores wanda --within row --calibrate text.txt --compensate",
    "gpmt prune rnn.pt -o out.pt --granularity column --scope W1 --scope U1 --sparsity 72/89 --min-kept 8",
)


def prune(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="IN", help="Weights: .pt, .pth, .safetensors, of any known tool, or a run's folder."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--output",
            "--out",
            "-o",
            metavar="OUT",
            help="File to write; its suffix is the format, such as .pth or .sparse.safetensors. Of a Hugging Face "
            "folder also a folder, which opens like IN.",
        ),
    ],
    sparsity: Sparsities = None,
    min_kept: Minimums = None,
    scope: Scope = None,
    exclude: Exclude = None,
    within: Within = "network",
    split: Split = None,
    pattern: Pattern = None,
    max_macs: MaxMacs = None,
    allocation: Allocation = "exact",
    granularity: Granularity = "weight",
    seed: Seed = 0,
    plan: Annotated[
        Path | None,
        typer.Option(
            metavar="PLAN",
            help="In place of --sparsity: a plan as gpmt plan writes it, perhaps edited since.",
        ),
    ] = None,
    scores: Scores = None,
    calibrate: Calibrate = None,
    samples: CalibrationSamples = 128,
    batch_size: CalibrationBatch = None,
    sequence_length: SequenceLength = None,
    compensate: Compensate = False,
    recalibrate: Recalibrate = False,
    masks_file: Annotated[
        Path | None, typer.Option("--masks", metavar="FILE", help="Write the masks too, to fine-tune with.")
    ] = None,
    model: ModelName = None,
    input_shape: InputShape = None,
    blocks: ShowBlocks = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    force: Force = False,
) -> None:
    """Prune a checkpoint to exactly the sparsity asked for, and write it to OUT.

    The smallest magnitudes, or --scores, of the whole network go to zero; --min-kept guarantees every layer its
    largest weights. Everything else in the file is kept. Nothing is trained.
    """
    from gpmt.atomic import check_output
    from gpmt.formats.file_format import is_hub_folder
    from gpmt.formats.run_result import weights_file
    from gpmt.formats.suffixes import SUFFIXES, check_suffix

    options = plan_options(
        min_kept=min_kept,
        scope=scope,
        exclude=exclude,
        split=split,
        within=within,
        allocation=allocation,
        granularity=granularity,
        seed=seed,
        pattern=pattern,
        max_macs=max_macs,
    )
    request = _Request.of(sparsity, plan, options, scores=scores)
    scoring = Scoring.of(
        scores=scores,
        calibrate=calibrate,
        samples=samples,
        batch_size=batch_size,
        sequence_length=sequence_length,
        compensate=compensate,
        recalibrate=recalibrate,
        seed=seed,
    )
    to_folder = is_hub_folder(weights_file(source)) and out.suffix.lower() not in (
        *SUFFIXES,
        *_OTHER_SUFFIXES,
    )
    if not to_folder:
        check_suffix(out)
    if masks_file is not None and check_output(masks_file) in (out.resolve(), weights_file(source).resolve()):
        raise CheckpointError(
            f"--masks is {masks_file}, which is IN or OUT; give the masks a file of their own"
        )
    for path in (out, masks_file):
        if path is not None and path.exists() and not force:
            raise CheckpointError(f"{path} exists; give another name, or --force to replace it")
    check_exists(source)

    from gpmt.cli.network import find_network
    from gpmt.formats.checkpoint import save_checkpoint
    from gpmt.formats.exporters.hub_copy import check_copy, copy_hub_folder
    from gpmt.formats.load import load

    silent = quiet or as_json
    with working(f"reading {source}", quiet=silent) as tell:
        checkpoint = load(source)
        if to_folder:
            check_copy(checkpoint, out, force=force)
        network = find_network(checkpoint, model=model, input_shape=input_shape)
        prepared = scoring.prepare(checkpoint, network, model=model, tell=tell)
    with working("choosing the weights to prune", quiet=silent) as tell:
        decided = request.decide(prepared, tell=tell)
    outputs = [str(path) for path in (out, masks_file) if path is not None]
    if dry_run:
        if as_json:
            plain = {"input": str(source), "would_write": outputs}
            print_json(plain | decided.to_dict() | prepared.to_dict())
        elif not quiet:
            _print(decided, network, blocks=blocks)
            _say(f"would write {' and '.join(outputs)}; nothing is written")
        return
    if prepared.zeroes_only and masks_file is None and _writes_again(checkpoint, out, to_folder=to_folder):
        compensation, recalibrated = None, None
        with working(f"writing {out}", quiet=silent) as tell:
            zeros, left_out = _stream(checkpoint, decided, out, to_folder=to_folder, force=force, tell=tell)
    else:
        masks = decided.masks()
        with working("pruning", quiet=silent) as tell:
            compensation, recalibrated = prepared.prune(masks, tell=tell)
            checkpoint.masks = masks
            zeros = masks.total_numel - sum(
                int(checkpoint.state_dict[name].count_nonzero()) for name in masks
            )
        with working(f"writing {out}", quiet=silent):
            if masks_file is not None:
                masks.save(masks_file)
            left_out = ()
            if to_folder:
                left_out = copy_hub_folder(checkpoint, out, force=force)
            else:
                save_checkpoint(out, checkpoint)

    if as_json:
        layers = None if compensation is None else [asdict(layer) for layer in compensation.layers]
        document: dict[str, Any] = {
            "input": str(source),
            "output": str(out),
            "masks": str(masks_file) if masks_file else None,
            **decided.to_dict(),
            "zeros": zeros,
            "left_out": list(left_out),
            "dense_macs": network.macs if network else None,
            **prepared.to_dict(),
            "compensation": layers,
            "recalibrated": recalibrated,
        }
        print_json(document)
    elif not quiet:
        _print(decided, network, blocks=blocks)
        if compensation is not None:
            _say(compensation_line(compensation))
        if recalibrated is not None:
            _say(f"recalibrated {recalibrated:,} layers of batch normalisation")
        pruned = sum(math.prod(row.shape) * row.pruned // row.numel for row in decided.blocks if row.numel)
        numel = sum(math.prod(row.shape) for row in decided.blocks)
        if zeros > pruned:
            _say(
                f"note: {zeros:,} weights are zero, {zeros - pruned:,} more than asked for, because they were zero "
                f"before; the file is {zeros / numel:.4%} sparse"
            )
        _say(f"wrote {' and '.join(outputs)}")
        if left_out:
            _say(f"left out, since it would hold the weights of before: {', '.join(left_out)}")
        _print_others(checkpoint, out)


def _writes_again(checkpoint: Checkpoint, out: Path, *, to_folder: bool) -> bool:
    """Whether OUT is IN with other bytes, which need not be in memory together."""
    from gpmt.formats.exporters.hub_copy import is_streamed
    from gpmt.formats.suffixes import SPARSE_SUFFIX

    name = out.name.lower()
    same_kind = to_folder or (
        checkpoint.source == "safetensors"
        and name.endswith(".safetensors")
        and not name.endswith(SPARSE_SUFFIX)
    )
    return same_kind and is_streamed(checkpoint)


def _stream(
    checkpoint: Checkpoint, decided: Plan, out: Path, *, to_folder: bool, force: bool, tell: Tell
) -> tuple[int, tuple[str, ...]]:
    """Write OUT tensor by tensor; return how many prunable weights are zero, and the files that were left out."""
    from gpmt.formats.exporters.hub_copy import copy_file, copy_hub_folder
    from gpmt.formats.masked_bytes import MaskedBytes

    planned = [row.name for row in decided.tensors]
    first = {alias: name for name in planned for alias in (name, *decided.aliases.get(name, ()))}
    total, start, done = sum(t.nbytes for t in checkpoint.state_dict.values()), time.monotonic(), 0

    def progress(count: int) -> None:
        nonlocal done
        done += count
        rate = done / max(1e-9, time.monotonic() - start)
        left = max(0, total - done) / rate
        tell(f"writing {out}: {done / total:.0%}, {rate / 1e6:,.0f} MB/s, {left:.0f} s left")

    masked = MaskedBytes(
        lambda name: decided.mask_bits(first[name]) if name in first else None, progress=progress
    )
    if to_folder:
        left_out = copy_hub_folder(checkpoint, out, force=force, masked=masked)
    else:
        copy_file(checkpoint, out, masked)
        left_out = ()
    return sum(masked.zeros[name] for name in planned), left_out


@dataclass(frozen=True)
class _Request:
    """A sparsity with its options, or a plan."""

    sparsity: str | dict[str, str] | None
    plan: Plan | None
    options: dict[str, Any]

    @classmethod
    def of(
        cls, sparsity: list[str] | None, plan: Path | None, options: dict[str, Any], *, scores: str | None
    ) -> _Request:
        if plan is None:
            if not (sparsity or options["pattern"] or options["max_macs"]):
                raise BudgetError(
                    "give --sparsity, such as 0.9, --pattern or --max-macs, or --plan with a file of gpmt plan"
                )
            return cls(sparsity_of(sparsity) if sparsity else None, None, options)
        usual = plan_options(
            min_kept=None,
            scope=None,
            exclude=None,
            split=None,
            within="network",
            allocation="exact",
            granularity="weight",
            seed=0,
        )
        given = ["sparsity"] if sparsity else []
        given += [name for name, value in options.items() if value != usual[name]]
        given += ["scores"] if scores is not None else []
        if given:
            names = ", ".join(_NAMES.get(name, f"--{name.replace('_', '-')}") for name in given)
            raise BudgetError(f"--plan says all that {names} would; leave them out, or the plan")

        from gpmt.planning.plan import Plan

        return cls(None, Plan.load(plan), options)

    def decide(self, prepared: Prepared, *, tell: Tell) -> Plan:
        """Return the plan for the weights of a file."""
        from gpmt.prune import plan
        from gpmt.warning import warn

        if self.plan is None:
            network = prepared.network
            options = with_macs(self.options, network.example if network else None)
            scores = prepared.scores(sparsity=self.sparsity, options=options, tell=tell)
            return plan(prepared.target, sparsity=self.sparsity, scores=scores, **options)
        decided = self.plan.bound(prepared.target)
        for text in decided.warnings:
            warn(text)
        return decided


_NAMES = {"blocks": "--split"}


def _print(decided: Plan, network: Network | None, *, blocks: bool) -> None:
    from gpmt.terminal.plan_tables import print_plan
    from gpmt.terminal.tables import console

    print_plan(decided, macs=network.macs if network else None, blocks=blocks, out=console())


def _say(text: str) -> None:
    """Print a sentence, which a terminal wraps at words."""
    from gpmt.terminal.tables import console

    console().print(text)


def _print_others(checkpoint: Checkpoint, out: Path) -> None:
    if checkpoint.other_keys:
        torch_file = out.suffix.lower() != ".safetensors"
        fate = "also in it, as before" if torch_file else "left out, since safetensors holds only tensors"
        _say(f"{fate}: {', '.join(checkpoint.other_keys)}")
