import random
from collections import UserDict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from gpmt.calibration.batches import Batch, calibrating, each_batch, loss_of, run
from gpmt.errors import CalibrationError


class Two(nn.Module):
    """A network of two inputs, with dropout and a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x: Tensor, scale: Tensor, flag: bool = True) -> Tensor:
        return F.dropout(self.norm(self.layer(x * scale)), training=self.training)


X, Y = torch.arange(6.0).view(2, 3), torch.tensor([1, 3])


def one(model: nn.Module, content: Any) -> Batch:
    [batch] = each_batch(model, [content])
    return batch


@pytest.mark.parametrize(
    ("content", "args", "kwargs", "target"),
    [
        (X, 1, [], False),
        ((X,), 1, [], False),
        ((X, Y), 1, [], True),
        ([X, Y], 1, [], True),
        ((X, X, Y), 2, [], True),
        (((X, X), Y), 2, [], True),
        ({"x": X, "scale": X, "flag": False}, 0, ["x", "scale", "flag"], False),
        (UserDict(x=X, scale=X), 0, ["x", "scale"], False),
        (({"x": X, "scale": X}, Y), 0, ["x", "scale"], True),
        (({"x": X, "scale": X}, None), 0, ["x", "scale"], False),
    ],
)
def test_what_a_batch_is(content: Any, args: int, kwargs: list[str], target: bool) -> None:
    batch = one(Two(), content)
    assert len(batch.args) == args
    assert list(batch.kwargs) == kwargs
    assert (batch.target is Y or torch.equal(batch.target, Y)) if target else batch.target is None
    assert all(torch.equal(value, X) for value in (*batch.args, *batch.kwargs.values()) if value is not False)


def test_floating_tensors_take_the_dtype_of_the_network() -> None:
    batch = one(Two().double(), (X, [X, "text"], Y))
    x, (second, text) = batch.args
    assert (x.dtype, second.dtype, text, batch.target.dtype) == (
        torch.float64,
        torch.float64,
        "text",
        Y.dtype,
    )
    assert X.dtype == torch.float32


def test_any_data_loader() -> None:
    loader = DataLoader(TensorDataset(X, Y), batch_size=1)
    batches = list(each_batch(nn.Linear(3, 4), loader))
    assert [batch.number for batch in batches] == [1, 2]
    assert [batch.target.item() for batch in batches] == [1, 3]


@pytest.mark.parametrize(
    ("batches", "text"),
    [
        ([], "batches is empty, so nothing can be measured"),
        (X, "batches is of type Tensor, but must be an iterable of batches; put it into a list"),
        ({"x": X}, "is of type dict, but must be an iterable of batches; put it into a list"),
        (3, "is of type int, but must be an iterable of batches; give a data loader or a list"),
        ([()], "batch 1 is empty; give a tensor"),
        ([X, "text"], "batch 2 holds an input of type str; give a tensor"),
    ],
)
def test_what_is_no_batch_is_refused(batches: Any, text: str) -> None:
    with pytest.raises(CalibrationError, match=text):
        list(each_batch(nn.Linear(3, 4), batches))


def test_an_iterator_is_empty_the_second_time() -> None:
    batches = iter([X])
    assert len(list(each_batch(nn.Linear(3, 4), batches))) == 1
    with pytest.raises(CalibrationError, match="an iterator gives its batches only once"):
        list(each_batch(nn.Linear(3, 4), batches))


def test_a_batch_that_does_not_fit_is_described() -> None:
    model = Two()
    with pytest.raises(CalibrationError, match=r"does not run on batch 1, float32 \[2, 3\] \(.*scale"):
        run(model, one(model, X))
    with pytest.raises(CalibrationError, match=r"x float32 \[2, 3\], size float32 \[2, 3\] \(.*'size'"):
        run(model, one(model, {"x": X, "size": X}))


def test_errors_of_hooks_pass() -> None:
    model = nn.Linear(3, 4)

    def refuse(*_: Any) -> None:
        raise CalibrationError("one sentence")

    model.register_forward_hook(refuse)
    with pytest.raises(CalibrationError, match=r"^one sentence$"):
        run(model, one(model, X))


def test_the_loss_of_the_output_or_of_the_target() -> None:
    logits = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    with_target, without = one(nn.Linear(3, 4), (X, Y)), one(nn.Linear(3, 4), X)
    expected = F.cross_entropy(logits, Y)
    assert loss_of(logits, with_target) == expected
    assert loss_of(SimpleNamespace(logits=logits, loss=None), with_target) == expected
    assert loss_of({"logits": logits}, with_target) == expected
    assert loss_of(logits.bfloat16(), with_target) == F.cross_entropy(logits.bfloat16().float(), Y)
    assert loss_of(SimpleNamespace(loss=torch.tensor(3.0)), with_target) == 3
    assert loss_of({"loss": torch.tensor([3.0])}, without).shape == ()
    assert (
        loss_of(logits, with_target, lambda output, target: output.sum() * target.sum()) == logits.sum() * 4
    )
    assert loss_of(logits, without, lambda output, batch: output.sum() + batch.sum()) == logits.sum() + 15


@pytest.mark.parametrize(
    ("output", "content", "loss", "text"),
    [
        (
            X,
            X,
            None,
            r"batch 1 has no target and the network returns no loss; give batches \(inputs, target\)",
        ),
        (
            (X, X),
            (X, Y),
            None,
            r"the output \(tuple\) and the target \(int64 \[2\]\) of batch 1 are not logits",
        ),
        (
            X,
            (X, X),
            None,
            r"the target \(float32 \[2, 3\]\) .* give loss=, such as torch.nn.functional.mse_loss",
        ),
        (X[:, :1], (X, Y), None, "not logits of at least two classes"),
        (X, (X, Y), None, r"the loss of batch 1 fails \(.*out of bounds.*; give targets"),
        (
            X,
            X,
            lambda output, batch: output,
            r"is a tensor of shape \[2, 3\], but must be one floating number",
        ),
        (X, X, lambda output, batch: 3.0, "is float, but must be one floating number; reduce it"),
        (X, X, lambda output, batch: batch[7], r"the loss of batch 1 fails \(index 7"),
        (X, X, lambda output, batch: output.sum() / 0, "the loss of batch 1 is inf; look for NaN"),
        (X, X, lambda output, batch: output.sum() * torch.nan, "the loss of batch 1 is nan"),
    ],
)
def test_a_loss_that_cannot_be_used(output: Any, content: Any, loss: Any, text: str) -> None:
    with pytest.raises(CalibrationError, match=text):
        loss_of(output, one(nn.Linear(3, 4), content), loss)


def test_nothing_of_the_network_and_the_random_generators_changes() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout())
    model[2].eval()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    loader = DataLoader(TensorDataset(X, Y), batch_size=2, shuffle=True)
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    expected = torch.rand(1), random.random(), np.random.rand()  # noqa: NPY002
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    with pytest.raises(KeyError), calibrating(model):  # noqa: PT012
        assert not torch.is_grad_enabled()
        assert not model.training
        for batch in each_batch(model, loader):
            run(model, batch)
        random.random(), np.random.rand(), torch.rand(1)  # noqa: NPY002
        raise KeyError
    assert (torch.rand(1), random.random(), np.random.rand()) == expected  # noqa: NPY002
    assert [part.training for part in model.modules()] == [True, True, True, False]
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert torch.is_grad_enabled()


def test_gradients_also_where_the_caller_has_none() -> None:
    model = nn.Linear(3, 4)
    with torch.no_grad(), calibrating(model, gradients=True):
        assert run(model, one(model, X)).requires_grad
    with torch.inference_mode(), calibrating(model, gradients=True):
        assert run(model, one(model, X)).requires_grad


@pytest.mark.gpu
def test_recurrent_layers_are_differentiated_on_a_gpu_in_evaluation_mode() -> None:
    lstm = nn.LSTM(3, 4, num_layers=2, dropout=0.5).cuda()
    with calibrating(lstm, gradients=True):
        first, second = (run(lstm, one(lstm, X[None]))[0] for _ in range(2))
        assert torch.equal(first, second)
        first.sum().backward()
    assert (lstm.training, lstm.dropout) == (True, 0.5)
