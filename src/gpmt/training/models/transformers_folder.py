"""Image and text classifiers of Hugging Face transformers, from a folder on this machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from gpmt.errors import RecipeError, first_line
from gpmt.extras import import_extra
from gpmt.extras_private import makes

TASKS = ("AutoModelForImageClassification", "AutoModelForSequenceClassification")
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


def check_folder(name: str) -> None:
    """Raise RecipeError unless `name` is a folder with the configuration of a classifier and no pickled weights."""
    _classifier(name, _config(name))
    folder = Path(name).expanduser()
    pickled = sorted(path.name for path in folder.glob("pytorch_model*.bin"))
    if pickled and not _has_weights(folder):
        raise RecipeError(
            f"model is hf:{name}, whose weights are only in {pickled[0]}, a pickle; save them as safetensors"
        )


def make_untrained(name: str, num_classes: int, input_shape: tuple[int, ...]) -> nn.Module:
    """Return the classifier with fresh weights, in float32 and training mode; any `input_shape` will do."""
    config = _config(name)
    classifier = _classifier(name, config)
    config.num_labels = num_classes
    model: nn.Module = classifier.from_config(config, trust_remote_code=False).float().train()
    return model


def make_trained(name: str, num_classes: int) -> nn.Module:
    """Return the classifier in float32 and training mode, with the folder's weights if it has any.

    Tensors that the folder lacks, such as a head, are fresh. Raises ValueError when the folder's head has
    another number of classes, or its weights are those of another network.
    """
    folder = Path(name).expanduser()
    if not _has_weights(folder):
        return make_untrained(name, num_classes, ())
    config = _config(name)
    classifier = _classifier(name, config)
    config.num_labels = num_classes
    with _silent_transformers():
        model, loaded = classifier.from_pretrained(
            folder,
            config=config,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    _check_loaded(model, loaded, num_classes)
    trained: nn.Module = model.float().train()
    return trained


def text_length(name: str) -> int | None:
    """Return the default number of tokens of a text classifier: 128, or fewer if it takes no more; else None."""
    config = _config(name)
    if _classifier(name, config) is getattr(_transformers(), TASKS[0]):
        return None
    longest: int = getattr(config, "max_position_embeddings", 128)
    return min(128, longest)


def _transformers() -> ModuleType:
    return import_extra("transformers", RecipeError)


def _config(name: str) -> Any:
    folder = Path(name).expanduser()
    if not (folder / "config.json").is_file():
        raise RecipeError(
            f"model is hf:{name}, but there is no {folder / 'config.json'}; "
            "give a folder that save_pretrained of transformers wrote"
        )
    try:
        return _transformers().AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (ValueError, OSError, KeyError) as error:
        if isinstance(error, RecipeError):
            raise
        raise RecipeError(
            f"model is hf:{name}, whose config.json cannot be used ({first_line(error)}); "
            "give the folder of a network that transformers itself has"
        ) from error


def _classifier(name: str, config: Any) -> Any:
    """Return the Auto class that makes a classifier of this configuration."""
    transformers = _transformers()
    for task in TASKS:
        automatic = getattr(transformers, task)
        if makes(automatic, config):
            return automatic
    raise RecipeError(
        f"model is hf:{name}, a {config.model_type}, from which transformers makes neither an image "
        "nor a text classifier; give the folder of an image or text classifier"
    )


def _has_weights(folder: Path) -> bool:
    return any((folder / file).is_file() for file in _WEIGHTS)


def _check_loaded(model: nn.Module, loaded: dict[str, Any], num_classes: int) -> None:
    for key, stored, wanted in sorted(loaded["mismatched_keys"]):
        if wanted[0] == num_classes and stored[1:] == wanted[1:]:
            raise ValueError(
                f"the folder's head {key} has {stored[0]} classes, but the data have {num_classes}; save a folder "
                "with a new head, made with from_pretrained(..., num_labels=..., ignore_mismatched_sizes=True)"
            )
        raise ValueError(f"the folder's {key} has shape {list(stored)}, but config.json says {list(wanted)}")
    parameters = {name for name, _ in model.named_parameters()}
    body = {name for name in parameters if name.startswith(f"{model.base_model_prefix}.")} or parameters
    if body <= loaded["missing_keys"]:
        raise ValueError("the folder's weights are those of another network than its config.json")


@contextmanager
def _silent_transformers() -> Iterator[None]:
    """Keep transformers from printing its own report; what matters of it becomes an error here."""
    logging = _transformers().utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
