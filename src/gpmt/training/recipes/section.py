"""What every section of a recipe is."""

from pydantic import BaseModel, ConfigDict

NAMES_ALONE = "the names of network, data and method are not looked up"
"""The context of a validation that does without PyTorch."""


class Section(BaseModel):
    """Settings that cannot be changed; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, coerce_numbers_to_str=True)
