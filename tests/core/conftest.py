"""What the tests of several modules watch."""

from typing import Any

import pytest
from torch import Tensor
from torch.nn import functional


@pytest.fixture
def attended(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Tensor]]:
    """The queries, keys and values of every call of PyTorch's attention."""
    seen: list[dict[str, Tensor]] = []
    original = functional.scaled_dot_product_attention

    def record(query: Tensor, key: Tensor, value: Tensor, *rest: Any, **options: Any) -> Tensor:
        seen.append({"q": query, "k": key, "v": value})
        return original(query, key, value, *rest, **options)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", record)
    return seen
