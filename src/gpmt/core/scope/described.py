"""A state_dict that knows the network of its tensors, so that the network's layers say which can be pruned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor, nn

from gpmt.core.blocks.blocks import Blocks
from gpmt.model_tools import unwrap


@dataclass(frozen=True)
class Description:
    """What is known of the network that tensors belong to.

    Attributes:
        network: the network, whose tensors need no data; None where it is not known.
        names: name of a tensor -> the parameter of the network that it is, or is a part of; a tensor that is not in
            the network has no entry.
        divided: name of a tensor that becomes several parameters of the network -> its blocks, one for each.
        why: where the network is not known, the reason; it follows the word since.
    """

    network: nn.Module | None
    names: Mapping[str, str] = field(default_factory=dict)
    why: str = ""
    divided: Mapping[str, Blocks] = field(default_factory=dict)

    @cached_property
    def modules(self) -> dict[str, nn.Module]:
        """The modules of the network by name, as `unwrap` leaves it; empty where it is not known."""
        return dict(self._plain.named_modules(remove_duplicate=False))

    @cached_property
    def parameters(self) -> dict[str, Tensor]:
        """The parameters of the network by name; those that are tied, under every name."""
        return dict(self._plain.named_parameters(remove_duplicate=False))

    @cached_property
    def buffers(self) -> dict[str, Tensor]:
        """The buffers of the network by name."""
        return dict(self._plain.named_buffers())

    @cached_property
    def _plain(self) -> nn.Module:
        return nn.Module() if self.network is None else unwrap(self.network)


class Described(dict[str, Tensor]):
    """A state_dict with the network that its tensors belong to.

    Args:
        tensors: name -> tensor.
        describe: finds the network; it is called once, when the scope of the tensors is first asked for.
    """

    def __init__(
        self, tensors: Mapping[str, Tensor], describe: Callable[[Mapping[str, Tensor]], Description]
    ) -> None:
        super().__init__(tensors)
        self._describe = describe

    @cached_property
    def description(self) -> Description:
        """The network, built when this is first read."""
        return self._describe(self)

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> Described:
        """Return other tensors of the same network."""
        return Described(tensors, self._describe)
