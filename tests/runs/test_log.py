import subprocess
import sys
from pathlib import Path

import pytest
from tests.waiting import wait_until

from gpmt.runs.log import ending, is_locked, locked


def test_a_file_is_locked_until_its_holder_ends(tmp_path: Path):
    log = tmp_path / "log.txt"
    assert not is_locked(log)
    with locked(log):
        assert is_locked(log)
        log.write_text("a line\n")
    assert not is_locked(log)
    assert log.read_text() == "a line\n"


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path):
    log = tmp_path / "log.txt"
    code = (
        "import time; from pathlib import Path; from gpmt.runs.log import locked\n"
        f"with locked(Path({str(log)!r})): time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        wait_until(lambda: is_locked(log))
        process.kill()
        process.wait()
    assert not is_locked(log)


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (
            "2026-01-01 10:00:00 interrupted in epoch 3 of 4 of dense",
            ("interrupted", "in epoch 3 of 4 of dense"),
        ),
        ("2026-01-01 10:00:00 stopped after 5 minutes, in", ("stopped", "after 5 minutes, in")),
        ("2026-01-01 10:00:00 failed in epoch 1: no space", ("failed", "in epoch 1: no space")),
        ("2026-01-01 10:00:00 diverged: the loss became nan", ("diverged", "the loss became nan")),
        ("2026-01-01 10:00:00 dense epoch 1/2: lr 0.1", None),
        ("interrupted", None),
        ("", None),
    ],
)
def test_the_last_line_tells_the_ending(tmp_path: Path, last: str, expected: tuple[str, str] | None):
    log = tmp_path / "log.txt"
    log.write_text("2026-01-01 09:00:00 interrupted in epoch 1\n" + "x" * 20_000 + f"\n{last}")
    if last:
        assert ending(log) == expected
    log.write_bytes(b"\xff\xfe")
    assert ending(log) is None
    assert ending(tmp_path / "none") is None
