"""The sections of a page between its summary and its checklist, in their order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gpmt.report.content.grid import Grid
from gpmt.report.content.report import Report
from gpmt.report.content.subject import Subject
from gpmt.report.page.accuracy import against_cost, against_sparsity
from gpmt.report.page.channels import channels
from gpmt.report.page.curves import curves
from gpmt.report.page.density import density
from gpmt.report.page.histograms import histograms
from gpmt.report.page.picture import Block, Picture, Section
from gpmt.report.page.provenance import made_with, recipe_table
from gpmt.report.page.side_by_side import accuracies, densities, differences, numbers

_PICTURES: tuple[tuple[str, str, str, Callable[[Subject], Picture | None]], ...] = (
    (
        "density",
        "Density",
        "The share of its weights that each block keeps. A block is a layer, or one of several in a tensor.",
        density,
    ),
    (
        "histograms",
        "Magnitudes",
        "How many weights have which magnitude, before and after pruning. Pruned weights are zero and in no bin.",
        histograms,
    ),
    (
        "channels",
        "Filters and channels",
        "What is entirely zero could be removed. A strip has the outputs, or the inputs, of a tensor in order.",
        channels,
    ),
    ("curves", "Training", "What was measured after each epoch.", curves),
)


def sections(report: Report) -> list[Section]:
    """Return the sections that have something to show."""
    several = len(report.subjects) + len(report.grids) > 1
    found = []
    for id, title, about, draw in _PICTURES:
        blocks = [_block(subject, draw, several=several) for subject in report.subjects]
        found.append(Section(id, title, about, [block for block in blocks if not block.empty]))
    found.append(_side_by_side(report.subjects))
    found.append(_accuracy(report.grids, several=several))
    found.append(_recipe(report, several=several))
    return [section for section in found if section.blocks]


def _block(subject: Subject, draw: Callable[[Subject], Picture | None], *, several: bool) -> Block:
    picture = draw(subject)
    return Block(subject.title if several else "", [picture] if picture else [])


def _side_by_side(subjects: Sequence[Subject]) -> Section:
    blocks = []
    if len(subjects) > 1:
        pictures = [picture for picture in (densities(subjects), accuracies(subjects)) if picture]
        tables = [("All numbers", numbers(subjects))]
        if (different := differences(subjects)) is not None:
            tables.append(("Settings that differ", different))
        blocks.append(Block("", pictures, tables))
    return Section("side-by-side", "Side by side", "What was given, beside each other.", blocks)


def _accuracy(grids: Sequence[Grid], *, several: bool) -> Section:
    blocks = []
    for grid in grids:
        pictures = [against_sparsity(grid), against_cost(grid, "macs"), against_cost(grid, "latency_ms")]
        block = Block(grid.title if several else "", [picture for picture in pictures if picture])
        blocks += [] if block.empty else [block]
    about = "Top-1 on the test data after the last epoch: mean over the seeds."
    return Section("accuracy", "Accuracy", about, blocks)


def _recipe(report: Report, *, several: bool) -> Section:
    blocks = []
    both: list[Grid | Subject] = [*report.grids, *report.subjects]
    for one in both:
        recipe = recipe_table(one.recipe) if isinstance(one, Subject) else None
        made = made_with(one.versions, one.machine)
        tables = [
            (title, table)
            for title, table in (("All settings", recipe), ("Versions and machine", made))
            if table is not None
        ]
        block = Block(one.title if several else "", (), tables, one.commands, folded=True)
        blocks += [] if block.empty else [block]
    return Section("recipe", "Recipe, versions, commands", "", blocks)
