"""The transform of texts, made from a tokenizer in a folder."""

from pathlib import Path

from gpmt.errors import DataError, first_line
from gpmt.extras import import_extra
from gpmt.training.data.transforms import TextTransform

MAX_LENGTH = 128
"""The default number of tokens of a text: enough for sentences and short reviews."""


def load_text_transform(folder: Path, max_length: int | None) -> TextTransform:
    """Return the transform of texts for the tokenizer in `folder`, which runs no code from there."""
    folder = folder.expanduser()
    if not folder.is_dir():
        raise DataError(
            f"data.tokenizer is {folder}, which is not a folder; give one that save_pretrained wrote"
        )
    try:
        tokenizer = import_extra("transformers", DataError).AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except DataError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"data.tokenizer is {folder}, which does not hold a readable tokenizer ({first_line(error)}); "
            "give a folder that save_pretrained wrote"
        ) from error
    if tokenizer.pad_token is None:
        raise DataError(f"the tokenizer in {folder} has no padding token; add one and save it again")
    limit = tokenizer.model_max_length
    length = min(MAX_LENGTH, limit) if max_length is None else max_length
    if not 1 <= length <= limit:
        raise DataError(f"data.max_length is {length}, but the tokenizer in {folder} takes 1 to {limit:,}")
    return TextTransform(tokenizer, length)
