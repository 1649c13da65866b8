"""Networks by name: those written here, those of libraries and folders, and the user's own."""

from gpmt.training.models.call import example, logits
from gpmt.training.models.registry import (
    FACTORIES,
    build,
    check_name,
    construct,
    runs_own_code,
    text_length,
    usual_shape,
)

__all__ = [
    "FACTORIES",
    "build",
    "check_name",
    "construct",
    "example",
    "logits",
    "runs_own_code",
    "text_length",
    "usual_shape",
]
