import csv
import json
from pathlib import Path

import torch
from tests.cli.commands import error, gpmt
from tests.report.folders import write_run

import gpmt as package


def test_the_blocks_of_a_plan() -> None:
    weights = {"a_1.weight": torch.arange(1.0, 101).view(10, 10)}
    package.plan(weights, sparsity=0.5).save("plan.json")
    assert r"| a\_1.weight | 10×10 | 100 | 50 | 50.00 % |" in gpmt("table", "plan.json").stdout
    assert gpmt("table", "plan.json", "-o", "plan.tex").stdout == "wrote plan.tex\n"
    assert r"a\_1.weight & 10$\times$10 & 100 & 50" in Path("plan.tex").read_text()
    gpmt("table", "plan.json", "-o", "plan.csv", "-q")
    [row] = csv.DictReader(Path("plan.csv").read_text().splitlines())
    assert (row["block"], row["kept"]) == ("a_1.weight", "50")


def test_accuracies_of_a_run_and_its_blocks() -> None:
    write_run(Path("run"))
    assert "top-1 % on the test data" in gpmt("table", "run").stdout
    document = json.loads(gpmt("table", "run", "--json").stdout)
    assert document["tables"][0]["records"][0]["finetuned_mean"] is not None
    assert "total" in gpmt("table", "run", "--layers").stdout


def test_what_is_wrong_is_said() -> None:
    package.plan({"a.weight": torch.ones(10, 10)}, sparsity=0.5).save("plan.json")
    assert error("table", "plan.json", "--format", "word").startswith(
        "there is no form word of tables; known are"
    )
    assert error("table", "plan.json", "-o", "a.docx") == (
        "a.docx does not say its form; let its name end in .md, .tex or .csv, or give --format"
    )
    assert error("table", "plan.json", "--format", "csv", "-o", "plan.json") == (
        "plan.json is an input; give the output a name of its own"
    )
