"""The optimiser of a phase of training."""

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from gpmt.training.recipes.schema import Training


def make_optimizer(model: nn.Module, settings: Training) -> Optimizer:
    """Return the optimiser that `settings` describe, for all parameters of `model`.

    Weight decay applies to every parameter, as in the published runs, or with ``decay_norms: false`` only to
    those of two dimensions and more, which leaves out biases and the parameters of norms.
    """
    parameters = list(model.parameters())
    lr = 0.0 if settings.lr == "auto" else settings.lr  # every step sets its own
    groups = [{"params": parameters, "weight_decay": settings.weight_decay}]
    if not settings.decay_norms:
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
    if settings.optimizer == "sgd":
        return SGD(groups, lr=lr, momentum=settings.momentum, nesterov=settings.nesterov)
    adam: type[Adam] = {"adam": Adam, "adamw": AdamW}[settings.optimizer]
    return adam(groups, lr=lr, betas=(settings.momentum, 0.999))
