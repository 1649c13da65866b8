from gpmt.report.content.documents import Document
from gpmt.report.content.layers import joined, planned_layers, thresholds, verified_layers, with_macs
from gpmt.report.content.subject import Layer

PLAN = {
    "groups": [{"group": None, "threshold": 0.5}],
    "tensors": [
        {
            "name": "a",
            "kind": "Linear",
            "shape": [2, 5],
            "weights": 10,
            "kept": 4,
            "floor": 2,
            "binds": False,
        },
        {
            "name": "b",
            "kind": "Linear",
            "blocks": [
                {"name": "b.q", "shape": [2, 3], "weights": 6, "kept": 3, "floor": 3, "binds": True},
                {"name": "b.k", "shape": [1, 3], "weights": 3, "kept": 1, "floor": 1, "binds": True},
            ],
        },
    ],
}


def test_blocks_are_layers():
    a, q, k = planned_layers(Document(PLAN), "weights")
    assert a == Layer("a", "a", "Linear", (2, 5), 10, 4, 2, False)
    assert (q.name, q.tensor, q.shape, k.kept) == ("b.q", "b", (2, 3), 1)
    assert thresholds(Document(PLAN)) == {"": 0.5}


def test_what_is_counted_replaces_what_was_planned():
    planned = planned_layers(Document(PLAN), "weights")
    counted = [
        Layer("a", "a", "matrix", (2, 5), 10, 3, outputs=2, live_outputs=1),
        Layer("b", "b", "matrix", (3, 3), 9, 4),
    ]
    a, q, _ = joined(planned, counted)
    assert (a.kept, a.floor, a.live_outputs, a.kind) == (3, 2, 1, "Linear")
    assert q.kept == 3
    assert joined([], counted) == counted
    assert joined(planned, []) == planned


def test_a_verification_tells_what_collapsed():
    rows = [
        {"name": name, "weights": 900, "kept": 9, "outputs": 30, "live_outputs": live}
        for name, live in (("a", 2), ("b", 3), ("c", 0))
    ]
    counted = verified_layers(Document({"tensors": rows}), "weights")
    assert [layer.collapsed for layer in counted] == [True, False, False]
    planned = [Layer(layer.name, layer.name, "Linear", (30, 30), 900, 9, floor=9) for layer in counted]
    assert [layer.collapsed for layer in joined(planned, counted)] == [True, False, False]


def test_macs_of_a_tensor_are_shared_among_its_blocks():
    a, q, k = with_macs(planned_layers(Document(PLAN), "weights"), {"b": 900})
    assert a.macs_dense is None
    assert (q.macs_dense, q.macs_sparse) == (600, 300)
    assert (k.macs_dense, k.macs_sparse) == (300, 100)


def test_a_document_of_other_things_has_no_layers():
    assert planned_layers(Document({"tensors": "x"}), "weights") == []
