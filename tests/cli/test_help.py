from tests.cli.commands import error, gpmt


def test_help_of_a_command():
    assert gpmt("help", "prune").stdout == gpmt("prune", "--help").stdout
    assert "Commands" in gpmt("help").stdout


def test_an_unknown_command_is_answered_with_close_ones():
    assert error("help", "prume") == "there is no command prume; did you mean prune?"
