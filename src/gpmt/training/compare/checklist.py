"""What a credible report of pruning contains (Blalock et al. 2020, arXiv 2003.03033), and what a comparison lacks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_BASELINES = ("uniform", "ERK", "LAMP", "random")
_SEEDS, _SPARSITIES = 3, 5


@dataclass(frozen=True)
class Item:
    """One thing of the list; `note` says where it is, or what is missing."""

    text: str
    present: bool
    note: str = ""


def checklist(document: Mapping[str, Any]) -> list[Item]:
    """Return the list for a comparison, whose table is as `outcome` returns it."""
    cells = [cell for line in document["rows"] for cell in line["cells"]]
    measured = [cell for cell in cells if cell["finetuned_top1"]]
    compared = {line["method"] for line in document["rows"] if any(c["seeds"] for c in line["cells"])}
    missing = [name for name in _BASELINES if name not in compared]
    before = any(cell["pruned_top1"] for cell in cells)
    top5 = bool(measured) and all(cell["finetuned_top5"] for cell in measured)
    fewest = min((len(cell["seeds"]) for cell in measured), default=0)
    curve = sum(any(c["sparsity"] == s for c in measured) for s in document["sparsities"])
    finished, total = document["finished"], document["total"]
    failed = len(document["failed"])
    return [
        Item(
            "all runs are finished",
            finished == total,
            "" if finished == total else f"{finished} of {total}, {failed} failed",
        ),
        _item(
            "a dense baseline from the same code, with the same budget", bool(document["dense"]["seconds"])
        ),
        _item("accuracy before and after fine-tuning", before, "no method prunes a trained network"),
        _item("the sparsity that was reached, and what it is a share of", bool(measured)),
        _item("the number of weights that are not zero", bool(measured)),
        _item(
            "multiply-adds by a stated rule, dense and sparse",
            bool(measured) and all(cell["macs"] is not None for cell in measured),
            "the layers of this network are not counted",
        ),
        Item(
            "the layers of each network", bool(measured), "in metrics.json of each run; fewest and dead above"
        ),
        _item("top-1 and top-5", top5, "top-5 is not measured for these classes"),
        Item("the last epoch, not the best one on the test data", True),
        _item(f"at least {_SEEDS} seeds", fewest >= _SEEDS, f"{fewest}"),
        _item(f"at least {_SPARSITIES} sparsities", curve >= _SPARSITIES, f"{curve}"),
        Item("the total budget in epochs, the same for all", True),
        _item(
            "baselines at the same budget: uniform, ERK, LAMP, random",
            not missing,
            f"{', '.join(missing)} missing",
        ),
        Item(
            "times as measured",
            bool(measured),
            "runs beside each other (--jobs) and other work lengthen them",
        ),
    ]


def _item(text: str, present: bool, lacking: str = "no run is finished") -> Item:
    """Return an item whose note says what is lacking, where something is."""
    return Item(text, present, "" if present else lacking)
