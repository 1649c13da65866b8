"""Plans as documents: what is written is read back, and nothing is read that is not a plan."""

import json
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.networks import small_network
from tests.planning.plans import divided_plan, weights

import gpmt
from gpmt.core.layers.axes import Axes
from gpmt.errors import CheckpointError, PlanError
from gpmt.planning.document import from_document, to_document
from gpmt.planning.plan import Plan


@settings(max_examples=20)
@given(st.data())
def test_a_plan_that_is_read_back_makes_the_same_masks(data):
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 1000)))
    shapes = {"attn.qkv.weight": (6, 10), "fc.weight": (5, 8)}
    state = {name: torch.randint(-3, 4, shape, generator=generator).float() for name, shape in shapes.items()}
    plan = divided_plan(
        state,
        sparsity=data.draw(st.sampled_from([0, "33%", {"fc": 0.5, "*": 0.8}])),
        min_kept=data.draw(st.sampled_from([0, 3, "1% of tensor", {"*.q": 5}])),
        within=data.draw(st.sampled_from(["network", "tensor"])),
        allocation=data.draw(st.sampled_from(["exact", "random", "lamp"])),
        seed=data.draw(st.integers(0, 3)),
    )
    read = from_document(json.loads(json.dumps(to_document(plan))))
    assert to_document(read) == to_document(plan)
    bound = read.bound(state)
    assert bound.masks() == plan.masks()
    assert bound.notes == ()
    assert bound.to_dict() == plan.to_dict()


@pytest.mark.parametrize("granularity", ["weight", "column"])
def test_a_file_holds_what_the_plan_is(tmp_path, granularity):
    network, path = small_network(), tmp_path / "plan.json"
    plan = gpmt.plan(network, sparsity=0.6, min_kept="1/3% of tensor", scope="4", granularity=granularity)
    plan.save(path)
    read = Plan.load(path)
    assert (str(read), read.to_dict(), read.warnings) == (str(plan), plan.to_dict(), plan.warnings)
    assert read.minimums == plan.minimums
    assert read.masks(network) == plan.masks()
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


def test_a_plan_of_another_kind_of_total_keeps_its_sparsity(tmp_path):
    plan = gpmt.plan(weights(), sparsity=0.7, min_kept=5, allocation="reference")
    plan.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json").sparsity == plan.sparsity == Fraction(7, 10)


def test_every_block_has_a_line():
    from gpmt.planning.document import _text

    lines = _text(to_document(divided_plan())).splitlines()
    assert sum('"cut"' in line for line in lines) == 4
    assert all(line.count('"kept"') <= 2 for line in lines)


def test_a_plan_without_its_weights_asks_for_them(tmp_path):
    divided_plan().save(tmp_path / "plan.json")
    with pytest.raises(
        PlanError, match=r"knows no weights to rank; give the network, as in plan\.masks\(model\)"
    ):
        Plan.load(tmp_path / "plan.json").masks()


def test_counts_that_are_edited_are_those_of_the_plan():
    document = to_document(divided_plan())
    [fc] = document["tensors"][1]["blocks"]
    fc["kept"] += 4
    document["kept"] += 4
    document["groups"][0]["kept"] += 4
    read = from_document(document)
    assert read.kept == 29
    assert read.sparsity == Fraction(71, 100)
    assert (read.threshold, read.blocks[3].cut, read.blocks[3].binds) == (None, None, False)
    assert int(read.masks(weights())["fc.weight"].sum()) == fc["kept"]
    assert read.bound(weights()).notes == ()  # the other blocks tell that the weights are those of the plan


def edit(path: str, value):
    """Return the document of a plan in which one value is replaced."""
    document = to_document(divided_plan())
    *parents, last = [int(part) if part.isdecimal() else part for part in path.split("/")]
    place = document
    for part in parents:
        place = place[part]
    place[last] = value
    return document


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("kept", 24, r"its blocks have 25 weights \(kept\) together, but its total says 24; correct the one"),
        ("groups/0/kept", 24, r"the blocks of group 0 keep 25 weights together, but its total says 24"),
        ("numel", 99, r"its blocks have 100 weights \(numel\) together, but its total says 99"),
        ("tensors/1/blocks/0/kept", -1, r"^kept of fc\.weight is -1, but must be from 0 to 40$"),
        ("tensors/1/blocks/0/kept", 41, r"^kept of fc\.weight is 41, but must be from 0 to 40$"),
        ("tensors/1/blocks/0/kept", 1e3, r"^kept of fc\.weight is 1000\.0, but must be a whole number$"),
        ("tensors/1/blocks/0/kept", True, r"^kept of fc\.weight is True, but must be a whole number$"),
        ("tensors/1/blocks/0/numel", 41, r"fc\.weight has numel 41 in the plan, but its shape says 40"),
        ("tensors/1/blocks/0/group", 1, r"fc\.weight belongs to group 1, but the plan has 1 groups"),
        ("tensors/1/blocks/0/name", "fc", r"has a block 'fc' where fc\.weight belongs"),
        ("tensors/1/blocks/0/cut", {}, r"cut of fc\.weight has no field 'kept'; a plan has kept, key, ties"),
        ("tensors/1/blocks/0", 3, r"blocks\[0\] of fc\.weight is 3, but must be an object"),
        ("tensors/1/blocks", [], r"fc\.weight has 0 blocks in the plan, but divides into 1"),
        ("tensors/1/name", "gc.weight", r"has a block 'fc\.weight' where gc\.weight belongs"),
        ("tensors/1/shape", [8, 5], r"the names or shapes of its tensors were changed"),
        ("tensors/1/shape", [1 << 41, 5], r"shape of fc\.weight is 2,199,023,255,552, but must be"),
        ("tensors/1/shape", [0, 5], r"fc\.weight has shape \[0, 5\]"),
        ("tensors/1/dtype", "int8", r"fc\.weight has dtype 'int8', but must have one of float64, float32"),
        ("tensors/1/end", "middle", r"the end of fc\.weight is 'middle', but must be first, last or null"),
        ("tensors/0/splits/0/parts", [2, 2], r"the blocks of attn\.qkv\.weight divide 4 elements of dimension 0"),
        ("tensors/0/splits/0/parts", [], r"divide 0 elements of dimension 0"),
        ("tensors/0/splits/0/dim", 7, r"divide 6 elements of dimension 7"),
        ("tensors/0/splits/0/labels", ["q"], r"1 labels for 3 parts"),
        ("tensors", [], r"it has no tensors"),
        ("groups", [], r"belongs to group 0, but the plan has 0 groups"),
        ("groups/0/sparsity", "1e999999999", r"sparsity of groups\[0\] of the plan is '1e999999999', but must be a"),
        ("groups/0/sparsity", "3/2", r"sparsity is 3/2, but must be at least 0 and below 1"),
        ("groups/0/threshold", 10**400, r"threshold of groups\[0\] of the plan is 1000"),
        ("min_kept", [], r"min_kept is empty"),
        ("min_kept", [[None, "1e999999999% of tensor"]], r"min_kept has '1e999999999% of tensor', but must be"),
        ("min_kept", [[3, 3]], r"min_kept has \[3, 3\], but must be pairs"),
        ("granularity", "cell", r"granularity is 'cell', but must be one of"),
        ("allocation", "best", r"allocation is 'best', but must be one of"),
        ("seed", "one", r"seed of the plan is 'one', but must be a whole number"),
        ("scope", {"by": "me", "network": None, "why": None}, r"scope was judged by 'me'"),
        ("more", 1, r"the plan has an unknown field 'more'"),
    ],
)  # fmt: skip
def test_what_is_no_plan_is_refused(path, value, message):
    document = edit(path, value)
    with pytest.raises(gpmt.GpmtError, match=message):
        from_document(document)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"plan\.json is not valid JSON: Expecting value"),
        ('{"format": "gpmt-plan", "format": "x"}', r"not valid JSON: 'format' is there twice"),
        ('{"format": NaN}', r"not valid JSON: NaN is not a number of JSON"),
        ("[" * 100_000, r"not valid JSON: it is nested too deeply"),
        ("[]", r"plan\.json: it is not a plan; write one with gpmt plan IN --sparsity RATIO -o plan\.json"),
        ('{"format": "gpmt-plan", "version": 2}', r"of version 2, but this gpmt reads version 1; use the gpmt that"),
        ('{"format": "gpmt-plan", "version": 1}', r"plan\.json: the plan has no field 'structure'"),
        ("\udcff", r"not valid JSON: 'utf-8' codec can't decode"),
    ],
)  # fmt: skip
def test_files_that_are_no_plans_are_refused_in_one_sentence(tmp_path, text, message):
    path = tmp_path / "plan.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(PlanError, match=message):
        Plan.load(path)


def test_a_file_that_is_missing_or_too_large(tmp_path, monkeypatch):
    with pytest.raises(
        PlanError, match=r"nosuch\.json cannot be read: No such file or directory; check the path"
    ):
        Plan.load(tmp_path / "nosuch.json")
    with pytest.raises(PlanError, match="cannot be read: Is a directory"):
        Plan.load(tmp_path)
    monkeypatch.setattr("gpmt.planning.json_file.MAX_BYTES", 10)
    divided_plan().save(tmp_path / "plan.json")
    with pytest.raises(PlanError, match=r"plan\.json: it has .* bytes, which is more than a plan needs"):
        Plan.load(tmp_path / "plan.json")
    with pytest.raises(CheckpointError, match="does not exist; create it first"):
        divided_plan().save(tmp_path / "no" / "plan.json")


def test_a_name_that_is_there_twice_is_refused():
    document = to_document(divided_plan())
    document["tensors"][1]["name"] = document["tensors"][1]["blocks"][0]["name"] = "attn.qkv.weight.q"
    with pytest.raises(PlanError, match=r"attn\.qkv\.weight\.q is there twice"):
        from_document(document)


@pytest.mark.parametrize("granularity", ["row", "channel", "1x4"])
def test_plans_of_other_units_know_their_axes(tmp_path, granularity):
    state = {"experts.gate_up_proj": torch.randn(2, 5, 8), "experts.down_proj": torch.randn(2, 4, 5)}
    plan = gpmt.plan(state, sparsity=0.5, min_kept=1, granularity=granularity)
    plan.save(tmp_path / "plan.json")
    again = Plan.load(tmp_path / "plan.json")
    assert again.tensors[0].axes == Axes(2, stacked=True)
    assert again.masks(state) == plan.masks()
    document = to_document(plan)
    document["tensors"][0]["axes"]["output"] = 0
    with pytest.raises(PlanError, match=r"outputs of experts\.gate_up_proj cannot be counted by dimension 0"):
        from_document(document)


def test_a_plan_of_a_budget_in_macs_knows_its_weights(tmp_path):
    plan = gpmt.plan(weights(), max_macs="30%", macs={"attn.qkv.weight": 600, "fc.weight": 40})
    plan.save(tmp_path / "plan.json")
    bound = Plan.load(tmp_path / "plan.json").bound(weights())
    assert bound.masks() == plan.masks()
    assert bound.notes == ()
