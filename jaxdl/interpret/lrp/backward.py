"""From an output back to the inputs, step by step: what every rule of relevance shares.

A plan is a list of steps, each with a function from the relevance of its outputs to that of its
inputs. Values used twice add up. Loops are walked backwards by a loop, conditions by a condition;
what a rule sees in there is the same as outside.
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
    """Relevance from some values to others.

    `back(envs, found)` takes the values of each run (one; two where a method compares an input with
    a baseline) and the relevance of each output, and gives that of each input.
    """

    inputs: Sequence[Atom]
    outputs: Sequence[Value]
    back: Callable[[Sequence[Env], Sequence[jax.Array]], Sequence[jax.Array | None]]


Planner = Callable[[JaxprGraph, set[Value], dict[Value, Any]], list[Step]]
"""`(program, active inputs, known values) -> steps` in the program's order."""
Spread = Callable[[JaxprGraph, Iterable[Value]], set[Value]]
"""`(program, active inputs) -> active values`."""


def walk(steps: Sequence[Step], envs: Sequence[Env], given: Relevance) -> Relevance:
    """Returns the relevance of every value that `given` reaches.

    Steps read half-precision values as float32, and relevances are at least float32.
    """
    widen = lambda v: number(v) if is_inexact(v) else v  # noqa: E731
    envs = [{key: widen(value) for key, value in env.items()} for env in envs]
    result = {value: number(relevance) for value, relevance in given.items()}
    for step in reversed(steps):
        if any(value in result for value in step.outputs):
            out = [result[v] if v in result else zeros(envs[0][v]) for v in step.outputs]
            back = zip(step.inputs, step.back(envs, out), strict=True)
            add(
                result,
                [(v, r if r is None else r.astype(_dtype(read(envs[0], v)))) for v, r in back],
            )
    return result


def is_inexact(value: Any) -> bool:
    """Whether a value is of real or complex numbers, not of integers or truth values."""
    return jnp.issubdtype(jnp.result_type(value), jnp.inexact)


def _dtype(value: Any) -> Any:
    """The type of a value's relevance: at least float32, and complex where the value is."""
    dtype = jnp.result_type(value)
    if is_inexact(value):
        return dtype if dtype.itemsize > 2 else jnp.dtype(jnp.float32)
    return jax.dtypes.canonicalize_dtype(float)


def number(value: Any) -> jax.Array:
    """An integer, truth value or short float as a float."""
    return jnp.asarray(value, _dtype(value))


def zeros(value: Any) -> jax.Array:
    """The relevance of a value that has none."""
    return jnp.zeros(jnp.shape(value), _dtype(value))


def add(found: Relevance, more: Iterable[tuple[Any, jax.Array | None]]) -> None:
    for value, relevance in more:
        if isinstance(value, Value) and relevance is not None:
            found[value] = found[value] + relevance if value in found else relevance


def activity(
    graph: JaxprGraph, active: Iterable[Value], stopped: bool = True, discrete: bool = False
) -> set[Value]:
    """Returns the values that depend on the active ones.

    Args:
      program: a program.
      active: some of its inputs.
      stopped: whether `jax.lax.stop_gradient` ends the dependence.
      discrete: whether integers and truth values are among them. Otherwise they count as constants,
        but an elementwise function of one value is active though it is computed through them.
    """
    result = set(active)
    spread = lambda graph, active: activity(graph, active, stopped, discrete)  # noqa: E731
    masks: dict[Value, Value] = {}  # integers and truth values, by the real value they are made of
    for operation in graph.operations:
        if stopped and operation.name == "stop_gradient":
            continue
        values = [atom for atom in operation.inputs if isinstance(atom, Value)]
        if operation.name == "scan":
            live = scan_activity(operation, result, spread)[1]
        elif operation.name == "cond":
            live = cond_activity(operation, result, spread)
        else:
            live = [not result.isdisjoint(values)] * len(operation.outputs)
        active = {v for v, on in zip(operation.outputs, live, strict=True) if on}
        sources = {masks.get(v, v) for v in values if v in masks or v in result}
        if not discrete and operation.name in ELEMENTWISE and len(sources) == 1:
            (source,), (out,) = sources, operation.outputs
            if graph.shapes[source].shape == graph.shapes[out].shape:
                active.add(out)
                masks |= {} if graph.is_inexact(out) else {out: source}
        result |= {v for v in active if discrete or graph.is_inexact(v)}
    return result


def scan_activity(
    operation: Operation, active: set[Value], spread: Spread = activity
) -> tuple[list[bool], list[bool]]:
    """Which inputs of a loop's body depend on the active values, and which outputs."""
    scan = readers().scan(operation.equation)
    body, start = build_graph(scan.body), scan.num_consts
    live = [isinstance(atom, Value) and atom in active for atom in operation.inputs]
    while True:
        inside = spread(body, (v for v, on in zip(body.inputs, live, strict=True) if on))
        out = [isinstance(atom, Value) and atom in inside for atom in body.outputs]
        carried = out[: scan.num_carry]
        new = list(live)
        for i, on in enumerate(carried):
            new[start + i] |= on
        if new == live:
            return live, out
        live = new


def cond_activity(
    operation: Operation, active: set[Value], spread: Spread = activity
) -> list[bool]:
    live = [isinstance(atom, Value) and atom in active for atom in operation.inputs[1:]]
    outs = []
    for closed in readers().branches(operation.equation):
        branch = build_graph(closed)
        inside = spread(branch, (v for v, on in zip(branch.inputs, live, strict=True) if on))
        outs.append([isinstance(atom, Value) and atom in inside for atom in branch.outputs])
    return [any(column) for column in zip(*outs, strict=True)]


def seeds(graph: JaxprGraph, relevances: Iterable[jax.Array | None]) -> Relevance:
    """The relevance of the outputs, by value: an output given twice has the sum."""
    given: Relevance = {}
    add(given, zip(graph.outputs, relevances, strict=True))
    return given


def of_inputs(graph: JaxprGraph, result: Relevance) -> list[jax.Array]:
    """The relevance of a program's inputs in their own types, 0 where there is none."""
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
    spread: Spread = activity,
) -> Step:
    """A loop, by a loop from its end to its beginning."""
    scan = readers().scan(operation.equation)
    body, consts, carried = build_graph(scan.body), scan.num_consts, scan.num_carry
    live, _ = scan_activity(operation, active, spread)
    told = {
        value: known[atom]
        for value, atom in zip(body.inputs[:consts], operation.inputs, strict=False)
        if isinstance(atom, Value) and atom in known
    }
    steps = plan(body, {v for v, on in zip(body.inputs, live, strict=True) if on}, told)

    def cut(items):
        return items[:consts], items[consts : consts + carried], items[consts + carried :]

    parts = cut([v if on else None for v, on in zip(body.inputs, live, strict=True)])

    def before(values):
        """Every step's carry as it came in."""
        fixed, start, xs = cut(values)

        def forward(carry, x):
            env = body.run([*fixed, *carry, *x])
            return [read(env, atom) for atom in body.outputs[:carried]], carry

        start = cast(start, map(body.shapes.get, cut(body.inputs)[1]))
        return lax.scan(forward, start, xs, scan.length, scan.reverse)[1]

    def back(envs, out):
        runs = [[read(env, atom) for atom in operation.inputs] for env in envs]
        fixed = [cut(values)[0] for values in runs]

        def backward(relevance, at):
            (of_carry, of_fixed), (carries, xs, of_ys) = relevance, at
            inner = [body.run([*f, *c, *x]) for f, c, x in zip(fixed, carries, xs, strict=True)]
            found = walk(steps, inner, seeds(body, [*of_carry, *of_ys]))
            take = lambda values, like: [  # noqa: E731
                zero if v is None else found.get(v, zero)
                for v, zero in zip(values, map(zeros, like), strict=True)
            ]
            of_fixed = jax.tree.map(jnp.add, of_fixed, take(parts[0], of_fixed))
            return (take(parts[1], of_carry), of_fixed), take(parts[2], xs[0])

        start = (list(out[:carried]), [zeros(value) for value in fixed[0]])
        history = [before(values) for values in runs]
        along = (history, [cut(values)[2] for values in runs], list(out[carried:]))
        (of_carry, of_fixed), of_xs = lax.scan(
            backward, start, along, scan.length, not scan.reverse
        )
        found = [*of_fixed, *of_carry, *of_xs]
        return [r if on else None for r, on in zip(found, live, strict=True)]

    return Step(operation.inputs, operation.outputs, back)


def cond_step(operation: Operation, active: set[Value], plan: Planner) -> Step:
    """A condition: the branch that was taken is walked."""
    live = [isinstance(atom, Value) and atom in active for atom in operation.inputs]
    branches = []
    for closed in readers().branches(operation.equation):
        body = build_graph(closed)
        on = {v for v, on in zip(body.inputs, live[1:], strict=True) if on}
        branches.append((body, plan(body, on, {})))

    def through(body, steps):
        def run(runs, out):
            found = walk(steps, [body.run(values) for values in runs], seeds(body, out))
            return [found.get(v, zeros(x)) for v, x in zip(body.inputs, runs[0], strict=True)]

        return run

    def back(envs, out):
        index, *_ = (read(env, operation.inputs[0]) for env in envs)
        runs = [[read(env, atom) for atom in operation.inputs[1:]] for env in envs]
        found = lax.switch(index, [through(*branch) for branch in branches], runs, list(out))
        return [r if on else None for r, on in zip([None, *found], live, strict=True)]

    return Step(operation.inputs, operation.outputs, back)


def rewritten_step(operation: Operation, given: Sequence[int], f: Callable, plan: Planner) -> Step:
    """The operation as another program, `f`, from the operands in `given` to its first output."""

    def back(envs, out):
        runs = [[number(read(env, operation.inputs[i])) for i in given] for env in envs]
        body, _ = trace_graph(f, *runs[0])
        steps = plan(body, set(body.inputs), {})
        result = walk(steps, [body.run(values) for values in runs], seeds(body, out))
        return [result.get(value) for value in body.inputs]

    return Step([operation.inputs[i] for i in given], operation.outputs[:1], back)


def fit(r: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Relevance of an operand that was broadcast: the sum over what it was broadcast along."""
    axes = tuple(i for i, size in enumerate(r.shape) if not shape or shape[i] < size)
    return jnp.sum(r, axes, keepdims=bool(shape)) if axes else r


def indices(operation: Operation) -> range:
    """The operands that choose among others or say where they are moved to."""
    return range(len(operation.inputs))[INDEX_OPERANDS.get(operation.name, slice(0))]


def pullback(operation: Operation, given: Sequence[int], inputs, cotangents):
    """The vector-Jacobian product of an operation, for some of its inputs.

    It is that of real or complex numbers, at least float32, also where an operation adds or moves
    integers or truth values.
    """
    whole = any(not is_inexact(inputs[i]) for i in given)
    choosing = indices(operation)
    every = [
        number(value) if i not in choosing and (whole or is_inexact(value)) else value
        for i, value in enumerate(inputs)
    ]

    def run(*some):
        values = dict(enumerate(every)) | dict(zip(given, some, strict=True))
        return list(operation.call_widened(*values.values()))

    try:
        outputs, back = jax.vjp(run, *(every[i] for i in given))
    except NotImplementedError as error:
        raise ValueError(
            f"interpret: JAX has no derivative of the operation {operation.name!r}, at "
            f"{operation.line} ({error}). Rewrite it, or use a method that only runs f, as "
            "occlusion."
        ) from error
    like = lambda c, y: (  # noqa: E731
        c.astype(y.dtype) if is_inexact(y) else np.zeros(y.shape, jax.dtypes.float0)
    )
    return back([like(c, y) for c, y in zip(cotangents, outputs, strict=True)])
