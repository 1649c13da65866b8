"""The package's optional extras: which of them installs a library, and importing a library that may be missing."""

from importlib import import_module
from types import ModuleType

from gpmt.errors import GpmtError, first_line

_EXTRAS = {
    "PIL": "train",
    "accelerate": "train",
    "datasets": "hf",
    "jinja2": "report",
    "lightning": "lightning",
    "matplotlib": "report",
    "mlflow": "trackers",
    "onnx": "onnx",
    "onnx_ir": "onnx",
    "onnxruntime": "onnx",
    "onnxscript": "onnx",
    "openvino": "engines",
    "plotly": "report",
    "pydantic": "train",
    "sklearn": "train",
    "tensorboard": "train",
    "timm": "train",
    "torchvision": "train",
    "trackio": "trackers",
    "transformers": "hf",
    "wandb": "trackers",
    "yaml": "train",
}
_INDEX_NAMES = {
    "PIL": "pillow",
    "mlflow": "mlflow-skinny",
    "onnx_ir": "onnx-ir",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
"""What a package index calls packages that are imported under another name."""


def missing(package: str) -> str:
    """Return the sentence that says that a package is not installed, and what installs it.

    >>> missing("yaml")
    "yaml is not installed; pip install pyyaml brings it, pip install '.[train]' in gpmt's folder all of train"
    """
    sentence = f"{package} is not installed; pip install {_INDEX_NAMES.get(package, package)} brings it"
    if extra := _EXTRAS.get(package):
        sentence += f", pip install '.[{extra}]' in gpmt's folder all of {extra}"
    return sentence


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
