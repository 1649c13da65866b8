"""Trees of JPEG files, and a tokenizer, as a user has them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.training.data.jpeg_trees import CLASSES


@pytest.fixture(scope="session")
def jpeg_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """JPEG files of three classes and many sizes, brighter to the right: 4 to train on, 2 to evaluate, of each."""
    root = tmp_path_factory.mktemp("imagenet")
    generator = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for name in CLASSES:
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                height, width = generator.integers(20, 40, 2)
                pixels = generator.integers(0, 60, (height, width, 3)) + np.linspace(0, 190, width)[:, None]
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{name}_{index}.JPEG")
    return root


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    """The folder of a tokenizer that knows three words."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    words = {"[PAD]": 0, "[UNK]": 1, "good": 2, "bad": 3, "film": 4}
    model = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    model.pre_tokenizer = Whitespace()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=model, pad_token="[PAD]", unk_token="[UNK]", model_max_length=16
    )
    wrapped.save_pretrained(tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


@pytest.fixture
def hugging_face_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give `datasets` a cache of the test's own."""
    import datasets as hf

    monkeypatch.setattr(hf.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    hf.disable_progress_bars()
