"""The part of a network that a figure draws, and why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from gpmt.errors import FigureError
from gpmt.report.content.subject import Subject
from gpmt.suggestions import close_names, did_you_mean

Found = TypeVar("Found")


def chosen(parts: Mapping[str, Found], name: str, path: str) -> Found:
    """Return the part of this name; raise `FigureError` with the names there are where there is none."""
    if name in parts:
        return parts[name]
    if not name:
        first = next(iter(parts))
        raise FigureError(f"{path} has no figure of all blocks together; choose one, such as --layer {first}")
    names = [part for part in parts if part]
    alike = close_names(name, names)
    hint = did_you_mean(name, alike or names) if alike or len(names) <= 12 else f"it has {names[0]} and more"
    raise FigureError(f"{path} has no {name} to draw; {hint}")


def why(subject: Subject, what: str) -> str:
    """Say why a subject does not have what a figure needs, or what has it."""
    found = (text for text in subject.missing if text.startswith(f"{what}:"))
    return next(found, "give the folder of a run that is finished")


def distinct_titles(subjects: list[Subject]) -> list[str]:
    """Return what tells subjects apart: their titles, or their paths where titles are the same."""
    titles = [subject.title for subject in subjects]
    return titles if len(set(titles)) == len(titles) else [subject.path for subject in subjects]
