from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from tests.training.run.runs import PLAIN_NETWORK, short_recipe

from gpmt.prune import plan
from gpmt.training.data import datasets
from gpmt.training.recipes.schema import Recipe
from gpmt.training.run.progress import Reporter
from gpmt.training.run.run_folder import RunFolder
from gpmt.training.run.setup import Setup, load_source, new_network, read_source
from gpmt.training.run.time_budget import TimeBudget

CPU = torch.device("cpu")


def make(recipe: Recipe, folder: Path) -> Setup:
    accelerator, reporter = Accelerator(cpu=True), Reporter(silent=True)
    source = load_source(recipe, accelerator, reporter)
    model = torch.nn.DataParallel(new_network(recipe, source))
    return Setup(recipe, RunFolder(folder), accelerator, reporter, TimeBudget(), source, model, {})


def test_the_network_is_the_one_inside_its_wrappers(tmp_path: Path):
    setup = make(short_recipe(), tmp_path)
    assert setup.network is setup.model.module


def test_the_seed_of_the_recipe_decides_the_first_weights():
    source = read_source(short_recipe(), Reporter(silent=True))
    torch.manual_seed(5)
    first, again = (new_network(short_recipe(), source) for _ in range(2))
    other = new_network(short_recipe("seed=1"), source)
    torch.testing.assert_close(first.state_dict(), again.state_dict(), rtol=0, atol=0)
    assert not torch.equal(first.stem.weight, other.stem.weight)


def test_a_fresh_network_has_the_first_weights_and_shares_none(tmp_path: Path):
    setup = make(short_recipe(), tmp_path)
    before = setup.network.stem.weight.detach().clone()
    with torch.no_grad():
        setup.network.stem.weight.zero_()
    assert torch.equal(setup.fresh_network().stem.weight, before)


@pytest.mark.parametrize("channels_last", [True, False])
def test_the_memory_format_is_the_recipes(tmp_path: Path, channels_last: bool):
    setup = make(short_recipe("model=resnet20", f"compute.channels_last={channels_last}"), tmp_path)
    convolution = setup.network.layer1[0].conv1.weight
    formats = {torch.channels_last: channels_last, torch.contiguous_format: not channels_last}
    assert formats[setup.memory_format]
    assert {name: convolution.is_contiguous(memory_format=name) for name in formats} == formats


def test_the_options_of_the_plan_are_those_of_the_recipe(tmp_path: Path):
    setup = make(short_recipe("exclude=stem", "allocation=uniform", "min_kept=7", "seed=3"), tmp_path)
    assert (setup.pruning["seed"], setup.pruning["allocation"]) == (3, "uniform")
    made = plan(setup.network, sparsity=0.5, **setup.pruning)
    assert made.min_kept == 7
    assert "stem.weight" not in [row.name for row in made.tensors]


def test_the_score_is_of_the_given_network_or_of_its_own(tmp_path: Path):
    setup = make(short_recipe(PLAIN_NETWORK), tmp_path)
    other = setup.fresh_network()
    for parameter in other.parameters():
        torch.nn.init.zeros_(parameter)
    assert setup.evaluate(other).loss == pytest.approx(torch.tensor(10.0).log().item())
    assert setup.evaluate() == setup.evaluate(setup.network) != setup.evaluate(other)
    assert setup.evaluate().images == 101


def test_the_data_are_those_of_the_recipe_and_on_the_device():
    recipe, reporter = short_recipe("data.train_limit=64"), Reporter(silent=True)
    read, placed = read_source(recipe, reporter), load_source(recipe, Accelerator(cpu=True), reporter)
    assert (read.train_size, placed.train_size, placed.test_size) == (64, 64, 101)
    ((images, _),) = placed.test_batches(200)
    assert images.device == CPU
    whole = datasets.load("digits", root=None)
    assert read.classes == whole.classes
