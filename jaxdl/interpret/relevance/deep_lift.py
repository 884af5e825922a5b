"""DeepLIFT: what of the difference from a baseline each input's difference accounts for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl.interpret import _at, _compile, _input, _target
from jaxdl.interpret._program import Operation, Program, Value, read, trace
from jaxdl.interpret.relevance import _walk
from jaxdl.interpret.relevance._structure import STRUCTURAL, Structure
from jaxdl.interpret.relevance._walk import Step, pullback

__all__ = ["deep_lift"]

LINEAR = frozenset("add add_any cumsum neg reduce_sum reduce_window_sum sub".split())
WINNER = {"max": jnp.maximum, "reduce_max": jnp.maximum, "reduce_window_max": jnp.maximum}
WINNER |= {"min": jnp.minimum, "reduce_min": jnp.minimum, "reduce_window_min": jnp.minimum}
NEAR = 1e-10
"""Differences below this take the derivative instead of the slope between the two points."""


@_compile.once
@_target.each
def deep_lift(
    f: Callable[[Any], Any],
    x: Any,
    *,
    target: _target.Target = None,
    baseline: Any = 0.0,
    multiply: bool = True,
    at: str | None = None,
    chunk: int | None = None,
) -> Any:
    """(x_n - x'_n) times a slope that is exact between x and the baseline x', layer by layer.

    Shrikumar, Greenside and Kundaje 2017 (arXiv 1704.02685), the rescale rule. The attributions of
    an example add up to y(x) - y(x') exactly, also through products (each factor times the mean of
    the other), softmax, maxima and LSTMs. Averaged over baselines by `expectation` it is DeepSHAP.

    Args:
      f, x, target: as for `integrated_gradients`.
      baseline: x', a number, an array that broadcasts to x, or a tree like x.
      multiply: False gives the slopes alone.
      at: a path; attributions of the value there, and the baseline is one of it.
      chunk: examples explained side by side; None for all.

    Returns:
      Arrays like x, or like the value at `at`, in units of the score.

    Raises:
      ValueError: as `integrated_gradients`; f has an operation without a rule, or chooses by a
        condition between values that x and x' may answer differently.
    """
    name = "deep_lift"
    x = jax.tree.map(jnp.asarray, x)
    target = _target.settled(name, f, x, target)
    if at is None:  # the baseline may be another for each example, and is cut with them
        x = _input.checked(name, x)
        x = (x, _input.baselines(name, x, baseline))

    def explained(x, target):
        g, x, base = (f, *x) if at is None else _placed(name, f, x, at, baseline)
        program, _ = trace(lambda x: _target.score(name, g(x), target), x)
        steps = plan(program, set(program.inputs), {})
        envs = [program.run(jax.tree.leaves(values)) for values in (x, base)]
        given = _walk.seeds(program, [jnp.ones_like(read(envs[0], program.outputs[0]))])
        found = _walk.walk(steps, envs, given)
        slopes = [found.get(v, jnp.zeros_like(envs[0][v])) for v in program.inputs]
        slopes = jax.tree.unflatten(jax.tree.structure(x), slopes)
        return jax.tree.map(lambda m, x, b: m * (x - b) if multiply else m, slopes, x, base)

    return _input.by_examples(name, explained, x, target, chunk)


def _placed(name, f, x, at, baseline):
    rest, value = _at.located(name, f, x, at)
    return rest, value, _input.baselines(name, value, baseline)


def plan(program: Program, inputs: set[Value], known: dict[Value, Any]) -> list[Step]:
    """The steps of a program by slopes between two runs."""
    active = _walk.activity(program, inputs, stopped=False)
    found = Structure(program, active, known, stopped=False, layers=False)
    return [
        _step(operation, found)
        for operation in program.operations
        if not active.isdisjoint(operation.outputs)
    ]


def _step(operation: Operation, found: Structure) -> Step:
    live, name, out = found.live(operation), operation.name, operation.outputs[0]
    given = [i for i, on in enumerate(live) if on]
    values = [operation.inputs[i] for i in given]

    def step(back):
        def of(envs, slopes):
            return back([[read(env, atom) for atom in operation.inputs] for env in envs], slopes)

        return Step(values, operation.outputs, of)

    def through(inputs, slopes):
        """Of a linear operation: its derivative, which is the same everywhere."""
        return pullback(operation, given, inputs[0], slopes)

    def product(inputs, slopes):
        """a b - a' b' is the mean of b times the difference of a, and the other way round."""
        middle = [(a + b) / 2 if on else a for a, b, on in zip(*inputs, live, strict=True)]
        return pullback(operation, given, middle, slopes)

    if name == "stop_gradient":
        return step(lambda inputs, m: m)
    if operation in found.softmax:
        x, axes = found.softmax[operation]
        return Step([x], [out], lambda envs, m: [_softmax(envs[0][x], envs[1][x], axes, m[0])])
    if found.root.get(out, out) != out:
        return _elementwise(found, out)
    if name == "scan":
        return _walk.scan_step(operation, found.active, found.known, plan)
    chosen = operation.inputs[:1] if name in ("cond", "select_n") else ()
    if any(isinstance(atom, Value) and atom in found.depends for atom in chosen):
        raise ValueError(
            f"deep_lift: {name!r}, at {operation.line}, chooses by a value that depends on x, and "
            "so may choose otherwise at the baseline; rewrite it as arithmetic, or use "
            "integrated_gradients."
        )
    if name == "cond":
        return _walk.cond_step(operation, found.active, plan)
    if name in LINEAR or name in STRUCTURAL or (len(given) == 1 and name in BILINEAR):
        return step(through)
    if name in BILINEAR:
        return step(product)
    if name == "div" and len(given) == 2:
        return step(_quotient)
    if name == "div" and live[0]:
        return step(through)
    if name in WINNER:
        return step(lambda inputs, m: _winner(operation, given, inputs, m[0]))
    raise ValueError(
        f"deep_lift: no rule for the operation {name!r}, at {operation.line}; replace it by what "
        "has one, or use integrated_gradients."
    )


BILINEAR = frozenset(("mul", "dot_general", "conv_general_dilated"))


def _secant(after, before, x, base, derivative):
    """The slope between two points, the derivative where they are one."""
    near = jnp.abs(x - base) < NEAR
    return jnp.where(near, derivative, (after - before) / jnp.where(near, 1, x - base))


def _elementwise(found: Structure, out: Value) -> Step:
    root = found.root[out]
    path = [op for op in found.program.operations if found.root.get(op.outputs[0]) == root]
    path = [op for op in path if op.outputs[0] != root]

    def back(envs, slopes):
        env, base = envs

        def function(value):
            known = dict(env) | {root: value}
            for operation in path:
                known |= zip(
                    operation.outputs,
                    operation(*(read(known, atom) for atom in operation.inputs)),
                    strict=True,
                )
            return known[out]

        _, derivative = jax.jvp(function, (env[root],), (jnp.ones_like(env[root]),))
        return [slopes[0] * _secant(env[out], base[out], env[root], base[root], derivative)]

    return Step([root], [out], back)


def _quotient(inputs, slopes):
    """a / b as the product of a and 1 / b."""
    (a, b), (base_a, base_b) = inputs
    (m,) = slopes
    of_a = m * (1 / b + 1 / base_b) / 2
    of_b = -m * (a + base_a) / 2 / (b * base_b)
    return [_walk.fit(of_a, a.shape), _walk.fit(of_b, b.shape)]


def _softmax(x, base, axes, m):
    """exp, sum and quotient; both runs less one maximum, which changes neither."""
    both = jnp.maximum(x, base)
    shift = jnp.max(jnp.where(jnp.isfinite(both), both, 0), axes, keepdims=True)
    e, base_e = jnp.exp(x - shift), jnp.exp(base - shift)
    total, base_total = (jnp.sum(v, axes, keepdims=True) for v in (e, base_e))
    of_e = m * (1 / total + 1 / base_total) / 2
    of_total = jnp.sum(-m * (e + base_e) / 2, axes, keepdims=True) / (total * base_total)
    finite = jnp.isfinite(x) & jnp.isfinite(base)
    at, base_at = jnp.where(finite, x, 0), jnp.where(finite, base, 0)
    return jnp.where(finite, (of_e + of_total) * _secant(e, base_e, at, base_at, e), 0)


def _winner(operation: Operation, given, inputs, m):
    """The greatest of x has the rise up to both maxima, that of x' what is left of the way."""
    (after,), (before,) = (operation(*values) for values in inputs)
    both = WINNER[operation.name](after, before)
    up = pullback(operation, given, inputs[0], [m * (both - before)])
    down = pullback(operation, given, inputs[1], [m * (after - both)])
    return [
        jnp.where(same, 0, (a + b) / jnp.where(same, 1, inputs[0][i] - inputs[1][i]))
        for i, a, b in zip(given, up, down, strict=True)
        for same in [inputs[0][i] == inputs[1][i]]
    ]
