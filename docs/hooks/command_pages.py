"""The reference of the command line: a page for each command, made from the command itself."""

from __future__ import annotations

import re
from typing import Any

import typer

from gpmt.cli import app

_EXIT_CODES = re.compile(r"Exit code (?P<codes>[^.]*)\.")


def command_pages() -> dict[str, str]:
    """Return the text of each page by its address; the first lists the commands."""
    group: Any = typer.main.get_command(app)
    top = typer.Context(group, info_name="gpmt")
    commands = sorted(group.commands.items())
    pages = {"reference/commands/index.md": _index(group, top, dict(commands))}
    for name, command in commands:
        context = typer.Context(command, info_name=name, parent=top)
        pages[f"reference/commands/{name}.md"] = _page(f"gpmt {name}", command, context)
    return pages


def _index(group: Any, context: Any, commands: dict[str, Any]) -> str:
    lines = ["| command | what it does |", "|---|---|"]
    lines += [f"| [`gpmt {name}`]({name}.md) | {_cell(_first(one.help))} |" for name, one in commands.items()]
    return _page("Commands", group, context) + "\n## Commands\n\n" + "\n".join(lines) + "\n"


def _page(title: str, command: Any, context: Any) -> str:
    text, codes = _split(command.help)
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    parts = [f"# {title}", text, f"```\n{usage}\n```"]
    parameters = command.get_params(context)
    parts += _table("Arguments", [one for one in parameters if one.param_type_name == "argument"], context)
    parts += _table("Options", [one for one in parameters if one.param_type_name == "option"], context)
    parts += ["## Exit codes", "| code | meaning |\n|---:|---|\n" + "\n".join(codes)]
    if command.epilog:
        _, _, examples = command.epilog.partition("\n")
        parts += ["## Examples", f"```\n{examples.strip()}\n```"]
    return "\n\n".join(parts) + "\n"


def _split(text: str) -> tuple[str, list[str]]:
    """Return a help text without its exit codes, and these as lines of a table."""
    found = _EXIT_CODES.search(text)
    if found is None:
        raise ValueError(f"the help names no exit codes: {text}")
    codes = [code.strip().partition(": ") for code in found["codes"].split(";")]
    lines = [f"| {code} | {_cell(meaning)} |" for code, _, meaning in codes]
    return (text[: found.start()] + text[found.end() :]).strip(), lines


def _table(title: str, parameters: list[Any], context: Any) -> list[str]:
    if not parameters:
        return []
    rows = [_row(one, context) for one in parameters if not one.hidden]
    return [
        f"## {title}",
        "\n".join([f"| {title.lower()[:-1]} | default | meaning |", "|---|---|---|", *rows]),
    ]


def _row(parameter: Any, context: Any) -> str:
    if parameter.param_type_name == "argument":
        name = parameter.metavar or parameter.name.upper()
    else:
        name = parameter.get_help_record(context)[0]
    name = name.replace("|", "\\|")
    return f"| `{name}` | {_default(parameter)} | {_cell(parameter.help or '')} |"


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    default = parameter.default
    if default is None or default is False or default == () or default == "" or callable(default):
        return ""
    return f"`{default}`"


def _first(text: str) -> str:
    return text.partition("\n\n")[0]


def _cell(text: str) -> str:
    """Return text that stays in one cell of a table, and shows what looks like markup as it is."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
