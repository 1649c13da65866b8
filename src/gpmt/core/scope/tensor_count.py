"""The counts of one tensor: weights, zeros, live outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

COLLAPSED = 0.1
"""A tensor with fewer live outputs than this share of them is called collapsed."""


def is_collapsed(live_outputs: int, outputs: int) -> bool:
    """Whether some outputs (channels, rows) have weights that are not zero, but fewer than a tenth of them.

    >>> is_collapsed(9, 100), is_collapsed(10, 100), is_collapsed(0, 100)
    (True, False, False)
    """
    return 0 < live_outputs < COLLAPSED * outputs


@dataclass(frozen=True)
class BlockCount:
    """The counts of one block, in weights or other units; `part` is true where it is not all of its tensor."""

    name: str
    numel: int
    kept: int
    kept_by_mask: int | None = None
    part: bool = False

    def to_dict(self, *, unit: str = "weights") -> dict[str, Any]:
        """Return the counts as plain values, ready for JSON; `unit` names the values that were counted."""
        return {"name": self.name, unit: self.numel, "kept": self.kept, "kept_by_mask": self.kept_by_mask}


@dataclass(frozen=True)
class TensorCount:
    """The counts of one tensor.

    `kept` is the number of weights that are not zero, `live_outputs` the number of its `outputs` (channels,
    rows) with any weight that is not zero. `kept_by_mask` and `revived` (weights that are not zero though
    their mask prunes them) are None without masks.

    Counted by columns, `numel`, `kept` and `kept_by_mask` are numbers of columns, and those kept have any weight
    that is not zero; `not_finite` and `revived` are weights all the same. `blocks` are its blocks, where there are
    several.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    numel: int
    kept: int
    not_finite: int
    outputs: int
    live_outputs: int
    kept_by_mask: int | None = None
    revived: int | None = None
    blocks: tuple[BlockCount, ...] = ()

    @property
    def density(self) -> float:
        """Fraction that is not zero."""
        return self.kept / self.numel if self.numel else 1.0

    @property
    def dead(self) -> bool:
        """Whether every weight is zero, so that no signal passes."""
        return self.kept == 0

    @property
    def collapsed(self) -> bool:
        """Whether it is alive, but with fewer than a tenth of its outputs."""
        return is_collapsed(self.live_outputs, self.outputs)

    def to_dict(self, *, unit: str = "weights") -> dict[str, Any]:
        """Return the counts as plain values, ready for JSON; `unit` names the values that were counted."""
        document = {
            "name": self.name,
            "kind": self.kind,
            "shape": list(self.shape),
            unit: self.numel,
            "kept": self.kept,
            "density": self.density,
            "not_finite": self.not_finite,
            "outputs": self.outputs,
            "live_outputs": self.live_outputs,
            "kept_by_mask": self.kept_by_mask,
            "revived": self.revived,
        }
        if self.blocks:
            document["blocks"] = [block.to_dict(unit=unit) for block in self.blocks]
        return document
