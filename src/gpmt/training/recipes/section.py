"""What every section of a recipe is."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

NAMES_ALONE = "the names of network, data and method are not looked up"
"""The context of a validation that does without PyTorch."""


class Section(BaseModel):
    """Settings that cannot be changed; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, coerce_numbers_to_str=True)


AUTO_TAGS = ("auto", "number")
"""Parts of the place of an error that pydantic adds where a number or ``auto`` is due."""


def _tag(value: Any) -> str:
    return "auto" if value == "auto" else "number"


_Auto = Annotated[Literal["auto"], Tag("auto")]
Rate = Annotated[Annotated[float, Field(gt=0), Tag("number")] | _Auto, Discriminator(_tag)]
Count = Annotated[Annotated[int, Field(ge=0), Tag("number")] | _Auto, Discriminator(_tag)]


def has_weights(settings: Mapping[str, Any]) -> bool:
    """Whether the settings of a recipe name a trained network."""
    dense = settings.get("dense")
    checkpoint = dense.get("checkpoint") if isinstance(dense, Mapping) else None
    return checkpoint is not None or str(settings.get("model")).startswith("hf:")
