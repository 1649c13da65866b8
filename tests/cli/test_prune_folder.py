"""Pruning a Hugging Face folder into another folder."""

import json
import os
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from tests.cli.commands import PRUNED, N, error, gpmt, weights

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


@pytest.fixture
def folder() -> Path:
    Path("net").mkdir()
    state = weights()
    groups = dict(zip(SHARDS, (["conv.weight"], ["bn.weight", "fc.weight", "fc.bias"]), strict=True))
    for shard, names in groups.items():
        save_file({name: state[name] for name in names}, f"net/{shard}")
    where = {name: shard for shard, names in groups.items() for name in names}
    Path("net/model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    Path("net/config.json").write_text('{"architectures": ["None"]}')
    Path("net/tokenizer.json").write_text("{}")
    return Path("net")


def test_a_folder_becomes_a_folder(folder: Path) -> None:
    (folder / "tf_model.h5").write_text("dense")
    printed = gpmt("prune", folder, "-o", "sparse-0.9", "--sparsity", "0.9", "--min-kept", 5).stdout
    assert "wrote sparse-0.9" in printed
    assert "left out, since it would hold the weights of before: tf_model.h5" in printed
    assert sorted(os.listdir("sparse-0.9")) == sorted(set(os.listdir(folder)) - {"tf_model.h5"})
    for name in ("config.json", "tokenizer.json", "model.safetensors.index.json"):
        assert Path("sparse-0.9", name).read_bytes() == (folder / name).read_bytes()
    tensors = {name: t for shard in SHARDS for name, t in load_file(f"sparse-0.9/{shard}").items()}
    assert sum(int((tensors[name] == 0).sum()) for name in ("conv.weight", "fc.weight")) == PRUNED
    why = "scope judged by name and shape, since net/config.json names None, which transformers does not have"
    verified = gpmt("verify", "sparse-0.9", "--sparsity", "90%", "--min-kept", 5).stdout
    for text in (printed, gpmt("inspect", folder).stdout, verified.replace("sparse-0.9", "net")):
        assert why in " ".join(text.split())
    for command in (("inspect", folder), ("verify", folder)):
        assert json.loads(gpmt(*command, "--json").stdout)["scope"]["by"] == "names"
    command = ("prune", folder / "model.safetensors.index.json", "--sparsity", "0.5", "--json", "-o", "half")
    document = json.loads(gpmt(*command).stdout)
    assert (document["output"], document["pruned"], document["left_out"]) == ("half", N // 2, ["tf_model.h5"])
    assert document["scope"]["why"] == "net/config.json names None, which transformers does not have"


@pytest.mark.parametrize("options", [(), ("--granularity", "row"), ("--min-kept", "20%")])
def test_what_is_written_piece_by_piece_is_what_masks_give(folder: Path, options: tuple[str, ...]) -> None:
    """With --masks the whole network is pruned in memory first."""
    for out, more in (("pieces", ()), ("whole", ("--masks", "masks.safetensors"))):
        gpmt("prune", folder, "-o", out, "--sparsity", "0.5", *options, *more)
    for shard in SHARDS:
        assert Path("pieces", shard).read_bytes() == Path("whole", shard).read_bytes()


def test_a_file_that_was_written_again_keeps_its_header(folder: Path) -> None:
    state = {name: tensor.half() for name, tensor in weights().items()}
    state["fc.weight"][0] = 0
    state["tied.weight"] = state["fc.weight"].clone()
    save_file(state, "in.safetensors", metadata={"format": "pt", "note": "mine"})
    printed = gpmt("prune", "in.safetensors", "-o", "out.safetensors", "--sparsity", "1%").stdout
    assert "because they were zero before" in printed
    before, after = Path("in.safetensors").read_bytes(), Path("out.safetensors").read_bytes()
    length = 8 + int.from_bytes(before[:8], "little")
    assert after[:length] == before[:length]
    assert len(after) == len(before)
    gpmt("prune", "in.safetensors", "-o", "in.safetensors", "--sparsity", "0.9", "--force")
    gpmt("verify", "in.safetensors", "--sparsity", "0.9")


def test_a_folder_can_still_become_a_file(folder: Path) -> None:
    gpmt("prune", folder, "-o", "out.safetensors", "--sparsity", "0.9")
    assert set(load_file("out.safetensors")) == set(weights())


def test_force(folder: Path) -> None:
    gpmt("prune", folder, "-o", "out", "--sparsity", "0.5")
    assert error("prune", folder, "-o", "out", "--sparsity", "0.9") == (
        "out exists; give another name, or --force to replace it"
    )
    gpmt("prune", folder, "-o", "out", "--sparsity", "0.9", "--force")
    gpmt("verify", "out", "--sparsity", "0.9")
    Path("out/notes").touch()
    message = (
        "out holds notes, which would not be written again, so it is not replaced; choose another folder"
    )
    assert message in error("prune", folder, "-o", "out", "--sparsity", "0.5", "--force")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("net", "-o", "gone/out"), "gone does not exist; create it first"),
        (("net", "-o", "out.onnx"), "out.onnx has the suffix .onnx, but an output must end in"),
        (("net", "-o", "net/out"), "net/out and net are inside each other; choose another folder"),
        (("one.safetensors", "-o", "out"), "out has the suffix (none), but an output must end in"),
        (("empty", "-o", "out"), "empty is a folder without weights, such as model.safetensors"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_bad_requests_write_nothing(arguments: tuple[str, ...], message: str) -> None:
    save_file(weights(), "one.safetensors")
    Path("empty").mkdir()
    before = sorted(os.listdir())
    assert message in error("prune", *arguments, "--sparsity", "0.5")
    assert sorted(os.listdir()) == before
    assert "out" not in os.listdir("net")
