import numpy as np
import pytest
import torch

from gpmt.core.blocks.blocks import Blocks, Split
from gpmt.core.scope.scope import find_scope
from gpmt.core.units.registry import unit_of
from gpmt.planning.assembly import assemble
from gpmt.planning.items import items_of


def pack(*bits: int) -> torch.Tensor:
    return torch.from_numpy(np.packbits(np.array(bits, bool), bitorder="little"))


def test_bits_of_blocks_go_to_their_places():
    alternating = Blocks((Split(0, (1, 1), ("gate", "up"), repeats=2),))
    scope = find_scope({"w.weight": torch.ones(4, 2)}, blocks={"w.weight": alternating})
    weights = items_of(scope, unit_of("weight"), least={})
    bits = {"w.weight.gate": pack(1, 0, 0, 1), "w.weight.up": pack(1, 1, 0, 0)}
    expected = pack(1, 0, 1, 1, 0, 1, 0, 0)
    assert torch.equal(assemble(scope, weights, unit_of("weight"), bits)["w.weight"], expected)
    columns = items_of(scope, unit_of("column"), least={})
    bits = {"w.weight.gate": pack(1, 0), "w.weight.up": pack(0, 1)}
    expected = pack(1, 0, 0, 1, 1, 0, 0, 1)
    assert torch.equal(assemble(scope, columns, unit_of("column"), bits)["w.weight"], expected)


def test_a_tensor_of_one_block_is_taken_as_it_is():
    scope = find_scope({"w.weight": torch.ones(2, 4)})
    items, bits = items_of(scope, unit_of("weight"), least={}), pack(1, 0, 1, 0, 1, 0, 1, 0)
    assert assemble(scope, items, unit_of("weight"), {"w.weight": bits})["w.weight"] is bits


@pytest.mark.parametrize(
    "splits",
    [
        (Split(0, (2, 4)),),
        (Split(0, (1,) * 6), Split(1, (1, 3))),
        (Split(0, (2, 4)), Split(1, (2, 2))),
        (Split(1, (2, 2)),),
        (Split(0, (1, 1, 1), repeats=2),),
    ],
)
@pytest.mark.parametrize("last", [4, 8])
def test_bits_of_blocks_are_those_of_the_mask(splits, last):
    """Some divisions keep blocks together in memory, and their bits are joined as they are."""
    mask = torch.rand(6, 4, last, generator=torch.Generator().manual_seed(0)) < 0.5
    blocks = Blocks(splits)
    scope = find_scope({"w.weight": mask.float()}, scope="*", blocks={"w.weight": blocks})
    items = items_of(scope, unit_of("weight"), least={})
    names = blocks.names("w.weight")
    bits = {
        name: pack(*view.flatten().tolist()) for name, view in zip(names, blocks.views(mask), strict=True)
    }
    expected = pack(*mask.flatten().tolist())
    assert torch.equal(assemble(scope, items, unit_of("weight"), bits)["w.weight"], expected)
