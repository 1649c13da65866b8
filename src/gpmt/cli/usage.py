"""How commands show their usage, and the exit codes at the end of their help."""

from __future__ import annotations

from inspect import cleandoc
from typing import Any

from typer.core import TyperCommand

EXIT_CODES = "Exit code 0: done; 2: the request or a file is not valid; 130: interrupted."


def without_values(parameters: list[Any]) -> list[Any]:
    """Return parameters, of which flags are described without a value, as they take none."""
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    return parameters


class Command(TyperCommand):
    """A command whose arguments are written as everywhere: ``IN``, ``[NAME]``, ``FILE...``."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, ``--help`` too."""
        return without_values(super().get_params(ctx))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help, and the examples in lines of their own, which Typer would join."""
        examples, self.epilog = self.epilog, None
        super().format_help(ctx, formatter)
        self.epilog = examples
        if examples:
            formatter.write("\n".join(f" {line}" for line in examples.split("\n")) + "\n")

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return what follows the name of the command in its line of usage."""
        pieces = [self.options_metavar or ""]
        for parameter in self.get_params(ctx):
            if parameter.param_type_name == "argument":
                pieces.append(_argument(parameter))
        return pieces


def _argument(parameter: Any) -> str:
    name = parameter.metavar or str(parameter.name).upper()
    if name.startswith("[") or name.endswith("..."):
        return str(name)
    if parameter.nargs != 1:
        name += "..."
    return str(name) if parameter.required else f"[{name}]"


def help_text(docstring: str) -> str:
    """Return the help of a command: its docstring, and the usual exit codes where it names none.

    Typer breaks a help text where its source does; only empty lines are meant to break it.
    """
    paragraphs = cleandoc(docstring).split("\n\n")
    if not any("Exit code" in paragraph for paragraph in paragraphs):
        paragraphs.append(EXIT_CODES)
    return "\n\n".join(paragraph.replace("\n", " ") for paragraph in paragraphs)
