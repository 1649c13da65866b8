"""A recipe: the settings of one experiment, checked as a whole before anything runs."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, model_validator

from gpmt.suggestions import did_you_mean
from gpmt.training.recipes.cram import Cram, from_bool
from gpmt.training.recipes.log import Log
from gpmt.training.recipes.pruning import Prune
from gpmt.training.recipes.section import NAMES_ALONE, Rate, Section, has_weights


class Expected(Section):
    """What to expect of a run, shown by ``gpmt recipes``; it does not change the experiment.

    `top1` is a published accuracy in percent, `source` where it was published. A recipe with ``device: gpu`` does
    not start without a GPU; the error names the recipe `on_cpu` to run instead.
    """

    top1: float | None = Field(None, ge=0, le=100)
    source: str = ""
    hardware: str = ""
    time: str = ""
    device: Literal["any", "gpu"] = "any"
    on_cpu: str | None = None


class Data(Section):
    """The data set, its folder, and how its pixels are augmented and normalised.

    Paths are relative to the folder in which the command runs. `mean` and `std` default to those of the
    training split, `size` and `resize` (pixels, for images read from files) to 224 and size / 0.875. With
    `train_limit` or `test_limit` only so many images are used, always the same ones.
    """

    name: Annotated[str, AfterValidator(lambda name, info: _known_data(name, info))]
    root: Path | None = None
    train_limit: int | None = Field(None, ge=2)
    test_limit: int | None = Field(None, ge=1)
    crop_padding: int = Field(0, ge=0)
    flip: bool = False
    mean: tuple[float, ...] | None = None
    std: tuple[Annotated[float, Field(gt=0)], ...] | None = None
    size: int | None = Field(None, ge=1)
    resize: int | None = Field(None, ge=1)
    interpolation: Literal["bilinear", "bicubic", "nearest"] = "bilinear"
    workers: int | None = Field(None, ge=0)
    max_length: int | None = Field(None, ge=1)


class Compute(Section):
    """On which devices, in which precision and over which processes the run computes.

    `precision` is that of automatic mixed precision; by default what ``accelerate launch`` was given, else
    float32. With `sharding` ``ddp`` every process holds the whole network, with ``fsdp2`` a part of every tensor.
    """

    device: Literal["auto", "cpu"] = "auto"
    precision: Literal["float32", "bf16", "fp16"] | None = None
    channels_last: bool = True
    compile: bool = False
    sharding: Literal["ddp", "fsdp2"] = "ddp"


class Training(Section):
    """One phase of training: the optimiser, its learning rate, and the loss, which is cross-entropy.

    `batch_size` counts the images of a step, over all processes; it is computed in `accumulate` parts. The
    learning rate is set once an epoch, as published, or with `lr_per_step` at every step; ``cosine``, ``linear`` and
    ``restart`` end with the share `lr_final` of it. ``restart`` falls linearly from each pruning to the next (Kurtic
    et al. 2022, arXiv 2203.07259), always by step. `momentum` is Adam's first beta. Weight decay spares norms and
    biases unless `decay_norms`, as published, says otherwise. `clip_norm` is the largest norm of gradients: for
    feather, st-3 and ham 3 if not given. `ema` is the decay of a running average of the
    weights, which is then what is evaluated.
    """

    epochs: int = Field(0, ge=0)
    batch_size: int = Field(128, ge=2)
    accumulate: int = Field(1, ge=1)
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: Rate = 0.05
    lr_schedule: Literal["cosine", "linear", "restart", "step", "constant"] = "cosine"
    lr_per_step: bool = False
    lr_final: float = Field(0.0, ge=0, le=1)
    lr_step_epochs: int = Field(30, ge=1)
    lr_gamma: float = Field(0.1, gt=0, le=1)
    warmup_epochs: int = Field(0, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(5e-4, ge=0)
    decay_norms: bool = True
    clip_norm: float | None = Field(None, gt=0)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    ema: float | None = Field(None, gt=0, lt=1)

    @model_validator(mode="after")
    def _consistent(self) -> "Training":
        if self.nesterov and (self.optimizer != "sgd" or not self.momentum):
            raise ValueError("nesterov is true, but is for sgd with momentum; give momentum, such as 0.9")
        if self.epochs and self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs is {self.warmup_epochs}, but must be below epochs, which is {self.epochs}"
            )
        if self.accumulate * 2 > self.batch_size:
            raise ValueError(
                f"accumulate is {self.accumulate}, but parts of at least 2 of the {self.batch_size} images of "
                "a batch are needed; lower it"
            )
        return self

    def learning_rate(
        self, epoch: int, step: int = 0, steps: int = 1, *, restarts: Sequence[int] = ()
    ) -> float:
        """Return the rate of step `step` of the `steps` of epoch `epoch`, both from 0.

        It rises linearly over the warm-up epochs; then it falls like half a cosine, or linearly, or by `lr_gamma`
        every `lr_step_epochs` epochs, or stays. `restarts` are the steps at which ``restart`` begins again, counted
        from the start of training.

        >>> settings = Training(epochs=4, lr=1.0, warmup_epochs=2)
        >>> [settings.learning_rate(epoch) for epoch in range(4)]
        [0.5, 1.0, 1.0, 0.5]
        """
        if self.lr == "auto":
            raise ValueError("lr is auto, which is known only once the network is pruned")
        if not self.lr_per_step and self.lr_schedule != "restart":
            step, steps = 0, 1
        done, start, end = (epoch * steps + step, self.warmup_epochs * steps, self.epochs * steps)
        if done < start:
            return self.lr * (done + 1) / start
        if self.lr_schedule == "constant":
            return self.lr
        if self.lr_schedule == "step":
            return self.lr * self.lr_gamma ** (epoch // self.lr_step_epochs)
        if self.lr_schedule == "restart":
            start = max([start, *(time for time in restarts if time <= done)])
            end = min([end, *(time for time in restarts if time > done)])
        passed = (done - start) / (end - start)
        left = 0.5 * (1 + math.cos(math.pi * passed)) if self.lr_schedule == "cosine" else 1 - passed
        return self.lr * (self.lr_final + (1 - self.lr_final) * left)


class Dense(Training):
    """Where the dense network comes from: a checkpoint, training from scratch, or both one after the other.

    With `cram` it is trained to lose little in one-shot pruning, at about twice the time.
    """

    checkpoint: Path | None = None
    cram: Annotated[Cram | None, BeforeValidator(from_bool)] = None

    @model_validator(mode="after")
    def _own_rate(self) -> "Dense":
        if self.lr == "auto":
            raise ValueError("lr is auto, which follows from the dense phase; give a number here")
        if self.lr_schedule == "restart":
            raise ValueError(
                "lr_schedule is restart, which is for pruning; give another one for the dense phase"
            )
        return self


class Finetune(Training):
    """Training while and after pruning.

    `lr` may be ``auto``: rates that fit the budget, made from those of the dense phase
    (`gpmt.training.run.learning_rates`), in place of `lr_schedule`. `distill` is the share of the loss that compares
    with the outputs of the dense network instead of the labels (Hinton et al. 2015, arXiv 1503.02531), both softened
    by `temperature`.
    """

    distill: float = Field(0.0, ge=0, le=1)
    temperature: float = Field(2.0, gt=0)


class Budget(Section):
    """The epochs of dense training and of pruning together, split between them as suits the way of pruning."""

    epochs: int | None = Field(None, ge=1)


class Recipe(Section):
    """One experiment: dense training or a checkpoint, pruning, and fine-tuning with the masks fixed.

    `log` names the experiment trackers that the run writes to: tensorboard, wandb, mlflow, trackio. They stay on this
    machine unless `log_online`, or the environment variables of the tools, say otherwise.
    """

    title: str
    about: str = ""
    expects: Expected = Field(default_factory=lambda: Expected.model_validate({}))
    model: Annotated[str, AfterValidator(lambda name, info: _known_model(name, info))]
    seed: int = Field(0, ge=0)
    data: Data
    compute: Compute = Field(default_factory=lambda: Compute.model_validate({}))
    budget: Budget = Field(default_factory=lambda: Budget.model_validate({}))
    dense: Dense = Field(default_factory=lambda: Dense.model_validate({}))
    prune: Prune
    finetune: Finetune
    log: Log = ()
    log_online: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> "Recipe":
        dense, prune, epochs = self.dense, self.prune, self.finetune.epochs
        starts_dense = dense.epochs or has_weights(
            {"model": self.model, "dense": {"checkpoint": dense.checkpoint}}
        )
        if not starts_dense and prune.needs_weights:
            raise ValueError(
                "dense.checkpoint is missing and dense.epochs is 0; give one of them, or both, or another "
                "prune.schedule, which prunes while it trains"
            )
        self._check_rates()
        if self.budget.epochs is not None and dense.epochs + epochs != self.budget.epochs:
            raise ValueError(
                f"budget.epochs is {self.budget.epochs}, but dense.epochs {dense.epochs} and finetune.epochs "
                f"{epochs} are {dense.epochs + epochs} together; leave one of the three out"
            )
        if not starts_dense and self.finetune.distill:
            raise ValueError("finetune.distill needs a dense network; give dense.checkpoint or dense.epochs")
        if dense.cram is not None and not dense.epochs:
            raise ValueError("dense.cram is given, but dense.epochs is 0; give epochs, which it trains for")
        if dense.cram is not None and self.compute.precision == "fp16":
            raise ValueError(
                "dense.cram is given, but compute.precision is fp16, which scales gradients; give bf16"
            )
        last = prune.end if prune.schedule == "gradual" else prune.start
        if not epochs and prune.trains:
            raise ValueError(
                f"prune.method is {prune.method}, which works while it trains, but finetune.epochs is 0; give epochs"
            )
        if (last and last > epochs) or (prune.schedule != "one-shot" and not epochs):
            raise ValueError(
                f"prune.schedule is {prune.schedule} up to epoch {last or 'n'}, but finetune.epochs is {epochs}; "
                "give enough epochs"
            )
        return self

    @property
    def budget_split(self) -> str:
        """How the budget is split, in words; empty where there is none."""
        total, dense, finetune = self.budget.epochs, self.dense.epochs, self.finetune.epochs
        if total is None:
            return ""
        if dense:
            parts = f"{dense} of dense training, {finetune} of fine-tuning"
        elif has_weights({"model": self.model, "dense": {"checkpoint": self.dense.checkpoint}}):
            parts = "all for the given network, while and after it is pruned"
        else:
            parts = "all while and after pruning, without dense training before"
        return f"budget of {total} epochs: {parts}"

    def _check_rates(self) -> None:
        """Refuse rates of fine-tuning that do not fit the optimiser or the schedule."""
        finetune = self.finetune
        if finetune.lr == "auto" and finetune.optimizer != self.dense.optimizer:
            raise ValueError(
                f"finetune.lr is auto, which follows from dense.lr, but finetune.optimizer is {finetune.optimizer} "
                f"and dense.optimizer {self.dense.optimizer}; give a number"
            )
        if finetune.lr_schedule == "restart" and finetune.lr != "auto" and self.prune.at_every_step:
            raise ValueError(
                f"finetune.lr_schedule is restart, but {self.prune.method} prunes at every step; give another "
                "lr_schedule, or prune.interval"
            )

    def to_yaml(self) -> str:
        """Return the recipe with every default written out; it reads back as the same recipe."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)


def _known_model(name: str, info: ValidationInfo) -> str:
    """Look the network up, which needs PyTorch, unless the caller left that out."""
    if info.context == NAMES_ALONE:
        return name
    from gpmt.training import models

    return models.check_name(name)


def _known_data(name: str, info: ValidationInfo) -> str:
    if info.context == NAMES_ALONE:
        return name
    from gpmt.training.data import datasets

    if name not in datasets.NAMES:
        raise ValueError(f"name is {name}, which is not known; {did_you_mean(name, datasets.NAMES)}")
    return name
