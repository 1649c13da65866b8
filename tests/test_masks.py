import copy
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gpmt import Masks
from gpmt.errors import MaskError, ScopeError, WeightsError
from gpmt.prune import plan, prune_
from tests.quantised import QuantisedTensor

SHAPES = st.lists(st.lists(st.integers(0, 5), min_size=0, max_size=3), min_size=1, max_size=4)


@st.composite
def dense_masks(draw):
    masks = {}
    for index, shape in enumerate(draw(SHAPES)):
        size = math.prod(shape)
        bits = draw(st.lists(st.booleans(), min_size=size, max_size=size))
        masks[f"layer{index}.weight"] = torch.tensor(bits, dtype=torch.bool).reshape(shape)
    return masks


def example():
    mask = torch.zeros(3, 7, dtype=torch.bool)
    mask[0, 1] = mask[2, 6] = True
    return Masks.from_dense({"a.weight": mask, "b.weight": torch.ones(5, dtype=torch.bool)})


@given(dense_masks())
def test_packing_and_counting_lose_nothing(dense):
    masks = Masks.from_dense(dense)
    assert list(masks) == list(dense)
    for name, mask in dense.items():
        assert torch.equal(masks[name], mask)
        assert masks.kept(name) == int(mask.sum())
        assert masks.numel(name) == mask.numel()
        assert masks.shape(name) == tuple(mask.shape)
        assert len(masks.packed(name)) == math.ceil(mask.numel() / 8)
    assert (
        masks.total_kept + masks.total_pruned == masks.total_numel == sum(m.numel() for m in dense.values())
    )


@given(dense_masks())
def test_saving_pickling_and_state_dicts_lose_nothing(tmp_path_factory, dense):
    masks = Masks.from_dense(dense)
    path = tmp_path_factory.mktemp("masks") / "m.safetensors"
    masks.save(path)
    assert Masks.load(path) == masks
    assert list(Masks.load(path)) == list(masks)
    assert Masks.from_state_dict(masks.state_dict()) == masks
    assert pickle.loads(pickle.dumps(masks)) == masks == copy.deepcopy(masks)
    assert Masks.load(path).digest() == masks.digest()


def test_the_bits_are_little_endian_in_flat_order():
    assert example().packed("a.weight").tolist() == [0b10, 0, 0b10000]


def test_what_comes_out_is_a_copy():
    masks = example()
    masks["a.weight"].fill_(True)
    assert masks.kept("a.weight") == int(masks["a.weight"].sum()) == 2


def test_a_state_dict_survives_a_safe_load(tmp_path):
    torch.save(example().state_dict(), tmp_path / "m.pt")
    assert Masks.from_state_dict(torch.load(tmp_path / "m.pt", weights_only=True)) == example()


def test_only_bool_masks_are_packed():
    with pytest.raises(
        MaskError, match=r"mask w is torch\.uint8, but must be torch\.bool with True for kept"
    ):
        Masks.from_dense({"w": torch.ones(3, dtype=torch.uint8)})


def test_arrays_of_numpy_are_packed_too():
    mask = np.arange(24).reshape(2, 3, 4) % 5 == 0
    masks = Masks.from_dense(
        {
            "plain": mask,
            "transposed": mask.T,
            "fortran": np.asfortranarray(mask),
            "strided": mask[:, ::2],
            "tensor": torch.from_numpy(mask),
            "one": np.array(True),
        }
    )
    for name, expected in {
        "plain": mask,
        "transposed": mask.T,
        "fortran": mask,
        "strided": mask[:, ::2],
        "tensor": mask,
    }.items():
        assert np.array_equal(masks[name].numpy(), expected), name
    assert (masks.shape("one"), masks.kept("one")) == ((), 1)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones(3), "^mask w is an array of float64, but must be bool with True for kept weights$"),
        (np.array([True, None]), "^mask w is an array of object, but must be bool"),
        ([True, False], "^mask w is of type list, but must be a bool tensor or a bool array of NumPy$"),
        (
            torch.ones(2, 2, dtype=torch.bool).to_sparse(),
            r"^mask w has layout torch\.sparse_coo, but must be dense; convert it with to_dense\(\)$",
        ),
        (torch.ones(2, dtype=torch.bool, device="meta"), r"^w has no data \(it is on the meta device\)"),
    ],
)
def test_what_is_no_mask_is_refused_by_name(mask, message):
    with pytest.raises(MaskError, match=message):
        Masks.from_dense({"w": mask})


def test_masks_of_a_network_are_its_non_zeros():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 5))
    with torch.no_grad():
        model[0].weight[0] = 0.0
        model[0].weight[1, 0, 0] = torch.tensor([-0.0, math.nan, math.inf])
    found = Masks.of(model)
    assert list(found) == ["0.weight", "3.weight"]
    assert torch.equal(found["0.weight"], model[0].weight != 0)
    assert found.kept("0.weight") == 3 * 27 - 1
    assert Masks.of(nn.DataParallel(model)) == Masks.of(model.state_dict()) == found
    assert list(Masks.of(model, scope="3")) == list(Masks.of(model, exclude="type:Conv2d")) == ["3.weight"]
    assert Masks.of(model, exclude=None) == found


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.8])
def test_masks_of_a_pruned_network_are_those_of_its_plan(sparsity):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(31, 17), nn.Linear(17, 3))
    assert Masks.of(model) == ~Masks.of(model) | Masks.of(model)
    assert prune_(model, sparsity=sparsity).masks() == Masks.of(model)


def test_weights_under_masks_are_pruned_to_these_masks():
    torch.manual_seed(0)
    state = {"a.weight": torch.randn(31, 17), "b.weight": torch.randn(5, 31)}
    masks = plan(state, sparsity=0.7, allocation="random", seed=3).masks()
    masks.apply_(state)
    assert plan(state, sparsity=f"{masks.total_pruned}/{masks.total_numel}").masks() == masks


def test_what_has_no_weights_to_look_at_has_no_masks():
    with pytest.raises(ScopeError, match="scope pattern 'conv' matches nothing"):
        Masks.of(nn.Linear(2, 2), scope="conv")
    with pytest.raises(WeightsError, match=r"^weight has no data"):
        Masks.of(nn.Linear(2, 2, device="meta"))


def test_damaged_bits_are_refused():
    with pytest.raises(MaskError, match=r"has 1 bytes of torch\.uint8, but its shape \[3, 3\] needs 2"):
        Masks({"w": torch.zeros(1, dtype=torch.uint8)}, {"w": (3, 3)})
    with pytest.raises(MaskError, match="mask w has bits set past its 9 weights"):
        Masks({"w": torch.tensor([0, 0b10], dtype=torch.uint8)}, {"w": (3, 3)})
    with pytest.raises(MaskError, match="mask w has bits but no shape"):
        Masks({"w": torch.zeros(1, dtype=torch.uint8)}, {})
    with pytest.raises(MaskError, match="the saved masks are damaged"):
        Masks.from_state_dict({"packed": {}})


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "strided"])
def test_applying_zeroes_exactly_the_pruned_weights(dtype, layout):
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(6, 5, 3, 3, generator=generator) < 0.3
    weight = torch.full((6, 5, 3, 3), -1.0, dtype=dtype)
    weight[0, 0, 0, 0] = float("inf") if mask[0, 0, 0, 0] else 5.0
    if layout == "channels_last":
        weight = weight.to(memory_format=torch.channels_last)
    if layout == "strided":
        weight = torch.full((6, 5, 3, 6), -1.0, dtype=dtype)[..., ::2]
    before = weight.clone()
    Masks.from_dense({"w": mask}).apply_({"w": weight})
    assert torch.equal(weight[mask], before[mask])
    assert not weight[~mask].any()
    assert not torch.signbit(weight[~mask]).any()


def test_applying_to_a_module_keeps_its_parameters_and_tells_autograd():
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    parameters = list(model.parameters())
    loss = model(torch.ones(1, 4)).sum()
    Masks.from_dense({"2.weight": torch.zeros(2, 3, dtype=torch.bool)}).apply_(model)
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    assert not model[2].weight.any()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("layout", ["contiguous", "strided"])
def test_applying_to_tensors_of_inference_mode(layout):
    with torch.inference_mode():
        weight = torch.full((6, 10), -1.0)[:, :: 2 if layout == "strided" else 1]
    mask = torch.rand(weight.shape, generator=torch.Generator().manual_seed(0)) < 0.3
    Masks.from_dense({"w": mask}).apply_({"w": weight})
    assert torch.equal(weight, torch.where(mask, -1.0, 0.0))
    assert weight.is_inference()


@pytest.mark.gpu
@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_applying_on_a_gpu(dtype, inference):
    with torch.inference_mode(inference):
        weight = torch.full((6, 5, 3, 3), -torch.inf, dtype=dtype, device="cuda")
    mask = torch.rand(weight.shape, generator=torch.Generator().manual_seed(0)) < 0.3
    Masks.from_dense({"w": mask}).apply_({"w": weight})
    assert torch.equal(weight.cpu(), torch.where(mask, -torch.inf, 0.0).to(dtype))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_masks_of_a_network_on_a_gpu(dtype):
    values = torch.tensor([0.0, -0.0, math.nan, -math.inf, 1e-7, 3.0], dtype=dtype)
    weight = values[torch.randint(6, [100, 77], generator=torch.Generator().manual_seed(0))]
    assert Masks.of({"w.weight": weight.cuda()}) == Masks.of({"w.weight": weight})


@pytest.mark.gpu
def test_masks_on_a_gpu_are_packed():
    mask = torch.rand(7, 5, device="cuda") < 0.5
    assert torch.equal(Masks.from_dense({"w": mask})["w"], mask.cpu())


def test_a_layer_without_a_shape_yet_is_refused():
    masks = Masks.from_dense({"0.weight": torch.ones(2, 2, dtype=torch.bool)})
    with pytest.raises(
        MaskError, match=r"^0\.weight is not initialised yet; call the model once on an input"
    ):
        masks.apply_(nn.Sequential(nn.LazyLinear(2)))


def test_tied_parameters_can_be_reached_by_either_name():
    model = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)})
    model["b"].weight = model["a"].weight
    Masks.from_dense({"b.weight": torch.eye(3, dtype=torch.bool)}).apply_(model)
    assert int((model["a"].weight != 0).sum()) == 3


def test_masks_of_another_network_change_nothing():
    state = {"a.weight": torch.ones(3, 7), "b.weight": torch.ones(6)}
    with pytest.raises(
        MaskError, match=r"^b\.weight has shape \[6\], but its mask has \[5\]; these masks belong to another"
    ):
        example().apply_(state)
    assert state["a.weight"].all()
    with pytest.raises(MaskError, match=r"masked tensor b\.weight is missing"):
        example().fits({"a.weight": torch.ones(3, 7)})


def test_a_file_belongs_to_one_network(tmp_path):
    path = tmp_path / "m.safetensors"
    example().save(path)
    Masks.load(path, of={"a.weight": torch.ones(3, 7), "b.weight": torch.ones(5)})
    with pytest.raises(
        MaskError, match=r"m\.safetensors: a\.weight has shape \[3, 8\], but its mask has \[3, 7\]"
    ):
        Masks.load(path, of={"a.weight": torch.ones(3, 8), "b.weight": torch.ones(5)})


def test_an_empty_mapping_is_allowed():
    masks = Masks.from_dense({})
    assert (masks.total_numel, masks.sparsity, len(masks)) == (0, 0.0, 0)
    assert repr(example()) == "Masks(2 tensors, 7 of 26 weights kept, sparsity 73.0769%)"


def test_the_digest_covers_names_shapes_and_bits():
    base = {"w": torch.tensor([True, False, True, False])}
    digests = {
        Masks.from_dense(masks).digest()
        for masks in (base, {"v": base["w"]}, {"w": base["w"].reshape(2, 2)}, {"w": ~base["w"]})
    }
    assert len(digests) == 4
    assert np.unique([Masks.from_dense({"w": m}).structure() for m in (base["w"], ~base["w"])]).size == 1


def test_the_digest_is_equal_where_masks_are_equal_whatever_the_order_of_names():
    one = {"b": torch.tensor([True, False]), "a": torch.tensor([[False]])}
    first, second = Masks.from_dense(one), Masks.from_dense(dict(reversed(one.items())))
    assert first == second
    assert first.digest() == second.digest()
    assert first.structure() == second.structure()
    assert list(first) == ["b", "a"]


@pytest.mark.parametrize("wrapped", ["_orig_mod.", "module.", "_orig_mod.module.", ""])
def test_masks_apply_to_the_state_of_a_wrapped_network(wrapped):
    masks = Masks.from_dense({"fc.weight": torch.tensor([[True, False]])})
    state = {f"{wrapped}fc.weight": torch.ones(1, 2), f"{wrapped}fc.bias": torch.ones(1), "epoch": 3}
    masks.apply_(state)
    assert state[f"{wrapped}fc.weight"].tolist() == [[1.0, 0.0]]
    inner = Masks.from_dense({f"{wrapped}fc.weight": torch.tensor([[False, True]])})
    inner.apply_(plain := {"fc.weight": torch.ones(1, 2)})
    assert plain["fc.weight"].tolist() == [[0.0, 1.0]]


def test_masks_apply_to_compiled_networks_and_their_states():
    layer = torch.nn.Sequential(torch.nn.Linear(2, 1))
    masks = Masks.from_dense({"0.weight": torch.tensor([[True, False]])})
    for network in (torch.compile(layer), torch.nn.Sequential(torch.compile(layer[0]))):
        torch.nn.init.ones_(layer[0].weight)
        masks.apply_(network.state_dict())
        assert layer[0].weight.tolist() == [[1.0, 0.0]]
        torch.nn.init.ones_(layer[0].weight)
        masks.apply_(network)
        assert layer[0].weight.tolist() == [[1.0, 0.0]]


def test_tensors_of_a_sparse_layout_are_refused_before_anything_is_changed():
    mask = torch.tensor([[True, False]])
    state = {"a": torch.ones(1, 2), "b": torch.ones(1, 2).to_sparse()}
    with pytest.raises(
        MaskError, match=r"^b has layout torch.sparse_coo, but must be dense; convert it with"
    ):
        Masks.from_dense({"a": mask, "b": mask}).apply_(state)
    assert bool(state["a"].all())


def test_a_name_that_is_there_as_it_is_comes_before_one_without_wrappers():
    state = {"module.weight": torch.ones(2), "weight": torch.ones(2)}
    Masks.from_dense({"weight": torch.tensor([True, False])}).apply_(state)
    assert (state["weight"].tolist(), state["module.weight"].tolist()) == ([1.0, 0.0], [1.0, 1.0])


def test_quantised_tensors_are_refused_before_anything_is_changed():
    mask = torch.tensor([[True, False]])
    state = {"a": torch.ones(1, 2), "b": QuantisedTensor.of(torch.ones(1, 2))}
    with pytest.raises(
        MaskError, match="b is of the class QuantisedTensor, which does not hold its values as"
    ):
        Masks.from_dense({"a": mask, "b": mask}).apply_(state)
    assert bool(state["a"].all())
