"""``gpmt help``: the help of a command."""

from __future__ import annotations

from typing import Annotated, Any, cast

import typer

from gpmt.cli.options import Verbose, examples
from gpmt.errors import GpmtError
from gpmt.suggestions import did_you_mean

EXAMPLES = examples("gpmt help", "gpmt help prune")


def help(
    context: typer.Context,
    command: Annotated[
        str | None, typer.Argument(metavar="[COMMAND]", help="One of the commands.", show_default=False)
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Show the help of a command, or the commands there are; the same as `gpmt COMMAND --help`."""
    top = context.find_root()
    if command is None:
        print(top.get_help())
        return
    commands: dict[str, Any] = cast("Any", top.command).commands
    if command not in commands:
        raise GpmtError(f"there is no command {command}; {did_you_mean(command, commands)}")
    found = commands[command]
    print(found.get_help(typer.Context(found, info_name=command, parent=top)))
