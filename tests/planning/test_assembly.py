import numpy as np
import torch

from gpmt.core.blocks import Blocks, Split
from gpmt.core.scope import find_scope
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
