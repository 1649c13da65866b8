"""The graph in construction: names of values, constants, memory that values share, and results that are read."""

import pytest
import torch
from tests.runtime.networks import Lambda, noise
from torch import nn

from gpmt.errors import RuntimeProgramError
from gpmt.runtime.frontend.builder import Builder, Unsupported, base_name
from gpmt.runtime.frontend.record import Aliased, record

IMAGE = noise(2, 4, 6, 8)


def built(network, image=IMAGE):
    """Return a builder for a recorded network, and the recording."""
    recording = record(network.eval(), [image], {})
    return Builder(network, recording, ["image"]), recording


@pytest.fixture
def conv():
    """Return a convolution, a builder for it, and the arguments of its call."""
    network = nn.Conv2d(4, 3, 1)
    builder, recording = built(network)
    (call,) = recording.calls
    return network, builder, call.bound()


def test_inputs_and_parameters_have_their_own_names(conv):
    network, builder, arguments = conv
    assert builder.graph.inputs == [builder.value_name(arguments["input"])] == ["image"]
    assert builder.graph.values["image"].shape == tuple(IMAGE.shape)
    assert builder.constant_data(arguments["input"]) is None
    assert builder.state_name(arguments["input"]) == ""
    assert builder.value_name(arguments["weight"]) == builder.state_name(arguments["weight"]) == "weight"
    assert builder.constant_data(arguments["weight"]).data_ptr() == network.weight.data_ptr()
    assert builder.constant_data(3) is None


def test_further_values_of_a_name_are_numbered(conv):
    _, builder, _ = conv
    assert [builder.new_value("add", (2, 3)) for _ in range(3)] == ["add", "add_1", "add_2"]
    assert builder.graph.values["add_2"].shape == (2, 3)


def test_names_after_operators():
    aten = torch.ops.aten
    assert base_name(aten.add_.Tensor) == "add"
    assert base_name(aten._softmax.default) == "softmax"


def test_a_tensor_that_no_call_made_is_the_one_whose_memory_it_has(conv):
    _, builder, arguments = conv
    source = arguments["input"]
    assert builder.value_name(source.data) == "image"
    with pytest.raises(Aliased):
        builder.value_name(source.data[:, 1:])


def test_writing_makes_other_views_unknown(conv):
    _, builder, arguments = conv
    source = arguments["input"]
    same, other = source.detach(), source.view(-1)
    builder.set_value(same, "image")
    builder.set_value(other, builder.new_value("flat", tuple(other.shape)))
    builder.note_write(source, "written")
    assert builder.value_name(source) == builder.value_name(same) == "written"
    with pytest.raises(Aliased):
        builder.value_name(other)


def test_arrays_are_float32_constants():
    network = Lambda(lambda s, x: x + s.narrow + s.column, narrow=noise(8).half(), column=noise(6, 8)[:, :1])
    builder, recording = built(network)
    narrow, column = (call.bound()["other"] for call in recording.calls)
    array = builder.constant_array(column, "scale")
    assert array.flags.c_contiguous
    assert array.tolist() == network.column.tolist()
    with pytest.raises(Unsupported, match=r"^its scale is float16$"):
        builder.constant_array(narrow, "scale")
    with pytest.raises(Unsupported, match=r"^its scale is computed, not constant$"):
        builder.constant_array(recording.inputs[0], "scale")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (noise(2, 4, 6), "its input has 3 dimensions, not 4"),
        (IMAGE.double(), "its input is float64"),
        (IMAGE[:0], "its input is empty"),
    ],
)
def test_values_that_are_not_float32_images(image, message):
    builder, recording = built(nn.ReLU(), image)
    with pytest.raises(Unsupported, match=f"^{message}$"):
        builder.image_value(recording.inputs[0])


def test_a_constant_is_not_an_input(conv):
    _, builder, arguments = conv
    assert builder.image_value(arguments["input"]) == "image"
    with pytest.raises(Unsupported, match="its input is constant"):
        builder.image_value(arguments["weight"])


def test_results_that_are_read():
    builder, recording = built(Lambda(lambda s, x: (x.topk(2)[0].relu(), x.sort()[1])))
    topk, _, sort = recording.calls
    for call, unread in ((topk, 1), (sort, 0)):
        results = call.outputs()
        builder.check_not_read([results[unread], None])
        with pytest.raises(Unsupported, match="its further results are read"):
            builder.check_not_read(results)


def test_calls_of_constants_are_computed():
    network = Lambda(lambda s, x: x * (s.scale + 1), scale=noise(8))
    builder, recording = built(network)
    add, multiply = recording.calls
    assert builder.fold_constants(add, add.target)
    assert torch.equal(builder.constant_data(add.result), network.scale + 1)
    assert builder.state_name(add.result) == "scale"
    assert not builder.fold_constants(multiply, multiply.target)


def test_random_numbers_are_not_constants():
    builder, recording = built(Lambda(lambda s, x: x * torch.rand_like(s.scale), scale=noise(8)))
    random = recording.calls[0]
    assert not builder.fold_constants(random, random.target)


def test_constants_that_nothing_reads_are_left_out(conv):
    _, builder, arguments = conv
    for name in ("weight", "bias"):
        builder.value_name(arguments[name])
    graph = builder.finish([arguments["input"], arguments["bias"]])
    assert graph.outputs == ["image", "bias"]
    assert [*graph.constants] == ["bias"]
    assert graph.values.keys() == {"image", "bias"}


def test_tensors_of_other_devices_are_refused(conv):
    _, builder, _ = conv
    with pytest.raises(RuntimeProgramError, match=r"makes a tensor on meta, .* use \.cpu\(\)"):
        builder.new_result(torch.empty(2, device="meta"), "result")
