"""Recording networks that write in place and that keep state: the same results, or a refusal."""

import pytest
import torch
from tests.runtime.networks import Lambda, check, noise
from torch import nn

from gpmt.errors import RuntimeProgramError
from gpmt.runtime.frontend.capture import capture

IMAGE = noise(2, 4, 6, 6)


def viewed_then_written(s, x):
    y = s.conv(x)
    z = y.view(2, -1)
    z.add_(1)
    return y.relu(), z


def part_written(s, x):
    y = s.conv(x)
    y[:, :2] = 0.5
    y[:, 2].mul_(2)
    return y, y.sum()


def written_after_it_was_read(s, x):
    y = s.conv(x)
    before = y * 2
    y.relu_()
    return before + y


def copies_are_not_written(s, x):
    y = s.conv(x)
    z = y.clone()
    y.mul_(2)
    return z, y


def data_written(s, x):
    y = s.conv(x)
    y.data.mul_(2)
    y.detach().add_(1)
    return y


def chunks_written(s, x):
    a, b = s.conv(x).chunk(2, 1)
    a.relu_()
    return torch.cat([b, a], 1)


def shape_changed_in_place(s, x):
    y = s.conv(x)
    y.unsqueeze_(0).squeeze_(0)
    return y.flatten(1).t_()


def mask_made_in_place(s, x):
    mask = torch.zeros(4, 1, 1)
    mask[1] = 1.0
    mask += s.m
    mask.masked_fill_(mask > 1, 0.25)
    return x * mask


def narrow_written_by_wide(s, x):
    y = s.conv(x)
    y += torch.ones(6, dtype=torch.float64)
    count = torch.zeros(3, dtype=torch.int32)
    count += torch.arange(3)
    return y, count


def copied_into(s, x):
    y = torch.empty(2, 4, 4, 4)
    y.copy_(s.conv(x))
    z = torch.empty(2, 4, 4, 4, dtype=torch.int64)
    z.copy_(y * 10)
    out = torch.empty(4)
    torch.sum(y, (0, 2, 3), out=out)
    return y, z, out


def input_written(s, x):
    return s.conv(x.relu_()) + x.mean()


def input_part_written(s, x):
    x[0] += 1
    return x * 2


def compared_in_place(s, x):
    y = s.conv(x)
    y.gt_(0)
    return s.conv(y), x.clone().logical_not_() + x.clone().eq_(0)


def power_in_place(s, x):
    return s.conv(x).pow_(2).add_(1)


def several_written(s, x):
    y, z = s.conv(x), x * 2
    torch._foreach_mul_([y, z], 2.0)
    return y + z


def tensors_made_of_numbers(s, x):
    y = torch.tensor([1.0, 2.0, 3.0, 4.0])
    y[1] = 5
    y.add_(1)
    return x * torch.tensor(2.0) + y.view(4, 1, 1) + x.new_tensor(2.0)


def changed_by_an_operator(s, x):
    y = s.conv(x)
    add_one_(y)
    return y * 2


@torch.library.custom_op("gpmt_tests::add_one_", mutates_args=("x",))
def add_one_(x: torch.Tensor) -> None:
    """Return nothing."""
    x.add_(1)


FUNCTIONS = [
    compared_in_place,
    power_in_place,
    several_written,
    tensors_made_of_numbers,
    changed_by_an_operator,
    viewed_then_written,
    part_written,
    written_after_it_was_read,
    copies_are_not_written,
    data_written,
    chunks_written,
    shape_changed_in_place,
    mask_made_in_place,
    narrow_written_by_wide,
    copied_into,
    input_written,
    input_part_written,
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_writing_in_place(function):
    torch.manual_seed(0)
    # Of the shape of its input where that is simpler to write.
    conv = nn.Conv2d(4, 4, 3, padding=0 if function is copied_into else 1)
    image = IMAGE.clone()
    check(Lambda(function, conv=conv, m=noise(4, 1, 1)), image)
    assert torch.equal(image, IMAGE)


def test_dropout_in_place_vanishes():
    check(
        nn.Sequential(nn.Conv2d(4, 3, 1), nn.Dropout(0.5, inplace=True)).eval(), IMAGE, captured={"Conv": 1}
    )


@pytest.mark.parametrize(
    "function",
    [
        lambda s, x: x + s.count.add_(1),
        lambda s, x: x + s.count[:1].add_(1),
        lambda s, x: x + s.count.view(-1).copy_(x[0, 0, 0, :3]).sum(),
        lambda s, x: x + s.count.type_as(x).add_(1),
        lambda s, x: x + torch.broadcast_tensors(s.count, x)[0].add_(1),
    ],
)
def test_state_is_refused(function):
    network = Lambda(function, count=torch.zeros(3))
    text = "the network changes (count|a tensor that it keeps) while it runs, but a compiled program has no state"
    with pytest.raises(RuntimeProgramError, match=text):
        capture(network, noise(1, 1, 2, 3))
    assert not network.count.any()


def test_copies_of_buffers_may_change():
    def function(s, x):
        mask = s.mask.to(torch.float32)
        mask.mul_(-2)
        turned = s.table.t().contiguous()
        turned[0] = 3
        return x * mask.masked_fill_(mask == 0, s.level.item()) + turned

    check(Lambda(function, mask=torch.arange(4) > 2, level=torch.tensor(0.5), table=noise(4, 4)), noise(4, 4))


def test_views_are_allowed_where_the_example_allows_them():
    image = IMAGE.contiguous(memory_format=torch.channels_last)
    check(Lambda(lambda s, x: x.permute(0, 2, 3, 1).view(2, -1)), image)
