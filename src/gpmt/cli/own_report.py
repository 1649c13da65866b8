"""The page that `gpmt run`, `sweep` and `compare` leave in their folders."""

from __future__ import annotations

from pathlib import Path

from gpmt.cli.report import NAME


def write_own_report(folder: Path) -> str:
    """Write report.html into a finished folder and return the line that says so, or why it is not there.

    What goes wrong with the page never fails what it tells of.
    """
    from gpmt.errors import GpmtError
    from gpmt.report.content.read import read_report
    from gpmt.report.page.write import write_page

    try:
        write_page(read_report([folder]), folder / NAME)
    except GpmtError as error:
        return f"no {NAME}: {error}"
    except Exception as error:  # hours of training must not end in the error of a picture
        return f"no {NAME}: {type(error).__name__}: {error}; please report it, the results are not affected"
    return f"a page that shows it: {folder / NAME}"
