"""The package's optional extras: which of them installs a library, and importing a library that may be missing."""

from importlib import import_module
from types import ModuleType

from gpmt.errors import GpmtError, first_line

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


def broken(package: str, error: ImportError) -> str:
    """Return the sentence that says that a package is installed, but cannot be imported.

    >>> broken("onnx", ImportError("libprotobuf.so: cannot open shared object file"))
    'onnx cannot be imported (libprotobuf.so: cannot open shared object file); reinstall it'
    """
    return f"{package} cannot be imported ({first_line(error)}); reinstall it"


def import_extra(package: str, error: type[GpmtError]) -> ModuleType:
    """Import a package of an extra; raise `error` with the remedy where it is missing or broken."""
    try:
        return import_module(package)
    except ModuleNotFoundError as cause:
        if cause.name != package:
            raise
        raise error(missing(package)) from None
    except ImportError as cause:
        raise error(broken(package, cause)) from cause
