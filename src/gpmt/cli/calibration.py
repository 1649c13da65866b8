"""``--calibrate``: batches of a data set, or of a text, for the network that weights belong to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpmt.errors import CalibrationError, first_line

if TYPE_CHECKING:
    from torch import Tensor, nn

TEXT_SUFFIXES = (".txt", ".jsonl")
IMAGES_AT_ONCE, SEQUENCES_AT_ONCE = 64, 8
SEQUENCE_LENGTH = 512
_CHARACTERS = 8
"""Characters read at first for each token that is needed, twice as many as English has."""


@dataclass(frozen=True)
class Calibration:
    """What to calibrate on, as it was asked for.

    Attributes:
        data: NAME, NAME:FOLDER, or the path of a text.
        samples: how many samples or sequences at most.
        batch_size: how many at a time; None for the usual number.
        sequence_length: tokens of a sequence; None for the usual number.
        option: how the command line names the data, for messages.
    """

    data: str
    samples: int = 128
    batch_size: int | None = None
    sequence_length: int | None = None
    option: str = "--calibrate"

    @property
    def text(self) -> Path | None:
        """The file of text; None for a data set."""
        path = Path(self.data).expanduser()
        return path if path.suffix.lower() in TEXT_SUFFIXES else None

    def check(self) -> None:
        """Raise `CalibrationError` for data that there are not, before anything else is read."""
        if self.text is not None:
            if not self.text.is_file():
                raise CalibrationError(
                    f"{self.option} is {self.data}, but there is no such file; check the path"
                )
            return
        from gpmt.suggestions import did_you_mean
        from gpmt.training.data.datasets.registry import NAMES

        name, colon, folder = self.data.partition(":")
        if name not in NAMES:
            raise CalibrationError(
                f"{self.option} is {self.data}, but must be NAME:FOLDER with a data set, or a .txt or .jsonl file of "
                f"text; {did_you_mean(name, NAMES)}"
            )
        if self.sequence_length is not None and name != "hf":
            raise CalibrationError(
                f"--sequence-length is {self.sequence_length}, but {name} has no texts; leave it out"
            )
        if not colon and name != "digits":
            raise CalibrationError(f"{self.option} is {name}, but its folder is missing; give {name}:FOLDER")
        if colon and not Path(folder).expanduser().is_dir():
            raise CalibrationError(
                f"{self.option} is {self.data}, but {folder} is not a folder; check the path"
            )

    def batches(self, network: nn.Module, *, size: int | None, folder: Path | None) -> Batches:
        """Read the batches.

        Args:
            network: that they are for.
            size: of its images in pixels, or of its texts in tokens, where it is known.
            folder: of Hugging Face, with the network's tokenizer; None where there is none.

        Raises:
            CalibrationError: data that the network cannot be run on, or a tokenizer that is missing.
            DataError: data that cannot be read.
        """
        if self.text is None:
            return Batches(self._samples(network, size, folder))
        if folder is None or getattr(network, "main_input_name", None) != "input_ids":
            raise CalibrationError(
                f"{self.option} is {self.data}, a text, but {type(network).__name__} takes none; give a data set "
                "such as cifar10:FOLDER"
            )
        return Batches(self._sequences(network, self.text, folder))

    def _samples(self, network: nn.Module, size: int | None, folder: Path | None) -> list[Any]:
        import torch

        from gpmt.training.data import datasets
        from gpmt.training.data.datasets.registry import DATASETS

        name, _, root = self.data.partition(":")
        options: dict[str, Any] = {}
        if name == "hf" and folder is not None and getattr(network, "main_input_name", None) == "input_ids":
            options = {"tokenizer": folder, "max_length": self.sequence_length or size}
        elif "size" in DATASETS[name].options:
            options = {"size": size}
        source = datasets.load(name, root=Path(root) if root else None, **options)
        placed = source.placed(torch.device("cpu"), rank=0, processes=1)
        return list(placed.plain_batches(self.batch_size or IMAGES_AT_ONCE, images=self.samples))

    def _sequences(self, network: nn.Module, path: Path, folder: Path) -> list[dict[str, Tensor]]:
        import torch

        tokenizer = load_tokenizer(folder)
        length = self._length(network, tokenizer)
        needed = self.samples * length
        tokens = _tokens(path, tokenizer, needed)
        if len(tokens) < 2:
            raise CalibrationError(f"{path} has {len(tokens)} tokens, which is no text; give a longer one")
        self._check_tokens(network, tokens, folder)
        length = min(length, len(tokens))
        count = min(self.samples, len(tokens) // length)
        sequences = torch.tensor(tokens[: count * length], dtype=torch.int64, device="cpu").view(
            count, length
        )
        keys = ("input_ids", "labels") if models_language(network) else ("input_ids",)
        return [
            dict.fromkeys(keys, part) for part in torch.split(sequences, self.batch_size or SEQUENCES_AT_ONCE)
        ]

    def _length(self, network: nn.Module, tokenizer: Any) -> int:
        limits = [getattr(getattr(network, "config", None), "max_position_embeddings", None)]
        limits.append(tokenizer.model_max_length)
        limit = min((number for number in limits if isinstance(number, int) and number > 0), default=None)
        length = self.sequence_length
        if length is not None and limit is not None and length > limit:
            raise CalibrationError(
                f"--sequence-length is {length:,}, but {type(network).__name__} takes {limit:,} tokens; give at most "
                "as many"
            )
        return length or min(SEQUENCE_LENGTH, limit or SEQUENCE_LENGTH)

    def _check_tokens(self, network: nn.Module, tokens: list[int], folder: Path) -> None:
        get: Callable[[], Any] | None = getattr(network, "get_input_embeddings", None)
        known = getattr(get() if get is not None else None, "num_embeddings", None)
        if isinstance(known, int) and max(tokens) >= known:
            raise CalibrationError(
                f"the tokenizer in {folder} gives token {max(tokens):,}, but {type(network).__name__} knows "
                f"{known:,}; put the network's own tokenizer there"
            )


class Batches:
    """Batches that can be read again and again, and tell of each that is read.

    >>> batches, read = Batches(["a", "b"]), []
    >>> batches.tell = read.append
    >>> list(batches), read
    (['a', 'b'], [1, 2])
    """

    def __init__(self, batches: list[Any]) -> None:
        self._batches = batches
        self.tell: Callable[[int], None] = lambda number: None

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Any]:
        for number, batch in enumerate(self._batches, 1):
            self.tell(number)
            yield batch

    @property
    def samples(self) -> int:
        """How many samples or sequences they hold."""
        return sum(len(_first(batch)) for batch in self._batches)


def _first(batch: Any) -> Tensor:
    """Return one of the tensors of a batch, whose first dimension is that of the samples."""
    while not hasattr(batch, "shape"):
        batch = next(iter(batch.values())) if isinstance(batch, Mapping) else batch[0]
    tensor: Tensor = batch
    return tensor


def models_language(network: nn.Module) -> bool:
    """Return whether a network of transformers predicts tokens, and gives a loss for those that it is shown."""
    get: Callable[[], Any] | None = getattr(network, "get_output_embeddings", None)
    return get is not None and get() is not None


def load_tokenizer(folder: Path) -> Any:
    """Return the tokenizer in a folder; no code from there is run, and nothing downloaded.

    Raises `CalibrationError` where there is none.
    """
    from gpmt.extras import import_extra

    transformers = import_extra("transformers", CalibrationError)
    try:
        return transformers.AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # a folder may hold anything
        raise CalibrationError(
            f"{folder} has no tokenizer that can be read ({first_line(error)}); copy tokenizer.json and "
            "tokenizer_config.json of the network into it"
        ) from error


def _tokens(path: Path, tokenizer: Any, needed: int) -> list[int]:
    """Return the tokens at the beginning of a file of text, `needed` of them or all that there are."""
    try:
        with path.open(encoding="utf-8") as file:
            if path.suffix.lower() != ".jsonl":
                return _of_one_text(file.read, tokenizer, needed)
            tokens: list[int] = []
            for number, line in enumerate(file, 1):
                if line.strip():
                    tokens += _of_document(_text(path, number, line), tokenizer)
                if len(tokens) >= needed:
                    break
            return tokens[:needed]
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationError(
            f"{path} cannot be read as text in UTF-8 ({first_line(error)}); save it as such"
        ) from None


def _of_one_text(read: Callable[[int], str], tokenizer: Any, needed: int) -> list[int]:
    """Read no more of a text than its first tokens take, which do not depend on what comes later."""
    text = ""
    while True:
        more = read(max(len(text), _CHARACTERS * needed))
        text += more
        tokens = _encoded(text, tokenizer)
        if not more or len(tokens) > needed + _CHARACTERS:
            return tokens[:needed]


def _of_document(text: str, tokenizer: Any) -> list[int]:
    """Return the tokens of one of several documents, with the token that ends it, where there is one."""
    tokens, end = _encoded(text, tokenizer), tokenizer.eos_token_id
    return tokens if end is None or tokens[-1:] == [end] else [*tokens, end]


def _encoded(text: str, tokenizer: Any) -> list[int]:
    # Without a warning that the text is longer than the network takes, since it is cut afterwards.
    tokens: list[int] = tokenizer(text, verbose=False)["input_ids"]
    return tokens


def _text(path: Path, number: int, line: str) -> str:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        document = None
    text = document.get("text") if isinstance(document, dict) else None
    if not isinstance(text, str):
        raise CalibrationError(
            f'line {number:,} of {path} is not an object of JSON with "text"; give one such object a line'
        )
    return text
