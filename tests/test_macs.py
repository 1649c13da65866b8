import pytest
import torch
from torch import nn

from gpmt.errors import GpmtError
from gpmt.macs import count_macs, sparse_macs


def test_resnet50_has_the_macs_the_literature_gives() -> None:
    torchvision = pytest.importorskip("torchvision")
    model = torchvision.models.resnet50(weights=None)
    counts = count_macs(model, (3, 224, 224))
    assert sum(filter(None, counts.values())) == 4_089_184_256
    assert len(counts) == 54
    assert counts["conv1.weight"] == 64 * 3 * 7 * 7 * 112 * 112
    assert counts["fc.weight"] == 2048 * 1000


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), (4, 9, 8), {"weight": 6 * 2 * 9 * 5 * 4}),
        (nn.Conv1d(2, 3, 5), (2, 10), {"weight": 3 * 2 * 5 * 6}),
        (nn.Conv3d(1, 2, 3), (1, 4, 4, 4), {"weight": 2 * 27 * 8}),
        (nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2), (4, 5, 5), {"weight": 4 * 3 * 2 * 2 * 25}),
        (nn.Linear(8, 5), (8,), {"weight": 40}),
        (nn.Linear(8, 5), (7, 8), {"weight": 40 * 7}),
    ],
)
def test_layers(layer: nn.Module, shape: tuple[int, ...], expected: dict[str, int]) -> None:
    assert count_macs(layer, shape) == expected


class OnlyOutput(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x)[0]


@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_recurrent_layers_count_every_step() -> None:
    lstm = nn.LSTM(4, 6, num_layers=2, bidirectional=True, batch_first=True, proj_size=3)
    counts = count_macs(OnlyOutput(lstm), (9, 4))
    sizes = {name: p.numel() for name, p in OnlyOutput(lstm).named_parameters() if "weight" in name}
    assert counts == {name: 9 * size for name, size in sizes.items()}
    assert count_macs(nn.GRUCell(4, 6), (4,)) == {"weight_ih": 72, "weight_hh": 108}


class SelfAttention(nn.Module):
    def __init__(self, **options: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True, **options)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        memory = x[:, :4, : self.attention.kdim]
        return self.attention(x, memory, value=memory)[0]


def test_attention() -> None:
    counts = count_macs(SelfAttention(), (9, 6))
    assert counts == {
        "attention.in_proj_weight": 36 * (9 + 4 + 4),
        "attention.out_proj.weight": 36 * 9,
    }
    separate = count_macs(SelfAttention(kdim=2, vdim=2), (9, 6))
    assert separate["attention.q_proj_weight"] == 36 * 9
    assert separate["attention.k_proj_weight"] == separate["attention.v_proj_weight"] == 12 * 4


def test_transformer_layers_are_not_skipped_by_the_fast_path() -> None:
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2, enable_nested_tensor=False
    )
    counts = count_macs(encoder, (5, 8))
    assert None not in counts.values()
    assert counts["layers.1.self_attn.in_proj_weight"] == 3 * 64 * 5


def test_transformers_conv1d() -> None:
    conv1d = pytest.importorskip("transformers.pytorch_utils").Conv1D
    assert count_macs(conv1d(6, 4), (3, 4)) == {"weight": 24 * 3}


def test_shared_layers_add_up_and_unused_ones_are_unknown() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.unused = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
            self.b.weight = self.a.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(self.a(self.a(x)))

    assert count_macs(Net(), (4,)) == {"a.weight": 48, "unused.weight": None}


def test_the_reason_is_all_of_the_line_that_pytorch_says() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.MaxPool2d(5))
    sentence = (
        r"\(Given input size: \(3x4x4\)\. .* Output size is too small\); give the shape it was made for$"
    )
    with pytest.raises(GpmtError, match=sentence):
        count_macs(model, (3, 4, 4))


def test_the_model_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout())
    model[1].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    count_macs(model, (3, 5, 5))
    with pytest.raises(GpmtError, match="does not run on an input of shape 1x5x5"):
        count_macs(model, (1, 5, 5))
    assert [module.training for module in model.modules()] == [True, True, False, True]
    assert not any(module._forward_hooks for module in model.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_half_precision_and_wrappers() -> None:
    layer = nn.Linear(4, 3).bfloat16()
    assert count_macs(nn.DataParallel(layer), (4,)) == {"weight": 12}


def test_scope_limits_the_tensors_that_are_counted() -> None:
    net = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    assert count_macs(net, (4,), exclude="0") == {"1.weight": 6}


def test_sparse_macs_are_exact() -> None:
    assert sparse_macs(10**18, numel=10**9, kept=123_456_789) == 123_456_789 * 10**9


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.linear = nn.Embedding(5, 4), nn.Linear(4, 3)
        self.unused = nn.Parameter(torch.ones(3, 2))

    def forward(self, tokens: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        if len(tokens) != len(scale):
            raise AssertionError
        return self.linear(self.embedding(tokens) * scale)


def test_an_example_takes_the_place_of_a_shape() -> None:
    net = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)).double()
    assert count_macs(net, torch.ones(1, 7, 4)) == {"0.weight": 84, "1.weight": 42}
    assert count_macs(net, torch.ones(5, 7, 4)) == {"0.weight": 5 * 84, "1.weight": 5 * 42}


def test_an_example_can_be_tensors_by_keyword() -> None:
    example = {"tokens": torch.zeros(1, 6, dtype=torch.int64), "scale": torch.ones(1, 6, 1)}
    model = Classifier().bfloat16()
    assert count_macs(model, example) == {"linear.weight": 12 * 6}
    assert count_macs(model, example, scope=["linear", "unused"]) == {"unused": None, "linear.weight": 72}
    example["scale"] = torch.ones(2, 6, 1)
    with pytest.raises(GpmtError, match=r"does not run on an input of shape 6, 6x1 \(AssertionError\); give"):
        count_macs(model, example)
    assert not any(module._forward_hooks for module in model.modules())
