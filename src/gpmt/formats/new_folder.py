"""Folders that are either written in full or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gpmt.errors import CheckpointError
from gpmt.temporary import remove_stale, temporary_beside


@contextmanager
def new_folder(path: str | os.PathLike[str], *, force: bool, ours: Callable[[str], object]) -> Iterator[Path]:
    """Yield an empty folder beside `path`, which takes its place when the block ends well; else it is removed.

    What a process left behind that was killed is removed by the next one that writes beside it; a folder that it was
    about to replace is not. The files have the permissions that any new file gets (0666 less the umask).

    Args:
        path: the folder to make; its parent must be there.
        force: replace a folder that is there, provided that `ours` holds for the name of everything in it.
        ours: whether the writer makes files or folders of a name.

    Raises:
        CheckpointError: a folder that is there already, or cannot be made or written.
    """
    target = check_folder(path, force=force, ours=ours)
    remove_stale(target.parent)
    temporary, old = (temporary_beside(target, end) for end in ("tmp", "old"))
    try:
        temporary.mkdir()
        yield temporary
        _settle(temporary)
        if target.exists():
            target.rename(old)
        try:
            temporary.rename(target)
        except BaseException:
            if old.exists():
                old.rename(target)
            raise
    except CheckpointError as error:
        raise CheckpointError(str(error).replace(str(temporary), str(target))) from error
    except Exception as error:
        if isinstance(error, OSError) or type(error).__name__ == "SafetensorError":
            reason = getattr(error, "strerror", None) or error
            raise CheckpointError(f"{target} cannot be written ({reason}); choose another folder") from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def check_folder(path: str | os.PathLike[str], *, force: bool, ours: Callable[[str], object]) -> Path:
    """Return the folder that `new_folder` would make, links followed; raise its errors where it cannot."""
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise CheckpointError(
            f"{target} cannot be written: the folder {target.parent} does not exist; create it first"
        )
    if not target.exists():
        return target
    if not target.is_dir():
        raise CheckpointError(f"{target} is a file, but a folder is to be written; choose another name")
    if not force:
        raise CheckpointError(f"{target} exists already; choose another folder, or replace it with force")
    foreign = sorted(entry.name for entry in target.iterdir() if not ours(entry.name))
    if foreign:
        raise CheckpointError(
            f"{target} holds {foreign[0]}, which would not be written again, so it is not replaced; choose "
            "another folder"
        )
    return target


def _settle(folder: Path) -> None:
    """Give every file the permissions of a new one, since safetensors' are for the owner alone, and sync it."""
    probe = folder / f".gpmt-{secrets.token_hex(8)}.tmp"
    probe.touch()
    mode = probe.stat().st_mode
    probe.unlink()
    for file in folder.rglob("*"):
        if file.is_file():
            file.chmod(mode)
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
