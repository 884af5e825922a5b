"""Readers of the parameters of JAX's primitives; no other file names a parameter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxdl.jaxpr.equations import ClosedJaxpr, close_jaxpr, stored_jaxprs
from jaxdl.jaxpr.primitives.kinds import (
    ARG_REDUCTIONS,
    CALLS,
    CUMULATIVE,
    REDUCTIONS,
    WINDOW_REDUCTIONS,
)

NAMES: dict[str, tuple[str, ...]] = {
    "scan": ("length", "reverse"),
    "dot_general": ("dimension_numbers",),
    "conv_general_dilated": (
        "dimension_numbers",
        "window_strides",
        "padding",
        "lhs_dilation",
        "rhs_dilation",
        "feature_group_count",
        "batch_group_count",
        "preferred_element_type",
    ),
    **dict.fromkeys(
        WINDOW_REDUCTIONS,
        ("window_dimensions", "window_strides", "padding", "base_dilation", "window_dilation"),
    ),
    "slice": ("start_indices", "strides"),
    "pad": ("padding_config",),
    "reshape": ("dimensions",),
    **dict.fromkeys((*REDUCTIONS, *ARG_REDUCTIONS), ("axes",)),
    "transpose": ("permutation",),
    "squeeze": ("dimensions",),
    "rev": ("dimensions",),
    "broadcast_in_dim": ("broadcast_dimensions",),
    "concatenate": ("dimension",),
    "split": ("axis",),
    **dict.fromkeys(CUMULATIVE, ("axis", "reverse")),
    "sort": ("dimension",),
    "top_k": ("k", "axis"),
}
"""The names of the parameters that are read, by primitive."""

Axes = Ints = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]


class Scan(NamedTuple):
    """`lax.scan`, whose inputs are constants, the initial carry and sequences."""

    body: ClosedJaxpr
    length: int
    reverse: bool
    num_consts: int
    num_carry: int


class DotGeneral(NamedTuple):
    """`lax.dot_general`: axes of the left and of the right operand."""

    contracting: tuple[Axes, Axes]
    batch: tuple[Axes, Axes]


class Convolution(NamedTuple):
    """`lax.conv_general_dilated`."""

    dimension_numbers: lax.ConvDimensionNumbers
    strides: Ints
    padding: Pairs
    lhs_dilation: Ints
    rhs_dilation: Ints
    feature_groups: int
    batch_groups: int
    preferred_element_type: Any


class Window(NamedTuple):
    """`lax.reduce_window` with a sum, a maximum or a minimum."""

    sizes: Ints
    strides: Ints
    padding: Pairs
    base_dilation: Ints
    dilation: Ints


class Slice(NamedTuple):
    """`lax.slice`."""

    starts: Ints
    strides: Ints


def scan(equation: Any) -> Scan:
    """Returns the body and length of a loop, and how its inputs are used."""
    (body,) = _inner(equation)
    # Counted by shapes, since JAX 0.11 replaced the parameters num_consts and num_carry.
    carry = _count_same_rank(equation.outvars, body.jaxpr.outvars)
    consts = _count_same_rank(equation.invars, body.jaxpr.invars) - carry
    length, reverse = _read(equation)
    return Scan(body, length, reverse, consts, carry)


def _count_same_rank(outside: Sequence[Any], inside: Sequence[Any]) -> int:
    """Counts the variables of a loop that have the same rank in its body."""

    def rank(variable):
        return len(getattr(variable.aval, "shape", ()))

    return sum(rank(one) == rank(other) for one, other in zip(outside, inside, strict=True))


def branches(equation: Any) -> list[ClosedJaxpr]:
    """Returns the branches of `lax.cond`; its first input is the branch index."""
    return _inner(equation)


def branch_platforms(equation: Any) -> tuple[tuple[str, ...] | None, ...]:
    """Returns the platforms of each branch of a `cond`, None for the default; () for others.

    `lax.platform_dependent` is a `cond` with one branch for each set of platforms.
    """
    return equation.params.get("branches_platforms") or ()


def called_function(equation: Any, custom: bool = True) -> ClosedJaxpr | None:
    """Returns the function of a call such as `jit` or `custom_jvp`, else None.

    Args:
      equation: an equation of a jaxpr.
      custom: whether calls with a custom derivative count too.
    """
    name = equation.primitive.name
    if name not in CALLS or (name.startswith("custom") and not custom):
        return None
    (function,) = _inner(equation)
    return function


def dot_general(equation: Any) -> DotGeneral:
    """Returns the contracting and the batch axes of both operands."""
    return DotGeneral(*_read(equation)[0])


def convolution(equation: Any) -> Convolution:
    """Returns the layout, window and groups of a convolution."""
    return Convolution(*_read(equation))


def window(equation: Any) -> Window:
    """Returns the window of a pooling operation."""
    return Window(*_read(equation))


def static_slice(equation: Any) -> Slice:
    """Returns the starts and strides of a slice."""
    starts, strides = _read(equation)
    return Slice(starts, strides or (1,) * len(starts))


def padding(equation: Any) -> tuple[tuple[int, int, int], ...]:
    """Returns (low, high, interior) of each axis of `lax.pad`."""
    return _read(equation)[0]


def reshape_order(equation: Any) -> Axes | None:
    """Returns the order in which `lax.reshape` reads axes, None for ascending."""
    return _read(equation)[0]


def axes(equation: Any) -> Axes:
    """Returns the axes of an operation that has one parameter of axes.

    These are the axes along which a reduction, `squeeze`, `rev`, `concatenate` or `split` works.
    `transpose` has the input axis of each output axis, `broadcast_in_dim` the output axis of each
    input axis.
    """
    (value,) = _read(equation)
    # `concatenate` and `split` have one axis, reductions have several.
    # A computed axis, as in `jnp.roll`, is a NumPy integer.
    return (int(value),) if isinstance(value, int | np.integer) else tuple(value)


def with_padding(equation: Any, pads: Any) -> Callable[..., list[Any]]:
    """Returns a convolution, pooling or `lax.pad` with other padding, as a function."""
    name = "padding_config" if equation.primitive.name == "pad" else "padding"
    params = equation.params | {name: pads}
    return lambda *values: [equation.primitive.bind(*values, **params)]


def cumulative(equation: Any) -> tuple[int, bool]:
    """Returns the axis of a running product or sum, and whether it runs from the end."""
    axis, reverse = _read(equation)
    return axis, reverse


def top_k(equation: Any) -> tuple[int, int]:
    """Returns the number of values that `lax.top_k` selects, and the axis."""
    k, axis = _read(equation)
    return k, axis


def widen_params(equation: Any) -> dict[str, Any]:
    """Returns the parameters with dtypes widened to at least float32."""

    def widen(value):
        if not isinstance(value, np.dtype | type) or not jnp.issubdtype(value, np.generic):
            return value
        dtype = np.dtype(value)
        return dtype if jnp.issubdtype(dtype, np.inexact) and dtype.itemsize > 2 else np.float32

    return {name: widen(value) for name, value in equation.params.items()}


def channels_last(equation: Any) -> Callable[..., list[Any]] | None:
    """Returns a convolution as one of NHWC and HWIO, or None if it is one."""
    x, kernel, y = convolution(equation).dimension_numbers
    n = len(x)
    data, window = (0, n - 1, *range(1, n - 1)), (n - 1, n - 2, *range(n - 2))
    if (x, kernel, y) == (data, window, data):
        return None
    params = equation.params | {"dimension_numbers": lax.ConvDimensionNumbers(data, window, data)}

    def run(left, right):
        left = lax.transpose(left, (x[0], *x[2:], x[1]))
        right = lax.transpose(right, (*kernel[2:], kernel[1], kernel[0]))
        output = equation.primitive.bind(left, right, **params)
        order = (y[0], *y[2:], y[1])
        return [lax.transpose(output, [order.index(axis) for axis in range(n)])]

    return run


def _read(equation: Any) -> list[Any]:
    return [equation.params[name] for name in NAMES[equation.primitive.name]]


def _inner(equation: Any) -> list[ClosedJaxpr]:
    """Returns the functions that an equation stores, under any name."""
    return [close_jaxpr(jaxpr) for jaxpr in stored_jaxprs(equation.params)]
