"""Eager calls of a method: traced in every call, compiled once for each program.

`@once` above a method makes an eager loop over batches as fast as one under `jax.jit`, but for the
time that tracing takes. The whole explanation is traced in every call, with f and all options as
they are now, so that nothing a user changes between two calls is missed: parameters that are bound
again or changed in place, options, registered rules. The program that comes out is looked up by its
`fingerprint`. All arrays that it closes over (parameters, baselines, masks, targets, PRNG keys) are
arguments of the compiled function, so that other values of them take no other compilation, and XLA
does not evaluate a part of the network while it compiles.

Methods see x traced, as under the user's own `jit`, but their options as they are, so that a class
out of range is refused. What depends on values of x, a warning about a sum that does not come out
for example, goes around the part that is compiled:

    @_compile.once
    @_target.each
    def _method(f, x, *, target): ...  # gives arrays: the explanation, and what is to be checked

    def method(f, x, *, target):
        explanation, gap = _method(f, x, target=target)
        if _compile.concrete(gap) and ...: warnings.warn(...)

Under `jit`, `vmap` or `grad` (x, an option or what f closes over is traced) the program becomes a
part of the one around it, and can be differentiated.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl import _cache
from jaxdl._cache import concrete
from jaxdl.interpret import _input
from jaxdl.jaxpr import equations, evaluation, tracing
from jaxdl.jaxpr.cost import peak_bytes

Method = TypeVar("Method", bound=Callable[..., Any])

_nested = jax.make_user_context(default_value=False)
"""Whether a method is called by one that is being traced already."""


def once(method: Method) -> Method:
    """Compiles eager calls of `method(f, x, ...)`, once for each program that they trace."""

    @functools.wraps(method)
    def call(*args, **options):
        if "key" in options:
            _input.prng_key(method.__name__.strip("_"), options["key"])
        x = args[1] if len(args) > 1 else options.get("x")
        leaves, tree = jax.tree.flatten(x)
        arrays = all(isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves)
        if not arrays or _nested.value:
            return method(*args, **options)

        def explain(*leaves):
            x = jax.tree.unflatten(tree, leaves)
            if len(args) > 1:
                return method(args[0], x, *args[2:], **options)
            return method(*args, **(options | {"x": x}))

        program, tree = _trace(explain, leaves)
        constants = evaluation.collect_constants(program)
        if concrete(constants, leaves):
            name = method.__name__.strip("_")
            key = _cache.SharedProgram(name, program, tree, constants, (leaves,))
            return _cache.EXPLANATIONS(key)(constants, leaves)
        run = jax.jit(lambda *args: _inlined(program, *args))
        return jax.tree.unflatten(tree, run(constants, leaves))

    return call  # pyright: ignore[reportReturnType]


def _trace(explain: Callable[..., Any], leaves: list[Any]) -> tuple[equations.ClosedJaxpr, Any]:
    """The program for as many examples at a time as the memory budget allows, and its outputs."""
    n = max((np.shape(leaf)[0] for leaf in leaves if np.ndim(leaf)), default=1)
    rows, last = None, None
    while True:
        with _nested(True), _input.rows(rows):
            program, shape = tracing.make_jaxpr(explain, *leaves)
        cost = peak_bytes(program.jaxpr)
        if cost <= _input.budget.value or cost == last or rows == 1:
            return program, jax.tree.structure(shape)
        rows, last = max(1, min((rows or n) - 1, (rows or n) * _input.budget.value // cost)), cost


def _inlined(program: equations.ClosedJaxpr, constants: list[Any], leaves: list[Any]) -> list[Any]:
    """A program within another. XLA does not evaluate what depends on its constants alone.

    It would run the whole network on DeepLIFT's baseline while it compiles: 30 s for a ResNet-50.
    """

    def hide(value):  # not a PRNG key, which the barrier would use up
        floating = jnp.issubdtype(value.dtype, jnp.inexact)
        return jax.lax.optimization_barrier(value) if floating else value

    return evaluation.evaluate(program, map(hide, constants), *leaves)
