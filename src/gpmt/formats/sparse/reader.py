"""Reading a sparse file: all of it with several threads, or one tensor at a time, without the rest."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpmt.errors import CheckpointError
from gpmt.formats.sparse.header import FORMAT, Entry, Header, HeaderError, parse
from gpmt.formats.sparse.jobs import run_jobs
from gpmt.formats.sparse.stored_tensor import StoredTensor
from gpmt.formats.sparse.types import DTYPES
from gpmt.masks import Masks
from gpmt.system import memory_limit

MAX_THREADS = 8


class SparseFile(Mapping[str, Tensor]):
    """A sparse file, opened: a mapping from name to dense tensor, each decoded anew when it is asked for.

    The file is mapped into memory, and only what is asked for is read. Names come in the order of the network,
    further names of tied tensors last. Every tensor is checked against its checksum.

    Args:
        path: a file that `save_sparse` wrote.
        max_bytes: refuse to decode more bytes than this at once, for files that are not trusted: zeros expand up to
            65,536 times. The limit is the machine's memory in any case.

    Raises:
        CheckpointError: a file that is missing, truncated, foreign, of another version, or whose header contradicts
            itself; and on reading a tensor, one whose bytes do not match their checksum, by its name.

    >>> import tempfile
    >>> from gpmt import save_sparse
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = save_sparse({"a": torch.eye(40), "b": torch.ones(2)}, f"{folder}/x.sparse.safetensors")
    ...     with SparseFile(f"{folder}/x.sparse.safetensors") as file:
    ...         list(file), file.shape("a"), file.kept("a"), file["b"]
    (['a', 'b'], (40, 40), 40, tensor([1., 1.]))
    """

    def __init__(self, path: str | os.PathLike[str], *, max_bytes: int | None = None) -> None:
        self.path = Path(path)
        self._max_bytes = max_bytes
        self._file, self._header = _open(self.path)
        self._checked: set[str] = set()

    def __enter__(self) -> SparseFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the file; tensors that were read stay."""
        self._file = None

    @property
    def metadata(self) -> dict[str, str]:
        """The strings that were saved with the weights."""
        return dict(self._header.metadata)

    @property
    def record(self) -> Mapping[str, Any] | None:
        """What a run noted of its network, or None."""
        return self._header.record

    @property
    def tied(self) -> Mapping[str, str]:
        """Further names of tied tensors, and the name each tensor is stored under."""
        return self._header.tied

    def __iter__(self) -> Iterator[str]:
        return iter([*self._header.entries, *self._header.tied])

    def __len__(self) -> int:
        return len(self._header.entries) + len(self._header.tied)

    def __getitem__(self, name: str) -> Tensor:
        """Decode one tensor; a new one each time."""
        return self.load([name])[name]

    def __contains__(self, name: object) -> bool:
        return name in self._header.entries or name in self._header.tied

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def get(self, name: str, default: Any = None) -> Any:
        """Decode one tensor, or return `default` where the file does not hold it."""
        return self[name] if name in self else default  # noqa: SIM401

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        return self._entry(name).shape

    def dtype(self, name: str) -> torch.dtype:
        """Return the type that a tensor is read in; it may be stored in fewer bits."""
        return DTYPES[self._entry(name).dtype]

    def kept(self, name: str) -> int:
        """Return how many weights of a tensor are kept: all of one that is not coded."""
        entry = self._entry(name)
        return entry.coding.kept if entry.coding else entry.numel

    def error(self, name: str) -> float:
        """Return the largest |stored − original| of a tensor, as the writer measured it."""
        entry = self._entry(name)
        return entry.coding.error if entry.coding else 0.0

    def mask(self, name: str) -> Tensor | None:
        """Return the mask of a tensor (bool, True = kept), or None of one that is not coded."""
        coding = self._entry(name).coding
        return None if coding is None else self._masks([name])[name]

    def masks(self, names: Iterable[str] | None = None) -> Masks | None:
        """Return the masks that were saved as such, of all tensors or some; None where there are only zeros.

        The mask of a tied tensor is there once, under the first of its names.
        """
        stored = dict.fromkeys(self._stored(name) for name in (self if names is None else names))
        coded = [name for name in stored if (coding := self._entry(name).coding) and coding.masked]
        return self._masks(coded) if coded else None

    def _masks(self, names: Iterable[str]) -> Masks:
        packed, shapes = {}, {}
        names = list(names)
        self._check_memory(sum(self._entry(name).numel for name in names) // 8)
        for name in names:
            stored = self._open_tensor(self._stored(name))
            if stored.name not in self._checked:
                stored.check()
                self._checked.add(stored.name)
            packed[name], shapes[name] = torch.from_numpy(stored.packed()), stored.entry.shape
        return Masks(packed, shapes)

    def damaged(self, names: Iterable[str] | None = None) -> dict[str, str]:
        """Check all tensors or some, and return those that cannot be trusted with what is wrong with each."""
        found: dict[str, str] = {}
        names = list(self if names is None else names)
        for name in dict.fromkeys(map(self._stored, names)):
            self._entry(name)
            try:
                stored = self._open_tensor(name)
                stored.check()
                if stored.entry.coding is not None:
                    stored.packed()
            except CheckpointError as error:
                found[name] = str(error)
        return {name: found[self._stored(name)] for name in names if self._stored(name) in found}

    def load(self, names: Iterable[str] | None = None, *, threads: int | None = None) -> dict[str, Tensor]:
        """Decode tensors, all by default, in up to `threads` threads (default: PyTorch's number, at most 8).

        Tied tensors share memory. Beyond the result it takes less than 64 MiB.
        """
        names = list(self if names is None else names)
        entries = {self._stored(name): self._entry(name) for name in names}
        self._check_memory(sum(entry.nbytes for entry in entries.values()))
        stored = {name: self._open_tensor(name) for name in entries}
        tensors = {
            name: torch.empty(entry.shape, dtype=DTYPES[entry.dtype], device="cpu")
            for name, entry in entries.items()
        }
        jobs = [one.check for name, one in stored.items() if name not in self._checked]
        for name, one in stored.items():
            jobs.extend(one.jobs(tensors[name]))
        run_jobs(jobs, threads or min(torch.get_num_threads(), MAX_THREADS))
        self._checked.update(entries)
        return {name: tensors[self._stored(name)] for name in names}

    def _open_tensor(self, name: str) -> StoredTensor:
        if self._file is None:
            raise CheckpointError(f"{self.path} is closed; open it again")
        entry = self._header.entries[name]
        try:
            parts = [self._file.get_tensor(part) for part in entry.parts(name)]
        except Exception as error:
            raise CheckpointError(
                f"{self.path}: {name} cannot be read ({error}); copy or download the file again"
            ) from None
        return StoredTensor(self.path, name, entry, parts)

    def _stored(self, name: str) -> str:
        return self._header.tied.get(name, name)

    def _entry(self, name: str) -> Entry:
        try:
            return self._header.entries[self._stored(name)]
        except KeyError:
            raise CheckpointError(
                f"{self.path} holds no tensor {name}; see gpmt inspect for those it holds"
            ) from None

    def _check_memory(self, needed: int) -> None:
        available = memory_limit()
        if self._max_bytes is not None and self._max_bytes < min(needed, available):
            raise CheckpointError(
                f"{self.path} would take {needed:,} bytes of memory, more than the {self._max_bytes:,} allowed; "
                "raise max_bytes if you trust the file"
            )
        if needed > available:
            raise CheckpointError(
                f"{self.path} would take {needed:,} bytes of memory, more than the {available:,} there are; "
                "read its tensors one by one with gpmt.SparseFile"
            )


def load_sparse(
    path: str | os.PathLike[str],
    *,
    names: Iterable[str] | None = None,
    skip_bad: bool = False,
    max_bytes: int | None = None,
) -> dict[str, Tensor]:
    """Read a sparse file into dense tensors on the CPU, by name, in the order of the network; tied ones share memory.

    Args:
        path: a file that `save_sparse` wrote.
        names: only these tensors; nothing else is read.
        skip_bad: leave out tensors that are damaged, rather than raise an error; `SparseFile.damaged` names them.
        max_bytes: refuse a network that takes more memory than this.

    Raises:
        CheckpointError: as `SparseFile` does, for a name that the file does not hold, and for a network that is
            larger than the machine's memory or `max_bytes`.
    """
    with SparseFile(path, max_bytes=max_bytes) as file:
        wanted = list(file if names is None else names)
        if skip_bad:
            bad = file.damaged(wanted)
            wanted = [name for name in wanted if name not in bad]
        return file.load(wanted)


def is_sparse(metadata: Mapping[str, str]) -> bool:
    """Tell by a safetensors file's metadata whether it is a sparse file of any version."""
    return metadata.get("format") == FORMAT


def _open(path: Path) -> tuple[Any, Header]:
    import safetensors

    try:
        path.open("rb").close()
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist; check the path") from None
    except IsADirectoryError:
        raise CheckpointError(f"{path} is a folder; give the file inside it") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}; check the path") from None
    try:
        file: Any = safetensors.safe_open(path, framework="pt", device="cpu")
        metadata = dict(file.metadata() or {})
        parts = {}
        for part in file.keys():  # noqa: SIM118
            piece = file.get_slice(part)
            parts[part] = (str(piece.get_dtype()), tuple(piece.get_shape()))
    except (safetensors.SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"{path} is truncated or damaged ({error}); copy or download it again"
        ) from None
    if not is_sparse(metadata):
        raise CheckpointError(f"{path} is not a sparse file of gpmt; gpmt.load reads files of other kinds")
    try:
        return file, parse(metadata, parts)
    except HeaderError as error:
        raise CheckpointError(f"{path} {error}") from None
