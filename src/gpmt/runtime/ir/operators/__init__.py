"""The operators: each file defines those of one group, with their entries in the table."""

from gpmt.runtime.ir.operators.attention import Attention, HeadAttention, MatMul, Softmax
from gpmt.runtime.ir.operators.channels import Concat, Slice
from gpmt.runtime.ir.operators.convolution import Conv
from gpmt.runtime.ir.operators.elementwise import Add, Affine, Multiply
from gpmt.runtime.ir.operators.embedding import Embedding
from gpmt.runtime.ir.operators.fallback import Fallback, fallback
from gpmt.runtime.ir.operators.linear import Linear
from gpmt.runtime.ir.operators.normalization import GroupNorm, LayerNorm
from gpmt.runtime.ir.operators.pooling import GlobalMean, Pool
from gpmt.runtime.ir.operators.rearranging import Permute, PixelsToTokens, TokensToPixels
from gpmt.runtime.ir.operators.reshape import Reshape
from gpmt.runtime.ir.operators.tokens import PlaceTokens
from gpmt.runtime.ir.operators.upsampling import Upsample

__all__ = [
    "Add",
    "Affine",
    "Attention",
    "Concat",
    "Conv",
    "Embedding",
    "Fallback",
    "GlobalMean",
    "GroupNorm",
    "HeadAttention",
    "LayerNorm",
    "Linear",
    "MatMul",
    "Multiply",
    "Permute",
    "PixelsToTokens",
    "PlaceTokens",
    "Pool",
    "Reshape",
    "Slice",
    "Softmax",
    "TokensToPixels",
    "Upsample",
    "fallback",
]
