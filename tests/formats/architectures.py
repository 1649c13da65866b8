"""The networks of transformers, built without data and with few layers."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

_LAYERS = ("num_hidden_layers", "num_layers", "encoder_layers", "decoder_layers", "n_layer", "n_layers")
_MOST_SECONDS = 20


def base_networks() -> Iterator[tuple[str, nn.Module]]:
    """Every base class that transformers can build from its own default configuration in 20 seconds."""
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    for name, classes in MODEL_MAPPING_NAMES.items():
        for kind in [classes] if isinstance(classes, str) else classes:
            try:
                with _limited():
                    network = build(getattr(transformers, kind), CONFIG_MAPPING[name]())
            except Exception:  # some need settings or libraries, and each says so in its own way
                continue
            yield kind, network


def build(kind: Any, config: Any) -> nn.Module:
    """Build a class on the meta device with at most four layers, or as the configuration is if that cannot be."""
    small = type(config).from_dict(config.to_dict())
    for key in _LAYERS:
        count = getattr(small, key, None)
        if type(count) is int and count > 4:
            setattr(small, key, 4)
    with torch.device("meta"):
        try:
            network: nn.Module = kind(small)
        except Exception:
            network = kind(config)
    return network


@contextmanager
def _limited() -> Iterator[None]:
    """Raise `TimeoutError` in a block that takes too long."""

    def stop(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(_MOST_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
