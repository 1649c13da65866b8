import argparse
import json
import os
import pickle
import random
import subprocess
import sys
import tarfile
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gpmt.errors import CheckpointError
from gpmt.formats.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

WRITERS = {
    "zip": lambda obj, path: torch.save(obj, path),
    "legacy": lambda obj, path: torch.save(obj, path, _use_new_zipfile_serialization=False),
}


@pytest.fixture(params=WRITERS)
def write(request: pytest.FixtureRequest) -> Any:
    return WRITERS[request.param]


def weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "conv.weight": torch.randn(4, 3, 3, 3, generator=generator),
        "bn.running_var": torch.ones(4, dtype=torch.float64),
        "bn.num_batches_tracked": torch.tensor(7),
        "fc.weight": torch.randn(2, 4, generator=generator).to(torch.bfloat16),
    }


def assert_same(actual: dict[str, Any], expected: dict[str, Tensor]) -> None:
    assert list(actual) == list(expected)
    for name, tensor in expected.items():
        assert actual[name].dtype == tensor.dtype, name
        assert torch.equal(actual[name], tensor), name


@pytest.mark.parametrize(
    "name", ["a.pt", "a.pth", "a.th", "model_best.pth.tar", "a.safetensors", "a.bin", "a"]
)
def test_content_decides_the_format(tmp_path: Path, write: Any, name: str) -> None:
    write(weights(), tmp_path / name)
    assert_same(load_checkpoint(tmp_path / name).state_dict, weights())


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt", "a.tar"])
def test_safetensors_under_any_name(tmp_path: Path, name: str) -> None:
    save_file(weights(), tmp_path / name, metadata={"format": "pt", "author": "me"})
    checkpoint = load_checkpoint(str(tmp_path / name))
    assert checkpoint.metadata == {"format": "pt", "author": "me"}
    assert checkpoint.container is None
    assert_same(dict(sorted(checkpoint.state_dict.items())), dict(sorted(weights().items())))


@pytest.mark.parametrize(
    ("wrap", "key"),
    [
        (lambda w: w, None),
        (lambda w: {"state_dict": w, "epoch": 3}, "state_dict"),
        (lambda w: {"epoch": 3, "model": w, "loss": torch.tensor(0.5)}, "model"),
        (lambda w: {"model_state_dict": OrderedDict(w)}, "model_state_dict"),
        (lambda w: {"model": {"state_dict": w, "arch": "resnet20"}}, "model.state_dict"),
        (lambda w: {"model": "resnet20", "model_state_dict": w}, "model_state_dict"),
    ],
)
def test_finds_the_weights(tmp_path: Path, write: Any, wrap: Any, key: str | None) -> None:
    path = tmp_path / "a.pt"
    write(wrap(weights()), path)
    checkpoint = load_checkpoint(path)
    assert checkpoint.key == key
    assert (checkpoint.container is None) == (key is None)
    assert_same(checkpoint.state_dict, weights())


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module.", "module.module._orig_mod."])
def test_prefix_is_stripped_and_comes_back(tmp_path: Path, write: Any, prefix: str) -> None:
    path = tmp_path / "a.pt"
    prefixed = {prefix + name: tensor for name, tensor in weights().items()}
    write({"state_dict": prefixed, "epoch": 1}, path)
    checkpoint = load_checkpoint(path)
    assert checkpoint.prefix == prefix
    assert_same(checkpoint.state_dict, weights())
    save_checkpoint(path, checkpoint)
    assert_same(torch.load(path)["state_dict"], prefixed)


def test_prefix_must_be_on_all_names(tmp_path: Path) -> None:
    averaged = {"n_averaged": torch.tensor(3), "module.weight": torch.ones(2, 2)}
    torch.save(averaged, tmp_path / "a.pt")
    checkpoint = load_checkpoint(tmp_path / "a.pt")
    assert checkpoint.prefix == ""
    assert list(checkpoint.state_dict) == list(averaged)


def test_torch_output_keeps_the_container(tmp_path: Path, write: Any) -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    held = {
        "epoch": 12,
        "arch": "resnet20",
        "best_acc1": torch.tensor(91.5),
        "args": argparse.Namespace(lr=0.1, milestones=[1, 2]),
        "best_prec1": np.float64(91.73),
        "correct": np.int64(9173),
        "low": np.float32(0.1),
        "rng": np.arange(6, dtype=np.uint32).reshape(2, 3),
        "optimizer": optimizer.state_dict(),
        "state_dict": model.state_dict(),
    }
    source, out = tmp_path / "model_best.pth.tar", tmp_path / "out.pth"
    write(held, source)
    checkpoint = load_checkpoint(source)
    assert checkpoint.other_keys == [key for key in held if key != "state_dict"]
    checkpoint.state_dict["0.weight"][0] = 0
    save_checkpoint(out, checkpoint)

    with torch.serialization.safe_globals([argparse.Namespace]):
        again = load_checkpoint(out).container
    assert again is not None
    assert list(again) == list(held)
    assert again["args"] == held["args"]
    assert (again["epoch"], again["arch"], again["best_acc1"]) == (12, "resnet20", torch.tensor(91.5))
    assert (again["best_prec1"], again["correct"], again["low"]) == (91.73, 9173, float(np.float32(0.1)))
    assert type(again["best_prec1"]) is float
    momentum = again["optimizer"]["state"][0]["momentum_buffer"]
    assert torch.equal(momentum, optimizer.state_dict()["state"][0]["momentum_buffer"])
    assert again["state_dict"]._metadata == model.state_dict()._metadata
    expected = model.state_dict()
    expected["0.weight"][0] = 0
    assert_same(again["state_dict"], expected)
    model.load_state_dict(again["state_dict"])
    # An array is written as NumPy's own, for readers that know nothing of this package.
    plain = torch.load(out, weights_only=False)
    assert isinstance(plain["rng"], np.ndarray)
    assert plain["rng"].dtype == np.uint32
    np.testing.assert_array_equal(plain["rng"], held["rng"])


def test_the_users_safe_globals_stay(tmp_path: Path) -> None:
    torch.save({"state_dict": weights(), "args": argparse.Namespace()}, tmp_path / "a.pt")
    before = set(torch.serialization.get_safe_globals())
    with torch.serialization.safe_globals([argparse.Namespace]):
        load_checkpoint(tmp_path / "a.pt")
        assert argparse.Namespace in torch.serialization.get_safe_globals()
    assert set(torch.serialization.get_safe_globals()) == before - {argparse.Namespace}


def test_big_endian_numbers(tmp_path: Path) -> None:
    number = np.frombuffer(np.array([1.5], dtype=">f4").tobytes(), dtype=">f4")[0]
    array = np.arange(3, dtype=">i2")
    torch.save({"state_dict": weights(), "x": number, "array": array}, tmp_path / "a.pt")
    container = load_checkpoint(tmp_path / "a.pt").container
    assert container is not None
    assert container["x"] == 1.5
    np.testing.assert_array_equal(container["array"].array, [0, 1, 2])


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".th", ".tar", ".safetensors", ".PT"])
def test_bare_weights_round_trip(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    save_checkpoint(path, weights())
    assert_same(load_checkpoint(path).state_dict, weights())  # the order too, which safetensors does not keep
    assert path.stat().st_mode & 0o777 == 0o666 & ~current_umask()


def current_umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def test_entries_that_are_not_tensors_stay(tmp_path: Path) -> None:
    torch.save({"module.a": torch.ones(2), "module._extra_state": {"scale": 2.0}}, tmp_path / "a.pt")
    checkpoint = load_checkpoint(tmp_path / "a.pt")
    assert list(checkpoint.state_dict) == ["a"]
    save_checkpoint(tmp_path / "b.pt", checkpoint)
    assert torch.load(tmp_path / "b.pt")["module._extra_state"] == {"scale": 2.0}


def test_parameters_come_as_plain_tensors(tmp_path: Path) -> None:
    torch.save(dict(nn.Linear(3, 2).named_parameters()), tmp_path / "a.pt")
    tensor = load_checkpoint(tmp_path / "a.pt").state_dict["weight"]
    assert not tensor.requires_grad
    tensor.zero_()


@pytest.mark.parametrize("source", ["a.pt", "legacy.pt", "a.safetensors"])
@pytest.mark.parametrize("out", ["out.pt", "out.safetensors"])
def test_tied_tensors_stay_tied(tmp_path: Path, source: str, out: str) -> None:
    shared = torch.randn(5, 3)
    tied = {"embed.weight": shared, "bias": torch.ones(5), "head.weight": shared, "row": shared[1]}
    if source == "a.safetensors":
        save_checkpoint(tmp_path / source, tied)
    else:
        WRITERS["legacy" if source == "legacy.pt" else "zip"](tied, tmp_path / source)
    checkpoint = load_checkpoint(tmp_path / source)
    save_checkpoint(tmp_path / out, checkpoint)
    if out.endswith(".safetensors"):
        assert_same(dict(sorted(load_file(tmp_path / out).items())), dict(sorted(tied.items())))
    state_dict = load_checkpoint(tmp_path / out).state_dict
    assert_same(state_dict, tied)
    assert state_dict["embed.weight"].data_ptr() == state_dict["head.weight"].data_ptr()
    assert state_dict["bias"].data_ptr() != state_dict["head.weight"].data_ptr()


def test_tied_names_that_another_program_changed_come_apart(tmp_path: Path) -> None:
    shared = torch.randn(5, 3)
    save_checkpoint(tmp_path / "a.safetensors", {"a": shared, "b": shared})
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        metadata = file.metadata()
    save_file({"a": shared, "b": shared + 1}, tmp_path / "a.safetensors", metadata=metadata)
    state_dict = load_checkpoint(tmp_path / "a.safetensors").state_dict
    assert torch.equal(state_dict["b"], shared + 1)


@pytest.mark.parametrize(
    "note", ["", "7", "[]", "{}", '{"names": 3, "tied": 4}', '{"names": ["x"], "tied": {"a": "x"}}']
)
def test_a_foreign_note_in_the_header_is_ignored(tmp_path: Path, note: str) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors", metadata={"gpmt": note})
    assert_same(load_checkpoint(tmp_path / "a.safetensors").state_dict, {"a": torch.ones(2)})


def test_channels_last_and_slices_into_safetensors(tmp_path: Path) -> None:
    whole = torch.randn(6, 4)
    odd = {
        "nhwc": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "slice": whole[2:4],
        "transposed": whole.T,
        "empty": torch.empty(0, 3),
    }
    save_checkpoint(tmp_path / "a.safetensors", odd)
    assert_same(load_checkpoint(tmp_path / "a.safetensors").state_dict, odd)


def test_reading_does_not_change_the_file(tmp_path: Path) -> None:
    for name in ("a.pt", "a.safetensors"):
        save_checkpoint(tmp_path / name, weights())
        before = (tmp_path / name).read_bytes()
        for tensor in load_checkpoint(tmp_path / name).state_dict.values():
            tensor.zero_()
        assert (tmp_path / name).read_bytes() == before


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_output_may_be_the_input(tmp_path: Path, name: str) -> None:
    save_checkpoint(tmp_path / name, weights())
    checkpoint = load_checkpoint(tmp_path / name)
    checkpoint.state_dict["conv.weight"].zero_()
    save_checkpoint(tmp_path / name, checkpoint)
    assert_same(
        load_checkpoint(tmp_path / name).state_dict, weights() | {"conv.weight": torch.zeros(4, 3, 3, 3)}
    )
    assert os.listdir(tmp_path) == [name]


def test_names_removed_and_added_in_memory(tmp_path: Path) -> None:
    torch.save({"module.a": torch.ones(1), "module.b": torch.ones(2)}, tmp_path / "a.pt")
    checkpoint = load_checkpoint(tmp_path / "a.pt")
    del checkpoint.state_dict["a"]
    checkpoint.state_dict["c"] = torch.ones(3)
    save_checkpoint(tmp_path / "a.pt", checkpoint)
    assert list(torch.load(tmp_path / "a.pt")) == ["module.b", "module.c"]


class Attack:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("where", ["top", "beside", "value"])
def test_code_in_a_pickle_is_refused_and_does_not_run(tmp_path: Path, write: Any, where: str) -> None:
    marker, path = tmp_path / "marker", tmp_path / "a.pt"
    attack = Attack(marker)
    held = {
        "top": attack,
        "beside": {"x": attack, "state_dict": weights()},
        "value": weights() | {"x": attack},
    }
    write(held[where], path)
    message = (
        r"a\.pt would run code from its pickle \(it needs (posix|nt)\.system\), which is refused; save its weights "
        r"again where it was made, with torch\.save\(model\.state_dict\(\), path\) or as safetensors$"
    )
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("value", "needs"),
    [
        (nn.Linear(2, 2), r"torch\.nn\.modules\.linear\.Linear"),
        (Path("x"), r"pathlib\.\S+Path"),
        (np.array([print, None]), r"numpy\.dtype\('O8'\)"),
        (np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f4")])[0], r"numpy\.dtype\('V8'\)"),
        (np.str_("text"), r"numpy\.dtype\('U4'\)"),
    ],
)
def test_other_objects_are_refused_by_name(tmp_path: Path, write: Any, value: Any, needs: str) -> None:
    write({"state_dict": weights(), "x": value}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=rf"a\.pt would run code from its pickle \(it needs {needs}"):
        load_checkpoint(tmp_path / "a.pt")


def test_a_whole_model_says_what_to_do(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"needs torch.*Linear.*save its weights again"):
        load_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_truncation_at_any_offset(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.pt"
    if kind == "safetensors":
        save_file(weights(), path)
    else:
        WRITERS[kind]({"state_dict": weights(), "epoch": 3}, path)
    whole = path.read_bytes()
    offsets = {*range(600), *range(600, len(whole), 97), *range(len(whole) - 200, len(whole))}
    for offset in sorted(o for o in offsets if o < len(whole)):
        path.write_bytes(whole[:offset])
        with pytest.raises(CheckpointError, match=r"a\.pt (is|would|holds) .*; "):
            load_checkpoint(path)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_damage_never_ends_in_another_exception(tmp_path: Path, kind: str) -> None:
    path, rng = tmp_path / "a.pt", random.Random(0)
    if kind == "safetensors":
        save_file(weights(), path)
    else:
        WRITERS[kind](weights(), path)
    whole, refused = path.read_bytes(), 0
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(3):
            damaged[rng.randrange(min(len(whole), 2000))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            load_checkpoint(path)
        except CheckpointError:
            refused += 1
    assert refused > 50


def make_foreign(path: Path) -> dict[str, str]:
    (path / "empty.pt").touch()
    (path / "text.pt").write_text("hello world, this is not a checkpoint\n" * 50)
    (path / "page.pt").write_text("<!DOCTYPE html><html><body>404 Not Found</body></html>")
    (path / "plain.pkl").write_bytes(pickle.dumps({"a": 1}))
    with tarfile.open(path / "archive.tar", "w") as archive:
        archive.add(path / "text.pt")
    with zipfile.ZipFile(path / "photos.zip", "w") as zipped:
        zipped.writestr("photos/a.txt", "text")
    (path / "folder.pt").mkdir()
    save_file({}, path / "none.safetensors")
    torch.save([1, 2], path / "list.pt")
    torch.save({"epoch": 1, "lr": 0.1}, path / "numbers.pt")
    torch.save({}, path / "nothing.pt")
    return {
        "empty.pt": "is empty; the program that wrote it was probably interrupted, so write it again",
        "text.pt": "is neither a file of torch.save nor of safetensors; save its weights again",
        "page.pt": "is neither a file of torch.save nor of safetensors",
        "plain.pkl": r"is a plain pickle \(or cut short\), not a file of torch.save",
        "archive.tar": "is neither a file of torch.save nor of safetensors",
        "photos.zip": r"is truncated or damaged \(RuntimeError\); copy or download it again",
        "folder.pt": "is a folder; give the checkpoint file inside it",
        "missing.pt": "does not exist; check the path",
        "list.pt/x": "cannot be read: Not a directory; check the path",
        "none.safetensors": "holds no tensors; give a file with weights",
        "list.pt": r"holds no state_dict \(found: list\); put it at the top or under state_dict, model, "
        "model_state_dict",
        "numbers.pt": r"holds no state_dict \(found: epoch, lr\)",
        "nothing.pt": r"holds no state_dict \(found: nothing\)",
    }


def test_foreign_files(tmp_path: Path) -> None:
    for name, message in make_foreign(tmp_path).items():
        with pytest.raises(CheckpointError, match=rf"{name} {message}"):
            load_checkpoint(tmp_path / name)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
def test_torchscript_is_refused(tmp_path: Path) -> None:
    torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "a.pt"))
    with pytest.raises(CheckpointError, match=r"a\.pt is a TorchScript program; save its weights again"):
        load_checkpoint(tmp_path / "a.pt")


def test_a_container_that_holds_itself(tmp_path: Path) -> None:
    endless: dict[str, Any] = {"epoch": 1}
    endless["model"] = endless
    torch.save(endless, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="holds no state_dict"):
        load_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize("name", ["out.onnx", "out", "out.pt.gz"])
def test_unknown_output_suffix(tmp_path: Path, name: str) -> None:
    message = r"has the suffix .*, but an output must end in \.pt, \.pth, \.th, \.tar, \.safetensors"
    with pytest.raises(CheckpointError, match=message):
        save_checkpoint(tmp_path / name, weights())
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_no_space_left(tmp_path: Path, suffix: str) -> None:
    """A limit on the size of files stands in for a full disk: both fail in the same system call."""
    code = """
import resource, sys, torch
from gpmt.errors import CheckpointError
from gpmt.formats.checkpoint import save_checkpoint
weights = {f"{i}.weight": torch.ones(100, 100) for i in range(10)}
for limit in (0, 1, 60, 500, 5_000, 39_000, 100_000, 399_000, 400_100):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        save_checkpoint(sys.argv[1], weights)
    except CheckpointError as error:
        print(error)
"""
    path = tmp_path / f"out{suffix}"
    path.write_text("old")
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    sentence = f"{path} cannot be written: no space left in {tmp_path}; free some, or choose another folder"
    assert done.stdout.splitlines() == [sentence] * 9
    assert os.listdir(tmp_path) == [path.name]
    assert path.read_text() == "old"


def test_interrupt_while_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path / "a.pt", weights())
    before = (tmp_path / "a.pt").read_bytes()
    write = torch.save

    def interrupted(obj: Any, path: Any) -> None:
        write(obj, path)
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path / "a.pt", {"x": torch.ones(1)})
    assert (tmp_path / "a.pt").read_bytes() == before
    assert os.listdir(tmp_path) == ["a.pt"]


def test_header_of_a_written_file(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "x", weights(), metadata={"author": "me"})
    save_checkpoint(tmp_path / "a.safetensors", checkpoint)
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert (metadata["format"], metadata["author"]) == ("pt", "me")
    assert json.loads(metadata["gpmt"]) == {"names": list(weights()), "tied": {}}
