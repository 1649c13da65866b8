"""The command line ``gpmt``: one file per command. Heavy packages are imported when a command runs."""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pkgutil import iter_modules
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from gpmt.cli import narration
from gpmt.cli.usage import Command, help_text, without_values
from gpmt.errors import GpmtError
from gpmt.extras import broken, missing
from gpmt.warning import GpmtWarning


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Print gpmt's own warnings on stderr, each as one line; those of others as before."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", GpmtWarning)
        show = warnings.showwarning

        def print_or_show(message: Any, category: Any, *where: Any) -> None:
            if issubclass(category, GpmtWarning):
                print(f"warning: {message}", file=sys.stderr)
            else:
                show(message, category, *where)

        warnings.showwarning = print_or_show  # type: ignore[assignment]
        yield


class Commands(TyperGroup):
    """The group of commands; turns errors of the user into one sentence and an exit code, warnings into lines."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, ``--help`` too."""
        return without_values(super().get_params(ctx))

    def invoke(self, ctx: Any) -> Any:
        """Run a command: exit code 2 for an error of the user's, 130 for an interrupt."""
        narration.verbose = False
        try:
            with warnings_as_lines():
                return super().invoke(ctx)
        except GpmtError as error:
            narration.show_traceback()
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(2) from None
        except ImportError as error:
            package = (error.name or "").split(".")[0]
            is_missing = isinstance(error, ModuleNotFoundError)
            if package == "gpmt" or (is_missing and not package):
                raise
            narration.show_traceback()
            sentence = missing(package) if is_missing else broken(package or "a package", error)
            print(f"error: {sentence}", file=sys.stderr)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            print("interrupted; no file is half-written", file=sys.stderr)
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(version("gpmt"))
        raise typer.Exit


_ABOUT = """Prune PyTorch networks to exactly the sparsity asked for; --min-kept keeps every layer alive.

Exit code 0: done; 1: a check failed, or files differ; 2: the request or a file is not valid; 3: a run was stopped
by its limits; 130: interrupted.
"""


@app.callback(help=help_text(_ABOUT))
def gpmt(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Show the version, or run a command."""


def _add_commands() -> None:
    """Register every module of this folder that holds a function of its own name."""
    for entry in iter_modules(__path__):
        module = import_module(f"{__name__}.{entry.name}")
        command = getattr(module, entry.name, None)
        if command is None:
            continue
        text, epilog = help_text(command.__doc__), getattr(module, "EXAMPLES", None)
        app.command(cls=Command, help=text, epilog=epilog)(command)


_add_commands()


def main() -> None:
    """Run the command line, as the script ``gpmt`` does."""
    # A terminated command removes its temporary files, as an interrupted one does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    app(prog_name="gpmt")
