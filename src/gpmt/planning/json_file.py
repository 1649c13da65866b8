"""Files of JSON that gpmt wrote in a format with a version, read strictly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from gpmt.errors import GpmtError, PlanError
from gpmt.formats.masks.strict_json import read_json

MAX_BYTES = 1 << 28

_T = TypeVar("_T")


@dataclass(frozen=True)
class JsonFormat:
    """A format: what errors call it, what files have at ``format`` and ``version``, and two remedies.

    Attributes:
        what: such as "a plan".
        name, version: as in the file.
        write: the end of a sentence that says how to get one.
        renew: the end of a sentence that says what to do about one of another version.
        error: raised for a file that cannot be read, or is not one.
    """

    what: str
    name: str
    version: int
    write: str
    renew: str
    error: type[GpmtError]

    def load(self, path: str | Path, read: Callable[[dict[str, Any]], _T]) -> _T:
        """Return what `read` makes of the document in a file; every error is `error`, and names the file."""
        file = Path(path)
        try:
            if file.stat().st_size > MAX_BYTES:
                raise PlanError(f"it has {file.stat().st_size:,} bytes, which is more than {self.what} needs")
            document = read_json(file.read_text(encoding="utf-8"))
            if not isinstance(document, dict) or document.get("format") != self.name:
                raise PlanError(f"it is not {self.what}; {self.write}")
            if document.get("version") != self.version:
                raise PlanError(
                    f"it is {self.what} of version {document.get('version')!r}, but this gpmt reads version "
                    f"{self.version}; {self.renew}"
                )
            return read(document)
        except OSError as error:
            raise self.error(f"{path} cannot be read: {error.strerror or error}; check the path") from None
        except GpmtError as error:
            raise self.error(f"{path}: {error}") from None
        except (ValueError, RecursionError) as error:
            reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise self.error(f"{path} is not valid JSON: {reason}") from None
