import typer
from tests.cli.commands import gpmt
from typer.testing import CliRunner

from gpmt.cli import app
from gpmt.cli.usage import EXIT_CODES, help_text

COMMANDS = sorted(typer.main.get_command(app).commands)


def flat(text: str) -> str:
    return " ".join(text.split())


def test_commands_have_the_same_habits():
    for command in COMMANDS:
        printed = flat(gpmt(command, "--help").stdout)
        assert "Exit code 0: " in printed, command
        assert "130: interrupted" in printed, command
        assert "--verbose -v" in printed, command
        assert "--quiet -q" in printed or command == "help", command
        if command in ("prune", "convert", "export", "run", "sweep", "compare"):
            assert "--output,--out -o" in printed, command
        if command in ("prune", "verify", "run", "compare"):
            assert "--sparsity -s" in printed, command


def test_usage_is_written_as_everywhere():
    for command, usage in (
        ("prune", "gpmt prune [OPTIONS] IN"),
        ("convert", "gpmt convert [OPTIONS] IN [OUT]"),
        ("inspect", "gpmt inspect [OPTIONS] FILE..."),
        ("run", "gpmt run [OPTIONS] RECIPE [KEY=VALUE]..."),
        ("compare", "gpmt compare [OPTIONS] RECIPE|RUN [KEY=VALUE|RUN]..."),
        ("recipes", "gpmt recipes [OPTIONS] [NAME]"),
    ):
        result = CliRunner().invoke(app, [command, "--help"], prog_name="gpmt")
        assert f"Usage: {usage} " in result.stdout.replace("\n", " \n"), result.stdout.splitlines()[:3]
        assert "<bool>" not in result.stdout


def test_usual_exit_codes_are_added_where_a_command_has_no_others():
    assert help_text("One line.\n\nTwo\nlines.") == f"One line.\n\nTwo lines.\n\n{EXIT_CODES}"
    assert help_text("Line.\n\nExit code 0: well.") == "Line.\n\nExit code 0: well."


def test_completion_is_offered():
    printed = gpmt("--help").stdout
    assert "--install-completion" in printed
    assert "<bool>" not in printed
