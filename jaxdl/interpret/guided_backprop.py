"""Gradients with another slope for ReLUs: guided backprop, deconvnet, beta smoothing."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.interpret import _compile, _input, _target
from jaxdl.interpret.lrp import backward
from jaxdl.interpret.lrp.relu import Elementwise, Relu
from jaxdl.jaxpr import reading
from jaxdl.jaxpr.program import Operation, program, read
from jaxdl.jaxpr.reading import primitives

__all__ = ["beta_smooth", "deconvnet", "guided_backprop"]

Slope = Callable[[jax.Array, jax.Array], jax.Array]
"""`(the ReLU's input, the gradient of its output) -> the gradient of its input`."""


@_compile.once
@_target.each_by_derivative
def guided_backprop(
    f: Callable[[Any], Any], x: Any, *, target: _target.Target = None, batch_size: int | None = None
) -> Any:
    """Computes the gradient with only its positive part passing each ReLU that is active.

    Springenberg et al. 2015 (arXiv 1412.6806), sec. 3.4. ReLUs are found in f's program by the
    values that they compute: a function of one value z, element by element, that is max(z, 0) or
    clip(z, 0, c) in any writing. Not so those that are a part of another function, as in softplus,
    hard swish or the variance of a layer norm, nor those in a `target` function: there the gradient
    is the plain one. The pictures are sharp, and change little when the last layers' weights are
    randomized (Adebayo et al. 2018, arXiv 1810.03292).

    Args:
      f, x, target: as for `saliency`.
      batch_size: examples explained side by side; None for as many as `memory_budget` allows.

    Returns:
      Arrays like x. Warns if f has no ReLU, where they are the plain gradient.

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


@_compile.once
@_target.each_by_derivative
def deconvnet(
    f: Callable[[Any], Any], x: Any, *, target: _target.Target = None, batch_size: int | None = None
) -> Any:
    """Computes the gradient with its positive part passing each ReLU, active or not.

    Zeiler and Fergus 2014 (arXiv 1311.2901), sec. 2.1.

    Args:
      f, x, target, batch_size: as for `guided_backprop`, which says what a ReLU is.

    Returns:
      Arrays like x.

    Raises:
      ValueError: as `saliency`.
    """
    return _backprop("deconvnet", f, x, target, batch_size, lambda z, g: jnp.maximum(g, 0))


@_compile.once
@_target.each_by_derivative
def beta_smooth(
    f: Callable[[Any], Any],
    x: Any,
    *,
    beta: float = 10.0,
    target: _target.Target = None,
    batch_size: int | None = None,
) -> Any:
    """Computes the gradient with softplus' slope, sigmoid(beta z), for each ReLU of z.

    Dombrowski et al. 2019 (arXiv 1906.07983), sec. 4: explanations that are harder to fool. The
    network's values stay those of the ReLU.

    Args:
      f, x, target, batch_size: as for `guided_backprop`, which says what a ReLU is.
      beta: above 0; the greater, the nearer to the gradient.

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
    x = _input.checked(name, x)

    def explained(x, target):
        g, x = _input.separate(name, f, x)
        leaves, tree = jax.tree.flatten(x)
        closed, shape = reading.written(g, x)
        run, count = _with_slope(closed, [True] * len(leaves), [None] * len(leaves), slope)
        if not count:
            warnings.warn(
                f"{name}: no ReLU in f, so this is the plain gradient. A ReLU is max(z, 0) or "
                "clip(z, 0, c) of a value that depends on x. Use saliency(absolute=False), or a "
                "network with ReLUs.",
                stacklevel=2,
            )

        def score(leaves):
            output = jax.tree.unflatten(jax.tree.structure(shape), run(*leaves))
            return jnp.sum(_target.score(name, output, target))

        return jax.tree.unflatten(tree, jax.grad(score)(leaves))

    return _input.by_examples(name, explained, x, target, batch_size)


def _with_slope(
    closed: reading.ClosedJaxpr, active: Sequence[bool], values: Sequence[Any], slope: Slope
) -> tuple[Callable[..., list[Any]], int]:
    """Returns the function of a jaxpr with another derivative of its ReLUs, and their number.

    Args:
      closed: the jaxpr.
      active: whether each input depends on what is explained.
      values: the inputs' values where they are known, else None.
      slope: the derivative.
    """
    whole = program(closed)
    constants = {v: c for v, c in zip(whole.inputs, values, strict=True) if c is not None}
    given = {v for v, on in zip(whole.inputs, active, strict=True) if on}
    elementwise = Elementwise(whole, given, constants)
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
    # Calls that hold none of these stay closed, with the derivatives that they define.
    opened = {_site(part)[:i] for part in parts for i in range(len(part.calls) + 1)}
    short = program(closed, lambda calls: tuple(map(id, calls)) in opened)
    sites = {_site(operation): operation for operation in short.operations}
    changed = {site: (sites[site].inputs, loop) for site, loop in loops.items()}
    for relu in relus:
        # The operation of `short` that gives the output may be another than that of the input.
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
    """Identifies an operation in programs of one jaxpr, whichever of its calls are written out."""
    return tuple(map(id, (*operation.calls, operation.equation)))


def _relu(relu: Relu, slope: Slope, z: jax.Array) -> list[jax.Array]:
    positive = jax.custom_vjp(lambda z: jnp.maximum(z, 0))
    positive.defvjp(lambda z: (jnp.maximum(z, 0), z), lambda z, g: (slope(z, g),))
    y = positive(z if relu.sign > 0 else -z)
    return [y if relu.cap == np.inf else jnp.minimum(y, relu.cap)]


def _loop_with_slope(
    operation: Operation, outside: Elementwise, slope: Slope
) -> tuple[Callable[..., list[Any]], int]:
    """Returns a `scan` or `cond` with another derivative of its ReLUs, and their number."""
    values = [outside.constant(atom) for atom in operation.inputs]
    if operation.name == "cond":
        live = [atom in outside.depends for atom in operation.inputs[1:]]
        branches = [
            _with_slope(branch, live, values[1:], slope)
            for branch in primitives().branches(operation.equation)
        ]
        runs, counts = zip(*branches, strict=True)
        return lambda index, *inputs: jax.lax.switch(index, runs, *inputs), sum(counts)
    scan = primitives().scan(operation.equation)
    live, _ = backward.scan_activity(operation, outside.depends)
    fixed, carried = scan.num_consts, scan.num_consts + scan.num_carry
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
