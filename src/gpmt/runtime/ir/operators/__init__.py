"""The operators: each file defines those of one group, with their entries in the table."""

from gpmt.runtime.ir.operators.channels import Concat, Slice
from gpmt.runtime.ir.operators.convolution import Conv
from gpmt.runtime.ir.operators.elementwise import Add, Affine, Multiply
from gpmt.runtime.ir.operators.fallback import Fallback, fallback
from gpmt.runtime.ir.operators.linear import Linear
from gpmt.runtime.ir.operators.pooling import GlobalMean, Pool
from gpmt.runtime.ir.operators.reshape import Reshape
from gpmt.runtime.ir.operators.upsampling import Upsample

__all__ = [
    "Add",
    "Affine",
    "Concat",
    "Conv",
    "Fallback",
    "GlobalMean",
    "Linear",
    "Multiply",
    "Pool",
    "Reshape",
    "Slice",
    "Upsample",
    "fallback",
]
