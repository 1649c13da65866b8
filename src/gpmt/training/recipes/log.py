"""The setting that says which experiment trackers a run writes to."""

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from gpmt.suggestions import did_you_mean

TOOLS = ("tensorboard", "wandb", "mlflow", "trackio")


def _listed(value: Any) -> Any:
    """Return the names in a text with commas as a list, without repeats."""
    if value is None:
        return ()
    if isinstance(value, str):
        value = [name.strip() for name in value.split(",")]
    return tuple(dict.fromkeys(value)) if isinstance(value, list | tuple) else value


def _known(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if name not in TOOLS:
            raise ValueError(f"log is {name}, which is not known; {did_you_mean(name, TOOLS)}")
    return names


Log = Annotated[tuple[str, ...], BeforeValidator(_listed), AfterValidator(_known)]
