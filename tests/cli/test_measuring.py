from dataclasses import replace

import torch
from tests.sensitivities.examples import example

from gpmt.cli.measuring import Request

ASKED = Request(None, None, None, None, None, None, None)


def test_batch_normalisation_is_recalibrated_on_some_whole_batches() -> None:
    batches = [(torch.zeros(size, 1), torch.zeros(size)) for size in (100, 100, 100, 100, 30)]
    assert ASKED.recalibration(batches) == batches[:3]
    assert ASKED.recalibration(batches[-2:]) == batches[-2:-1]
    assert replace(ASKED, recalibrate=False).recalibration(batches) is False


def test_what_is_left_open_is_as_before() -> None:
    settings = {"data": "digits", "number of samples": 40, "batch size": None, "network": "resnet20"}
    before = example(settings=settings)
    assert ASKED.going_on_with(before) == Request("digits", 40, None, None, "resnet20", "1/2,9/10", True)
    other = Request("mnist:here", 7, 8, 9, "resnet32", "0.5", False)
    assert other.going_on_with(before) == other


def test_a_file_chooses_no_code_to_run() -> None:
    settings = {"data": 3, "number of samples": -1, "network": "os:system"}
    asked = ASKED.going_on_with(example(settings=settings))
    assert (asked.data, asked.images, asked.model) == (None, None, None)
