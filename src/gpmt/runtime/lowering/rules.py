"""The table of lowering rules: for each type of operator, the function that adds its steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from gpmt.runtime.codegen.processor import Processor
from gpmt.runtime.ir.operator import Operator
from gpmt.runtime.lowering.step_builder import StepBuilder
from gpmt.runtime.lowering.value_layouts import ValueLayouts


@dataclass(frozen=True, eq=False)
class LoweringContext:
    """What a lowering rule works with.

    Attributes:
        processor: that kernels are chosen for.
        threads: that will share each step.
        steps: takes the steps that the rule adds.
        layouts: gives the buffers and tensors of the operator's inputs, and takes those of its outputs.
    """

    processor: Processor
    threads: int
    steps: StepBuilder
    layouts: ValueLayouts

    @property
    def lanes(self) -> int:
        """Float32 values in a vector register."""
        return self.processor.lanes


LoweringRule = Callable[[Any, LoweringContext], None]
Rule = TypeVar("Rule", bound=LoweringRule)

LOWERINGS: dict[type[Operator], LoweringRule] = {}
"""The rule of each type of operator."""


def lowers(*operators: type[Operator]) -> Callable[[Rule], Rule]:
    """Register a function as the lowering rule of some types of operators.

    A rule takes an operator and a `LoweringContext`. It asks `context.layouts` for the operator's inputs in the
    layout that its kernel reads, creates a buffer for the output with `context.layouts.new_buffer` (or notes a tensor
    with `set_tensor`), and adds at least one step to `context.steps`:

        @lowers(Upsample)
        def lower_upsample(op: Upsample, context: LoweringContext) -> None:
            source = context.layouts.as_images(op.input)
            output = context.layouts.new_buffer(op.output, "images")
            context.steps.add_kernel(
                "upsample", {"input": BufferAddress(source), "output": BufferAddress(output)},
                lambda planes: UpsampleKernel(context.lanes, planes["input"], planes["output"], op.factor),
            )

    Rules of this package are in the modules that `lower.py` imports.

    Args:
        operators: classes of operators, such as `gpmt.runtime.ir.operators.Conv`.

    Raises:
        ValueError: a type has a rule already.
    """

    def register(rule: Rule) -> Rule:
        for operator in operators:
            if operator in LOWERINGS:
                raise ValueError(
                    f"{operator.__name__} has a lowering rule already: {LOWERINGS[operator].__name__}"
                )
            LOWERINGS[operator] = rule
        return rule

    return register


def rule_of(operator: type[Operator]) -> LoweringRule:
    """Return the lowering rule of a type of operators.

    Raises:
        TypeError: it has none.
    """
    if operator not in LOWERINGS:
        raise TypeError(
            f"{operator.__name__} has no lowering rule; register one with gpmt.runtime.lowering.rules.lowers"
        )
    return LOWERINGS[operator]
