from gpmt.core.layers.reach import Reach
from gpmt.core.layers.roles import Role, joined


def test_what_each_role_needs():
    needs = {role.value: role.needs for role in Role}
    assert needs.pop("layer") == Reach.BROAD
    assert {needs.pop(name) for name in ("embedding", "tied to an embedding", "output head")} == {Reach.LAYER}
    assert {needs.pop(name) for name in ("norm", "no weights")} == {Reach.NEVER}
    assert set(needs) == {"router", "adapter", "unknown layer", "named like a norm"}
    assert set(needs.values()) == {Reach.TENSOR}


def test_tied_tensors():
    assert joined([Role.EMBEDDING, Role.HEAD]) is Role.EMBEDDING
    assert joined([Role.HEAD, Role.EMBEDDING]) is Role.TIED
    assert joined([Role.LAYER, Role.HEAD]) is Role.HEAD
    assert joined([Role.OTHER, Role.LAYER]) is Role.LAYER
    assert joined([Role.NO_WEIGHTS]) is Role.NO_WEIGHTS
