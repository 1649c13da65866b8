"""ATen's nearest-neighbour upsampling."""

from __future__ import annotations

from torch import Tensor

from gpmt.runtime.frontend.builder import Arguments, Builder, Unsupported
from gpmt.runtime.frontend.handlers import handles
from gpmt.runtime.ir.operators import Upsample
from gpmt.runtime.ir.operators.upsampling import FACTORS


@handles("upsample_nearest2d", "_upsample_nearest_exact2d")
def _upsample(builder: Builder, arguments: Arguments, result: Tensor) -> None:
    source = builder.image_value(arguments["input"] if "input" in arguments else arguments["self"])
    shape = builder.graph.values[source].shape
    factor = result.shape[2] // shape[2], result.shape[3] // shape[3]
    if (factor[0] * shape[2], factor[1] * shape[3]) != tuple(result.shape[2:]) or not {*factor} <= {*FACTORS}:
        raise Unsupported("its factors are not 1, 2 or 4")
    # PyTorch divides by the factors that it was given, even where the sizes say others.
    given = arguments.get("scale_factors") or (arguments.get("scales_h"), arguments.get("scales_w"))
    if any(wanted not in (None, found) for wanted, found in zip(given, factor, strict=True)):
        raise Unsupported("its factors are not 1, 2 or 4")
    builder.add(Upsample(source, builder.new_result(result, "upsample"), factor))
