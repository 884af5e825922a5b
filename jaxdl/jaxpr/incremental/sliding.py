"""Incremental rules of sliding windows: convolution, pooling, slices and padding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxdl.jaxpr.convolution import convolve
from jaxdl.jaxpr.graph import Operation
from jaxdl.jaxpr.incremental import box as boxes
from jaxdl.jaxpr.incremental.box import Box, Change
from jaxdl.jaxpr.primitives import readers


def evaluate(operation: Operation, values: Sequence[Any]) -> Sequence[Any]:
    """Evaluates an operation, convolutions in the form that is fast on a CPU."""
    is_convolution = operation.name == "conv_general_dilated"
    y = convolve(operation.equation, *values) if is_convolution else None
    return operation(*values) if y is None else [y]


def pooling(fill: float) -> Callable[..., Change | None]:
    """Returns the rule of a pooling operation whose padding has the value `fill`."""

    def rule(operation, changed, shapes, outs):
        p = readers().window(operation.equation)
        (out,) = outs
        if any(d != 1 for d in p.base_dilation) or not jnp.issubdtype(out.dtype, jnp.floating):
            return None
        low = [low for low, _ in p.padding]
        reached, required = _slide(changed[0], p.sizes, p.strides, p.dilation, low, out.shape)
        compute = readers().with_padding(operation.equation, ((0, 0),) * out.ndim)
        return Change([required], [reached], compute, fill)

    return rule


def convolution(operation, changed, shapes, outs) -> Change | None:
    """The rule of convolutions; None if the kernel changes, or with dilated inputs."""
    p = readers().convolution(operation.equation)
    supported = p.batch_groups == 1 and all(d == 1 for d in p.lhs_dilation)
    if changed[0] is None or changed[1] is not None or not supported:
        return None
    axes, shape = p.dimension_numbers, outs[0].shape
    (batch, channels, *space), (_, _, *window) = axes.lhs_spec, axes.rhs_spec
    (out_batch, _, *out_space) = axes.out_spec
    box = changed[0].extend([channels], shapes[0])
    reached, receptive = _slide(
        box.select(space),
        [shapes[1][axis] for axis in window],
        p.strides,
        p.rhs_dilation,
        [low for low, _ in p.padding],
        [shape[axis] for axis in out_space],
    )
    out = boxes.whole(shape, len(box.starts)).replace(out_space, reached)
    out = out.replace([out_batch], box.select([batch]))
    pads = ((0, 0),) * len(space)

    # The cut-out cells already contain the padding, so the convolution adds none.
    without_padding = readers().with_padding(operation.equation, pads)

    def compute(x, kernel):
        y = convolve(operation.equation, x, kernel, pads)
        return without_padding(x, kernel) if y is None else [y]

    return Change([box.replace(space, receptive), None], [out], compute)


def strided_slice(operation, changed, shapes, outs) -> Change:
    """The rule of `lax.slice`, a window of one cell."""
    starts, strides = readers().static_slice(operation.equation)
    n, low = len(starts), [-start for start in starts]
    reached, required = _slide(changed[0], (1,) * n, strides, (1,) * n, low, outs[0].shape)
    return Change([required], [reached], lambda x: [lax.slice(x, (0,) * n, x.shape, strides)])


def padding(operation, changed, shapes, outs) -> Change | None:
    """The rule of `lax.pad`; None if the fill value changes, or with negative padding."""
    config = readers().padding(operation.equation)
    if changed[0] is None or changed[1] is not None or any(min(axis) < 0 for axis in config):
        return None
    low, _, inner = np.asarray(config, int).reshape(-1, 3).T
    sizes = tuple(int((n - 1) * (m + 1) + 1) for n, m in zip(changed[0].sizes, inner, strict=True))
    out = Box(changed[0].starts * (inner + 1) + low, sizes)
    between = tuple((0, 0, int(m)) for m in inner)
    return Change(changed, [out], readers().with_padding(operation.equation, between))


def _slide(box: Box, size, stride, dilation, low, positions) -> tuple[Box, Box]:
    """Returns the window positions that meet a box, and the cells they cover."""
    size, stride, dilation, low = map(np.asarray, (size, stride, dilation, low))
    span = (size - 1) * dilation
    # Ceiling division: the first window whose last cell reaches the box.
    first = -((box.starts + low - span) // -stride)
    last = (box.ends - 1 + low) // stride
    out = boxes.within(first, last + 1, positions)
    sizes = (np.asarray(out.sizes) - 1) * stride + span + 1
    return out, Box(out.starts * stride - low, tuple(map(int, sizes)))
