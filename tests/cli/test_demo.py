import json
from functools import partial
from pathlib import Path

import pytest
import torch
from tests.cli.commands import error, gpmt

from gpmt import demo

ONE_EPOCH = {"epochs": 1, "warmup_epochs": 0, "batch_size": 256}


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    """One epoch of everything, and the number of threads as it was."""
    settings = {
        "dense": demo.DENSE.model_copy(update=ONE_EPOCH),
        "finetune": demo.FINETUNE.model_copy(update=ONE_EPOCH),
    }
    monkeypatch.setattr(demo, "compare", partial(demo.compare, **settings))
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_the_table_and_what_to_do_next():
    result = gpmt("demo", "--sparsities", "0.6,0.99", "--min-kept", 20, "--seed", 1)
    rows = [line.split() for line in result.stdout.splitlines()]
    assert [row[:3] for row in rows if len(row) > 2 and row[1] == "%" and row[2].startswith("GP")] == [
        ["60", "%", "GP"],
        ["60", "%", "GP+MT"],
        ["99", "%", "GP"],
        ["99", "%", "GP+MT"],
    ]
    for words in ("Sparsity is counted over the 54,128 weights of 17", "Seed 1", "  gpmt verify pruned.pth"):
        assert words in result.stdout
    assert "dense network:" in result.stderr
    assert "See the collapse and the rescue: open gpmt-demo.html in a browser (file:///" in result.stdout
    text = Path("gpmt-demo.html").read_text(encoding="utf-8")
    assert "GP + 20" in text
    assert "blocks.4.project.weight" in text


def test_json():
    result = gpmt("demo", "--sparsities", "90%", "--min-kept", 20, "--json", "-o", "page.html")
    assert Path("page.html").exists()
    document = json.loads(result.stdout)
    assert [level["sparsity"] for level in document["levels"]] == [0.9]
    assert document["levels"][0]["gp_mt"]["min_kept"] == 20
    assert document["levels"][0]["gp"]["kept"] == document["levels"][0]["gp_mt"]["kept"] == 5413


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sparsities", "0.9,2"], "sparsity is 2"),
        (["--sparsities", "0.9,"], "sparsity is"),
        (["--sparsities", "0.99", "--min-kept", "0.5%"], "min_kept"),
        (["-o", "nowhere/page.html"], "nowhere does not exist"),
    ],
)
def test_errors_are_one_sentence(arguments, message):
    assert message in error("demo", *arguments)
