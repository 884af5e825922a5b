"""Rewrites the program of a function to one with other derivatives of its ReLUs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.interpret.lrp import backward
from jaxdl.interpret.lrp.relu import Elementwise, Relu
from jaxdl.jaxpr import equations
from jaxdl.jaxpr.graph import Operation, build_graph, read
from jaxdl.jaxpr.primitives import readers

Slope = Callable[[jax.Array, jax.Array], jax.Array]
"""`(the ReLU's input, the gradient of its output) -> the gradient of its input`."""


def with_slope(
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
            with_slope(branch, live, values[1:], slope)
            for branch in readers().branches(operation.equation)
        ]
        runs, counts = zip(*branches, strict=True)
        return lambda index, *inputs: jax.lax.switch(index, runs, *inputs), sum(counts)
    scan = readers().scan(operation.equation)
    live, _ = backward.find_active_in_scan(operation, outside.depends)
    fixed, carried = scan.num_consts, scan.num_consts + scan.num_carry
    # Carries and sequences differ from step to step: only constants of the loop are known.
    values[fixed:] = [None] * len(values[fixed:])
    step, count = with_slope(scan.body, live, values, slope)

    def loop(*inputs):
        def body(carry, x):
            out = step(*inputs[:fixed], *carry, *x)
            return out[: scan.num_carry], out[scan.num_carry :]

        start, xs = list(inputs[fixed:carried]), inputs[carried:]
        carry, ys = jax.lax.scan(body, start, xs, scan.length, scan.reverse)
        return [*carry, *ys]

    return loop, count
