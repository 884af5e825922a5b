"""Backpropagation with another ReLU: guided backprop, the deconvolution network, beta smoothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.interpret import _compile, _input, _target
from jaxdl.interpret._program import Constant, Operation, Program, Value, known, read, trace
from jaxdl.interpret.relevance import _walk
from jaxdl.interpret.relevance._walk import Step, pullback

__all__ = ["beta_smooth", "deconvnet", "guided_backprop"]

Slope = Callable[[jax.Array, jax.Array], jax.Array]
"""`(the ReLU's input, the gradient of its output) -> the gradient of its input`."""


@_compile.once
@_target.each
def guided_backprop(
    f: Callable[[Any], Any], x: Any, *, target: _target.Target = None, chunk: int | None = None
) -> Any:
    """The gradient, of which each ReLU hands on the positive part where it let the signal through.

    Springenberg et al. 2015 (arXiv 1412.6806), sec. 3.4. A ReLU is any max(., 0), whether by
    `jax.nn.relu` or written so, and however often it is used. The pictures are sharp, and change
    little when the last layers' weights are drawn anew (Adebayo et al. 2018, arXiv 1810.03292).

    Args:
      f, x, target: as for `saliency`.
      chunk: examples explained side by side; None for all.

    Returns:
      Arrays like x.

    Raises:
      ValueError: as `saliency`.
    """
    return _backprop(
        "guided_backprop", f, x, target, chunk, lambda z, g: jnp.where(z > 0, jnp.maximum(g, 0), 0)
    )


@_compile.once
@_target.each
def deconvnet(
    f: Callable[[Any], Any], x: Any, *, target: _target.Target = None, chunk: int | None = None
) -> Any:
    """The gradient, of which each ReLU hands on the positive part, wherever it was.

    Zeiler and Fergus 2014 (arXiv 1311.2901), sec. 2.1.

    Args:
      f, x, target, chunk: as for `guided_backprop`.

    Returns:
      Arrays like x.

    Raises:
      ValueError: as `saliency`.
    """
    return _backprop("deconvnet", f, x, target, chunk, lambda z, g: jnp.maximum(g, 0))


@_compile.once
@_target.each
def beta_smooth(
    f: Callable[[Any], Any],
    x: Any,
    *,
    beta: float = 10.0,
    target: _target.Target = None,
    chunk: int | None = None,
) -> Any:
    """The gradient, with each ReLU's slope that of a softplus: sigmoid(beta z).

    Dombrowski et al. 2019 (arXiv 1906.07983), sec. 4: explanations that are harder to fool. The
    network's values stay those of the ReLU.

    Args:
      f, x, target, chunk: as for `guided_backprop`.
      beta: above 0; the greater, the nearer to the gradient.

    Returns:
      Arrays like x.

    Raises:
      ValueError: as `saliency`; beta is not above 0.
    """
    if not beta > 0:
        raise ValueError(f"beta_smooth: beta is {beta}; expected a number above 0.")
    return _backprop("beta_smooth", f, x, target, chunk, lambda z, g: g * jax.nn.sigmoid(beta * z))


def _backprop(name, f, x, target, chunk, slope: Slope):
    x = _input.checked(name, x)

    def explained(x, target):
        program, _ = trace(lambda x: _target.score(name, f(x), target), x)
        env = program.run(jax.tree.leaves(x))
        given = _walk.seeds(program, [jnp.ones_like(read(env, program.outputs[0]))])
        found = _walk.walk(planner(slope)(program, set(program.inputs), {}), [env], given)
        leaves = [found.get(v, jnp.zeros_like(env[v])) for v in program.inputs]
        return jax.tree.unflatten(jax.tree.structure(x), leaves)

    return _input.by_examples(name, explained, x, target, chunk)


def planner(slope: Slope) -> _walk.Planner:
    """The steps of a program by the derivative, except of a ReLU."""

    def plan(program: Program, inputs: set[Value], told: dict[Value, Any]) -> list[Step]:
        active = _walk.activity(program, inputs)
        steps = []
        for operation in program.operations:
            if active.isdisjoint(operation.outputs):
                continue
            if operation.name == "scan":
                steps.append(_walk.scan_step(operation, active, told, plan))
            elif operation.name == "cond":
                steps.append(_walk.cond_step(operation, active, plan))
            else:
                steps.append(_step(program, operation, active, slope))
        return steps

    return plan


def _step(program: Program, operation: Operation, active: set[Value], slope: Slope) -> Step:
    given = [i for i, a in enumerate(operation.inputs) if isinstance(a, Value) and a in active]
    values = [operation.inputs[i] for i in given]
    if operation.name == "max" and len(given) == 1:
        if _is_zero(program, operation.inputs[1 - given[0]]):
            return Step(
                values, operation.outputs, lambda envs, g: [slope(read(envs[0], values[0]), g[0])]
            )

    def back(envs, gradients):
        inputs = [read(envs[0], atom) for atom in operation.inputs]
        return pullback(operation, given, inputs, gradients)

    return Step(values, operation.outputs, back)


def _is_zero(program: Program, atom: Any) -> bool:
    """Whether a value is known to be 0: as a number, or one broadcast."""
    if isinstance(atom, Constant):
        return bool(np.all(np.asarray(atom.value) == 0))
    if atom in program.constants:
        return known(program.constants[atom]) and not np.any(np.asarray(program.constants[atom]))
    makers = [op for op in program.operations if atom in op.outputs]
    return (
        bool(makers)
        and makers[0].name in ("broadcast_in_dim", "convert_element_type")
        and (_is_zero(program, makers[0].inputs[0]))
    )
