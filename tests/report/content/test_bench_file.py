from pathlib import Path

import pytest
from tests.report.folders import write_bench

from gpmt.errors import ReportError
from gpmt.report.content.bench_file import is_bench, read_bench
from gpmt.report.content.documents import Document


def test_milliseconds_of_both_engines_are_read(tmp_path: Path):
    write_bench(tmp_path / "bench.json", "runs/a")
    found = read_bench(tmp_path / "bench.json")
    assert (found.latency.dense_ms, found.latency.sparse_ms) == (3.0, 1.0)
    assert (found.latency.batch, found.latency.cpu) == (1, "A processor")


def test_weights_are_known_by_their_path_also_from_another_folder(tmp_path: Path):
    write_bench(tmp_path / "bench.json", "runs/a")
    found = read_bench(tmp_path / "bench.json")
    assert found.is_of(tmp_path / "runs" / "a")
    assert not found.is_of(tmp_path / "runs" / "b")
    assert not found.is_of(tmp_path / "other" / "a")
    write_bench(tmp_path / "bench.json", str(tmp_path / "a" / "model.pt"))
    assert read_bench(tmp_path / "bench.json").is_of(tmp_path / "a")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"engines": {"gpmt": {"seconds": 0.1}}}, "has no time of PyTorch"),
        ({"engines": {"eager": {"seconds": 0.1}}}, "has no time of gpmt's runtime"),
        ({"engines": []}, "has no time of gpmt's runtime and PyTorch"),
        ({"batch": None}, "does not name its batch or its weights"),
    ],
)
def test_a_measurement_that_lacks_something_is_named_with_the_remedy(
    tmp_path: Path, changes: dict, reason: str
):
    path = tmp_path / "bench.json"
    write_bench(path, "runs/a", **changes)
    with pytest.raises(ReportError) as caught:
        read_bench(path)
    assert (
        str(caught.value)
        == f"{path} {reason}; gpmt bench runs/a --engines eager --json > {path} measures both"
    )


def test_other_documents_are_no_measurements():
    assert not is_bench(Document({"engines": {}}))
