from tests.cli.commands import error, gpmt


def test_help_of_a_command():
    assert gpmt("help", "prune").stdout == gpmt("prune", "--help").stdout
    assert "Commands" in gpmt("help").stdout


def test_an_unknown_command_is_answered_with_close_ones():
    assert error("help", "prume") == "there is no command prume; did you mean prune?"


def test_paragraphs_are_wrapped_by_the_terminal_alone(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = [line.strip() for line in gpmt("--help").stdout.splitlines()]
    assert "file is not valid; 3: a run was stopped by its limits; 130: interrupted." in lines
