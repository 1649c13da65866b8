from gpmt.suggestions import close_names, did_you_mean

NAMES = ["resnet56", "lenet5", "resnet32", "resnet20"]


def test_close_names_come_nearest_first_and_no_more_than_asked() -> None:
    assert close_names("resnet3", NAMES)[0] == "resnet32"
    assert len(close_names("resnet", NAMES, count=2)) == 2
    assert close_names("vgg", NAMES) == []
    assert close_names("densenet", NAMES) == []
    assert close_names("lenet", iter(NAMES), count=1) == ["lenet5"]


def test_several_close_names_are_joined() -> None:
    assert did_you_mean("resnet5", ["resnet56", "resnet50"]).startswith("did you mean resnet5")
    assert did_you_mean("ab1", ["ab2", "ab3"], count=2) in (
        "did you mean ab2 or ab3?",
        "did you mean ab3 or ab2?",
    )


def test_far_names_are_answered_with_all_in_order() -> None:
    assert did_you_mean("vgg", NAMES) == "known are lenet5, resnet20, resnet32, resnet56"
    assert did_you_mean("", NAMES) == did_you_mean("vgg", iter(NAMES))
