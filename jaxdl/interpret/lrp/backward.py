"""Backward propagation of relevance through graphs, loops and conditions.

A plan is a list of `Step`s, each with a function from the relevance of its outputs to that of its
inputs. A value that is used several times has the sum. Loops are propagated by a loop in reverse,
conditions by a condition, with the same rules inside as outside.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxdl.jaxpr.graph import (
    Atom,
    JaxprGraph,
    Operation,
    Value,
    build_graph,
    cast,
    read,
    trace_graph,
)
from jaxdl.jaxpr.primitives import readers
from jaxdl.jaxpr.primitives.kinds import ELEMENTWISE, INDEX_OPERANDS

Env = dict[Value, Any]
Relevance = dict[Value, jax.Array]


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """Relevance of some values from that of others.

    `back(envs, relevances)` takes the values of each run (one run, or two if a method compares an
    input with a baseline) and the relevance of each output, and returns that of each input.
    """

    inputs: Sequence[Atom]
    outputs: Sequence[Value]
    back: Callable[[Sequence[Env], Sequence[jax.Array]], Sequence[jax.Array | None]]


Planner = Callable[[JaxprGraph, set[Value], dict[Value, Any]], list[Step]]
"""`(graph, active inputs, known values) -> steps`, in the order of the operations."""
FindActive = Callable[[JaxprGraph, Iterable[Value]], set[Value]]
"""`(graph, active inputs) -> active values`."""


def propagate(steps: Sequence[Step], envs: Sequence[Env], relevances: Relevance) -> Relevance:
    """Returns the relevance of every value that is reached from those in `relevances`.

    Steps read half-precision values as float32, and relevances are at least float32.
    """

    def widen(value):
        return to_float(value) if is_inexact(value) else value

    envs = [{key: widen(value) for key, value in env.items()} for env in envs]
    result = {value: to_float(relevance) for value, relevance in relevances.items()}
    for step in reversed(steps):
        if any(value in result for value in step.outputs):
            out = [result[v] if v in result else zeros(envs[0][v]) for v in step.outputs]
            back = zip(step.inputs, step.back(envs, out), strict=True)
            accumulate(
                result,
                [(v, r if r is None else r.astype(_dtype(read(envs[0], v)))) for v, r in back],
            )
    return result


def is_inexact(value: Any) -> bool:
    """Returns whether a value is real or complex, not an integer or boolean."""
    return jnp.issubdtype(jnp.result_type(value), jnp.inexact)


def _dtype(value: Any) -> Any:
    """Returns the dtype of a value's relevance: at least float32, or complex."""
    dtype = jnp.result_type(value)
    if is_inexact(value):
        return dtype if dtype.itemsize > 2 else jnp.dtype(jnp.float32)
    return jax.dtypes.canonicalize_dtype(float)


def to_float(value: Any) -> jax.Array:
    """Converts integers, booleans and half-precision floats to float32."""
    return jnp.asarray(value, _dtype(value))


def zeros(value: Any) -> jax.Array:
    """Returns a relevance of 0 for a value."""
    return jnp.zeros(jnp.shape(value), _dtype(value))


def accumulate(result: Relevance, more: Iterable[tuple[Any, jax.Array | None]]) -> None:
    """Adds relevances to `result`, which changes in place."""
    for value, relevance in more:
        if isinstance(value, Value) and relevance is not None:
            result[value] = result[value] + relevance if value in result else relevance


def find_active(
    graph: JaxprGraph, active: Iterable[Value], stopped: bool = True, discrete: bool = False
) -> set[Value]:
    """Returns the values that depend on the active ones.

    Args:
      graph: a graph.
      active: some of its inputs.
      stopped: whether `jax.lax.stop_gradient` ends the dependence.
      discrete: whether integers and booleans can be active. Otherwise they count as constants, but
        an elementwise function of one value is active even if it is computed from masks of it.
    """
    result = set(active)

    def find_inside(graph, active):
        return find_active(graph, active, stopped, discrete)

    masks: dict[Value, Value] = {}  # from integers and booleans to the real value behind them
    for operation in graph.operations:
        if stopped and operation.name == "stop_gradient":
            continue
        values = [atom for atom in operation.inputs if isinstance(atom, Value)]
        if operation.name == "scan":
            live = find_active_in_scan(operation, result, find_inside)[1]
        elif operation.name == "cond":
            live = find_active_in_cond(operation, result, find_inside)
        else:
            live = [not result.isdisjoint(values)] * len(operation.outputs)
        active = {v for v, on in zip(operation.outputs, live, strict=True) if on}
        sources = {masks.get(v, v) for v in values if v in masks or v in result}
        if not discrete and operation.name in ELEMENTWISE and len(sources) == 1:
            (source,), (out,) = sources, operation.outputs
            # For example z * (z > 0): active, though the comparison counts as a constant.
            if graph.shapes[source].shape == graph.shapes[out].shape:
                active.add(out)
                masks |= {} if graph.is_inexact(out) else {out: source}
        result |= {v for v in active if discrete or graph.is_inexact(v)}
    return result


def find_active_in_scan(
    operation: Operation, active: set[Value], find: FindActive = find_active
) -> tuple[list[bool], list[bool]]:
    """Returns which inputs of a loop's body are active, and which outputs.

    A carry can become active in a later iteration, so this repeats until nothing changes.
    """
    scan = readers().scan(operation.equation)
    body, first_carry = build_graph(scan.body), scan.num_consts
    live = [isinstance(atom, Value) and atom in active for atom in operation.inputs]
    while True:
        inside = find(body, (v for v, on in zip(body.inputs, live, strict=True) if on))
        out = [isinstance(atom, Value) and atom in inside for atom in body.outputs]
        new = list(live)
        for i, on in enumerate(out[: scan.num_carry]):
            new[first_carry + i] |= on
        if new == live:
            return live, out
        live = new


def find_active_in_cond(
    operation: Operation, active: set[Value], find: FindActive = find_active
) -> list[bool]:
    """Returns which outputs of a condition are active in some branch."""
    live = [isinstance(atom, Value) and atom in active for atom in operation.inputs[1:]]
    outs = []
    for closed in readers().branches(operation.equation):
        branch = build_graph(closed)
        inside = find(branch, (v for v, on in zip(branch.inputs, live, strict=True) if on))
        outs.append([isinstance(atom, Value) and atom in inside for atom in branch.outputs])
    return [any(column) for column in zip(*outs, strict=True)]


def seed_outputs(graph: JaxprGraph, relevances: Iterable[jax.Array | None]) -> Relevance:
    """Returns the relevance of the outputs by value; equal outputs are summed."""
    result: Relevance = {}
    accumulate(result, zip(graph.outputs, relevances, strict=True))
    return result


def input_relevances(graph: JaxprGraph, result: Relevance) -> list[jax.Array]:
    """Returns the relevance of a graph's inputs, in their dtypes."""
    shapes = [graph.shapes[value] for value in graph.inputs]
    return [
        result.get(value, jnp.zeros(shape.shape)).astype(shape.dtype)
        for value, shape in zip(graph.inputs, shapes, strict=True)
    ]


def scan_step(
    operation: Operation,
    active: set[Value],
    known: Env,
    plan: Planner,
    find: FindActive = find_active,
) -> Step:
    """Propagates relevance through `scan` by scanning in reverse."""
    scan = readers().scan(operation.equation)
    body, consts, num_carry = build_graph(scan.body), scan.num_consts, scan.num_carry
    live, _ = find_active_in_scan(operation, active, find)
    known_inside = {
        value: known[atom]
        for value, atom in zip(body.inputs[:consts], operation.inputs, strict=False)
        if isinstance(atom, Value) and atom in known
    }
    steps = plan(body, {v for v, on in zip(body.inputs, live, strict=True) if on}, known_inside)

    def split(items):
        return items[:consts], items[consts : consts + num_carry], items[consts + num_carry :]

    parts = split([v if on else None for v, on in zip(body.inputs, live, strict=True)])

    def carries_before_steps(values):
        # The body runs again from these, so that no other value of a step is stored.
        fixed, start, xs = split(values)

        def forward(carry, x):
            env = body.run([*fixed, *carry, *x])
            return [read(env, atom) for atom in body.outputs[:num_carry]], carry

        # `propagate` has widened half precision, but `scan` needs carries in the dtypes of the
        # body.
        start = cast(start, map(body.shapes.get, split(body.inputs)[1]))
        return lax.scan(forward, start, xs, scan.length, scan.reverse)[1]

    def back(envs, out):
        runs = [[read(env, atom) for atom in operation.inputs] for env in envs]
        fixed = [split(values)[0] for values in runs]

        def backward(relevance, inputs):
            (of_carry, of_fixed), (carries, xs, of_ys) = relevance, inputs
            inner = [body.run([*f, *c, *x]) for f, c, x in zip(fixed, carries, xs, strict=True)]
            result = propagate(steps, inner, seed_outputs(body, [*of_carry, *of_ys]))

            def take(values, like):
                return [
                    zero if v is None else result.get(v, zero)
                    for v, zero in zip(values, map(zeros, like), strict=True)
                ]

            # Constants of the loop are used in every step: the sum over its uses.
            of_fixed = jax.tree.map(jnp.add, of_fixed, take(parts[0], of_fixed))
            return (take(parts[1], of_carry), of_fixed), take(parts[2], xs[0])

        start = (list(out[:num_carry]), [zeros(value) for value in fixed[0]])
        history = [carries_before_steps(values) for values in runs]
        sequences = (history, [split(values)[2] for values in runs], list(out[num_carry:]))
        (of_carry, of_fixed), of_xs = lax.scan(
            backward, start, sequences, scan.length, not scan.reverse
        )
        relevances = [*of_fixed, *of_carry, *of_xs]
        return [r if on else None for r, on in zip(relevances, live, strict=True)]

    return Step(operation.inputs, operation.outputs, back)


def cond_step(operation: Operation, active: set[Value], plan: Planner) -> Step:
    """Propagates relevance through the branch of `cond` that was run."""
    live = [isinstance(atom, Value) and atom in active for atom in operation.inputs]
    branches = []
    for closed in readers().branches(operation.equation):
        body = build_graph(closed)
        on = {v for v, on in zip(body.inputs, live[1:], strict=True) if on}
        branches.append((body, plan(body, on, {})))

    def make_branch(body, steps):
        def run(runs, out):
            envs = [body.run(values) for values in runs]
            result = propagate(steps, envs, seed_outputs(body, out))
            return [result.get(v, zeros(x)) for v, x in zip(body.inputs, runs[0], strict=True)]

        return run

    def back(envs, out):
        index, *_ = (read(env, operation.inputs[0]) for env in envs)
        runs = [[read(env, atom) for atom in operation.inputs[1:]] for env in envs]
        functions = [make_branch(*branch) for branch in branches]
        relevances = lax.switch(index, functions, runs, list(out))
        return [r if on else None for r, on in zip([None, *relevances], live, strict=True)]

    return Step(operation.inputs, operation.outputs, back)


def rewrite_step(operation: Operation, operands: Sequence[int], f: Callable, plan: Planner) -> Step:
    """Propagates through `f`, an equivalent of an operation for some operands."""

    def back(envs, out):
        runs = [[to_float(read(env, operation.inputs[i])) for i in operands] for env in envs]
        body, _ = trace_graph(f, *runs[0])
        steps = plan(body, set(body.inputs), {})
        envs = [body.run(values) for values in runs]
        result = propagate(steps, envs, seed_outputs(body, out))
        return [result.get(value) for value in body.inputs]

    return Step([operation.inputs[i] for i in operands], operation.outputs[:1], back)


def unbroadcast(r: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Sums the relevance of a broadcast operand over the axes that were broadcast."""
    axes = tuple(i for i, size in enumerate(r.shape) if not shape or shape[i] < size)
    return jnp.sum(r, axes, keepdims=bool(shape)) if axes else r


def index_operands(operation: Operation) -> range:
    """Returns the operands that select among others or say where values are moved to."""
    return range(len(operation.inputs))[INDEX_OPERANDS.get(operation.name, slice(0))]


def pullback(operation: Operation, operands: Sequence[int], inputs, cotangents):
    """Computes the vector-Jacobian product of an operation for some of its operands.

    It is computed in real or complex numbers of at least float32, even if the operation adds or
    moves integers or booleans.
    """
    # Sums of masks, for example, have derivatives only after conversion of all operands.
    convert_all = any(not is_inexact(inputs[i]) for i in operands)
    indices = index_operands(operation)
    every = [
        to_float(value) if i not in indices and (convert_all or is_inexact(value)) else value
        for i, value in enumerate(inputs)
    ]

    def run(*some):
        values = dict(enumerate(every)) | dict(zip(operands, some, strict=True))
        return list(operation.promote_and_call(*values.values()))

    def match(cotangent, y):
        if is_inexact(y):
            return cotangent.astype(y.dtype)
        return np.zeros(y.shape, jax.dtypes.float0)

    try:
        outputs, back = jax.vjp(run, *(every[i] for i in operands))
    except NotImplementedError as error:
        raise ValueError(
            f"interpret: JAX has no derivative of the operation {operation.name!r}, at "
            f"{operation.line} ({error}). Replace the operation, or use a method that only runs f, "
            "such as occlusion."
        ) from error
    return back([match(c, y) for c, y in zip(cotangents, outputs, strict=True)])
