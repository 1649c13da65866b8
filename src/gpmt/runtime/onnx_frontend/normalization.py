"""Normalisation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gpmt.runtime.onnx_frontend.call import Call, NotSupported
from gpmt.runtime.onnx_frontend.composites import LAYER_NORM
from gpmt.runtime.onnx_frontend.registry import operator


@operator("BatchNormalization", 7, 9, 14, 15)
def _batch_norm(call: Call) -> Tensor:
    if call.integer("training_mode", 0) or any(map(call.is_wanted, range(1, 5))):
        raise NotSupported("it is in training mode, not in evaluation mode")
    if not call.integer("spatial", 1):
        raise NotSupported("it is not over channels")
    source, scale, shift, mean, variance = (call.tensor(index) for index in range(5))
    return F.batch_norm(source, mean, variance, scale, shift, False, eps=call.real("epsilon", 1e-5))


@operator("InstanceNormalization", 6, 22)
def _instance_norm(call: Call) -> Tensor:
    source, scale, shift = (call.tensor(index) for index in range(3))
    return F.group_norm(source, source.shape[1], scale, shift, call.real("epsilon", 1e-5))


@operator("GroupNormalization", 21)
def _group_norm(call: Call) -> Tensor:
    source, scale, shift = (call.tensor(index) for index in range(3))
    return F.group_norm(source, call.integer("num_groups", 1), scale, shift, call.real("epsilon", 1e-5))


@operator(LAYER_NORM, 0)
@operator("LayerNormalization", 17)
def _layer_norm(call: Call) -> Tensor:
    if call.is_wanted(1) or call.is_wanted(2):
        raise NotSupported("its mean or deviation is read")
    source, scale, shift = call.tensor(0), call.tensor(1), call.optional(2)
    shape = source.shape[call.axis(call.integer("axis", -1), source.ndim) :]
    if shift is not None:
        shift = shift.expand(shape)
    return F.layer_norm(source, shape, scale.expand(shape), shift, call.real("epsilon", 1e-5))


@operator("RMSNormalization", 23)
def _rms_norm(call: Call) -> Tensor:
    source, scale = call.tensor(0), call.tensor(1)
    shape = source.shape[call.axis(call.integer("axis", -1), source.ndim) :]
    return F.rms_norm(source, shape, scale.expand(shape), call.real("epsilon", 1e-5))


@operator("LRN", 1, 13)
def _local_response_norm(call: Call) -> Tensor:
    size = call.integer("size", 0)
    if size < 1 or size % 2 == 0:
        raise NotSupported(f"its size is {size}, not odd")
    alpha, beta, bias = call.real("alpha", 1e-4), call.real("beta", 0.75), call.real("bias", 1.0)
    return F.local_response_norm(call.tensor(0), size, alpha, beta, bias)


@operator("LpNormalization", 1, 22)
def _lp_norm(call: Call) -> Tensor:
    source, order = call.tensor(0), call.integer("p", 2)
    if order not in (1, 2):
        raise NotSupported(f"its p is {order}, not 1 or 2")
    axis = call.axis(call.integer("axis", -1), source.ndim)
    norm = torch.linalg.vector_norm(source, order, axis, keepdim=True)
    return torch.where(norm == 0, 0.0, source / norm)
