"""What can be told of a block or a command without running it."""

import ast
import json
import re
import tomllib
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import typer
import yaml
from tests.docs.pages import ROOT, Block

from gpmt.cli import app
from gpmt.training.recipes.files import load_recipe, shipped
from gpmt.training.recipes.overrides import full_key

COMMANDS: Any = typer.main.get_command(app)
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def check_block(block: Block) -> None:
    """Fail where a block cannot be right."""
    match block.language:
        case "python":
            ast.parse(block.text)
        case "yaml":
            assert isinstance(yaml.safe_load(block.text), dict)
        case "json":
            json.loads(block.text)
        case "toml":
            tomllib.loads(block.text)
        case "commands":
            for words in block.commands:
                check_command(words)
        case "text" | "output":
            pass
        case other:
            raise AssertionError(f"a language that the tests do not know: {other}")


def check_command(words: Sequence[str], *, whole: bool = True) -> None:
    """Fail where the program, the command, an option or a key of a recipe is not known.

    Args:
        words: the command as a shell reads it.
        whole: whether arguments that are needed have to be there.
    """
    program, *arguments = (word for word in words if word != "...")
    if ("-m", "gpmt") in pairwise(arguments):  # accelerate launch -m gpmt run RECIPE
        program, *arguments = arguments[arguments.index("-m") + 1 :]
    match program:
        case "gpmt":
            check_gpmt(arguments, whole=whole)
        case "pip":
            extras = re.findall(r"\[([\w,]+)\]", " ".join(arguments))
            assert {name for found in extras for name in found.split(",")} <= set(EXTRAS), arguments
        case "make":
            assert {word for word in arguments if "=" not in word} <= TARGETS, arguments
        case "python" | "accelerate" | "torchrun":
            scripts = [word for word in arguments if word.endswith(".py") and "/" in word]
            assert all((ROOT / script).exists() for script in scripts), scripts
        case other:
            raise AssertionError(f"a program that the tests do not know: {other}")


def check_gpmt(arguments: Sequence[str], *, whole: bool = True) -> None:
    """Parse the arguments of `gpmt`, and the settings of a recipe."""
    name, *rest = arguments
    if name.startswith("-"):
        COMMANDS.make_context("gpmt", [name], resilient_parsing=True)
        return
    assert name in COMMANDS.commands, f"there is no command {name}"
    try:
        context = COMMANDS.commands[name].make_context(name, list(rest))
    except typer.Exit:
        return  # --help
    except Exception as error:
        if not whole and type(error).__name__ == "MissingParameter":
            return
        raise AssertionError(f"gpmt {' '.join(arguments)}: {error}") from error
    if name in ("run", "sweep", "compare", "eval") and context.params.get("recipe") in shipped():
        check_settings(context.params["recipe"], context.params.get("overrides") or [], name)


def check_settings(recipe: str, overrides: Sequence[str], command: str) -> None:
    """Check keys and values of a recipe; of sweeps, which have several values, the keys."""
    if command == "run":
        load_recipe(recipe, overrides, look_up=False)
        return
    for override in overrides:
        full_key(override.partition("=")[0])
