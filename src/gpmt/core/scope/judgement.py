"""What told which tensors can be pruned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Judgement:
    """What told which tensors can be pruned.

    Attributes:
        by: the classes of the network's layers, or the names and shapes of the tensors.
        network: the class of the network, None where it is not known.
        why: where it is by names, the reason; it follows the word since.
    """

    by: Literal["layers", "names"]
    network: str | None
    why: str = ""

    def __str__(self) -> str:
        if self.by == "layers":
            return f"scope judged by the layers of {self.network}"
        return f"scope judged by name and shape, since {self.why}"

    def to_dict(self) -> dict[str, str | None]:
        """Return the judgement as plain values, ready for JSON."""
        return {"by": self.by, "network": self.network, "why": self.why or None}


BY_NAMES = Judgement("names", None, "no network is known")
"""How tensors are judged of which nothing else is known."""
