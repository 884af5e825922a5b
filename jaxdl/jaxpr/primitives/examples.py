"""Example programs that check the readers of parameters against the running JAX."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import lax

from jaxdl.jaxpr.primitives import kinds, parameters

SUPPORTED = "0.10.0 to 0.12"
"""The versions of JAX that the tests run with."""


def _array(*shape: int, dtype: Any = np.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def _loop(a, b, c, x):
    # JAX turns a carry that never changes into a constant.
    def step(carry, x):
        return (carry[0] * a, lax.sin(carry[1])), (x, x)

    return lax.scan(step, (b, c), x, reverse=True)


def _custom_jvp(x):
    f = jax.custom_jvp(lax.sin)
    f.defjvp(lambda x, t: (lax.sin(*x), *t))
    return f(x)


def _custom_vjp(x):
    f = jax.custom_vjp(lax.sin)
    f.defvjp(lambda x: (lax.sin(x), ()), lambda _, g: (g,))
    return f(x)


def _pool(start, monoid):
    return lambda x: lax.reduce_window(x, np.float32(start), monoid, *POOL)


def _summary(equation: Any) -> Any:
    """Returns the parameters of an equation; functions by their first primitive."""

    def first(function):
        return function.jaxpr.eqns[0].primitive.name

    match equation.primitive.name:
        case "scan":
            loop: Any = parameters.scan(equation)
            return [aval.shape for aval in loop.body.in_avals], *loop[1:]
        case "cond":
            return [first(branch) for branch in parameters.branches(equation)]
        case name if name in kinds.CALLS:
            return first(parameters.called_function(equation))
        case name:
            return OTHERS.get(name, parameters.axes)(equation)


OTHERS: dict[str, Callable[[Any], Any]] = {
    "dot_general": parameters.dot_general,
    "conv_general_dilated": parameters.convolution,
    **dict.fromkeys(kinds.WINDOW_REDUCTIONS, parameters.window),
    "slice": parameters.static_slice,
    "pad": parameters.padding,
    "reshape": parameters.reshape_order,
    "top_k": parameters.top_k,
    **dict.fromkeys(kinds.CUMULATIVE, parameters.cumulative),
}
X = _array(2, 3, 4)
PRODUCT = ((1, 2), (2, 0)), ((0,), (1,))
SPECS = lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))
CONV = SPECS, (1, 2), ((0, 1), (2, 3)), (3, 1), (1, 2), 2, 1, np.dtype(np.float32)
POOL = (2, 1), (3, 2), ((1, 0), (0, 1)), (1, 2), (2, 1)
PADS = (0, 1, 2), (3, 4, 5), (-1, 0, 0)
EXAMPLES: dict[str, tuple[Callable[..., Any], tuple[Any, ...], Any]] = {
    "scan": (
        _loop,
        (_array(5), _array(5), _array(7, 1), _array(3, 2)),
        ([(5,), (5,), (7, 1), (2,)], 3, True, 1, 2),
    ),
    "cond": (
        lambda i, x: lax.switch(i, (lax.neg, lax.sin, lax.cos), x),
        (_array(dtype=np.int32), X),
        ["neg", "sin", "cos"],
    ),
    "jit": (jax.jit(lax.sin), (X,), "sin"),
    "checkpoint": (jax.checkpoint(lax.sin), (X,), "sin"),
    "custom_jvp_call": (_custom_jvp, (X,), "sin"),
    "custom_vjp_call": (_custom_vjp, (X,), "sin"),
    "dot_general": (
        lambda x, y: lax.dot_general(x, y, PRODUCT),
        (X, _array(4, 2, 3)),
        PRODUCT,
    ),
    "conv_general_dilated": (
        lambda x, y: lax.conv_general_dilated(x, y, *CONV[1:5], SPECS, *CONV[5:7], None, CONV[7]),
        (_array(4, 5, 6, 4), _array(2, 2, 2, 6)),
        CONV,
    ),
    "reduce_window_max": (_pool(-np.inf, lax.max), (_array(5, 6),), POOL),
    "reduce_window_min": (_pool(np.inf, lax.min), (_array(5, 6),), POOL),
    "reduce_window_sum": (_pool(0, lax.add), (_array(5, 6),), POOL),
    "slice": (
        lambda x: lax.slice(x, (0, 1, 2), (2, 3, 4), (1, 2, 1)),
        (X,),
        ((0, 1, 2), (1, 2, 1)),
    ),
    "pad": (lambda x, fill: lax.pad(x, fill, PADS), (X, _array()), PADS),
    "reshape": (lambda x: lax.reshape(x, (6, 4), (2, 0, 1)), (X,), (2, 0, 1)),
    **{
        name: (
            functools.partial(getattr(lax, name), axes=(0, 2)),
            (_array(2, 3, 4, dtype=np.int32),),
            (0, 2),
        )
        for name in kinds.REDUCTIONS
    },
    "argmax": (lambda x: lax.argmax(x, 1, np.int32), (X,), (1,)),
    "argmin": (lambda x: lax.argmin(x, 1, np.int32), (X,), (1,)),
    "transpose": (lambda x: lax.transpose(x, (2, 0, 1)), (X,), (2, 0, 1)),
    "squeeze": (lambda x: lax.squeeze(x, (0, 2)), (_array(1, 3, 1),), (0, 2)),
    "rev": (lambda x: lax.rev(x, (0, 2)), (X,), (0, 2)),
    "broadcast_in_dim": (
        lambda x: lax.broadcast_in_dim(x, (5, 2, 3, 6, 4), (1, 2, 4)),
        (X,),
        (1, 2, 4),
    ),
    "concatenate": (lambda x: lax.concatenate([x, x], 1), (X,), (1,)),
    "split": (lambda x: lax.split(x, (1, 2), axis=1), (X,), (1,)),
    **{
        name: (functools.partial(getattr(lax, name), axis=1, reverse=True), (X,), (1, True))
        for name in kinds.CUMULATIVE
    },
    "sort": (lambda x: lax.sort(x, 1), (X,), (1,)),
    "top_k": (lambda x: lax.top_k(x, 2, axis=1), (X,), (2, 1)),
}
"""By primitive: a program that ends with it, the program's inputs, and the expected parameters."""


def check() -> None:
    """Reads the parameters of all examples.

    Raises:
      ImportError: the running JAX stores the parameters of a primitive in another form.
    """
    for name, (function, args, expected) in EXAMPLES.items():
        params: Any = {}
        try:
            with jax.disable_jit(False):  # it would run loops instead of recording them
                equations = jax.make_jaxpr(function)(*args).eqns
            params = equations[-1].params
            result = _summary(equations[-1])
            if result != expected:
                raise ValueError(f"read {result}, expected {expected}")
        except Exception as error:
            raise ImportError(
                f"JAX {jax.__version__} stores {name!r} with the parameters {sorted(params)}, "
                f"which jaxdl cannot read ({type(error).__name__}: {error}). Install JAX "
                f"{SUPPORTED}, or a newer jaxdl."
            ) from error
