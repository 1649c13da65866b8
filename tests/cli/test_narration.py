import re

import pytest
from tests.cli.commands import error, gpmt

from gpmt.cli import narration


def test_verbose_commands_say_how_long_each_step_took(dense: str):
    assert gpmt("inspect", dense).stderr == ""
    steps = gpmt("inspect", dense, "-v").stderr.splitlines()
    assert [re.sub(r"[\d.]+ s$", "", step) for step in steps] == [f"reading {dense}: ", f"counting {dense}: "]
    assert gpmt("inspect", dense).stderr == ""


def test_verbose_commands_say_where_an_error_was_raised():
    result = gpmt("inspect", "missing.pt", "--verbose", code=2)
    assert result.stderr.startswith("Traceback")
    assert result.stderr.splitlines()[-1] == "error: missing.pt does not exist; check the path"
    assert error("inspect", "missing.pt") == "missing.pt does not exist; check the path"


def test_nothing_is_said_of_quiet_work(capsys: pytest.CaptureFixture):
    with narration.working("reading", quiet=True):
        pass
    assert capsys.readouterr().err == ""
