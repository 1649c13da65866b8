"""Run a page: its Python in one namespace, its commands in this process, all in one folder."""

import contextlib
import doctest
import io
import runpy
import sys
from pathlib import Path

import pytest
import torch
from tests.cli.commands import gpmt
from tests.docs.checks import check_block
from tests.docs.pages import Block, Page

_SAME = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def run_page(page: Page, folder: Path) -> None:
    """Run the blocks of a page, from the first to the last."""
    namespace = {"__name__": "__main__"}
    modules, threads, printed = set(sys.modules), torch.get_num_threads(), ""
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        try:
            for block in page.blocks:
                try:
                    printed = _run(block, namespace, folder, printed)
                except BaseException as error:
                    error.add_note(f"in the block at {page.name}:{block.line}")
                    raise
        finally:
            torch.set_num_threads(threads)
            for name in set(sys.modules) - modules:
                if str(getattr(sys.modules[name], "__file__", None)).startswith(str(folder)):
                    del sys.modules[name]


def _run(block: Block, namespace: dict[str, object], folder: Path, printed: str) -> str:
    """Run a block, or compare it with what the one before printed; return what it printed."""
    if block.title:
        (folder / block.title).write_text(block.text)
    if block.not_run or block.title or block.language not in ("python", "commands", "output"):
        check_block(block)
        return printed
    if block.language == "output":
        assert doctest.OutputChecker().check_output(block.text, printed, _SAME), printed
        return printed
    with contextlib.redirect_stdout(io.StringIO()) as out:
        if block.language == "python":
            exec(compile("\n" * block.line + block.text, "a block", "exec"), namespace)
        for words in block.commands if block.language == "commands" else []:
            _run_command(words, block.exit_code)
    return out.getvalue()


def _run_command(words: list[str], exit_code: int) -> None:
    program, *arguments = words
    if program == "gpmt":
        print(gpmt(*arguments, code=exit_code).output)
    elif program == "python":
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", arguments)
            runpy.run_path(arguments[0], run_name="__main__")
    else:
        raise AssertionError(f"{program} cannot be run in a test; say why with <!-- not run: WHY -->")
