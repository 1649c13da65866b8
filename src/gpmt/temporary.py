"""Names of temporary files and folders, and the removal of those that a killed process left behind."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import socket
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

# A short name of its own: a suffix added to a long file name could pass the limit of the file system.
_NAME = re.compile(r"\.gpmt-(?:(?P<origin>[0-9a-f]{8})-(?P<process>\d+)-)?[0-9a-f]{16}\.tmp")
_OLD = 7 * 24 * 3600
"""Seconds after which nobody is still writing a file, whatever process of whatever machine began it."""


def temporary_beside(target: Path, ending: str = "tmp") -> Path:
    """Return a new name in the folder of `target` for this process; nothing is created."""
    return target.with_name(f".gpmt-{_origin()}-{os.getpid()}-{secrets.token_hex(8)}.{ending}")


def remove_stale(folder: Path) -> None:
    """Remove the temporary files and folders in `folder` whose process has ended, as after ``kill -9``.

    Processes are known to have ended if they ran here, since the machine was started; files of other machines and
    containers, which may share the folder, are removed after a week.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = _NAME.fullmatch(entry.name)
            with suppress(OSError):
                if match and _is_stale(match, entry.stat(follow_symlinks=False).st_mtime):
                    _remove(entry)


def _is_stale(name: re.Match[str], changed: float) -> bool:
    if name["origin"] == _origin():
        return not _is_running(int(name["process"]))
    return time.time() - changed > _OLD


def _remove(entry: os.DirEntry[str]) -> None:
    if entry.is_dir(follow_symlinks=False):
        shutil.rmtree(entry.path, ignore_errors=True)
    else:
        os.unlink(entry.path)


def _is_running(process: int) -> bool:
    if os.name != "posix":  # where the call below would stop it
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it belongs to another user
        return True
    return True


@cache
def _origin() -> str:
    """Return what names a machine since its start, or a container: what gives processes their numbers."""
    facts = [socket.gethostname()]
    with suppress(OSError):
        facts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        facts.append(str(os.stat("/proc/self/ns/pid").st_ino))
    return hashlib.sha256(" ".join(facts).encode()).hexdigest()[:8]
