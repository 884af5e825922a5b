"""Which convolutions call oneDNN: a convolution, or its gradient by the input or the weights.

JAX's gradients of a convolution are convolutions with other dimension numbers and dilations. The
gradient by the input has a dilated input; that by the weights has a kernel as large as an image.

    x (N, in..., C)   w (kernel..., C / groups, O)   y (N, out..., O)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxdl_cpu import _library, _product

FORWARD, INPUT, WEIGHTS = range(3)
LEAST_OPERATIONS = 1e5
"""Multiplications and additions below which a call does not pay."""


def plan(
    lhs: Any,
    rhs: Any,
    *,
    window_strides: Any,
    padding: Any,
    lhs_dilation: Any,
    rhs_dilation: Any,
    dimension_numbers: Any,
    feature_group_count: int,
    batch_group_count: int,
    precision: Any,
    preferred_element_type: Any,
    out: Any,
    out_sharding: Any = None,
) -> Callable[[jax.Array, jax.Array], jax.Array] | str:
    """Returns the function of the operands that calls oneDNN, or why there is none.

    Args:
      lhs, rhs, out: shapes and types of the operands and of the result.
    """
    if reason := _product.why_not(lhs, rhs, precision, preferred_element_type, out_sharding):
        return reason
    if not 3 <= lhs.ndim <= 5:
        return f"{lhs.ndim - 2} spatial dimensions"
    if 0 in (*lhs.shape, *rhs.shape, *out.shape):
        return "empty"
    (n, c, *space), (o, i, *window), (out_n, out_c, *out_space) = dimension_numbers
    kernel = [rhs.shape[d] for d in window]
    low = [pad[0] for pad in padding]
    if 2.0 * math.prod(out.shape) * rhs.shape[i] * math.prod(kernel) < LEAST_OPERATIONS:
        return "small"

    def is_weight_gradient():
        # Of the images as they are in memory, a convolution has a kernel of any size.
        return math.prod(kernel) > math.prod(out.shape[d] for d in out_space) and (
            (n, *space, c) != tuple(range(lhs.ndim))
        )

    if any(d > 1 for d in lhs_dilation):
        if batch_group_count > 1 or any(s > 1 for s in window_strides):
            return "dilated input with strides or batch groups"
        kind, groups = INPUT, feature_group_count
        strides, dilations = lhs_dilation, rhs_dilation
        low = [(k - 1) * d - p for k, d, p in zip(kernel, dilations, low, strict=True)]
        first, result = (n, *space, c), (out_n, *out_space, out_c)
        second = (*window, o, i)
    elif batch_group_count > 1 or (feature_group_count == 1 and is_weight_gradient()):
        kind, groups = WEIGHTS, batch_group_count
        strides, dilations = rhs_dilation, window_strides
        first, second = (c, *space, n), (i, *window, o)
        result = (*out_space, out_n, out_c)
    else:
        kind, groups = FORWARD, feature_group_count
        strides, dilations = window_strides, rhs_dilation
        first, second, result = (n, *space, c), (*window, i, o), (out_n, *out_space, out_c)

    def prepare(lhs, rhs):
        if kind == INPUT:
            rhs = lax.rev(rhs, window)  # which undoes that of JAX's rule
        lhs, rhs = lax.transpose(lhs, first), lax.transpose(rhs, second)
        if kind == INPUT and groups > 1:
            # From (C, O / groups) to (C / groups, O), where both are ordered by groups.
            channels, features = rhs.shape[-2] // groups, rhs.shape[-1]
            parts = rhs.reshape(*kernel, groups, channels, features)
            rhs = jnp.swapaxes(parts, -3, -2).reshape(*kernel, channels, groups * features)
        return lhs, rhs

    shapes = [x.shape for x in jax.eval_shape(prepare, lhs, rhs)]
    shape = tuple(out.shape[d] for d in result)
    x, w, y = ((*shapes, shape), (shape, shapes[1], shapes[0]), (shapes[0], shape, shapes[1]))[kind]
    settings = tuple(tuple(map(int, values)) for values in (strides, dilations, low))
    if any(p < 0 for p in low) or not fits(x, w, y, *settings):
        return "negative padding"
    inverse = tuple(int(d) for d in np.argsort(result))
    undo = None if inverse == tuple(range(len(inverse))) else inverse
    call = multiply if is_product(kind, x, w, y, settings, groups) else None
    if call is None:
        name = _library.describe_convolution(kind, x, w, y, *settings, groups)
        if name.startswith(("!", "ref", "gemm:ref")):
            return f"no fast implementation ({name})"

    def convolve(lhs, rhs):
        lhs, rhs = prepare(lhs, rhs)
        struct = jax.ShapeDtypeStruct(shape, jnp.float32)
        if call is None:
            arrays = dict(zip(("strides", "dilations", "low"), settings, strict=True))
            attributes = {name: np.array(values, np.int64) for name, values in arrays.items()}
            done = jax.ffi.ffi_call("jaxdl_convolve", struct)(
                lhs, rhs, kind=np.int64(kind), groups=np.int64(groups), **attributes
            )
        else:
            done = call(lhs, rhs, struct, kind)
        return done if undo is None else lax.transpose(done, undo)

    return convolve


def fits(x, w, y, strides, dilations, low) -> bool:
    """Returns whether the padding at the end is larger than minus the stride, which would crop."""
    return all(
        (out - 1) * s + (k - 1) * d + 1 - size - p > -s
        for size, k, out, s, d, p in zip(
            x[1:-1], w[:-2], y[1:-1], strides, dilations, low, strict=True
        )
    )


def is_product(kind, x, w, y, settings, groups) -> bool:
    """Returns whether a convolution is a matrix product: one weight at every position."""
    strides, _, low = settings
    return groups == 1 and x[:-1] == y[:-1] and {*w[:-2], *strides} == {1} and not any(low)


def multiply(first, second, result, kind) -> jax.Array:
    """Computes a convolution with one weight at every position."""
    *positions, channels = first.shape
    n, k = math.prod(positions), channels
    if kind == WEIGHTS:  # (C, N) by (N, O)
        o = second.shape[-1]
        return _product.call(first, second, result, (1, k, o, n), (n * k, 1, k), (n * o, o, 1))
    o = second.shape[-1] if kind == FORWARD else second.shape[-2]
    strides = (k * o, o, 1) if kind == FORWARD else (k * o, 1, k)
    return _product.call(first, second, result, (1, n, o, k), (n * k, k, 1), strides)
