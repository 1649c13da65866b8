import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.cli.language_models import TEXT, WORDS, save_language_model
from torch import nn

from gpmt.cli.calibration import Batches, Calibration, models_language
from gpmt.errors import CalibrationError
from gpmt.formats.runnable import Runnable
from gpmt.training.data import datasets

NETWORK = nn.Linear(2, 2)


def numbers(text: str) -> list[int]:
    return [WORDS.index(word) + 2 for word in text.split()]


def network_of(folder: Path) -> nn.Module:
    import gpmt

    return Runnable.of_folder(folder, gpmt.load(folder).state_dict).network


def test_samples_are_those_of_the_data_set_without_augmentation() -> None:
    calibration = Calibration("digits", samples=100, batch_size=40)
    calibration.check()
    batches = calibration.batches(NETWORK, size=8, folder=None)
    expected = list(datasets.load("digits", root=None).plain_batches(40, images=100))
    assert (len(batches), batches.samples) == (3, 100)
    for _ in range(2):
        for (inputs, labels), (inputs2, labels2) in zip(batches, expected, strict=True):
            assert torch.equal(inputs, inputs2)
            assert torch.equal(labels, labels2)


def test_sequences_are_the_beginning_of_the_text(tmp_path: Path) -> None:
    network = network_of(save_language_model(tmp_path / "net"))
    path = tmp_path / "text.TXT"
    path.write_text(TEXT)
    calibration = Calibration(str(path), samples=9, sequence_length=20)
    calibration.check()
    batches = list(calibration.batches(network, size=None, folder=tmp_path / "net"))
    assert [tuple(batch["input_ids"].shape) for batch in batches] == [(8, 20), (1, 20)]
    assert torch.cat([batch["input_ids"] for batch in batches]).flatten().tolist() == numbers(TEXT)[:180]
    assert all(torch.equal(batch["labels"], batch["input_ids"]) for batch in batches)

    usual = Calibration(str(path)).batches(network, size=None, folder=tmp_path / "net")
    assert usual.samples == 9  # of 64 tokens, which is what the network takes
    path.write_text("the cat sat on a mat")
    [short] = Calibration(str(path)).batches(network, size=None, folder=tmp_path / "net")
    assert short["input_ids"].tolist() == [numbers("the cat sat on a mat")]


def test_documents_end_with_the_token_that_says_so(tmp_path: Path) -> None:
    network = network_of(save_language_model(tmp_path / "net"))
    path = tmp_path / "text.jsonl"
    lines = [json.dumps({"text": text, "id": 1}) for text in ("the cat ran", "a dog")]
    path.write_text("\n\n".join(lines) + "\nnot read any more")
    calibration = Calibration(str(path), samples=1, batch_size=2, sequence_length=7)
    [batch] = calibration.batches(network, size=None, folder=tmp_path / "net")
    assert batch["input_ids"].tolist() == [[*numbers("the cat ran"), 1, *numbers("a dog"), 1]]
    with pytest.raises(
        CalibrationError, match=r'line 4 of .*text.jsonl is not an object of JSON with "text"; give'
    ):
        Calibration(str(path), samples=9, sequence_length=7).batches(
            network, size=None, folder=tmp_path / "net"
        )


def test_networks_that_give_no_loss_get_no_labels(tmp_path: Path) -> None:
    network = network_of(save_language_model(tmp_path, "LlamaModel"))
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    [batch] = Calibration(str(path), samples=2, sequence_length=8).batches(
        network, size=None, folder=tmp_path
    )
    assert list(batch) == ["input_ids"]
    assert not models_language(network)
    assert not models_language(NETWORK)


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        (
            ("cifar",),
            r"--calibrate is cifar, but must be NAME:FOLDER with a data set, or .*; did you mean cifar10",
        ),
        (("cifar10",), "--calibrate is cifar10, but its folder is missing; give cifar10:FOLDER"),
        (("cifar10:gone",), "--calibrate is cifar10:gone, but gone is not a folder; check the path"),
        (("gone.txt",), "--calibrate is gone.txt, but there is no such file; check the path"),
        (("digits", 1, None, 9), "--sequence-length is 9, but digits has no texts; leave it out"),
    ],
)
def test_data_that_there_are_not(calibration: tuple[Any, ...], message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        Calibration(*calibration).check()


def test_texts_that_do_not_fit(tmp_path: Path) -> None:
    folder = save_language_model(tmp_path / "net", tokenizer=False)
    network = network_of(folder)
    path = tmp_path / "text.txt"
    path.write_text(TEXT)

    def read(made_for: nn.Module = network, **settings: Any) -> Batches:
        return Calibration(str(path), **settings).batches(made_for, size=None, folder=folder)

    with pytest.raises(
        CalibrationError, match=r"text.txt, a text, but Linear takes none; give a data set such as"
    ):
        read(NETWORK)
    with pytest.raises(
        CalibrationError, match=r"net has no tokenizer that can be read .*; copy tokenizer.json and"
    ):
        read()
    save_language_model(folder)
    with pytest.raises(
        CalibrationError, match="--sequence-length is 65, but LlamaForCausalLM takes 64 tokens; give"
    ):
        read(sequence_length=65)
    path.write_text("cat")
    with pytest.raises(CalibrationError, match=r"text.txt has 1 tokens, which is no text; give a longer one"):
        read()
    path.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(
        CalibrationError, match=r"text.txt cannot be read as text in UTF-8 \(.*\); save it as such"
    ):
        read()
    small = network_of(save_language_model(tmp_path / "small", vocab_size=5))
    path.write_text("the cat then")
    with pytest.raises(
        CalibrationError, match=r"net gives token 13, but LlamaForCausalLM knows 5; put the network's"
    ):
        read(small)
