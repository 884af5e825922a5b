"""Gradients with modified ReLUs: guided backprop, deconvnet, beta smoothing."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.interpret._explanation import explain_batches, explanation_by_gradient
from jaxdl.interpret._target import Target
from jaxdl.interpret.lrp import backward
from jaxdl.interpret.lrp.relu import Elementwise, Relu
from jaxdl.jaxpr import equations, tracing
from jaxdl.jaxpr.graph import Operation, build_graph, read
from jaxdl.jaxpr.primitives import readers

__all__ = ["beta_smooth", "deconvnet", "guided_backprop"]

Slope = Callable[[jax.Array, jax.Array], jax.Array]
"""`(the ReLU's input, the gradient of its output) -> the gradient of its input`."""


@explanation_by_gradient
def guided_backprop(
    f: Callable[[Any], Any], x: Any, *, target: Target = None, batch_size: int | None = None
) -> Any:
    """Computes the gradient, where active ReLUs propagate only its positive part.

    Springenberg et al. 2015 (arXiv 1412.6806), sec. 3.4. ReLUs are detected in the jaxpr of f by
    the values that they compute: an elementwise function of one value z that equals max(z, 0) or
    clip(z, 0, c), in any form. A ReLU that is part of another function (softplus, hard swish, the
    variance of a layer norm) or of a `target` function keeps its gradient. The maps are sharp, and
    change little when the weights of the last layers are randomized (Adebayo et al. 2018, arXiv
    1810.03292).

    Args:
      f, x, target: as for `saliency`.
      batch_size: examples computed in parallel; None for the most that `memory_budget` allows.

    Returns:
      Arrays like x. Without ReLUs they are the gradient, and there is a warning.

    Raises:
      ValueError: as `saliency`.
    """
    return _backprop(
        "guided_backprop",
        f,
        x,
        target,
        batch_size,
        lambda z, g: jnp.where(z > 0, jnp.maximum(g, 0), 0),
    )


@explanation_by_gradient
def deconvnet(
    f: Callable[[Any], Any], x: Any, *, target: Target = None, batch_size: int | None = None
) -> Any:
    """Computes the gradient, where all ReLUs propagate its positive part.

    Zeiler and Fergus 2014 (arXiv 1311.2901), sec. 2.1.

    Args:
      f, x, target, batch_size: as for `guided_backprop`.

    Returns:
      Arrays like x.

    Raises:
      ValueError: as `saliency`.
    """
    return _backprop("deconvnet", f, x, target, batch_size, lambda z, g: jnp.maximum(g, 0))


@explanation_by_gradient
def beta_smooth(
    f: Callable[[Any], Any],
    x: Any,
    *,
    beta: float = 10.0,
    target: Target = None,
    batch_size: int | None = None,
) -> Any:
    """Computes the gradient, where ReLUs have the slope of softplus.

    The slope of a ReLU of z is sigmoid(beta z); the forward pass keeps the ReLU. Dombrowski et al.
    2019 (arXiv 1906.07983), sec. 4: such explanations are harder to manipulate.

    Args:
      f, x, target, batch_size: as for `guided_backprop`.
      beta: above 0; for large values the result approaches the gradient.

    Returns:
      Arrays like x.

    Raises:
      ValueError: as `saliency`; beta is not above 0.
    """
    if not beta > 0:
        raise ValueError(f"beta_smooth: beta is {beta}; expected a number above 0.")
    return _backprop(
        "beta_smooth", f, x, target, batch_size, lambda z, g: g * jax.nn.sigmoid(beta * z)
    )


def _backprop(name, f, x, target, batch_size, slope: Slope):
    def explain(f, score, x):
        leaves, tree = jax.tree.flatten(x)
        closed, shape = tracing.make_standard_jaxpr(f, x)
        run, count = _with_slope(closed, [True] * len(leaves), [None] * len(leaves), slope)
        if not count:
            warnings.warn(
                f"{name}: no ReLU in f, so this is the plain gradient. A ReLU is max(z, 0) or "
                "clip(z, 0, c) of a value that depends on x. Use saliency(absolute=False), or a "
                "network with ReLUs.",
                stacklevel=2,
            )

        def total(leaves):
            output = jax.tree.unflatten(jax.tree.structure(shape), run(*leaves))
            return jnp.sum(score(output))

        return jax.tree.unflatten(tree, jax.grad(total)(leaves))

    return explain_batches(name, explain, f, x, target, None, batch_size)


def _with_slope(
    closed: equations.ClosedJaxpr, active: Sequence[bool], values: Sequence[Any], slope: Slope
) -> tuple[Callable[..., list[Any]], int]:
    """Returns the function of a jaxpr with other slopes of ReLUs, and their number.

    Args:
      closed: the jaxpr.
      active: for each input, whether it depends on x.
      values: the values of the inputs, None where they are unknown.
      slope: the derivative.
    """
    whole = build_graph(closed)
    constants = {v: c for v, c in zip(whole.inputs, values, strict=True) if c is not None}
    explained = {v for v, on in zip(whole.inputs, active, strict=True) if on}
    elementwise = Elementwise(whole, explained, constants)
    relus = list(elementwise.relus())
    count, parts = len(relus), [part for relu in relus for part in relu.parts]
    loops = {}
    for operation in whole.operations:
        if operation.name in ("scan", "cond"):
            loop, inner = _loop_with_slope(operation, elementwise, slope)
            if inner:
                count += inner
                loops[_site(operation)] = loop
                parts.append(operation)
    # Calls without ReLUs stay calls, so that they keep their custom derivatives.
    inlined = {_site(part)[:i] for part in parts for i in range(len(part.calls) + 1)}
    short = build_graph(closed, lambda calls: tuple(map(id, calls)) in inlined)
    sites = {_site(operation): operation for operation in short.operations}
    changed = {site: (sites[site].inputs, loop) for site, loop in loops.items()}
    for relu in relus:
        # In `short` the input may have another number, so look it up by the operation that uses it.
        user = next(part for part in relu.parts if relu.input in part.inputs)
        start = sites[_site(user)].inputs[user.inputs.index(relu.input)]
        end = _site(elementwise.maker[relu.output])
        changed[end] = (start,), functools.partial(_relu, relu, slope)
    steps = [
        (*changed.get(site, (operation.inputs, operation)), operation.outputs)
        for site, operation in sites.items()
    ]

    def run(*values):
        env = short.constants | dict(zip(short.inputs, values, strict=True))
        for inputs, call, outputs in steps:
            env |= zip(outputs, call(*(read(env, atom) for atom in inputs)), strict=True)
        return [read(env, atom) for atom in short.outputs]

    return run, count


def _site(operation: Operation) -> tuple[int, ...]:
    """Identifies an operation in all graphs of one jaxpr, whichever calls are inlined."""
    return tuple(map(id, (*operation.calls, operation.equation)))


def _relu(relu: Relu, slope: Slope, z: jax.Array) -> list[jax.Array]:
    # The slope is a rule of one ReLU, so that everything around it keeps its own derivative.
    positive = jax.custom_vjp(lambda z: jnp.maximum(z, 0))
    positive.defvjp(lambda z: (jnp.maximum(z, 0), z), lambda z, g: (slope(z, g),))
    y = positive(z if relu.sign > 0 else -z)
    return [y if relu.cap == np.inf else jnp.minimum(y, relu.cap)]


def _loop_with_slope(
    operation: Operation, outside: Elementwise, slope: Slope
) -> tuple[Callable[..., list[Any]], int]:
    """Returns a `scan` or `cond` with other slopes of ReLUs, and their number."""
    values = [outside.constant(atom) for atom in operation.inputs]
    if operation.name == "cond":
        live = [atom in outside.depends for atom in operation.inputs[1:]]
        branches = [
            _with_slope(branch, live, values[1:], slope)
            for branch in readers().branches(operation.equation)
        ]
        runs, counts = zip(*branches, strict=True)
        return lambda index, *inputs: jax.lax.switch(index, runs, *inputs), sum(counts)
    scan = readers().scan(operation.equation)
    live, _ = backward.find_active_in_scan(operation, outside.depends)
    fixed, carried = scan.num_consts, scan.num_consts + scan.num_carry
    # Carries and sequences differ from step to step: only constants of the loop are known.
    values[fixed:] = [None] * len(values[fixed:])
    step, count = _with_slope(scan.body, live, values, slope)

    def loop(*inputs):
        def body(carry, x):
            out = step(*inputs[:fixed], *carry, *x)
            return out[: scan.num_carry], out[scan.num_carry :]

        start, xs = list(inputs[fixed:carried]), inputs[carried:]
        carry, ys = jax.lax.scan(body, start, xs, scan.length, scan.reverse)
        return [*carry, *ys]

    return loop, count
