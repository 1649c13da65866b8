"""The fuzzer's corpus, read again by what numba compiles, with bounded memory; see fuzz.py."""

import resource
from pathlib import Path

import pytest

from gpmt.formats.sparse import reader

from . import oracle

CORPUS = sorted(Path(__file__).with_name("corpus").iterdir())
MEMORY = 1 << 30


@pytest.fixture(autouse=True)
def bounded(monkeypatch):
    """As in the fuzzer: the reader believes the machine small, and cannot take much more than there is now."""
    monkeypatch.setattr(reader, "memory_limit", lambda: 1 << 24)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("file", CORPUS, ids=lambda path: path.name)
def test_reading_the_corpus(file):
    oracle.check(file)


def test_mending_the_corpus(tmp_path):
    """Checksums that were mended are those that the reader wants."""
    mended = 0
    for file in CORPUS:
        if (raw := oracle.repair(file.read_bytes())) is not None:
            (tmp_path / "mended").write_bytes(raw)
            oracle.check(tmp_path / "mended")
            assert oracle.repair(raw) == raw
            mended += 1
    assert mended > len(CORPUS) / 2
