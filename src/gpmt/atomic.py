"""Files that are either written in full or not at all."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gpmt.errors import CheckpointError
from gpmt.temporary import remove_stale, temporary_beside

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_PERMISSION = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty file in a temporary folder beside `path`, which takes its place when the block ends well.

    After any error, an interrupt included, `path` stays as it was and the folder is removed, with all that a writer
    put there. What a process left behind that was killed is removed by the next one that writes beside it.
    A link is followed, so that the file it points to is replaced. The new file has the permissions that
    any new file gets (0666 less the umask).

    Raises `CheckpointError` where the file cannot be written: no space, no permission, a folder that is
    missing, or something at `path` that is not a regular file.
    """
    target = check_output(path)
    remove_stale(target.parent)
    folder = temporary_beside(target)
    temporary = folder / "file.tmp"
    try:
        folder.mkdir()
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)  # safetensors writes a file of its own, for the owner alone, and renames it
        _sync(temporary)
        os.replace(temporary, target)
    except Exception as error:
        if message := _find_message(path, temporary, error):
            raise CheckpointError(message) from error
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # the rename has happened; not every file system can sync a folder
        _sync(target.parent)


def check_output(path: str | os.PathLike[str]) -> Path:
    """Return the file that writing to `path` would replace, links followed.

    Raises `CheckpointError` where it is clear beforehand that it cannot be written, so that a command can
    report it before it starts to work.
    """
    target = Path(os.path.realpath(path))
    try:
        if not stat.S_ISDIR(target.parent.stat().st_mode):
            raise CheckpointError(
                f"{path} cannot be written: {target.parent} is not a folder; choose another"
            )
        if target.exists() and not target.is_file():
            kind = (
                "a folder; add a file name" if target.is_dir() else "not a regular file; choose another name"
            )
            raise CheckpointError(f"{path} cannot be written: it is {kind}")
        if not os.access(target.parent, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise CheckpointError(_write_message(path, error)) from error
    return target


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _find_message(path: str | os.PathLike[str], temporary: Path, error: Exception) -> str | None:
    """Return the message for an error in writing `temporary`, or None for an error of another kind."""
    if isinstance(error, OSError):
        ours = (None, str(temporary), str(temporary.parent))
        return _write_message(path, error) if error.filename in ours else None
    # The writers of torch and safetensors do not pass on the number of the system's error. The file could be
    # opened, so that what stopped them is nearly always a full disk or a quota.
    if re.search(
        r"inline_container|iostream|write\(\): fd|PytorchStreamWriter|Error while serializing: I/O",
        str(error),
    ):
        return _write_message(path, OSError(errno.ENOSPC, str(error)))
    return None


def _write_message(path: str | os.PathLike[str], error: OSError) -> str:
    folder = Path(os.path.realpath(path)).parent
    if error.errno in _NO_SPACE:
        return f"{path} cannot be written: no space left in {folder}; free some, or choose another folder"
    if error.errno in _NO_PERMISSION:
        return f"{path} cannot be written: no permission to write in {folder}; choose another folder"
    if error.errno == errno.ENOENT:
        return f"{path} cannot be written: the folder {folder} does not exist; create it first"
    if error.errno == errno.ENOTDIR:
        return f"{path} cannot be written: a part of it is a file, not a folder; choose another name"
    return f"{path} cannot be written: {error.strerror or error}; choose another name or folder"
