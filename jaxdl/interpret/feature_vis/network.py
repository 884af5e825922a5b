"""Values of several layers of a function at once, with an optional redirected gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl.interpret import _layer
from jaxdl.interpret._relu_slope import with_slope
from jaxdl.jaxpr import tracing
from jaxdl.jaxpr.graph import read, trace_graph

OUTPUT = ""
"""The path of the output of f."""
Values = dict[str, Any]
"""The value of each layer by its path, and of `OUTPUT`."""


def layer_values(
    caller: str, f: Callable[[Any], Any], x: Any, layers: Sequence[str]
) -> Callable[[Any], Values]:
    """Returns the function from inputs like x to the values of layers.

    It computes only what these layers depend on.

    Args:
      caller: the public function's name, for messages.
      f: any function of a batch.
      x: an example of its input, or its shape.
      layers: paths as for `interpret.intermediate`, and `OUTPUT`. The batch axis of
        a layer comes first.

    Raises:
      ValueError: as `interpret.intermediate`.
    """
    if not layers:
        return lambda x: {}
    if set(layers) == {OUTPUT}:
        return lambda x: {OUTPUT: f(x)}
    program, tree = trace_graph(f, x, custom=False)
    values, axes = {}, {}
    for layer in filter(OUTPUT.__ne__, layers):
        values[layer] = _layer.find_value(caller, program, layer)
        axes[layer] = _layer.find_batch_axis(caller, f, x, program, values[layer], layer)
    required: set[Any] = set(values.values())
    if OUTPUT in layers:
        required |= set(program.outputs)
    operations = []
    for operation in reversed(program.operations):
        if not required.isdisjoint(operation.outputs):
            operations.append(operation)
            required |= set(operation.inputs)

    def run(x):
        env = program.constants | dict(
            zip(program.inputs, program.cast(jax.tree.leaves(x)), strict=True)
        )
        for operation in reversed(operations):
            outputs = operation(*(read(env, atom) for atom in operation.inputs))
            env |= zip(operation.outputs, outputs, strict=True)
        result: Values = {
            layer: jnp.moveaxis(env[value], axes[layer], 0) for layer, value in values.items()
        }
        if OUTPUT in layers:
            result[OUTPUT] = jax.tree.unflatten(tree, [read(env, a) for a in program.outputs])
        return result

    return run


def with_revival(
    values: Callable[[Any], Values], x: jax.Array | jax.ShapeDtypeStruct, steps: int
) -> Callable[[jax.Array, jax.Array], Values]:
    """Returns `(x, step) -> values(x)` with a gradient for dead examples in the first steps.

    If the gradient with respect to an example is zero everywhere, it is replaced by a redirected
    one: a ReLU that blocks all of an example's gradient propagates it where it would increase the
    ReLU's negative input. All other examples have the exact gradient. Olah et al. 2017 use this for
    the first 16 steps (Lucid, `redirected_relu_grad`, which decides it for each ReLU alone).

    Args:
      values: a function of a batch.
      x: the shape of a batch (N, ...).
      steps: the number of steps with redirected gradients; 0 for none.
    """
    if not steps:
        return lambda x, step: values(x)
    n = x.shape[0]

    def redirect(z, g):
        passed = jnp.where(z > 0, g, 0)
        # Inside of a `vmap` in f the batch axis can be another one: then decide for the whole ReLU.
        axes = tuple(range(1, z.ndim)) if z.ndim and z.shape[0] == n else None
        blocked = jnp.all(passed == 0, axis=axes, keepdims=True)
        return jnp.where(blocked & (g > 0), g, passed)

    closed, shape = tracing.make_standard_jaxpr(values, x)
    rewritten, count = with_slope(closed, [True], [None], redirect)
    if not count:
        return lambda x, step: values(x)

    def redirected(x):
        return jax.tree.unflatten(jax.tree.structure(shape), rewritten(x))

    @jax.custom_vjp
    def network(x, step):
        return values(x)

    def forward(x, step):
        outputs, pull_back = jax.vjp(values, x)
        return outputs, (pull_back, x, step)

    def backward(residuals, cotangents):
        pull_back, x, step = residuals
        (exact,) = pull_back(cotangents)
        dead = jnp.all(exact == 0, axis=tuple(range(1, x.ndim)), keepdims=True)

        def revive():
            return jnp.where(dead, jax.vjp(redirected, x)[1](cotangents)[0], exact)

        return jax.lax.cond(step < steps, revive, lambda: exact), None

    network.defvjp(forward, backward)
    return network
