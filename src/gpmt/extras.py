"""The package's optional extras: which of them installs a library, and importing a library that may be missing."""

from importlib import import_module
from types import ModuleType

from gpmt.errors import GpmtError

_EXTRAS = {
    "datasets": "hf",
    "transformers": "hf",
    "lightning": "lightning",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "onnxscript": "onnx",
}


def missing(package: str) -> str:
    """Return the sentence that says that a package is not installed, and which extra installs it.

    >>> missing("onnx")
    "onnx is not installed; pip install 'gpmt[onnx]' brings it"
    """
    return f"{package} is not installed; pip install 'gpmt[{_EXTRAS.get(package, 'train')}]' brings it"


def import_extra(package: str, error: type[GpmtError]) -> ModuleType:
    """Import a package of an extra; raise `error` with the way to install it where it is missing."""
    try:
        return import_module(package)
    except ModuleNotFoundError as cause:
        if cause.name != package:
            raise
        raise error(missing(package)) from None
