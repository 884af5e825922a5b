"""Compilation of eager explanations, once for each program that they trace.

`compile_once` makes an eager loop over batches as fast as one under `jax.jit`, apart from the time
for tracing. Every call traces the whole explanation with the current f and options, so that no
change between two calls is missed: rebound or modified parameters, options, registered rules. The
resulting program is looked up by its structure. The arrays that it closes over (parameters,
baselines, masks, targets, PRNG keys) are arguments of the compiled function: new values need no new
compilation, and XLA does not evaluate a part of the network at compile time.

x is traced inside of a method, as under the user's `jit`, but options are not, so that a class out
of range raises. Code that depends on values of x, such as a warning about a sum that differs from
the score, belongs outside of the compiled part.

Where x, an option or a value that f closes over is traced (under `jit`, `vmap` or `grad`), the
program is inlined into the surrounding one and can be differentiated.
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
from jaxdl.interpret import _batching
from jaxdl.jaxpr import equations, evaluation, tracing
from jaxdl.jaxpr.cost import peak_bytes

Method = TypeVar("Method", bound=Callable[..., Any])

_is_nested = jax.make_user_context(default_value=False)
"""Whether a method is called by another one that is being traced."""


def compile_once(method: Method) -> Method:
    """Compiles eager calls of `method(f, x, ...)`, once for each traced program."""

    @functools.wraps(method)
    def call(*args, **options):
        x = args[1] if len(args) > 1 else options.get("x")
        leaves, tree = jax.tree.flatten(x)
        arrays = all(isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves)
        if not arrays or _is_nested.value:
            return method(*args, **options)

        def explain(*leaves):
            x = jax.tree.unflatten(tree, leaves)
            if len(args) > 1:
                return method(args[0], x, *args[2:], **options)
            return method(*args, **(options | {"x": x}))

        program, tree_of_outputs = _trace(explain, leaves)
        constants = evaluation.collect_constants(program)
        if concrete(constants, leaves):
            name = method.__name__.strip("_")
            key = _cache.SharedProgram(name, program, tree_of_outputs, constants, (leaves,))
            return _cache.EXPLANATIONS(key)(constants, leaves)
        run = jax.jit(lambda *args: _inline(program, *args))
        return jax.tree.unflatten(tree_of_outputs, run(constants, leaves))

    return call  # pyright: ignore[reportReturnType]


def _trace(explain: Callable[..., Any], leaves: list[Any]) -> tuple[equations.ClosedJaxpr, Any]:
    """Returns the program for the largest possible batches, and its outputs' tree."""
    n = max((np.shape(leaf)[0] for leaf in leaves if np.ndim(leaf)), default=1)
    size, last_cost = None, None
    while True:
        with _is_nested(True), _batching.examples_at_a_time(size):
            program, shape = tracing.make_jaxpr(explain, *leaves)
        cost, budget = peak_bytes(program.jaxpr), _batching.budget.value
        # A smaller batch that costs as much shows that something else needs the memory.
        if cost <= budget or cost == last_cost or size == 1:
            return program, jax.tree.structure(shape)
        size, last_cost = max(1, min((size or n) - 1, (size or n) * budget // cost)), cost


def _inline(program: equations.ClosedJaxpr, constants: list[Any], leaves: list[Any]) -> list[Any]:
    """Runs a program within another one. XLA does not fold its constants.

    It would run the whole network on DeepLIFT's baseline at compile time: 30 s for a ResNet-50.
    """

    def hide(value):
        # An optimization barrier counts as a use of a PRNG key for the key-reuse checker.
        floating = jnp.issubdtype(value.dtype, jnp.inexact)
        return jax.lax.optimization_barrier(value) if floating else value

    return evaluation.evaluate(program, map(hide, constants), *leaves)
