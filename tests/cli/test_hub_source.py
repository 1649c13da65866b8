"""`gpmt export hub` of networks of transformers: the folder opens, and has its config and tokenizer."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.cli.commands import error, gpmt, weights
from tests.formats.checkpoints import FIXTURES

from gpmt.cli.hub_source import find_hub_source
from gpmt.formats.load import load
from gpmt.training.models import construct

transformers = pytest.importorskip("transformers", reason="gpmt[hf] is not installed")

# transformers 5.1 about the tokenizers that it makes itself
pytestmark = pytest.mark.filterwarnings("ignore:Deprecated in 0.9.0:DeprecationWarning")

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}


@pytest.fixture
def bert() -> str:
    """A masked language model with a tokenizer, in several shards."""
    settings = transformers.BertConfig(**SMALL, vocab_size=30, max_position_embeddings=20)
    transformers.BertForMaskedLM(settings).save_pretrained("bert", max_shard_size="5KB")
    Path("bert/vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdef"]))
    transformers.BertTokenizerFast("bert/vocab.txt").save_pretrained("bert")
    Path("bert/README.md").write_text("---\nlicense: mit\n---\n# The first\n")
    return "bert"


def opened(folder: str, kind: str = "AutoModelForMaskedLM") -> Any:
    network, report = getattr(transformers, kind).from_pretrained(folder, output_loading_info=True)
    assert not any(report.values())
    return network


def assert_pruned(network: Any, file: str) -> None:
    state = network.state_dict()
    for name, tensor in load(file).state_dict.items():
        assert torch.equal(state[name], tensor), name
    assert int((state["bert.encoder.layer.0.output.dense.weight"] == 0).sum()) > 100


def test_from_a_folder(bert: str) -> None:
    printed = gpmt("export", "hub", bert, "-o", "out").stdout
    assert "its config, tokenizer and other files are those of bert" in printed
    assert sorted(os.listdir("out")) == sorted(
        {name for name in os.listdir(bert) if not name.startswith("model-")}
        - {"model.safetensors.index.json"}
        | {"model.safetensors"}
    )
    assert json.loads(Path("out/config.json").read_text()) == json.loads(Path("bert/config.json").read_text())
    assert "license: mit" in Path("out/README.md").read_text()
    assert_equal(opened("out"), opened(bert))
    assert transformers.AutoTokenizer.from_pretrained("out")("a b")["input_ids"] == [2, 5, 6, 3]


def assert_equal(a: Any, b: Any) -> None:
    first, second = a.state_dict(), b.state_dict()
    assert list(first) == list(second)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("file", ["pruned.pt", "pruned.safetensors", "pruned.sparse.safetensors"])
def test_a_pruned_file_goes_back_into_a_folder(bert: str, file: str) -> None:
    gpmt("prune", bert, "-o", file, "--sparsity", "0.5")
    gpmt("export", "hub", file, "-o", "out", "--model", f"hf:{bert}")
    network = opened("out")
    assert type(network) is transformers.BertForMaskedLM
    assert_pruned(network, file)
    assert Path("out/tokenizer.json").read_bytes() == Path("bert/tokenizer.json").read_bytes()
    document = json.loads(
        gpmt("export", "hub", file, "-o", "again", "--model", f"hf:{bert}", "--json").stdout
    )
    assert document["beside"] == bert


def test_a_language_model_whose_names_are_the_networks(bert: str) -> None:
    settings = transformers.GPT2Config(vocab_size=30, n_embd=16, n_layer=1, n_head=2, n_positions=16)
    network = transformers.GPT2LMHeadModel(settings)
    network.save_pretrained("gpt2")
    torch.save(network.state_dict(), "trained.pt")
    gpmt("prune", "trained.pt", "-o", "pruned.pt", "--sparsity", "0.5", "--model", "hf:gpt2")
    gpmt("export", "hub", "pruned.pt", "-o", "out", "--model", "hf:gpt2")
    again = opened("out", "AutoModelForCausalLM")
    assert torch.equal(again.state_dict()["lm_head.weight"], network.state_dict()["lm_head.weight"])
    assert int((again.transformer.h[0].mlp.c_fc.weight == 0).sum()) > 100
    message = error("export", "hub", "pruned.pt", "-o", "none", "--model", f"hf:{bert}")
    assert message.startswith("pruned.pt does not fit hf:bert: tensors ")
    assert message.endswith("; name the network it belongs to, or give weights of this one")
    assert "whose network is not a classifier, so its input is not known; give a classifier" in error(
        "export", "onnx", "pruned.pt", "-o", "none.onnx", "--model", "hf:gpt2"
    )


def test_a_classifier_with_a_head_of_its_own(bert: str) -> None:
    """What `gpmt run` made of a folder has other classes than its config says."""
    network = construct(f"hf:{bert}", num_classes=7, input_shape=(12,))
    torch.save(network.state_dict(), "run.pt")
    gpmt("export", "hub", "run.pt", "-o", "out", "--model", f"hf:{bert}")
    again = opened("out", "AutoModelForSequenceClassification")
    assert again.config.num_labels == 7
    assert_equal(again, network)
    assert Path("out/tokenizer.json").exists()
    assert json.loads(Path("out/config.json").read_text())["architectures"] == [
        "BertForSequenceClassification"
    ]


def test_a_folder_that_lacks_a_part_of_its_network(bert: str) -> None:
    """A language model's body is often published without the head that its class has."""
    document = json.loads(Path("bert/config.json").read_text())
    Path("bert/config.json").write_text(json.dumps(document | {"architectures": ["BertModel"]}))
    gpmt("prune", bert, "-o", "pruned.pt", "--sparsity", "0.5")
    gpmt("export", "hub", "pruned.pt", "-o", "out", "--model", f"hf:{bert}")
    assert load("out").state_dict.keys() == load("pruned.pt").state_dict.keys()


def test_a_config_of_another_network_is_not_taken() -> None:
    Path("config.json").write_text('{"architectures": ["BertModel"], "model_type": "bert"}')
    torch.save(weights(), "own.pt")
    found = find_hub_source(load("own.pt"), model=None, input_shape=None)
    assert (found.beside, list(found.weights)) == (None, list(weights()))
    assert "there is no config.json in none" in error(
        "export", "hub", "own.pt", "-o", "out", "--model", "hf:none"
    )


def test_types_that_training_changed_are_in_the_config(bert: str) -> None:
    state = {name: tensor.bfloat16() for name, tensor in load(bert).state_dict.items()}
    torch.save(state, "half.pt")
    gpmt("export", "hub", "half.pt", "-o", "out", "--model", f"hf:{bert}")
    assert {parameter.dtype for parameter in opened("out").parameters()} == {torch.bfloat16}


def test_inspect_and_prune_by_the_layers_of_a_language_model(bert: str) -> None:
    torch.save(opened(bert).state_dict(), "model.pt")
    document = json.loads(gpmt("inspect", "model.pt", "--model", f"hf:{bert}", "--json").stdout)
    assert document["scope"] == {"by": "layers", "network": "BertForMaskedLM", "why": None}
    torch.save(weights(), "own.pt")
    assert "own.pt does not fit hf:bert" in error("inspect", "own.pt", "--model", f"hf:{bert}")


def test_a_compressed_folder_becomes_a_dense_one() -> None:
    compressed = FIXTURES / "compressed_tensors" / "bitmask"
    gpmt("export", "hub", compressed, "-o", "out")
    before = json.loads((compressed / "config.json").read_text())
    after = json.loads(Path("out/config.json").read_text())
    assert after == {key: value for key, value in before.items() if key != "quantization_config"}
    expected = load(compressed).state_dict
    assert load("out").source == "Hugging Face folder"
    assert all(torch.equal(load("out").state_dict[name], tensor) for name, tensor in expected.items())


def test_only_files_that_are_no_weights_are_taken_from_beside_a_file(bert: str) -> None:
    state = load(bert).state_dict
    torch.save(dict(state), "bert/mine.pt")
    gpmt("export", "hub", "bert/mine.pt", "-o", "out")
    assert "mine.pt" not in os.listdir("out")
    assert "tokenizer.json" in os.listdir("out")
    assert opened("out").config.model_type == "bert"
