import json

import pytest
from rich.text import Text

from gpmt.cli.options import examples, print_json, working


def test_examples_are_separate_paragraphs_and_keep_their_brackets():
    text = examples("gpmt run digits", "pip install 'gpmt[train]'")
    assert text.split("\n\n") == ["[bold]Examples[/bold]", "gpmt run digits", r"pip install 'gpmt\[train]'"]
    assert Text.from_markup(text).plain.endswith("pip install 'gpmt[train]'")


def test_json_is_one_document_on_stdout(capsys: pytest.CaptureFixture[str]):
    document = {"a": [1, None], "b": {"ö": 0.5}}
    print_json(document)
    printed = capsys.readouterr()
    assert json.loads(printed.out) == document
    assert printed.err == ""


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_does_not_have_is_refused(value: float, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(ValueError, match="not JSON compliant"):
        print_json({"a": value})
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("quiet", [True, False])
def test_progress_is_for_terminals(quiet: bool, capsys: pytest.CaptureFixture[str]):
    with working("reading", quiet=quiet):
        pass
    assert capsys.readouterr() == ("", "")


def test_errors_pass_through_progress():
    with pytest.raises(ZeroDivisionError), working("reading"):
        raise ZeroDivisionError
