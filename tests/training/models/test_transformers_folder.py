import json
from pathlib import Path

import pytest
import torch

from gpmt.errors import RecipeError
from gpmt.macs import count_macs
from gpmt.training.models import build, check_name, construct, example, logits, text_length, usual_shape

transformers = pytest.importorskip("transformers")

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
IMAGE, TEXT = (3, 16, 16), (12,)


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def vit() -> str:
    config = transformers.ViTConfig(**SMALL, image_size=16, patch_size=8, num_labels=5)
    config.save_pretrained("vit")
    return "hf:vit"


@pytest.fixture
def bert() -> str:
    config = transformers.BertConfig(**SMALL, vocab_size=30, max_position_embeddings=20, num_labels=2)
    config.save_pretrained("bert")
    return "hf:bert"


def save(model, folder: str) -> dict[str, torch.Tensor]:
    model.save_pretrained(folder)
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_a_configuration_alone_gives_fresh_weights(vit, bert):
    network = build(vit, num_classes=3, input_shape=IMAGE)
    assert type(network) is transformers.ViTForImageClassification
    assert network.training
    assert logits(network, torch.randn(2, *IMAGE)).shape == (2, 3)
    network = build(bert, num_classes=4, input_shape=TEXT)
    assert type(network) is transformers.BertForSequenceClassification
    assert logits(network, {"input_ids": torch.ones(2, 12, dtype=torch.int64)}).shape == (2, 4)


def test_the_folders_weights_are_loaded(vit, capfd):
    saved = save(construct(vit, num_classes=5, input_shape=IMAGE).bfloat16(), "vit")
    capfd.readouterr()
    network = build(vit, num_classes=5, input_shape=IMAGE)
    assert list(network.state_dict()) == list(saved)
    assert all(torch.equal(tensor, saved[name].float()) for name, tensor in network.state_dict().items())
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert network.training
    assert capfd.readouterr() == ("", "")
    fresh = construct(vit, num_classes=7, input_shape=IMAGE).state_dict()
    assert fresh["classifier.weight"].shape == (7, 16)


def test_a_folder_without_a_head_gets_one(bert):
    config = transformers.AutoConfig.from_pretrained("bert")
    saved = save(transformers.BertModel(config), "bert")
    network = build(bert, num_classes=6, input_shape=TEXT)
    assert torch.equal(
        network.bert.embeddings.word_embeddings.weight, saved["embeddings.word_embeddings.weight"]
    )
    assert network.classifier.out_features == 6


def test_a_head_with_other_classes_is_named(vit, capfd):
    save(construct(vit, num_classes=5, input_shape=IMAGE), "vit")
    capfd.readouterr()
    with pytest.raises(
        RecipeError,
        match=r"^model is hf:vit, .* head classifier.bias has 5 classes, but the data have 3; save a",
    ):
        build(vit, num_classes=3, input_shape=IMAGE)
    assert capfd.readouterr() == ("", "")


def test_weights_of_another_network_are_named(vit, bert):
    save(construct(bert, num_classes=5, input_shape=TEXT), "other")
    config = json.loads(Path("vit/config.json").read_text())
    Path("other/config.json").write_text(json.dumps(config))
    with pytest.raises(
        RecipeError, match="the folder's weights are those of another network than its config"
    ):
        build("hf:other", num_classes=5, input_shape=IMAGE)
    config["patch_size"] = 4
    save(construct(vit, num_classes=5, input_shape=IMAGE), "vit")
    Path("vit/config.json").write_text(json.dumps(config))
    with pytest.raises(RecipeError, match=r"vit.embeddings.* has shape \[.*\], but config.json says \["):
        build(vit, num_classes=5, input_shape=IMAGE)


@pytest.mark.parametrize(
    ("name", "input_shape", "sentence"),
    [
        ("vit", (3, 24, 24), r"it does not run on an input of shape 3x24x24 \(Input image size .*\)"),
        ("vit", (1, 16, 16), r"it does not run on an input of shape 1x16x16 \(.*\)"),
        ("vit", (12,), r"it does not run on an input of shape 12 \(.*\)"),
        (
            "bert",
            (3, 16, 16),
            "BertForSequenceClassification takes texts of shape .*, not inputs of shape 3x16x16",
        ),
        ("bert", (21,), r"it does not run on an input of shape 21, 21 \(.*\)"),
    ],
)
def test_inputs_that_do_not_fit(vit, bert, name, input_shape, sentence):
    with pytest.raises(RecipeError, match=f"^model is hf:{name}, which does not fit the data: {sentence}$"):
        build(f"hf:{name}", num_classes=3, input_shape=input_shape)


def test_folders_without_a_classifier_are_refused(tmp_path, vit):
    with pytest.raises(
        RecipeError, match=r"^model is hf:none, but there is no none/config.json; give a folder"
    ):
        check_name("hf:none")
    (tmp_path / "vit" / "pytorch_model.bin").write_bytes(b"never read")
    with pytest.raises(
        RecipeError, match=r"^model is hf:vit, whose weights are only in pytorch_model.bin, a pickle"
    ):
        check_name(vit)
    transformers.Wav2Vec2Config().save_pretrained("sounds")
    with pytest.raises(
        RecipeError, match="a wav2vec2, from which transformers makes neither an image nor a text"
    ):
        check_name("hf:sounds")


def test_code_in_a_folder_is_never_run(tmp_path):
    folder = tmp_path / "remote"
    folder.mkdir()
    settings = {"model_type": "mine", "auto_map": {"AutoConfig": "code.Mine"}}
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "code.py").write_text("raise SystemExit('ran')")
    with pytest.raises(
        RecipeError, match=r"^model is hf:remote, whose config.json cannot be used \(.*\); give"
    ):
        check_name("hf:remote")


def test_macs_of_a_text_classifier(bert):
    network = construct(bert, num_classes=2, input_shape=TEXT)
    counts = count_macs(network, example(network, TEXT))
    assert counts["bert.encoder.layer.0.intermediate.dense.weight"] == 12 * 16 * 24
    assert counts["classifier.weight"] == 2 * 16
    assert None not in counts.values()


def test_the_usual_length_of_a_text(vit, bert):
    assert usual_shape(bert) == (20,)
    assert usual_shape(vit) is None
    assert text_length(bert) == 20
    assert text_length(vit) is text_length("resnet20") is None
