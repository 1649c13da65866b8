from pathlib import Path

import pytest
import torch
from tests.training.run.runs import short_recipe, weights

from gpmt.errors import RecipeError
from gpmt.training.run.run import run


def test_a_recipe_for_a_gpu_is_refused_without_one_and_names_another(tmp_path: Path):
    if torch.accelerator.is_available():
        pytest.skip("there is a GPU")
    recipe = short_recipe().model_copy(
        update={"expects": short_recipe().expects.model_copy(update={"device": "gpu", "on_cpu": "digits"})}
    )
    with pytest.raises(
        RecipeError, match=r"is for a GPU, but PyTorch finds none here; run the CPU version, `gpmt"
    ):
        run(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("compute.precision=fp16", "compute.precision is fp16, which needs a GPU"),
        ("compute.sharding=fsdp2", "compute.sharding is fsdp2, but there is one process; start several"),
    ],
)
def test_what_the_machine_lacks_is_one_sentence(tmp_path: Path, override, sentence):
    if torch.accelerator.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(RecipeError, match=sentence):
        run(short_recipe(override), tmp_path / "run")


def test_bf16_trains_float32_weights(dense: Path, tmp_path: Path):
    metrics = run(
        short_recipe("compute.precision=bf16", "dense.epochs=1", "finetune.epochs=1"), tmp_path / "run"
    )
    assert metrics["machine"]["mixed_precision"] == "bf16"
    assert all(t.dtype != torch.bfloat16 for t in weights(tmp_path / "run/model.pt").values())
    # and the next run in this process is in float32 again
    following = short_recipe("dense.epochs=0", f"dense.checkpoint={dense / 'dense.pt'}", "finetune.epochs=0")
    assert run(following, tmp_path / "next")["machine"]["mixed_precision"] == "no"
