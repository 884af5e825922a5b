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
from jax import lax

from jaxdl._jaxpr import primitives
from jaxdl.interpret._program import Atom, Operation, Program, Value, program, read

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


Planner = Callable[[Program, set[Value], dict[Value, Any]], list[Step]]
"""`(program, active inputs, known values) -> steps` in the program's order."""


def walk(steps: Sequence[Step], envs: Sequence[Env], given: Relevance) -> Relevance:
    """The relevance of every value that `given` reaches."""
    found = dict(given)
    for step in reversed(steps):
        if any(value in found for value in step.outputs):
            out = [found[v] if v in found else jnp.zeros_like(envs[0][v]) for v in step.outputs]
            add(found, zip(step.inputs, step.back(envs, out), strict=True))
    return found


def add(found: Relevance, more: Iterable[tuple[Any, jax.Array | None]]) -> None:
    for value, relevance in more:
        if isinstance(value, Value) and relevance is not None:
            found[value] = found[value] + relevance if value in found else relevance


def activity(program: Program, active: Iterable[Value], stopped: bool = True) -> set[Value]:
    """The floating-point values that depend on the active ones.

    Args:
      program: a program.
      active: some of its inputs.
      stopped: whether `jax.lax.stop_gradient` ends the dependence.
    """
    found = set(active)
    for operation in program.operations:
        if stopped and operation.name == "stop_gradient":
            continue
        if operation.name == "scan":
            live = scan_activity(operation, found)[1]
        elif operation.name == "cond":
            live = cond_activity(operation, found)
        else:
            live = [any(atom in found for atom in operation.inputs if isinstance(atom, Value))]
            live *= len(operation.outputs)
        found |= {v for v, on in zip(operation.outputs, live, strict=True) if on}
        found -= {v for v in operation.outputs if not program.floating(v)}
    return found


def scan_activity(operation: Operation, active: set[Value]) -> tuple[list[bool], list[bool]]:
    """Which inputs of a loop's body depend on the active values, and which outputs."""
    scan = primitives().scan(operation.equation)
    body, start = program(scan.body), scan.num_consts
    live = [isinstance(atom, Value) and atom in active for atom in operation.inputs]
    while True:
        inside = activity(body, (v for v, on in zip(body.inputs, live, strict=True) if on))
        out = [isinstance(atom, Value) and atom in inside for atom in body.outputs]
        carried = out[: scan.num_carry]
        new = list(live)
        for i, on in enumerate(carried):
            new[start + i] |= on
        if new == live:
            return live, out
        live = new


def cond_activity(operation: Operation, active: set[Value]) -> list[bool]:
    live = [isinstance(atom, Value) and atom in active for atom in operation.inputs[1:]]
    outs = []
    for closed in primitives().branches(operation.equation):
        branch = program(closed)
        inside = activity(branch, (v for v, on in zip(branch.inputs, live, strict=True) if on))
        outs.append([isinstance(atom, Value) and atom in inside for atom in branch.outputs])
    return [any(column) for column in zip(*outs, strict=True)]


def seeds(program: Program, relevances: Iterable[jax.Array | None]) -> Relevance:
    """The relevance of the outputs, by value: an output given twice has the sum."""
    given: Relevance = {}
    add(given, zip(program.outputs, relevances, strict=True))
    return given


def scan_step(operation: Operation, active: set[Value], known: Env, plan: Planner) -> Step:
    """A loop, by a loop from its end to its beginning."""
    scan = primitives().scan(operation.equation)
    body, consts, carried = program(scan.body), scan.num_consts, scan.num_carry
    live, _ = scan_activity(operation, active)
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
                for v, zero in zip(values, map(jnp.zeros_like, like), strict=True)
            ]
            of_fixed = jax.tree.map(jnp.add, of_fixed, take(parts[0], of_fixed))
            return (take(parts[1], of_carry), of_fixed), take(parts[2], xs[0])

        start = (list(out[:carried]), [jnp.zeros_like(value) for value in fixed[0]])
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
    for closed in primitives().branches(operation.equation):
        body = program(closed)
        on = {v for v, on in zip(body.inputs, live[1:], strict=True) if on}
        branches.append((body, plan(body, on, {})))

    def through(body, steps):
        def run(runs, out):
            found = walk(steps, [body.run(values) for values in runs], seeds(body, out))
            zeros = map(jnp.zeros_like, runs[0])
            return [found.get(v, z) for v, z in zip(body.inputs, zeros, strict=True)]

        return run

    def back(envs, out):
        index, *_ = (read(env, operation.inputs[0]) for env in envs)
        runs = [[read(env, atom) for atom in operation.inputs[1:]] for env in envs]
        found = lax.switch(index, [through(*branch) for branch in branches], runs, list(out))
        return [r if on else None for r, on in zip([None, *found], live, strict=True)]

    return Step(operation.inputs, operation.outputs, back)


def fit(r: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Relevance of an operand that was broadcast: the sum over what it was broadcast along."""
    axes = tuple(i for i, size in enumerate(r.shape) if not shape or shape[i] < size)
    return jnp.sum(r, axes, keepdims=bool(shape)) if axes else r


def pullback(operation: Operation, given: Sequence[int], inputs, cotangents):
    """The vector-Jacobian product of an operation, for some of its inputs."""

    def run(*some):
        every = list(inputs)
        for i, value in zip(given, some, strict=True):
            every[i] = value
        return list(operation(*every))

    outputs, back = jax.vjp(run, *(inputs[i] for i in given))
    zero = lambda c, y: (  # noqa: E731
        c if jnp.issubdtype(y.dtype, jnp.floating) else jnp.zeros(y.shape, jax.dtypes.float0)
    )
    return back([zero(c, y) for c, y in zip(cotangents, outputs, strict=True)])
