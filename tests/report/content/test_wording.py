from gpmt.report.content.documents import Document
from gpmt.report.content.subject import Layer
from gpmt.report.content.wording import dead_sentences, first_names, scope_text, sparsity_text, starts_trained


def test_sparsities_that_are_none_stay_as_they_are():
    assert sparsity_text("90%") == "90 %"
    assert sparsity_text("most") == "most"
    assert sparsity_text(0.995) == "99.5 %"


def test_dead_layers_are_named():
    dead = [Layer(name, name, "", (), 5, 0) for name in "abcde"]
    assert dead_sentences([*dead[:1], Layer("x", "x", "", (), 5, 1)], "weights") == [
        "a keeps none of its 5 weights, so that it passes no signal"
    ]
    assert dead_sentences(dead, "rows") == ["5 layers keep none of their rows: a, b, c and 2 more"]
    assert dead_sentences([], "rows") == []
    assert first_names(["a", "b"]) == "a, b"


def test_the_scope_names_its_denominator():
    plan = {"coverage": {"share": 0.5, "network_weights": 200}, "scope": {"by": "layers", "network": "Net"}}
    assert scope_text(Document(plan), 3, "weights", 100) == (
        "100 weights in 3 tensors, 50.0000% of the network's 200 weights of two and more dimensions; judged by the "
        "layers of Net"
    )
    assert scope_text(Document({}), 1, "rows", 5) == "5 rows in 1 tensors"


def test_a_checkpoint_is_a_trained_network():
    given = {"dense": {"epochs": 0, "checkpoint": "a.pt"}}
    assert starts_trained(Document(given), Document({}))
    assert starts_trained(Document({"dense": {"epochs": 0}}), Document({"dense_from": "runs/a"}))
