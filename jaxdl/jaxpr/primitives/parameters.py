"""Readers of the parameters of JAX's primitives: nothing else in jaxdl names a parameter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxdl.jaxpr.reading import ClosedJaxpr, closed, stored_jaxprs

REDUCTIONS = "reduce_and reduce_max reduce_min reduce_or reduce_prod reduce_sum reduce_xor".split()
CUMULATIVE = ("cumprod", "cumlogsumexp")
WINDOWS = ("reduce_window_max", "reduce_window_min", "reduce_window_sum")
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
        WINDOWS,
        ("window_dimensions", "window_strides", "padding", "base_dilation", "window_dilation"),
    ),
    "slice": ("start_indices", "strides"),
    "pad": ("padding_config",),
    "reshape": ("dimensions",),
    **dict.fromkeys((*REDUCTIONS, "argmax", "argmin"), ("axes",)),
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
"""JAX's names of the parameters that are read, by primitive."""

CALLS = frozenset(
    "jit pjit closed_call core_call remat remat2 checkpoint custom_jvp_call custom_vjp_call "
    "custom_vjp_call_jaxpr".split()
)
"""Primitives that only call a function."""

Axes = Ints = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]


class Scan(NamedTuple):
    """`lax.scan`: the inputs are constants, the first carry and the sequences, in this order."""

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
    """`lax.reduce_window` by a sum, a maximum or a minimum."""

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
    """The body of a loop and which of its variables are constant, carried or stacked."""
    (body,) = _inner(equation)
    # Counted by shapes, since JAX 0.11 replaced the parameters num_consts and num_carry.
    carry = _unstacked(equation.outvars, body.jaxpr.outvars)
    consts = _unstacked(equation.invars, body.jaxpr.invars) - carry
    length, reverse = _read(equation)
    return Scan(body, length, reverse, consts, carry)


def _unstacked(outside: Sequence[Any], inside: Sequence[Any]) -> int:
    """How many variables of a loop are the same in its body, without an axis for the rounds."""
    rank = lambda variable: len(getattr(variable.aval, "shape", ()))  # noqa: E731
    return sum(rank(one) == rank(other) for one, other in zip(outside, inside, strict=True))


def branches(equation: Any) -> list[ClosedJaxpr]:
    """The branches of `lax.cond` or `lax.switch`. The first input is the index of the branch."""
    return _inner(equation)


def branch_platforms(equation: Any) -> tuple[tuple[str, ...] | None, ...]:
    """Returns the platforms of each branch of a `cond`, None for the default; () for others.

    `lax.platform_dependent` is a `cond` with one branch for each set of platforms.
    """
    return equation.params.get("branches_platforms") or ()


def called(equation: Any, custom: bool = True) -> ClosedJaxpr | None:
    """The function that an equation calls as it is: of `jit`, `checkpoint`, `custom_jvp`, ...

    Args:
      equation: of a jaxpr.
      custom: whether functions with a derivative of their own are opened too, and so lose it.
    """
    name = equation.primitive.name
    if name not in CALLS or (name.startswith("custom") and not custom):
        return None
    (function,) = _inner(equation)
    return function


def dot_general(equation: Any) -> DotGeneral:
    """Which axes of the operands are summed over and which are batch axes."""
    return DotGeneral(*_read(equation)[0])


def convolution(equation: Any) -> Convolution:
    """The layout, window and groups of a convolution."""
    return Convolution(*_read(equation))


def window(equation: Any) -> Window:
    """The window of a pooling operation."""
    return Window(*_read(equation))


def slicing(equation: Any) -> Slice:
    """Where a slice starts and its strides."""
    starts, strides = _read(equation)
    return Slice(starts, strides or (1,) * len(starts))


def padding(equation: Any) -> tuple[tuple[int, int, int], ...]:
    """(low, high, interior) of each axis of `lax.pad`."""
    return _read(equation)[0]


def reshape_order(equation: Any) -> Axes | None:
    """The order in which `lax.reshape` reads the axes, or None for their own."""
    return _read(equation)[0]


def axes(equation: Any) -> Axes:
    """The axes of an operation that has one parameter of axes.

    Those that a reduction, `squeeze`, `rev`, `concatenate` or `split` is along; for `transpose` and
    `broadcast_in_dim` one for each axis of the output and of the input.
    """
    (value,) = _read(equation)
    return (value,) if isinstance(value, int) else tuple(value)


def with_padding(equation: Any, pads: Any) -> Callable[..., list[Any]]:
    """A convolution, pooling or `lax.pad` with other padding, as a function of its inputs."""
    name = "padding_config" if equation.primitive.name == "pad" else "padding"
    params = equation.params | {name: pads}
    return lambda *values: [equation.primitive.bind(*values, **params)]


def cumulative(equation: Any) -> tuple[int, bool]:
    """The axis of a running product or sum, and whether it runs from the end."""
    axis, reverse = _read(equation)
    return axis, reverse


def top_k(equation: Any) -> tuple[int, int]:
    """How many of the greatest are taken, and along which axis."""
    k, axis = _read(equation)
    return k, axis


def widened(equation: Any) -> dict[str, Any]:
    """The parameters, with every type of integers and short floats replaced by float32."""

    def wide(value):
        if not isinstance(value, np.dtype | type) or not jnp.issubdtype(value, np.generic):
            return value
        dtype = np.dtype(value)
        return dtype if jnp.issubdtype(dtype, np.inexact) and dtype.itemsize > 2 else np.float32

    return {name: wide(value) for name, value in equation.params.items()}


def channels_last(equation: Any) -> Callable[..., list[Any]] | None:
    """A convolution computed as one of NHWC and HWIO, or None where it is one."""
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
    """The functions that an equation stores, under any name."""
    return [closed(jaxpr) for jaxpr in stored_jaxprs(equation.params)]
