from pathlib import Path

import pytest
import torch
from tests.training.data.hugging_face_folders import LABELS, TEXTS, hub, texts
from transformers import BertTokenizerFast

from gpmt.errors import DataError
from gpmt.training.data import datasets

pytestmark = pytest.mark.usefixtures("hugging_face_cache")


def test_texts_become_tokens_of_one_length(tmp_path: Path, tokenizer: Path):
    root = hub(tmp_path / "hub", train=texts(), validation=texts())
    source = datasets.load("hf", root=root, tokenizer=tokenizer, max_length=3, workers=0)
    assert (source.train_size, source.test_size, source.input_shape) == (6, 6, (3,))
    assert source.classes == ("0", "1")
    ((inputs, labels),) = source.test_batches(6)
    assert labels.tolist() == LABELS
    assert inputs["input_ids"].dtype == torch.int64
    assert inputs["input_ids"][:4].tolist() == [[2, 4, 0], [3, 4, 0], [2, 2, 2], [3, 0, 0]]
    assert inputs["attention_mask"][:4].tolist() == [[1, 1, 0], [1, 1, 0], [1, 1, 1], [1, 0, 0]]
    example = source.example()
    assert {key: value.tolist() for key, value in example.items() if key != "token_type_ids"} == {
        "input_ids": [[0, 0, 0]],
        "attention_mask": [[1, 1, 1]],
    }
    assert {*example} == {*inputs}


def test_texts_are_shuffled_as_images_are(tmp_path: Path, tokenizer: Path):
    root = hub(tmp_path / "hub", train=texts(), validation=texts())
    source = datasets.load("hf", root=root, tokenizer=tokenizer, max_length=4, workers=1)
    ((inputs, labels),) = source.train_batches(6, seed=(1,))
    assert sorted(zip(inputs["input_ids"].tolist(), labels.tolist(), strict=True)) == sorted(
        (
            [{"good": 2, "bad": 3, "film": 4}[word] for word in text.split()] + [0] * (4 - len(text.split())),
            label,
        )
        for text, label in zip(TEXTS, LABELS, strict=True)
    )
    ((plain, _),) = source.plain_batches(8, images=8)
    assert not torch.equal(plain["input_ids"], inputs["input_ids"])


def test_token_types_are_passed_on(tmp_path: Path):
    words = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good")
    BertTokenizerFast(vocab={word: index for index, word in enumerate(words)}).save_pretrained(
        tmp_path / "bert"
    )
    root = hub(tmp_path / "hub", test=texts())
    source = datasets.load("hf", root=root, tokenizer=tmp_path / "bert", workers=0)
    assert source.input_shape == (128,)
    inputs, _ = next(source.test_batches(2))
    assert {key: tuple(value.shape) for key, value in inputs.items()} == dict.fromkeys(
        ("input_ids", "token_type_ids", "attention_mask"), (2, 128)
    )


def test_a_tokenizer_that_cannot_be_used_is_named(tmp_path: Path, tokenizer: Path):
    root = hub(tmp_path / "hub", test=texts())
    for folder, length, sentence in (
        (tmp_path / "absent", None, r"data.tokenizer is .*absent, which is not a folder"),
        (root, None, r"data.tokenizer is .*hub, which does not hold a readable tokenizer \([^\n]*\)"),
        (tokenizer, 17, r"data.max_length is 17, but the tokenizer in .* takes 1 to 16"),
    ):
        with pytest.raises(DataError, match=sentence):
            datasets.load("hf", root=root, tokenizer=folder, max_length=length)
    settings = tokenizer / "tokenizer_config.json"
    settings.write_text(settings.read_text().replace('"pad_token": "[PAD]"', '"pad_token": null'))
    with pytest.raises(DataError, match=r"the tokenizer in .* has no padding token; add one"):
        datasets.load("hf", root=root, tokenizer=tokenizer, max_length=4)


@pytest.mark.parametrize(
    ("option", "value"), [("size", 32), ("mean", (0.0,)), ("flip", True), ("interpolation", "bicubic")]
)
def test_options_of_images_are_refused_for_texts(tmp_path: Path, tokenizer: Path, option: str, value):
    with pytest.raises(DataError, match=rf"data.{option} is .*, but hf does not use it, only tokenizer"):
        datasets.load("hf", root=tmp_path, tokenizer=tokenizer, **{option: value})
