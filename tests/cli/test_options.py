import json
import shlex

import pytest

from gpmt.cli.options import examples, print_json


def test_examples_can_be_copied_from_80_columns():
    command = (
        "gpmt sweep digits sparsity=0.9,0.95 seed=0,1,2 --variant 'GP: min_kept=0' --variant 'GP+MT: min_kept=0.25%' "
        "--json --variant 'gradual: schedule=gradual dense.epochs=0 finetune.epochs=15' --jobs 2 runs[0]"
    )
    title, empty, first, *lines = examples("gpmt run digits", command).split("\n")
    assert (title, empty, first) == ("Examples", "", "gpmt run digits")
    assert len(lines) > 1
    assert all(len(line) < 80 for line in lines)
    assert not any(line.removesuffix(" \\").endswith("--variant") for line in lines)
    assert shlex.split("\n".join(lines).replace("\\\n", "")) == shlex.split(command)


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
