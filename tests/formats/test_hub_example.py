from pathlib import Path

import pytest
import torch

from gpmt.errors import CheckpointError
from gpmt.formats.hub_example import TOKENS, example_input, load_network

transformers = pytest.importorskip("transformers")
SMALL = {"num_hidden_layers": 1, "hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2}


def saved(folder: Path, network: torch.nn.Module) -> Path:
    network.save_pretrained(folder)
    return folder


def test_token_ids(tmp_path: Path) -> None:
    config = transformers.BertConfig(vocab_size=20, **SMALL)
    network = transformers.BertModel(config)
    found = load_network(saved(tmp_path, network))
    assert type(found) is type(network)
    assert not found.training
    assert all(torch.equal(network.state_dict()[name], tensor) for name, tensor in found.state_dict().items())
    example = example_input(found, tmp_path)
    assert {name: tuple(tensor.shape) for name, tensor in example.items()} == {"input_ids": (1, TOKENS)}
    found(**example)


def test_images(tmp_path: Path) -> None:
    config = transformers.ViTConfig(image_size=8, patch_size=4, num_channels=1, **SMALL)
    found = load_network(saved(tmp_path, transformers.ViTModel(config)))
    example = example_input(found, tmp_path)
    assert example["pixel_values"].shape == (1, 1, 8, 8)
    found(**example)


def test_pairs_of_texts(tmp_path: Path) -> None:
    config = transformers.T5Config(
        d_model=8, d_kv=4, num_layers=1, num_heads=2, d_ff=8, vocab_size=20, decoder_start_token_id=0
    )
    found = load_network(saved(tmp_path, transformers.T5ForConditionalGeneration(config)))
    assert list(example_input(found, tmp_path)) == ["input_ids", "decoder_input_ids"]


def test_other_inputs_are_refused(tmp_path: Path) -> None:
    network = torch.nn.Linear(2, 2)
    network.main_input_name = "input_values"
    with pytest.raises(
        CheckpointError, match="does not say the size of the inputs of Linear; check its paths from"
    ):
        example_input(network, tmp_path)


def test_folders_without_weights_are_refused(tmp_path: Path) -> None:
    transformers.BertModel(transformers.BertConfig(vocab_size=20, **SMALL)).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="transformers cannot load BertModel from"):
        load_network(tmp_path)
