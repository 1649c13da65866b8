import re
import time

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


@pytest.mark.parametrize("quiet", [True, False])
def test_progress_is_for_terminals(quiet: bool, capsys: pytest.CaptureFixture[str]):
    with narration.working("reading", quiet=quiet):
        pass
    assert capsys.readouterr() == ("", "")


def test_errors_pass_through_progress():
    with pytest.raises(ZeroDivisionError), narration.working("reading"):
        raise ZeroDivisionError


def test_steps_tell_how_far_they_are(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes it for a terminal
    with narration.working("reading") as tell:
        tell("reading: 3 of 4")
        time.sleep(0.2)  # ten pictures a second
    assert "reading: 3 of 4" in capsys.readouterr().err
    with narration.working("reading", quiet=True) as tell:
        tell("reading: 3 of 4")
    assert capsys.readouterr() == ("", "")
