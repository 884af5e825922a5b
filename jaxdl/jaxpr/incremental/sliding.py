"""How far a change reaches through windows that slide: convolution, pooling, slices, padding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxdl.jaxpr.incremental import box as boxes
from jaxdl.jaxpr.incremental.box import Box, Change
from jaxdl.jaxpr.program import Operation
from jaxdl.jaxpr.reading import primitives
from jaxdl.nn.conv_cpu import convolution_on_cpu, numbers

if TYPE_CHECKING:
    from jaxdl.jaxpr.primitives import Convolution


def applied(operation: Operation, values: Sequence[Any]) -> Sequence[Any]:
    """The operation's outputs, with convolutions in the forms that are fast here."""
    if operation.name == "conv_general_dilated":
        p = primitives().convolution(operation.equation)
        if _plain(p, values[0].dtype):
            return [convolution_on_cpu(*values, tuple(p.padding))]
    return operation(*values)


def _plain(p: Convolution, dtype) -> bool:
    """Whether a convolution on a CPU is one of stride 1, channels last, without more."""
    return (
        jax.default_backend() == "cpu"
        and p.dimension_numbers == numbers(len(p.strides))
        and all(i == 1 for i in (*p.strides, *p.lhs_dilation, *p.rhs_dilation))
        and min((n for pair in p.padding for n in pair), default=0) >= 0
        and p.feature_groups == p.batch_groups == 1
        and p.preferred_element_type in (None, dtype)
    )


def pooling(fill: float) -> Callable[..., Change | None]:
    """The rule of pooling whose padding holds `fill`."""

    def rule(operation, have, shapes, outs):
        p = primitives().window(operation.equation)
        (out,) = outs
        if any(d != 1 for d in p.base_dilation) or not jnp.issubdtype(out.dtype, jnp.floating):
            return None
        low = [low for low, _ in p.padding]
        found, want = _slid(have[0], p.sizes, p.strides, p.dilation, low, out.shape)
        compute = primitives().with_padding(operation.equation, ((0, 0),) * out.ndim)
        return Change([want], [found], compute, fill)

    return rule


def convolution(operation, have, shapes, outs) -> Change | None:
    p = primitives().convolution(operation.equation)
    plain = p.batch_groups == 1 and all(d == 1 for d in p.lhs_dilation)
    if have[0] is None or have[1] is not None or not plain:
        return None
    axes, shape = p.dimension_numbers, outs[0].shape
    (batch, channels, *space), (_, _, *window) = axes.lhs_spec, axes.rhs_spec
    (out_batch, _, *out_space) = axes.out_spec
    box = have[0].widened([channels], shapes[0])
    found, sees = _slid(
        box.picked(space),
        [shapes[1][axis] for axis in window],
        p.strides,
        p.rhs_dilation,
        [low for low, _ in p.padding],
        [shape[axis] for axis in out_space],
    )
    out = boxes.whole(shape, len(box.starts)).replaced(out_space, found)
    out = out.replaced([out_batch], box.picked([batch]))
    pads = ((0, 0),) * len(space)
    if _plain(p, outs[0].dtype):
        compute = lambda x, kernel: [convolution_on_cpu(x, kernel, pads)]  # noqa: E731
    else:
        compute = primitives().with_padding(operation.equation, pads)
    return Change([box.replaced(space, sees), None], [out], compute)


def slicing(operation, have, shapes, outs) -> Change:
    starts, strides = primitives().slicing(operation.equation)
    n, low = len(starts), [-start for start in starts]
    found, want = _slid(have[0], (1,) * n, strides, (1,) * n, low, outs[0].shape)
    return Change([want], [found], lambda x: [lax.slice(x, (0,) * n, x.shape, strides)])


def padding(operation, have, shapes, outs) -> Change | None:
    config = primitives().padding(operation.equation)
    if have[0] is None or have[1] is not None or any(min(axis) < 0 for axis in config):
        return None
    low, _, inner = np.asarray(config, int).reshape(-1, 3).T
    sizes = tuple(int((n - 1) * (m + 1) + 1) for n, m in zip(have[0].sizes, inner, strict=True))
    out = Box(have[0].starts * (inner + 1) + low, sizes)
    between = tuple((0, 0, int(m)) for m in inner)
    return Change(have, [out], primitives().with_padding(operation.equation, between))


def _slid(box: Box, size, stride, dilation, low, positions) -> tuple[Box, Box]:
    """Where a sliding window meets a box, and the cells that it sees from there, for every axis."""
    size, stride, dilation, low = map(np.asarray, (size, stride, dilation, low))
    span = (size - 1) * dilation
    first = -((box.starts + low - span) // -stride)
    last = (box.ends - 1 + low) // stride
    out = boxes.within(first, last + 1, positions)
    sees = (np.asarray(out.sizes) - 1) * stride + span + 1
    return out, Box(out.starts * stride - low, tuple(map(int, sees)))
