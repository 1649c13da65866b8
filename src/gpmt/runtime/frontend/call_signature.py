"""How calls of a network and its results map to the inputs and outputs of a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from gpmt.errors import RuntimeProgramError
from gpmt.torch_private import TreeSpec, tree_unflatten


@dataclass(frozen=True)
class CallSignature:
    """The arguments of a network and the structure of its result.

    Attributes:
        arguments: the names of the network's arguments that the example gave, in the order of the graph's inputs.
        positional: the names that arguments without a name have, in order.
        result: the structure of what the network returns.
        leaves: its parts that are not tensors, by their place among all parts.
    """

    arguments: tuple[str, ...]
    positional: tuple[str, ...]
    result: TreeSpec
    leaves: dict[int, Any]

    def flatten(self, args: Sequence[Tensor], kwargs: Mapping[str, Tensor]) -> list[Tensor]:
        """Return the arguments of a call in the order of the graph's inputs; shapes and types are not checked.

        Raises:
            RuntimeProgramError: an argument is missing, repeated or unknown.
        """
        if len(args) == len(self.arguments) and not kwargs and self.positional[: len(args)] == self.arguments:
            return list(args)
        names = self.positional[: len(args)]
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        if len(given) != len(args) + len(kwargs) or given.keys() != set(self.arguments):
            described = ", ".join([*(f"argument {i}" for i in range(len(args))), *kwargs]) or "nothing"
            raise RuntimeProgramError(
                f"the program was compiled for the arguments {', '.join(self.arguments)}, but was called with "
                f"{described}; give the same ones as in the example"
            )
        return [given[name] for name in self.arguments]

    def rebuild(self, outputs: Sequence[Tensor]) -> Any:
        """Return the network's result from the graph's outputs."""
        tensors = iter(outputs)
        parts = [self.leaves[i] if i in self.leaves else next(tensors) for i in range(self.result.num_leaves)]
        return tree_unflatten(parts, self.result)
