"""Pruning as a callback of the Trainer of Hugging Face transformers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import has_length

from gpmt.atomic import atomic_path
from gpmt.core.schedule.schedule import Schedule
from gpmt.core.shards import local, local_part
from gpmt.errors import CheckpointError
from gpmt.integrations.start import start
from gpmt.masks import Masks
from gpmt.pruner.pruner import Pruner

STATE_NAME = "pruner.pt"
"""The file beside the Trainer's own `optimizer.pt` and `scheduler.pt`."""


class PruningCallback(TrainerCallback):  # type: ignore[misc]  # transformers is skipped where types are checked
    """Prune while `transformers.Trainer` trains, with a `gpmt.Pruner` on its optimiser.

    The Pruner is made when training begins: the Trainer has then made and wrapped model and optimiser, and
    loaded a checkpoint if it resumes. Each checkpoint gets the Pruner's state as `pruner.pt`, so that
    ``trainer.train(resume_from_checkpoint=True)`` goes on with the same masks. The Trainer does not tell a
    callback which folder it resumes from: it is taken to be ``args.resume_from_checkpoint`` or, where that is
    not set, ``output_dir/checkpoint-STEP``. Checkpoints of a hyper-parameter search get no such file.

    A training that ends before the schedule ends with a warning. A step that fp16 skips counts, as it does for the
    Trainer. With ``load_best_model_at_end`` the best weights can be from before the last pruning.

    Args:
        schedule: when to prune, in steps of the optimiser or in epochs; needed unless `masks` are given.
        steps_per_epoch: for a schedule in epochs; by default the Trainer's batches over its
            `gradient_accumulation_steps`. Needed where the data has no length.
        settings: everything else that `gpmt.Pruner` takes, such as ``min_kept="0.05%"`` or
            ``exclude="classifier"``.

    Attributes:
        pruner: the Pruner; None until training begins.

    Raises, when training begins:
        CheckpointError: the Trainer resumes, but there is no `pruner.pt`, or one that prunes other weights.
        GpmtError: of its kinds, as from `gpmt.Pruner`.
    """

    def __init__(
        self, *, schedule: Schedule | None = None, steps_per_epoch: int | None = None, **settings: Any
    ) -> None:
        self.pruner: Pruner | None = None
        self._schedule = schedule
        self._steps_per_epoch = steps_per_epoch
        self._settings = settings
        self._ahead = 0  # steps of the Trainer before the Pruner's first

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        *,
        model: nn.Module,
        optimizer: Optimizer,
        train_dataloader: DataLoader[Any],
        **kwargs: Any,
    ) -> None:
        """Make the Pruner; load its state where the Trainer has resumed."""
        if self.pruner is not None:
            self.pruner.detach()  # a second train() of the same Trainer keeps its optimiser
        steps = self._steps_per_epoch
        if steps is None and has_length(train_dataloader):
            steps = math.ceil(len(train_dataloader) / args.gradient_accumulation_steps)
        self.pruner = start(
            model,
            optimizer,
            schedule=self._schedule,
            state=_load_state(args, state.global_step, model) if state.global_step else None,
            steps_per_epoch=steps,
            **self._settings,
        )
        self._ahead = state.global_step - self.pruner.step_count

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Count a step that fp16 has skipped."""
        if self.pruner is not None and self.pruner.step_count < state.global_step - self._ahead:
            self.pruner.skip_step()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Warn where the schedule has not come to its end."""
        if self.pruner is not None:
            self.pruner.close()

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Put the Pruner's state into the checkpoint that the Trainer has just written."""
        if self.pruner is None or not args.should_save or state.is_hyper_param_search:
            return
        with atomic_path(_checkpoint(args, state.global_step) / STATE_NAME) as path:
            torch.save(self.pruner.state_dict(), path)


def _checkpoint(args: TrainingArguments, step: int) -> Path:
    return Path(args.output_dir) / f"checkpoint-{step}"


def _load_state(args: TrainingArguments, step: int, model: nn.Module) -> dict[str, Any]:
    path = Path(args.resume_from_checkpoint or _checkpoint(args, step)) / STATE_NAME
    remedy = "set TrainingArguments(resume_from_checkpoint=...) to the folder of the checkpoint to resume"
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist, but holds the masks at step {step}; {remedy}")
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    if state.get("masks") is not None:
        masks = Masks.from_state_dict(state["masks"])
        masks.fits(model)
        for name, mask in masks.items():
            weight = model.get_parameter(name)
            if local(weight)[~local_part(mask, weight).to(weight.device)].any():
                raise CheckpointError(
                    f"{path} prunes weights of {name} that are not zero, so the weights are of another checkpoint, "
                    f"or the Trainer did not find them all in this one, as its warning of missing keys says; {remedy}"
                )
    return state
