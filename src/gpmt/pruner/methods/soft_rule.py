"""Soft masks: dense weights train on, and the model shows them shrunk and pruned.

The parameters hold T(w), the sparse network, at all times but within a step of the optimiser: before it the dense
weights w, which the rule keeps, are put back, and after it they are kept again, the mask is found anew, and T(w) is
written. Gradients are those of the loss at T(w), so they pass straight through T.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gpmt.core.blocks.blocks import WHOLE
from gpmt.core.keys.key_reader import map_groups, thread_count
from gpmt.core.keys.keys import KEY32, key_value
from gpmt.core.schedule.schedule import Event
from gpmt.core.scope.scope import Scope
from gpmt.core.shards import is_shared, local, reshard, whole
from gpmt.core.soft import soft_loops
from gpmt.core.soft.soft_thresholds import in_loops, kept_by, threshold_of
from gpmt.errors import MaskError, MethodError
from gpmt.masks import Masks
from gpmt.planning.decision import Decision, decide_cuts
from gpmt.pruner.enforcement import capturing, pruned_weight
from gpmt.pruner.layouts import alike, copy_into, count_write, laid_out, shared_as, written
from gpmt.pruner.methods.rule import Rule
from gpmt.pruner.optimizers import held
from gpmt.pruner.trained_network import TrainedNetwork
from gpmt.torch_private import is_inner_step

if TYPE_CHECKING:
    from gpmt.pruner.methods.soft_method import SoftMethod


class SoftRule(Rule):
    """Keeps the dense weights, and writes T of them into the parameters.

    Attributes:
        sparsity: that of the last event of the schedule; None while the network is dense.
        dense: the dense weights by name, laid out and shared by processes as the parameters are.
        finished: whether the masks are hard ones by now.
    """

    def __init__(self, network: TrainedNetwork, method: SoftMethod) -> None:
        super().__init__(network)
        self.method = method
        self.sparsity: Fraction | None = None
        self.dense: dict[str, Tensor] = {}
        self.finished = False
        self._decision: Decision | None = None
        self._shown: dict[str, tuple[int, int | None]] = {}
        """The parameters that hold T(w), and how often each had been written to by then."""
        self._stepping: set[str] = set()
        """The parameters that hold dense weights, within a step."""
        self._stale = self._new_event = self._checked = False
        self._scope: tuple[Scope, list[nn.Module], list[tuple[str, nn.Parameter]]] | None = None
        self._find_scope()

    def change(self, event: Event) -> None:
        """Take the sparsity that the schedule asks for; the dense weights come back where it is None."""
        if self.finished:
            return
        self._keep()
        self.sparsity = event.sparsity
        self._stale = self._new_event = True

    def before_step(self, optimizer: Optimizer) -> None:
        """Put the dense weights into the parameters that the optimiser trains, and scale gradients."""
        if self.finished or self.sparsity is None:
            return
        if capturing():
            raise MethodError(
                f"the method {self.method.name} finds the masks anew at every step, which a captured CUDA graph "
                "cannot repeat; call finish() before the capture"
            )
        reshard(self.network.model)
        self._keep()
        trained = held([optimizer])
        for name, dense in self.dense.items():
            weight = pruned_weight(self.network.model, name)
            if id(weight) in trained:
                self._scale_gradient(name, weight)
                copy_into(dense, weight)
                self._stepping.add(name)

    def after_step(self, optimizer: Optimizer) -> None:
        """Keep the dense weights again; `settle` finds the masks."""
        if self.finished:
            super().after_step(optimizer)
        elif self.sparsity is not None and not is_inner_step(optimizer):
            reshard(self.network.model)
            self._keep()
            self._stale = True

    def settle(self) -> None:
        """Find the masks of the dense weights, and write T of them into the parameters."""
        if not self._stale:
            return
        self._stale = False
        if self.sparsity is None:
            self._restore()
            return
        reshard(self.network.model)
        scope = self._find_scope()
        self.dense = {
            name: self.dense[name] if name in self.dense else weight.detach().clone()
            for name, weight in scope.tensors.items()
        }
        self._decide(scope)
        self._write()
        if self._new_event:
            self._new_event = False
            assert self._decision is not None
            if not self._checked or self._decision.may_be_short():
                self.network.warn_of(self._decision.plan())
            self._checked = True
            self.network.agree()

    def assign(self, masks: Masks | None) -> None:
        """Refuse masks that the user sets, unless the method is finished."""
        if not self.finished:
            raise MethodError(
                f"the method {self.method.name} finds the masks anew at every step, so they cannot be set; call "
                "finish() first, or use the method hard"
            )
        super().assign(masks)

    def finish(self) -> None:
        """Leave the sparse network under the masks in force, and keep no dense weights."""
        if self.finished:
            return
        self._keep()
        self._write()
        masks = self.network.masks
        self.finished = True
        self._forget()
        self.network.change_masks(masks)

    def state_dict(self) -> dict[str, Any]:
        """Return the sparsity in force and the dense weights, whole."""
        if self.finished:
            return {"finished": True}
        self._keep()
        return {
            "finished": False,
            "sparsity": None if self.sparsity is None else str(self.sparsity),
            "dense": {name: whole(tensor).detach().clone() for name, tensor in self.dense.items()},
        }

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Raise `MaskError` for a state that is not one of a soft method, or whose weights do not fit the model."""
        if not {"finished"} <= state.keys() or (
            not state["finished"] and not {"sparsity", "dense"} <= state.keys()
        ):
            raise MaskError(
                f"the state of the method has the keys {sorted(state)}, but the method {self.method.name} saves "
                "finished, sparsity and dense; load what Pruner.state_dict() returns"
            )
        for name, tensor in state.get("dense", {}).items():
            weight = pruned_weight(self.network.model, name)
            if tensor.shape != weight.shape:
                raise MaskError(
                    f"the state has dense weights of {name} in the shape {list(tensor.shape)}, but the model has "
                    f"{list(weight.shape)}; make the model as it was"
                )

    def load_masks(self, masks: Masks | None) -> None:
        """Keep masks only where the method was finished; others follow from the dense weights."""
        self._forget()
        self._loaded = masks

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        masks, self._loaded = self._loaded, None
        self.finished = state["finished"]
        if self.finished:
            self.network.set_masks(masks)
            return
        self.network.set_masks(None)
        sparsity = state["sparsity"]
        self.sparsity = None if sparsity is None else Fraction(sparsity)
        for name, saved in state["dense"].items():
            weight = pruned_weight(self.network.model, name)
            self.dense[name] = laid_out(saved, weight)
        self._stale = self.sparsity is not None
        self.settle()

    _loaded: Masks | None = None

    def _forget(self) -> None:
        self.sparsity, self.dense, self._decision = None, {}, None
        self._shown, self._stepping = {}, set()
        self._stale = self._new_event = False

    def _keep(self) -> None:
        """Keep the weights that the parameters hold within a step, and what else was written to them meanwhile."""
        for name, dense in self.dense.items():
            weight = pruned_weight(self.network.model, name)
            if weight.shape != dense.shape:
                raise MaskError(
                    f"{name} has shape {list(weight.shape)}, but had {list(dense.shape)}; detach() the Pruner before "
                    "changing layers"
                )
            if not alike(weight, dense):
                dense = self.dense[name] = laid_out(whole(dense), weight)
                self._decision = None
            elif name not in self._stepping and self._shown.get(name) != written(weight):
                self._take_over(name, weight)
            if name in self._stepping:
                copy_into(weight, dense)
            self._shown[name] = written(weight)
        self._stepping.clear()

    def _take_over(self, name: str, weight: Tensor) -> None:
        """Keep as dense what was written to a parameter outside of steps: where it is not T of the dense weights."""
        shown = shared_as(self._shrunk(name), weight)
        changed = local(weight.detach()) != shown
        local(self.dense[name])[changed] = local(weight.detach())[changed]

    def _find_scope(self) -> Scope:
        """Return the scope, found anew where modules or parameters of the model are others than before."""
        model = self.network.model
        modules, parameters = list(model.modules()), list(model.named_parameters(remove_duplicate=False))
        if self._scope is not None:
            scope, old_modules, old_parameters = self._scope
            if (
                len(modules) == len(old_modules)
                and len(parameters) == len(old_parameters)
                and all(map(operator.is_, modules, old_modules))
                and all(
                    a is b and name == old
                    for (name, a), (old, b) in zip(parameters, old_parameters, strict=True)
                )
            ):
                return scope
        scope = self.network.scope()
        _refuse_reparametrised(scope, self.method.name)
        self._scope = scope, modules, parameters
        return scope

    def _decide(self, scope: Scope | None = None) -> Decision:
        assert self.sparsity is not None
        scope = self._find_scope() if scope is None else scope
        tensors = {name: whole(self.dense[name]) for name in scope.tensors}
        decision = decide_cuts(
            replace(scope, tensors=tensors),
            self.sparsity,
            self.network.options,
            factors=self.method.factors(scope),
        )
        self._decision = decision
        self.network.show(decision.plan)
        return decision

    def _write(self) -> None:
        """Write T(w) into all parameters, and zeros into the averages."""
        for name in self.dense:
            weight = pruned_weight(self.network.model, name)
            if is_shared(weight):
                local(weight.detach()).copy_(shared_as(self._shrunk(name), weight))
        own = {name: pruned_weight(self.network.model, name) for name in self.dense}
        self._shrink_into({name: w.detach() for name, w in own.items() if not is_shared(w)})
        self._shown |= {name: written(weight) for name, weight in own.items()}
        if self.dense:
            self.network.prune_averages()

    def _restore(self) -> None:
        """Put all dense weights back for good."""
        for name, dense in self.dense.items():
            copy_into(dense, pruned_weight(self.network.model, name))
        self._forget()
        self.network.set_masks(None)

    def _shrunk(self, name: str) -> Tensor:
        """Return T of the dense weights of one tensor, whole."""
        decision = self._decision or self._decide()
        shown = torch.empty_like(decision.case.found.tensors[name])
        self._shrink_into({name: shown})
        return shown

    def _shrink_into(self, targets: Mapping[str, Tensor]) -> None:
        """Write T of the dense weights of some tensors: by loops in threads where there are any, or by torch."""
        if not targets:
            return
        decision = self._decision or self._decide()
        views: dict[str, list[Tensor]] = {}
        for name, target in targets.items():
            blocks = (
                decision.case.found.blocks.get(name, WHOLE) if decision.case.request.method.blocks else WHOLE
            )
            views[name] = blocks.views(target)[::-1]
        loops: dict[int, tuple[soft_loops.Loop, float, Tensor]] = {}
        for place, item in enumerate(decision.items):
            if item.tensor not in targets:
                continue
            view = views[item.tensor].pop()
            cut, threshold = decision.cuts[place], self._threshold(decision, place)
            plain = decision.key_format is KEY32 and in_loops(item.values) and in_loops(view)
            loop = self.method.loop(item) if threshold and plain else None
            if loop is not None:
                loops[place] = loop, threshold, view
                continue
            weight = item.values.reshape(item.shape)
            kept = kept_by(weight, cut, decision.key_format)
            view.copy_(self.method.shrink(item, weight, kept, threshold).reshape(view.shape))

        places = list(loops)

        def work(group: list[int]) -> None:
            for place in (places[index] for index in group):
                item, cut, (loop, threshold, view) = decision.items[place], decision.cuts[place], loops[place]
                loop(
                    item.values.view(-1).numpy(),
                    np.float32(key_value(cut.key, KEY32)),
                    cut.ties,
                    np.float32(threshold),
                    view.view(-1).numpy(),
                )

        sources = [decision.sources[place] for place in places]
        if sources:
            map_groups(sources, work, thread_count(sources))
        for target in targets.values():
            count_write(target)

    def _threshold(self, decision: Decision, place: int) -> float:
        item = decision.items[place]
        return threshold_of(
            decision.cuts[place],
            item.numel,
            decision.key_format,
            item.values.dtype,
            self._bound(decision, place),
        )

    def _bound(self, decision: Decision, place: int) -> float:
        """Return what a block's threshold is at most: that of its group, where magnitudes have factors."""
        factors = self.method.factors(decision.case.found)
        keys = [
            key for group, key in zip(decision.groups, decision.keys, strict=True) if place in group.places
        ]
        if factors is None or decision.cuts[place].binds or not keys or keys[0] is None:
            return float("inf")
        return key_value(keys[0], decision.key_format) / factors[decision.items[place].tensor]

    def _scale_gradient(self, name: str, weight: Tensor) -> None:
        """Scale the gradients of weights that the parameter holds as zero."""
        scale = self.method.gradient_scale
        if scale == 1 or weight.grad is None:
            return
        if weight.grad.is_sparse:
            raise MethodError(
                f"{name} has a sparse gradient, which the method {self.method.name} cannot scale; make its layer "
                "with sparse=False, or exclude it"
            )
        gradient, shown = local(weight.grad), local(weight.detach())
        if in_loops(gradient) and in_loops(shown):
            soft_loops.scale_pruned(gradient.view(-1).numpy(), shown.view(-1).numpy(), np.float32(scale))
            count_write(gradient)
        else:
            gradient.copy_(torch.where(shown == 0, gradient * scale, gradient))

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is found again, and what is known of the original's parameters."""
        return {**vars(self), "_decision": None, "_scope": None, "_shown": {}}


def _refuse_reparametrised(scope: Scope, method: str) -> None:
    if scope.effective:
        raise MethodError(
            f"{next(iter(scope.effective))} is reparametrised, and the method {method} shrinks plain weights only; "
            "exclude it, or make it plain"
        )
