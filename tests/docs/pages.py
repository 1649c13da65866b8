"""The pages of the documentation as their tests read them: blocks of code, and comments that speak to the tests.

A page is run from its first block to its last, in one folder of its own. Comments of HTML, which readers do not see:

    <!-- hidden            Python that is run like a block: makes the files and names that the page takes for granted
    ...
    -->
    <!-- not run: WHY -->  the next block is only checked: Python compiles, commands and recipes are parsed
    <!-- page not run: WHY -->  so are all of the page
    <!-- slow -->          the page takes more than a second
    <!-- output -->        the next block is what the one before printed; "..." stands for anything
    <!-- exit code 1 -->   of the commands in the next block

A block with `title="NAME"` is written to a file; `python NAME` in a later block runs it.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAMS = ("gpmt", "pip", "make", "python", "accelerate", "torchrun")
"""What a command begins with."""

_TITLE = re.compile(r'title="([^"]+)"')
_NOT_RUN = re.compile(r"not run: (?P<why>\S.*)")


@dataclass
class Block:
    """A block of code: its language, or "output" for what the block before printed, and why it is not run."""

    language: str
    text: str
    line: int
    title: str | None = None
    not_run: str | None = None
    exit_code: int = 0

    @property
    def commands(self) -> list[list[str]]:
        """The commands of a block of commands, as words."""
        lines = (shlex.split(line, comments=True) for line in _command_lines(self.text))
        return [words for words in lines if words]


@dataclass
class Page:
    """The blocks of a page, its inline commands, and whether it is slow."""

    name: str
    blocks: list[Block] = field(default_factory=list)
    inline: list[list[str]] = field(default_factory=list)
    slow: bool = False
    not_run: str | None = None


def _command_lines(text: str) -> Iterator[str]:
    joined = re.sub(r"\\\n\s*", "", text)
    lines = [line for line in joined.splitlines() if line.strip()]
    if any(line.startswith("$ ") for line in lines):  # what has no prompt is output
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    for line in lines:
        yield from (part for part in line.split(" && ") if part.strip())


def _language(info: str, text: str) -> str:
    name = info.partition(" ")[0]
    if name not in ("", "console", "sh"):
        return name
    first = text.lstrip().removeprefix("$ ").partition("\n")[0].split()
    return "commands" if first and first[0] in PROGRAMS else "text"


def read_page(path: Path) -> Page:
    """Read a page of Markdown."""
    page = Page(path.relative_to(ROOT).as_posix())
    waiting: dict[str, str] = {}
    for token in MarkdownIt("commonmark").parse(path.read_text()):
        if token.type == "html_block":
            _read_comment(token.content, token.map[0] + 1, page, waiting)
        elif token.type == "fence":
            page.blocks.append(_block(token.info, token.content, token.map[0] + 1, waiting))
            waiting.clear()
        for inline in token.children or []:
            if inline.type == "code_inline" and inline.content.startswith("gpmt "):
                page.inline.append(shlex.split(inline.content))
    for block in page.blocks:
        block.not_run = block.not_run or page.not_run
    return page


def _block(info: str, text: str, line: int, waiting: dict[str, str]) -> Block:
    title = _TITLE.search(info)
    return Block(
        "output" if "output" in waiting else _language(info, text),
        text,
        line,
        title[1] if title else None,
        waiting.get("not run"),
        int(waiting.get("exit code", 0)),
    )


def _read_comment(html: str, line: int, page: Page, waiting: dict[str, str]) -> None:
    for comment in re.findall(r"<!--\s*(.*?)\s*-->", html, re.DOTALL):
        if comment.startswith("hidden\n"):
            page.blocks.append(Block("python", comment.removeprefix("hidden\n"), line + 1))
        elif comment == "slow":
            page.slow = True
        elif comment == "output":
            waiting["output"] = ""
        elif found := re.fullmatch(r"exit code (\d+)", comment):
            waiting["exit code"] = found[1]
        elif found := _NOT_RUN.fullmatch(comment):
            waiting["not run"] = found["why"]
        elif comment.startswith("page ") and (found := _NOT_RUN.fullmatch(comment.removeprefix("page "))):
            page.not_run = found["why"]
        else:
            raise ValueError(f"{page.name}:{line}: no comment to the tests: {comment}")
