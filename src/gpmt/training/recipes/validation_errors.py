"""One line for each error that pydantic finds in a recipe."""

from collections.abc import Sequence
from typing import Any

from gpmt.suggestions import did_you_mean
from gpmt.training.recipes.schema import Recipe
from gpmt.training.recipes.section import AUTO_TAGS


def error_line(detail: Any) -> str:
    """Return one of pydantic's errors as a line: the key, its value and the remedy."""
    detail = {**detail, "loc": tuple(part for part in detail["loc"] if part not in AUTO_TAGS)}
    key = ".".join(str(part) for part in detail["loc"])
    match detail["type"]:
        case "missing":
            return f"{key} is missing; add it"
        case "extra_forbidden":
            *sections, last = detail["loc"]
            return f"{key} is not a key of a recipe; {did_you_mean(last, _fields_at(sections))}"
        case "value_error" if not detail["loc"]:  # raised by a validator of the whole recipe
            return str(detail["ctx"]["error"])
        case "value_error":  # raised by a validator; the sentence starts with the name of a field
            message = str(detail["ctx"]["error"])
            *sections, last = detail["loc"]
            if not message.startswith(str(last)):
                sections = [*sections, last]
            return ".".join([*map(str, sections), message])
        case "model_type" | "dict_type":
            return f"{key} is {detail['input']!r}, but must be a section with keys of its own"
    problem = (
        detail["msg"]
        .replace("Input should", "must")
        .replace("a valid tuple", "a list")
        .replace("a valid integer", "a whole number")
        .replace("a valid", "a")
    )
    return f"{key} is {detail['input']!r}, but {problem}"


def _fields_at(sections: Sequence[Any]) -> list[str]:
    section: Any = Recipe
    for name in sections:
        section = section.model_fields[name].annotation
    return list(section.model_fields)
