"""The recipes that come with the package, held against the published tables written out here once more."""

import re
from functools import cache
from importlib.resources import files
from pathlib import Path

import pytest
import torch

import gpmt
from gpmt.core.budget.budget import check_feasible, parse_min_kept, parse_sparsity, pruned_count
from gpmt.core.scope.scope import find_scope
from gpmt.training.models import construct
from gpmt.training.recipes.files import load_recipe, shipped
from gpmt.training.recipes.schema import Recipe, Training

FOLDERS = tuple(name for name in shipped() if name.startswith("hf-"))
"""Recipes for a folder that the user names; without it their network cannot be looked up."""
IMAGENET = [name for name in shipped() if name.startswith("imagenet-")]
NETWORKS = [name for name in shipped() if name not in FOLDERS]


@cache
def recipe(name: str) -> Recipe:
    return load_recipe(name, look_up=name not in FOLDERS)


def text(name: str) -> str:
    return files("gpmt.training.recipes.shipped").joinpath(f"{name}.yaml").read_text(encoding="utf-8")


def comment(name: str) -> list[str]:
    return [line[1:].strip() for line in text(name).splitlines() if line.startswith("#")]


def commands(name: str) -> list[list[str]]:
    """The words of each `gpmt run` of a recipe's comment, after `run`."""
    joined = "\n".join(comment(name)).replace("\\\n", " ")
    return [line.partition("gpmt run ")[2].split() for line in joined.splitlines() if "gpmt run " in line]


# Epochs, batch, lr, momentum, weight decay, warm-up epochs, label smoothing, Nesterov; SGD with a cosine each.
RESNET50 = (100, 256, 0.256, 0.875, 3.1e-5, 5, 0.1, False)
RESNET50_95 = (100, 256, 0.0512, 0.95, 0, 0, 0.05, False)
DENSE = {
    "imagenet-resnet50-dense": RESNET50,
    "cifar10-wrn28-8-dense": (200, 128, 0.1, 0.875, 5e-4, 0, 0, True),
    "cifar10-resnet32-dense": (300, 128, 0.05, 0.9, 1e-3, 0, 0, False),
}
FINETUNE = {
    **{f"imagenet-resnet50-gradual{level}": RESNET50 for level in ("80", "90", "95.3", "98.05")},
    **{f"imagenet-resnet50-acdc{level}": RESNET50 for level in ("80", "90", "95.3", "98.05")},
    "imagenet-resnet50-gp80": (100, 256, 0.0256, 0.875, 2.3e-5, 5, 0.1, False),
    "imagenet-resnet50-gp90": (100, 256, 0.1024, 0.875, 7e-6, 0, 0.1, False),
    "imagenet-resnet50-gp95.3": RESNET50_95,
    "imagenet-resnet50-gp98.05": RESNET50_95,
    "imagenet-resnet50-gpmt80": (100, 256, 0.0256, 0.875, 2.3e-5, 5, 0.1, False),
    "imagenet-resnet50-gpmt90": (100, 256, 0.1024, 0.875, 7e-6, 0, 0.1, False),
    "imagenet-resnet50-gpmt95.3": RESNET50_95,
    "imagenet-resnet50-gpmt98.05": RESNET50_95,
    "imagenet-mobilenetv1-75": (120, 256, 0.0512, 0.875, 1e-5, 0, 0.1, False),
    "imagenet-mobilenetv1-90": (120, 256, 0.0256, 0.875, 1e-5, 0, 0.1, False),
    "imagenet-mobilenetv1-90-mt": (120, 256, 0.0512, 0.875, 0, 0, 0.1, False),
    "imagenet-efficientnetb2-90": (120, 256, 0.1024, 0.875, 7e-6, 0, 0.1, False),
    "imagenet-efficientnetb2-90-mt": (120, 256, 0.1024, 0.875, 7e-6, 0, 0.1, False),
    "cifar10-wrn28-8-90": (200, 128, 0.0512, 0.9, 0, 0, 0, True),
    "cifar10-wrn28-8-95": (200, 128, 0.0256, 0.9, 2e-5, 0, 0, True),
    "cifar10-wrn28-8-97.5": (200, 128, 0.0128, 0.9, 0, 0, 0, True),
    "cifar10-resnet32": (300, 128, 0.01, 0.9, 1e-3, 0, 0, False),
    "cifar10-resnet32-95": (300, 128, 0.01, 0.9, 1e-5, 0, 0, False),
}
STEPS = {  # epochs, batch, lr, epochs of a step, γ, momentum, weight decay, Nesterov
    "cifar10-wrn22-8-99.9": (80, 64, 0.1, 40, 0.1, 0.9, 5e-4, True),
    "cifar10-mobilenetv2-98": (200, 64, 0.1, 25, 0.56, 0.9, 5e-4, True),
    "cifar10-mobilenetv2-98-mt": (200, 64, 0.1, 25, 0.56, 0.9, 5e-4, True),
}
# The methods that train from an untrained network, with their settings, the epochs in which the sparsity rises, the
# batch, rate, decay, label smoothing and the norm at which gradients are clipped.
SCRATCH = {
    "acdc-ham": ("ham", {"alpha": 200, "beta": 1e-3, "clip": 5}, (0, None), 256, 0.256, 3.05e-5, 0, None),
    "st3": ("st-3", {}, (5, 50), 512, 0.2, 5e-5, 0.1, 3),
    "feather": ("feather", {}, (0, 50), 256, 0.256, 3.1e-5, 0.1, 3),
}
# Sparsity, minimum, schedule and published top-1; every other recipe has no published accuracy.
PUBLISHED = {
    "imagenet-resnet50-dense": (0, 0, "one-shot", 77.04),
    "imagenet-resnet50-gp80": (0.8, 0, "one-shot", 76.84),
    "imagenet-resnet50-gp90": (0.9, 0, "one-shot", 75.44),
    "imagenet-resnet50-gp95.3": (0.953, 0, "one-shot", 71.63),
    "imagenet-resnet50-gp98.05": (0.9805, 0, "one-shot", 62.12),
    "imagenet-resnet50-gpmt80": (0.8, "0.05%", "one-shot", 76.81),
    "imagenet-resnet50-gpmt90": (0.9, "0.05%", "one-shot", 75.42),
    "imagenet-resnet50-gpmt95.3": (0.953, "0.005%", "one-shot", 71.55),
    "imagenet-resnet50-gpmt98.05": (0.9805, "0.005%", "one-shot", 61.83),
    "imagenet-resnet50-gradual80": (0.8, 0, "gradual", 76.12),
    "imagenet-resnet50-gradual90": (0.9, 0, "gradual", 74.83),
    "imagenet-resnet50-gradual95.3": (0.953, 0, "gradual", 72.14),
    "imagenet-resnet50-gradual98.05": (0.9805, 0, "gradual", 66.57),
    "imagenet-resnet50-acdc80": (0.8, 0, "ac-dc", 76.45),
    "imagenet-resnet50-acdc90": (0.9, 0, "ac-dc", 75.03),
    "imagenet-resnet50-acdc-ham-80": (0.8, "0.05%", "ac-dc", 77.20),
    "imagenet-resnet50-acdc-ham-90": (0.9, "0.05%", "ac-dc", 76.66),
    "imagenet-resnet50-acdc-ham-95": (0.95, "0.05%", "ac-dc", 75.45),
    "imagenet-resnet50-st3-80": (0.8, "0.05%", "gradual", 76.95),
    "imagenet-resnet50-st3-90": (0.9, "0.05%", "gradual", 76.03),
    "imagenet-resnet50-st3-95": (0.95, "0.05%", "gradual", 74.46),
    "imagenet-resnet50-st3-98": (0.98, "0.005%", "gradual", 70.46),
    "imagenet-resnet50-feather-90": (0.9, "0.05%", "gradual", 76.93),
    "imagenet-mobilenetv1-dense": (0, 0, "one-shot", 71.95),
    "imagenet-mobilenetv1-75": (0.7528, 0, "one-shot", 70.74),
    "imagenet-mobilenetv1-90": (0.9, 0, "one-shot", 59.49),
    "imagenet-mobilenetv1-90-mt": (0.9, "0.2%", "one-shot", 63.94),
    "cifar10-wrn28-8-dense": (0, 0, "one-shot", 96.06),
    "cifar10-wrn28-8-90": (0.9, 0, "one-shot", 96.30),
    "cifar10-wrn28-8-95": (0.95, 0, "one-shot", 96.16),
    "cifar10-wrn28-8-97.5": (0.975, 0, "one-shot", 95.68),
    "cifar10-wrn22-8-99.9": (0.999, 0, "one-shot", 67.68),
    "cifar10-resnet32-dense": (0, 0, "one-shot", 93.83),
    "cifar10-resnet32": (0.9, 0, "one-shot", 92.67),
    "cifar10-resnet32-95": (0.95, 0, "one-shot", 90.65),
    "cifar10-mobilenetv2-98": (0.98, 0, "one-shot", 10),
    "cifar10-mobilenetv2-98-mt": (0.98, "0.02%", "one-shot", 82.97),
    "har2-fastgrnn-dense": (0, 0, "one-shot", 96.10),
    "har2-fastgrnn-9-8": ("72/80", 0, "one-shot", 95.89),
    "har2-fastgrnn-9-7": ("73/80", 0, "one-shot", 95.72),
    "har2-fastgrnn-8-7": ("74/89", 7, "one-shot", 95.62),
}
INPUTS = {
    "imagenet": (1000, (3, 224, 224)),
    "cifar10": (10, (3, 32, 32)),
    "cifar100": (100, (3, 32, 32)),
    "mnist": (10, (1, 28, 28)),
    "fashion-mnist": (10, (1, 28, 28)),
    "digits": (10, (1, 8, 8)),
    "har2": (2, (128, 9)),
}
PRUNABLE = {
    "torchvision:resnet50": 25_502_912,
    "timm:mobilenetv1_100": 4_209_088,
    "timm:efficientnet_b2": 9_026_016,
    "wrn-28-8": 23_340_464,
    "wrn-28-10": 36_518_832,  # for 100 classes
    "wrn-22-8": 17_147_312,
    "wrn-16-2": 689_840,
    "resnet20": 268_336,
    "resnet32": 461_872,
    "resnet56": 848_944,
    "cifar-mobilenetv2": 2_261_824,
    "lenet5-caffe": 430_500,
    "mobilenet-digits": 54_128,
    "fastgrnn": 13_761,
}


@pytest.mark.parametrize("name", shipped())
def test_shipped_recipes_are_valid_and_say_what_they_are(name, tmp_path: Path):
    of = recipe(name)
    assert of.title
    assert of.about
    path = tmp_path / "recipe.yaml"
    path.write_text(of.to_yaml(), encoding="utf-8")
    assert load_recipe(str(path), look_up=False) == of


def test_the_published_experiment_starts_from_the_published_dense_network():
    assert recipe("cifar10-resnet32").dense == recipe("cifar10-resnet32-dense").dense


def sgd(phase: Training) -> tuple[object, ...]:
    return (phase.optimizer, phase.lr_schedule, phase.lr_per_step, phase.decay_norms)


@pytest.mark.parametrize("name", [*DENSE, *FINETUNE])
def test_the_published_hyper_parameters_to_the_digit(name):
    phase, expected = (
        (recipe(name).dense, DENSE[name]) if name in DENSE else (recipe(name).finetune, FINETUNE[name])
    )
    assert (
        phase.epochs,
        phase.batch_size,
        phase.lr,
        phase.momentum,
        phase.weight_decay,
        phase.warmup_epochs,
        phase.label_smoothing,
        phase.nesterov,
    ) == expected
    assert sgd(phase) == ("sgd", "cosine", False, True)


@pytest.mark.parametrize("name", STEPS)
def test_the_published_step_schedules(name):
    phase = recipe(name).finetune
    assert (
        phase.epochs,
        phase.batch_size,
        phase.lr,
        phase.lr_step_epochs,
        phase.lr_gamma,
        phase.momentum,
        phase.weight_decay,
        phase.nesterov,
    ) == STEPS[name]
    assert sgd(phase) == ("sgd", "step", False, True)
    assert (phase.warmup_epochs, phase.label_smoothing) == (0, 0)


@pytest.mark.parametrize("network", ["resnet50", "mobilenetv1"])
@pytest.mark.parametrize("level", ["80", "90", "95", "98"])
@pytest.mark.parametrize("method", SCRATCH)
def test_the_settings_of_methods_that_train_from_scratch(network: str, level: str, method: str):
    of = recipe(f"imagenet-{network}-{method}-{level}")
    prune, phase = of.prune, of.finetune
    assert (
        prune.method,
        prune.method_settings,
        (prune.start, prune.end),
        phase.batch_size,
        phase.lr,
        phase.weight_decay,
        phase.label_smoothing,
        phase.clip_norm,
    ) == SCRATCH[method]
    assert (phase.epochs, phase.momentum, phase.warmup_epochs) == (100, 0.875, 5)
    assert (of.dense.epochs, of.dense.checkpoint, prune.interval) == (0, None, None)
    assert prune.min_kept != 0


def test_what_is_published_about_the_remaining_ones():
    assert recipe("cifar10-wrn22-8-99.9").dense.epochs == 30
    for ranks in ("9-8", "9-7", "8-7"):
        phase = recipe(f"har2-fastgrnn-{ranks}").finetune
        assert (phase.epochs, phase.batch_size, phase.lr, phase.optimizer) == (300, 100, 0.5, "adam")


@pytest.mark.parametrize("name", shipped())
def test_sparsity_minimum_schedule_and_accuracy_are_those_of_the_tables(name):
    prune, expects = recipe(name).prune, recipe(name).expects
    if name in PUBLISHED:
        assert (prune.sparsity, prune.min_kept, prune.schedule, expects.top1) == PUBLISHED[name]
        assert expects.source.startswith("arXiv ")
    else:
        assert expects.top1 is None


def test_no_published_row_is_missing():
    assert {*DENSE, *FINETUNE, *STEPS, *PUBLISHED} <= set(shipped())


@pytest.mark.parametrize("name", IMAGENET)
def test_imagenet_is_in_float32_as_published_with_any_setting_of_accelerate(name):
    assert (recipe(name).compute.precision, recipe(name).compute.sharding) == ("float32", "ddp")


@cache
def tensors(model: str, data: str) -> dict[str, torch.Tensor]:
    classes, shape = INPUTS[data]
    with torch.device("meta"):
        return dict(find_scope(construct(model, num_classes=classes, input_shape=shape)).tensors)


def units(of: Recipe) -> dict[str, int]:
    """How many weights or columns the recipe prunes from, by tensor."""
    prune = of.prune
    if prune.granularity == "weight":
        return {name: tensor.numel() for name, tensor in tensors(of.model, of.data.name).items()}
    columns = tensors(of.model, of.data.name)
    return {f"{layer}.weight": columns[f"{layer}.weight"].shape[1] for layer in prune.scope or ()}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_network_has_the_weights_that_the_arithmetic_counts(name):
    of = recipe(name)
    sizes = units(of)
    numel = sum(sizes.values())
    if of.prune.granularity == "weight":
        assert numel == PRUNABLE[of.model]
    sparsity = parse_sparsity(of.prune.sparsity)
    min_kept = parse_min_kept(of.prune.min_kept, numel)
    floors = {name: min(size, min_kept) for name, size in sizes.items()}
    check_feasible(floors, numel=numel, sparsity=sparsity, minimum=str(min_kept))
    written = " ".join(comment(name))
    if "Arithmetic:" in written:
        pruned = pruned_count(sparsity, numel)
        for count in (pruned, min_kept or numel - pruned):
            assert re.search(rf"(?<![\d,]){count:,}(?![\d,]*\d)", written), f"{count:,} is not in the comment"


@pytest.mark.parametrize("name", [name for name in IMAGENET if "-acdc" in name])
def test_ac_dc_has_the_published_events(name):
    prune, steps = recipe(name).prune, 50
    events = prune.make_schedule(epochs=recipe(name).finetune.epochs, steps_per_epoch=steps).events()
    sparsity = parse_sparsity(prune.sparsity)
    prunings = {epoch * steps: sparsity for epoch in (10, 20, 30, 40, 50, 60, 70, 85)}
    restores = {epoch * steps: None for epoch in (15, 25, 35, 45, 55, 65, 75)}
    assert {event.time: event.sparsity for event in events} == prunings | restores
    assert (recipe(name).dense.epochs, recipe(name).dense.checkpoint) == (0, None)


@pytest.mark.parametrize("name", [name for name in IMAGENET if "-gradual" in name])
def test_gradual_pruning_rises_once_an_epoch_to_epoch_75_from_an_untrained_network(name):
    prune, steps = recipe(name).prune, 50
    events = prune.make_schedule(epochs=recipe(name).finetune.epochs, steps_per_epoch=steps).events()
    assert [event.time for event in events] == [epoch * steps for epoch in range(1, 76)]
    assert events[-1].sparsity == parse_sparsity(prune.sparsity)
    assert (recipe(name).dense.epochs, recipe(name).dense.checkpoint) == (0, None)


def test_fastgrnn_ends_with_exactly_the_published_ranks():
    torch.manual_seed(0)
    network = construct("fastgrnn", num_classes=2, input_shape=(128, 9))
    with torch.no_grad():
        network.W1.weight *= 0.1  # lower than any column of U1, and still W1 keeps its 9 where it should

    def ranks(name: str) -> tuple[int, ...]:
        prune = recipe(name).prune
        gpmt.prune_(
            network,
            sparsity=prune.sparsity,
            min_kept=prune.min_kept,
            scope=prune.scope,
            granularity=prune.granularity,
        )
        return tuple(int(factor.weight.any(dim=0).sum()) for factor in (network.W1, network.U1))

    assert ranks("har2-fastgrnn-9-8") == (9, 8)
    assert ranks("har2-fastgrnn-9-7") == (9, 7)
    with torch.no_grad():
        network.W1.weight *= 100  # nor does the order of their sums matter afterwards
    assert ranks("har2-fastgrnn-8-7") == (8, 7)
    assert str(recipe("har2-fastgrnn-8-7").dense.checkpoint) == "runs/har2-fastgrnn-9-7/model.pt"


@pytest.mark.parametrize("name", shipped())
def test_a_recipe_says_how_it_is_run_and_that_command_is_valid(name):
    assert name in [words[0] for words in commands(name)]
    assert comment(name)[0].startswith(("gpmt run ", "torchrun --nproc-per-node 8 -m gpmt run "))
    for words in commands(name):
        overrides = [word.rstrip("`") for word in words[1:] if re.match(r"[\w.]+=", word)]
        load_recipe(words[0], overrides, look_up=words[0] not in FOLDERS)


@pytest.mark.parametrize("name", shipped())
def test_the_dense_network_that_a_command_takes_is_the_one_this_recipe_would_train(name):
    for words in [words for words in commands(name) if "--dense-from" in words]:
        own = recipe(words[0])
        other = recipe(words[words.index("--dense-from") + 1].removeprefix("runs/"))
        for section in ("model", "seed", "data", "compute", "dense"):
            assert getattr(own, section) == getattr(other, section)


@pytest.mark.parametrize("name", shipped())
def test_a_recipe_for_a_gpu_names_a_short_one_for_the_cpu(name):
    expects = recipe(name).expects
    assert expects.hardware
    assert expects.time
    if expects.device == "gpu":
        assert recipe(expects.on_cpu).expects.device == "any"
    else:
        assert expects.on_cpu is None


@pytest.mark.parametrize("name", shipped())
def test_a_recipe_is_a_readable_document(name):
    lines = text(name).splitlines()
    settings = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    assert settings >= 2
    assert not any(line.startswith("#") for line in lines[settings:])
    assert max(map(len, lines)) <= 118
    # What a child must not inherit.
    for key in ("title: ", "about: "):
        assert any(line.startswith(key) for line in lines)
