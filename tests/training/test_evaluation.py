"""Evaluating a checkpoint: its accuracy against a plain loop, its zeros, its cost, and the published row."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

import gpmt
from gpmt.errors import CheckpointError
from gpmt.formats.checkpoint import Checkpoint, load_checkpoint
from gpmt.training.evaluation import Evaluation, evaluate_checkpoint
from gpmt.training.models import construct
from gpmt.training.recipes.files import make_recipe
from gpmt.training.run.score import Score
from gpmt.verification import verify

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)


def make(path: Path | None = None, **sections):
    """A recipe whose dense network is the file at `path`."""
    settings = {"title": "t", "model": "resnet20", "data": {"name": "digits"}, "prune": {"sparsity": 0.5}}
    dense = {"checkpoint": str(path)}
    return make_recipe({**settings, "finetune": {}, "dense": dense, **sections}, label="test")


@pytest.fixture
def pruned(tmp_path: Path) -> tuple[nn.Module, Checkpoint]:
    """A network for six classes, 50 % sparse, whose batch norms are not those of a fresh one, and its file."""
    torch.manual_seed(0)
    network = construct("resnet20", num_classes=6, input_shape=(3, 8, 8))
    for _ in range(3):
        network(torch.randn(8, 3, 8, 8))
    gpmt.prune_(network, sparsity=0.5)
    torch.save({"state_dict": network.state_dict()}, tmp_path / "pruned.pt")
    return network.eval(), load_checkpoint(tmp_path / "pruned.pt")


def images(root: Path, **more) -> dict:
    return {"name": "imagefolder", "root": str(root), "size": 8, "resize": 10, "workers": 0, "mean": MEAN} | {
        "std": STD,
        **more,
    }


@torch.no_grad()
def plain_score(network: nn.Module, root: Path) -> tuple[float, float, float]:
    transform = v2.Compose(
        [
            v2.Resize(10),
            v2.CenterCrop(8),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    samples = list(ImageFolder(str(root), transform))
    logits = network(torch.stack([image for image, _ in samples]))
    labels = torch.tensor([label for _, label in samples])
    order = logits.argsort(dim=1, descending=True)
    top1 = (order[:, 0] == labels).float().mean()
    top5 = (order[:, :5] == labels[:, None]).any(dim=1).float().mean()
    return F.cross_entropy(logits, labels).item(), top1.item(), top5.item()


@pytest.mark.parametrize("batch_size", [5, 64])
def test_accuracy_is_that_of_a_plain_loop(shared_image_tree: Path, pruned, batch_size: int):
    network, checkpoint = pruned
    recipe = make(checkpoint.path, data=images(shared_image_tree))
    score = evaluate_checkpoint(recipe, checkpoint, batch_size=batch_size).score
    loss, top1, top5 = plain_score(network, shared_image_tree / "test")
    assert (score.images, score.top1, score.top5) == (24, pytest.approx(top1), pytest.approx(top5))
    assert score.loss == pytest.approx(loss, rel=1e-4)


def test_zeros_parameters_and_macs(shared_image_tree: Path, pruned):
    network, checkpoint = pruned
    result = evaluate_checkpoint(make(checkpoint.path, data=images(shared_image_tree)), checkpoint)
    numel = sum(p.numel() for name, p in network.named_parameters() if p.ndim > 1)
    assert (result.verification.numel, result.verification.pruned) == (numel, numel // 2)
    assert result.parameters == sum(parameter.numel() for parameter in network.parameters())
    assert result.macs["conv1.weight"] == 8 * 8 * 16 * 27
    kept = int(network.conv1.weight.count_nonzero())
    assert 0 < kept < 16 * 27
    others = {name: macs for name, macs in result.macs.items() if name != "conv1.weight"}
    left = {row.name: row.kept / row.numel for row in result.verification.tensors}
    sparse = 8 * 8 * kept + sum(macs * left[name] for name, macs in others.items())
    assert result.total_macs["dense"] == sum(result.macs.values())
    assert result.total_macs["sparse"] == pytest.approx(sparse, abs=len(others))


def test_the_scope_is_that_of_the_recipe(shared_image_tree: Path, pruned):
    _, checkpoint = pruned
    recipe = make(
        checkpoint.path,
        data=images(shared_image_tree),
        prune={"sparsity": 0.5, "exclude": ["linear", "conv1"]},
    )
    result = evaluate_checkpoint(recipe, checkpoint)
    names = {row.name for row in result.verification.tensors}
    assert names == set(result.macs)
    assert not names & {"linear.weight", "conv1.weight"}


def test_columns_are_counted_where_the_recipe_prunes_them(shared_image_tree: Path):
    torch.manual_seed(0)
    network = construct("lenet5-caffe", num_classes=6, input_shape=(3, 16, 16))
    terms = {"sparsity": 0.5, "scope": ["fc*"], "granularity": "column"}
    gpmt.prune_(network, **terms)
    recipe = make(
        Path("a.pt"),
        model="lenet5-caffe",
        data=images(shared_image_tree, size=16, resize=16),
        prune=terms,
        expects={"top1": 50.0},
    )
    result = evaluate_checkpoint(recipe, Checkpoint(Path("a.pt"), network.state_dict()))
    columns = network.fc1.in_features + network.fc2.in_features
    assert (result.verification.unit, result.verification.numel) == ("columns", columns)
    assert result.to_dict()["columns"] == columns
    assert result.notes() == []
    assert result.total_macs["dense"] == network.fc1.weight.numel() + network.fc2.weight.numel()
    assert result.total_macs["sparse"] == sum(
        int(layer.weight.count_nonzero()) for layer in (network.fc1, network.fc2)
    )


def test_a_folder_of_classes_is_enough_and_train_limits_do_not_matter(shared_image_tree: Path, pruned):
    _, checkpoint = pruned
    recipe = make(checkpoint.path, data=images(shared_image_tree / "test", name="imagenet", train_limit=5))
    result = evaluate_checkpoint(recipe, checkpoint)
    both = evaluate_checkpoint(make(checkpoint.path, data=images(shared_image_tree)), checkpoint)
    assert result.score == both.score
    p = (result.score.top1 * 24 + 1) / 26
    assert result.notes() == [
        "these are 24 images, not the 50,000 that imagenet is evaluated on; "
        f"the standard error of top-1 is {math.sqrt(p * (1 - p) / 24):.2%}"
    ]
    assert both.notes() == []


def test_a_gpu_recipe_is_evaluated_without_one_in_float32(shared_image_tree: Path, pruned):
    _, checkpoint = pruned
    data = images(shared_image_tree)
    recipe = make(
        checkpoint.path,
        data=data,
        expects={"device": "gpu", "top1": 75.44, "source": "arXiv 2209.14624"},
        compute={"precision": "fp16", "sharding": "fsdp2", "channels_last": False},
    )
    result = evaluate_checkpoint(recipe, checkpoint)
    expected = evaluate_checkpoint(make(checkpoint.path, data=data), checkpoint).score
    assert result.score.loss == pytest.approx(expected.loss, rel=1e-5)
    published = result.to_dict()["published"]
    assert published == {
        "top1": pytest.approx(0.7544),
        "sparsity": 0.5,
        "source": "arXiv 2209.14624",
        "difference": pytest.approx(expected.top1 - 0.7544),
    }
    assert result.notes() == []


def test_weights_for_other_classes(shared_image_tree: Path):
    other = construct("resnet20", num_classes=10, input_shape=(3, 8, 8))
    checkpoint = Checkpoint(Path("ten.pt"), other.state_dict())
    with pytest.raises(
        CheckpointError, match=r"^ten\.pt has linear\.weight of shape \(10, 64\), .* 6 classes needs"
    ):
        evaluate_checkpoint(make(Path("ten.pt"), data=images(shared_image_tree)), checkpoint)


def evaluated(*, sparsity: float, loss: float = 1.0, **sections) -> Evaluation:
    layer = nn.Linear(10, 10)
    gpmt.prune_(layer, sparsity=sparsity)
    score = Score(loss, top1=0.5, top5=None, images=10_000)
    return Evaluation(make(Path("a.pt"), **sections), score, verify(layer), 110, {"weight": 100}, 1.0)


@pytest.mark.parametrize(
    ("sparsity", "published", "notes"),
    [
        (0.5, "50%", []),
        (0.51, 0.5, ["the published row is at 50% sparsity, these weights are at 51%"]),
        (0.5, 0.9805, ["the published row is at 98.05% sparsity, these weights are at 50%"]),
    ],
)
def test_a_row_of_another_sparsity_is_noted(sparsity: float, published: float | str, notes: list[str]):
    prune = {"sparsity": published}
    assert evaluated(sparsity=sparsity, prune=prune, expects={"top1": 60.0}).notes() == notes
    assert evaluated(sparsity=sparsity, prune=prune).notes() == []
    assert evaluated(sparsity=sparsity, prune=prune).to_dict()["published"] is None


@pytest.mark.parametrize("loss", [math.inf, math.nan])
def test_a_loss_that_is_not_finite_is_none_in_json(loss: float):
    assert evaluated(sparsity=0.5, loss=loss).to_dict()["loss"] is None
