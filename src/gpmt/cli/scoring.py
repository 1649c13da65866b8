"""``--scores``, ``--calibrate``, ``--compensate`` and ``--recalibrate``: what runs the network of the weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpmt.cli.calibration import Batches, Calibration
from gpmt.cli.narration import Tell
from gpmt.errors import GpmtError, ScoresError

if TYPE_CHECKING:
    from torch import Tensor

    from gpmt.cli.network import Network
    from gpmt.compensation.compensate import Compensation
    from gpmt.formats.checkpoint import Checkpoint
    from gpmt.formats.runnable import Runnable
    from gpmt.masks import Masks

FROM_DATA = ("fisher", "ria", "snip", "taylor", "wanda")
FROM_WEIGHTS = ("magnitude", "random")
NAMES = sorted((*FROM_DATA, *FROM_WEIGHTS, "synflow"))
"""The scores of `gpmt.scores` that one look at a network gives; synflow needs the network, but no data."""


@dataclass(frozen=True)
class Scoring:
    """What is asked for.

    Attributes:
        scores: a name, or the path of a file; None for magnitudes.
        calibration: the data.
        compensate: let kept weights make up for pruned ones.
        recalibrate: measure the statistics of batch normalisation again.
        seed: of random scores.
    """

    scores: str | None = None
    calibration: Calibration | None = None
    compensate: bool = False
    recalibrate: bool = False
    seed: int = 0

    @classmethod
    def of(
        cls,
        *,
        scores: str | None,
        calibrate: str | None,
        samples: int,
        batch_size: int | None,
        sequence_length: int | None,
        compensate: bool = False,
        recalibrate: bool = False,
        seed: int = 0,
    ) -> Scoring:
        """Return what the options ask for; raise `GpmtError` for what cannot be right for any weights."""
        calibration = None
        if calibrate is not None:
            calibration = Calibration(calibrate, samples, batch_size, sequence_length)
        asked = cls(scores, calibration, compensate, recalibrate, seed)
        asked._check()
        return asked

    def _check(self) -> None:
        """Raise `GpmtError` for what cannot be right for any weights, before they are read."""
        if self.scores is not None and not self._named and not Path(self.scores).is_file():
            from gpmt.suggestions import did_you_mean

            raise ScoresError(
                f"--scores is {self.scores}, which is neither a score nor a file; {did_you_mean(self.scores, NAMES)}"
            )
        wants = [f"--scores {self.scores}"] if self.scores in FROM_DATA else []
        wants += ["--compensate"] if self.compensate else []
        wants += ["--recalibrate"] if self.recalibrate else []
        if wants and self.calibration is None:
            raise GpmtError(
                f"{wants[0]} needs data; give --calibrate, such as cifar10:FOLDER, or text.txt for a language model"
            )
        if self.calibration is not None:
            if not wants:
                raise GpmtError(
                    f"--calibrate is {self.calibration.data}, but nothing needs data; leave it out, or give --scores "
                    f"with one of {', '.join(FROM_DATA)}, --compensate or --recalibrate"
                )
            self.calibration.check()

    def prepare(
        self, checkpoint: Checkpoint, network: Network | None, *, model: str | None, tell: Tell
    ) -> Prepared:
        """Build the network, and read the data, where they are needed.

        Raises:
            GpmtError: a network that is needed is not known.
            CalibrationError, DataError, CheckpointError: data or weights that do not fit it.
        """
        if self.calibration is None and self.scores != "synflow":
            return Prepared(self, checkpoint, network)
        runnable = make_runnable(checkpoint, network, model=model)
        if self.calibration is None:
            return Prepared(self, checkpoint, network, runnable)
        tell(f"reading {self.calibration.data}")
        batches = read_batches(self.calibration, checkpoint, network, runnable, model=model)
        return Prepared(self, checkpoint, network, runnable, batches)

    @property
    def _named(self) -> bool:
        return self.scores in NAMES


@dataclass(frozen=True)
class Prepared:
    """What is asked for, with weights, and with the network and the batches where they are needed."""

    asked: Scoring
    checkpoint: Checkpoint
    network: Network | None
    runnable: Runnable | None = None
    batches: Batches | None = None

    def scores(self, *, sparsity: Any, options: Mapping[str, Any], tell: Tell) -> dict[str, Tensor] | None:
        """Return the scores of all prunable tensors, under their names in the file; None where none are asked for.

        A request for `gpmt.plan` is checked before the network is run. Raises `GpmtError` as both do.
        """
        from gpmt.planning.decide import check_request

        if self.asked.scores is None:
            return None
        check_request(self.target, sparsity=sparsity, **options, scores=lambda target: {})
        patterns = {name: options[name] for name in ("scope", "exclude") if name in options}
        return self._scores(self.asked.scores, patterns, tell)

    @property
    def target(self) -> Any:
        """What is pruned: the network of the file's tensors, or the tensors."""
        return self.checkpoint.state_dict if self.network is None else self.network.module

    def _scores(self, name: str, patterns: Mapping[str, Any], tell: Tell) -> dict[str, Tensor]:
        """Return the scores of all prunable tensors, under their names in the file."""
        from gpmt import scores
        from gpmt.core.scope.scope import find_scope

        if name not in NAMES:
            return scores.load(name, self.target, **patterns)
        if name == "random":
            return scores.random(self.target, seed=self.asked.seed, **patterns)
        if name == "magnitude":
            return scores.magnitude(self.target, **patterns)
        assert self.runnable is not None
        names = list(find_scope(self.target, **patterns).tensors)
        own = self.runnable.own_names(names)
        with self._running(f"scoring the weights by {name}", tell):
            if name == "synflow":
                found = scores.synflow(self.runnable.network, self._example(), scope=own)
            else:
                score: Callable[..., dict[str, Tensor]] = getattr(scores, name)
                found = score(self.runnable.network, self.batches, scope=own)
        return self.runnable.to_stored(found, names)

    @property
    def zeroes_only(self) -> bool:
        """Whether pruned weights become zero, and no other number changes."""
        return not (self.asked.compensate or self.asked.recalibrate)

    def prune(self, masks: Masks, *, tell: Tell) -> tuple[Compensation | None, int | None]:
        """Prune the checkpoint with masks, compensate and recalibrate it, as asked.

        Returns what compensation did, and how many layers were recalibrated; None where these were not asked for.
        """
        from gpmt.compensation.compensate import CompensatedLayer, compensate
        from gpmt.formats.hub_network import quiet_transformers
        from gpmt.masks import Masks
        from gpmt.recalibration import recalibrate

        compensation, recalibrated = None, None
        if self.asked.compensate or self.asked.recalibrate:
            assert self.runnable is not None
            assert self.batches is not None
            network, own = self.runnable.network, Masks.from_dense(self.runnable.own_masks(masks))

            def after(layer: CompensatedLayer, number: int, count: int) -> None:
                tell(f"compensating: {number} of {count} tensors, {layer.name}")

            if self.asked.compensate:
                tell("compensating")
                with quiet_transformers():
                    compensation = compensate(network, own, self.batches, progress=after)
                self.runnable.write_back(masks)
            if self.asked.recalibrate:
                own.apply_(network)
                with self._running("recalibrating batch normalisation", tell):
                    recalibrated = recalibrate(network, self.batches)
                self.runnable.write_back_buffers()
        masks.apply_(self.checkpoint.state_dict)
        return compensation, recalibrated

    def to_dict(self) -> dict[str, Any]:
        """Return what was used as plain values, ready for JSON."""
        calibration = None
        if self.batches is not None:
            assert self.asked.calibration is not None
            calibration = {
                "data": self.asked.calibration.data,
                "samples": self.batches.samples,
                "batches": len(self.batches),
            }
        return {"scores": self.asked.scores or "magnitude", "calibration": calibration}

    def _example(self) -> Any:
        from gpmt.training.models import example

        if self.network is not None:
            return self.network.example
        assert self.runnable is not None
        return example(self.runnable.network, (8,))

    @contextmanager
    def _running(self, what: str, tell: Tell) -> Iterator[None]:
        """Tell of every batch that is read in the block."""
        from gpmt.formats.hub_network import quiet_transformers

        tell(what)
        if self.batches is not None:
            count = len(self.batches)
            self.batches.tell = lambda number: tell(f"{what}: batch {number} of {count}")
        try:
            with quiet_transformers():
                yield
        finally:
            if self.batches is not None:
                self.batches.tell = lambda number: None


def make_runnable(checkpoint: Checkpoint, network: Network | None, *, model: str | None) -> Runnable:
    """Return the network of a file ready to run. Raises `GpmtError` where it is not known."""
    from gpmt.formats.runnable import Runnable

    if network is not None:
        return Runnable(network.module, checkpoint.state_dict)
    folder = _folder(checkpoint, model)
    if folder is None:
        raise GpmtError(
            f"{checkpoint.path} does not say which network it belongs to, which is needed to run it; name it "
            "with --model"
        )
    return Runnable.of_folder(folder, checkpoint.state_dict)


def read_batches(
    calibration: Calibration,
    checkpoint: Checkpoint,
    network: Network | None,
    runnable: Runnable,
    *,
    model: str | None,
) -> Batches:
    """Read the data for the network of a file. Raises `CalibrationError` or `DataError` as `Calibration.batches`."""
    folder = _folder(checkpoint, model)
    return calibration.batches(runnable.network, size=_size(network, runnable), folder=folder)


def compensation_line(done: Compensation) -> str:
    """Return one sentence on what compensation did."""
    count = len(done.layers)
    masked, compensated = (
        sum(getattr(layer, name) for layer in done.layers) / count for name in ("masked", "compensated")
    )
    worst = max(done.layers, key=lambda layer: layer.compensated)
    return (
        f"compensation: the squared error of the outputs is {compensated:.3%} in place of {masked:.3%} (mean of "
        f"{count:,} tensors; at most {worst.compensated:.3%}, of {worst.name})"
    )


def _folder(checkpoint: Checkpoint, model: str | None) -> Path | None:
    """Return the Hugging Face folder of the network, with its config and tokenizer, where there is one."""
    from gpmt.cli.network import recorded_name
    from gpmt.formats.hub_folder import CONFIG

    named = model or recorded_name(checkpoint)
    if named is not None:
        return Path(named.removeprefix("hf:")).expanduser() if named.startswith("hf:") else None
    folder = checkpoint.path if checkpoint.path.is_dir() else checkpoint.path.parent
    return folder if (folder / CONFIG).is_file() else None


def _size(network: Network | None, runnable: Runnable) -> int | None:
    """Return the side of a network's images, or the number of tokens of its texts, where it is known."""
    if network is not None:
        example = network.example
        tensor = next(iter(example.values())) if isinstance(example, dict) else example
        return int(tensor.shape[-1])
    size = getattr(getattr(runnable.network, "config", None), "image_size", None)
    return size if isinstance(size, int) else None
