"""Every block of code and every command of the documentation and the README runs, or says why not and is checked."""

import pytest
from tests.docs.checks import check_block, check_command
from tests.docs.pages import PAGES, ROOT, Page, read_page
from tests.docs.runner import run_page

READ = {path.relative_to(ROOT).as_posix(): read_page(path) for path in PAGES}

NOT_RUN = 50
"""How many blocks of Python and commands may be checked only; a third of them are measurements in docs/results.md."""

pytestmark = [
    # As in tests/test_examples.py: what Lightning and the Trainer of transformers say of themselves.
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty:UserWarning"),
    pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true but no accelerator:UserWarning"),
]


def runs(page: Page) -> bool:
    return any(not block.not_run and block.language in ("python", "commands") for block in page.blocks)


def test_few_blocks_are_not_run() -> None:
    blocks = [block for page in READ.values() for block in page.blocks]
    named = [block.not_run for block in blocks if block.language in ("python", "commands")]
    assert len([why for why in named if why]) <= NOT_RUN
    assert len(named) > 2 * NOT_RUN


@pytest.mark.parametrize("name", READ)
def test_blocks_and_commands_are_valid(name: str) -> None:
    for block in READ[name].blocks:
        try:
            check_block(block)
        except BaseException as error:
            error.add_note(f"in the block at {name}:{block.line}")
            raise
    for words in READ[name].inline:
        check_command(words, whole=False)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if page.slow else ())
        for name, page in READ.items()
        if runs(page)
    ],
)
def test_a_page_runs(name: str, tmp_path) -> None:
    run_page(READ[name], tmp_path)
