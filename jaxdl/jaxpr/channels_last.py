"""Convolutions in the layout that is fast inside of loops on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core

from jaxdl.jaxpr.equations import ClosedJaxpr, bind, close_jaxpr, inner_jaxprs
from jaxdl.jaxpr.evaluation import interpret
from jaxdl.jaxpr.primitives import readers
from jaxdl.jaxpr.tracing import make_jaxpr


def use_channels_last(f: Callable[..., Any]) -> Callable[..., Any]:
    """Returns f with channels-last convolutions on a CPU, for use in loops.

    XLA:CPU gives a convolution the layout of its fast kernels only outside of loops. Gradients of
    convolutions have another, and in a loop they take up to five times as long.
    """
    if jax.default_backend() != "cpu":
        return f

    def run(*args):
        jaxpr, shape = make_jaxpr(f, *args)
        outputs = _evaluate(jaxpr, *jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(shape), outputs)

    return run


def _evaluate(jaxpr: ClosedJaxpr, *inputs: Any) -> list[Any]:
    kinds = (core.Jaxpr, ClosedJaxpr)

    def rewrite(inner):
        # Tracing an inner jaxpr again costs time, and would change the order of effects.
        if not isinstance(inner, kinds) or inner.effects or not _has_convolutions(inner):
            return inner
        whole = close_jaxpr(inner)
        like = [
            jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=aval.weak_type)
            for aval in whole.in_avals
        ]
        whole = jax.make_jaxpr(lambda *values: _evaluate(whole, *values))(*like)
        return whole if isinstance(inner, ClosedJaxpr) else whole.jaxpr

    def compute(equation, *values):
        if equation.primitive.name == "conv_general_dilated":
            convolve = readers().channels_last(equation)
            return convolve(*values) if convolve else bind(equation, *values)
        params = jax.tree.map(
            rewrite, equation.params, is_leaf=lambda leaf: isinstance(leaf, kinds)
        )
        return bind(equation.replace(params=params), *values)

    return interpret(jaxpr, compute, jaxpr.consts, inputs)


def _has_convolutions(jaxpr: core.Jaxpr | ClosedJaxpr) -> bool:
    return any(
        equation.primitive.name == "conv_general_dilated"
        or any(map(_has_convolutions, inner_jaxprs(equation.params)))
        for equation in jaxpr.eqns
    )
