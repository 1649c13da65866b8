"""The examples do what they say: they prune exactly, print it, resume, and are short enough to copy."""

import ast
import io
import re
import runpy
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))
SPARSITY = {"hf_trainer": 80.0, "lottery_ticket": 92.22}  # percent; 90 where nothing is said

pytestmark = [
    # Lightning 2.6 asks torch for a class that torch 2.14 deprecates.
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec:FutureWarning"),
    # Lightning says so of the very folder it resumes from.
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty:UserWarning"),
    # The Trainer of transformers asks for pinned memory whether or not there is a GPU.
    pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true but no accelerator:UserWarning"),
]


class Interrupted(BaseException):
    """What no framework catches for good."""


def run(example, folder, *arguments, stop_after=None):
    """Run an example in a folder; return its variables, what it printed, and its steps of the optimiser."""
    steps = 0

    def count(*_):
        nonlocal steps
        steps += 1
        if steps == stop_after:
            raise Interrupted

    threads = torch.get_num_threads()
    hook = register_optimizer_step_post_hook(count)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as printed:
        patch.chdir(folder)
        patch.setattr(sys, "argv", [str(example), *arguments])
        torch.set_num_threads(1)
        try:
            variables = runpy.run_path(str(example), run_name="__main__")
        finally:
            torch.set_num_threads(threads)
            hook.remove()
    return variables, printed.getvalue(), steps


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_at_most_30_lines(example):
    text = example.read_text()
    docstring = ast.parse(text).body[0]
    lines = [line for line in text.splitlines()[docstring.end_lineno :] if line.strip()]
    assert len(lines) <= 30


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
@pytest.mark.slow
def test_prunes_exactly_and_resumes(example, tmp_path):
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole, printed, steps = run(example, tmp_path / "whole")
    assert whole["report"], whole["report"]
    assert "pruned, as asked for" in printed
    sparsity, accuracy = map(float, re.findall(r"sparsity (.*)%, accuracy (.*)%", printed)[-1])
    assert sparsity == pytest.approx(SPARSITY.get(example.stem, 90.0), abs=0.02)
    assert accuracy > 80

    if example.stem == "lottery_ticket":
        sparsities = [float(found) for found in re.findall(r"sparsity (.*)%, ", printed)]
        assert sparsities == pytest.approx([100 - 100 * 0.6**level for level in range(6)], abs=0.02)
        for name, mask in whole["masks"].items():  # what is left started from the early values
            assert not torch.equal(whole["early"][name] != 0, mask)
            assert torch.equal(whole["model"].get_parameter(name) != 0, mask)
    if "--resume" not in example.read_text():
        return
    with pytest.raises(Interrupted):
        run(example, tmp_path / "cut", stop_after=130)
    resumed, _, steps_left = run(example, tmp_path / "cut", "--resume")
    assert steps_left == steps - 8 * 15  # from the end of the eighth epoch
    assert resumed["report"], resumed["report"]
    if example.stem != "lightning_callback":  # Lightning's checkpoints leave out the random generators
        for key, value in whole["model"].state_dict().items():
            assert torch.equal(value, resumed["model"].state_dict()[key]), key
