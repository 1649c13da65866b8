"""The formats of torch.save, and what pytest leaves alone here."""

from typing import Any

import pytest
from tests.formats.checkpoints import WRITERS

# They ran once, with the libraries that they import, and made the fixtures.
collect_ignore_glob = ["fixtures/make_*.py"]


@pytest.fixture(params=WRITERS)
def write(request: pytest.FixtureRequest) -> Any:
    return WRITERS[request.param]
