from gpmt.core.scope.judgement import BY_NAMES, Judgement


def test_a_judgement_says_what_told():
    layers = Judgement("layers", "ResNet")
    assert str(layers) == "scope judged by the layers of ResNet"
    assert layers.to_dict() == {"by": "layers", "network": "ResNet", "why": None}
    assert str(BY_NAMES) == "scope judged by name and shape, since no network is known"
    assert BY_NAMES.to_dict() == {"by": "names", "network": None, "why": "no network is known"}
