"""Pruning as a callback of Lightning's Trainer."""

from __future__ import annotations

import math
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, WeightAveraging

from gpmt.core.schedule.schedule import Schedule
from gpmt.extras_private import averaged_model
from gpmt.integrations.start import start
from gpmt.pruner.pruner import Pruner


class PruningCallback(Callback):  # type: ignore[misc]  # Lightning is not installed where types are checked
    """Prune while `lightning.Trainer` fits, with a `gpmt.Pruner` on the optimiser of the module.

    The Pruner is made when training starts: the optimiser is made, the strategy has wrapped the module and a
    checkpoint, if any, is loaded. Its state is part of Lightning's checkpoints, so that
    ``trainer.fit(..., ckpt_path=...)`` goes on with the same masks, and a second `fit` by the same Trainer
    goes on with the first one's; a checkpoint of a run without this callback starts at time 0. Averages kept by
    `WeightAveraging` callbacks are pruned with the model.

    Where the module has several optimisers, the Pruner has them all, and time counts the steps of the first. A
    training that ends before the schedule ends with a warning. A step that fp16 skips counts, as it does for the
    Trainer, unless there are several optimisers.

    Names of tensors are those of the LightningModule: a tensor of ``self.net`` is "net.0.weight".

    Args:
        schedule: when to prune, in steps of the optimiser or in epochs; needed unless `masks` are given.
        steps_per_epoch: for a schedule in epochs; by default the Trainer's batches over its
            `accumulate_grad_batches`. Needed where the Trainer cannot know them (an iterable data set).
        settings: everything else that `gpmt.Pruner` takes, such as ``min_kept="0.05%"`` or ``exclude="net.0"``.

    Attributes:
        pruner: the Pruner; None until training starts.

    Raises, when training starts:
        GpmtError: of its kinds, as from `gpmt.Pruner`.
    """

    def __init__(
        self, *, schedule: Schedule | None = None, steps_per_epoch: int | None = None, **settings: Any
    ) -> None:
        self.pruner: Pruner | None = None
        self._schedule = schedule
        self._steps_per_epoch = steps_per_epoch
        self._settings = settings
        self._loaded: dict[str, Any] | None = None  # from a checkpoint, until training starts
        self._ahead = 0  # steps of the Trainer before the Pruner's first

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the Pruner; go on with a state where the Trainer goes on."""
        state = self.state_dict() if trainer.global_step else {}
        if self.pruner is not None:
            self.pruner.detach()
        self.pruner = start(
            trainer.model,
            trainer.optimizers,
            schedule=self._schedule,
            state=state or None,
            steps_per_epoch=self._steps_per_epoch or _steps_per_epoch(trainer),
            **self._settings,
        )
        self._loaded = None
        for callback in trainer.callbacks:
            if isinstance(callback, WeightAveraging):
                self.pruner.track(averaged_model(callback))
        self._ahead = trainer.global_step - self.pruner.step_count

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Count a step that fp16 has skipped."""
        if self.pruner is None or len(trainer.optimizers) > 1:  # the Trainer counts the steps of all
            return
        if self.pruner.step_count < trainer.global_step - self._ahead:
            self.pruner.skip_step()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Warn where the schedule has not come to its end."""
        if self.pruner is not None:
            self.pruner.close()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the Pruner, for Lightning's checkpoint."""
        if self._loaded is not None:
            return self._loaded
        return {} if self.pruner is None else self.pruner.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep a state from Lightning's checkpoint until training starts."""
        self._loaded = state_dict


def _steps_per_epoch(trainer: Trainer) -> int | None:
    batches = trainer.num_training_batches  # infinite for a data set without a length
    return math.ceil(batches / trainer.accumulate_grad_batches) if math.isfinite(batches) else None
