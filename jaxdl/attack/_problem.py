"""What an attack works on: a function of rows (N, D), and its losses.

N is the number of examples, D the number of values of an example over all of its arrays. Attacks
compute with rows, so that a norm is the norm of an example whatever the shapes of its arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdl.attack import _arguments
from jaxdl.interpret import _input, _target
from jaxdl.losses import cross_entropy

Loss = Callable[[Any, Any], jax.Array]
"""`(output of f, labels) -> (N, ...)`, the values of each example, which are added."""


class Problem(NamedTuple):
    """A function and its inputs, as rows.

    Attributes:
      caller: the public function's name, for messages.
      f: from rows (N, D) to the output. With a second argument, indices (M,) of examples, from
        their rows (M, D).
      losses: from the same arguments to (N,) or (M,); NaN for a traced label that is out of range.
      labels: (N,) integer classes; with an own loss, the labels unchanged.
      rows: (N, D), the inputs.
      parts: the inputs as floating-point arrays, with None for other arrays of x.
      unflatten: from rows (M, D) to arrays (M, ...) like `parts`.
      restore: from rows (N, D) to inputs like x, NaN for a label that is out of range.
    """

    caller: str
    f: Callable[..., Any]
    losses: Callable[..., jax.Array]
    labels: Any
    rows: jax.Array
    parts: Any
    unflatten: Callable[[jax.Array], Any]
    restore: Callable[[jax.Array], Any]


def prepare(
    caller: str,
    f: Callable[[Any], Any],
    x: Any,
    labels: Any,
    *,
    loss: Loss | None = None,
    derivative: bool = True,
) -> Problem:
    """Checks f, x and labels, and returns them as a `Problem`.

    Args:
      caller: the public function's name, for messages.
      f: from inputs to scores, (N, classes), (N,) or (N, 1); with `loss`, to anything.
      x: an array (N, ...), or a tree of arrays. Integers in it are passed to f unchanged.
      labels: (N,) integers or truth values; with `loss`, its second argument.
      loss: the loss, or None for the cross-entropy of classes.
      derivative: whether the attack differentiates f.

    Raises:
      ValueError: x is not a batch of floats that fits the labels, or not finite; f returns no
        scores, or a label is not a class; or the loss has no value for each example.
    """
    whole = _input.as_batch(caller, x)
    n = len(jax.tree.leaves(whole)[0])
    if loss is None:
        count = max(_target.verify(caller, f, whole, "argmax", derivative=derivative), 2)
        labels = _arguments.as_labels(caller, labels, n, count)
        valid = (labels >= 0) & (labels < count)

        def measure(output, labels):
            values = cross_entropy(as_scores(output), labels)
            # Compiled code cannot raise an error: a label out of range has a gradient of NaN.
            valid = (labels >= 0) & (labels < count)
            return values * jnp.where(valid, 1, jnp.nan).astype(values.dtype)
    else:
        valid = jnp.ones(n, bool)

        def measure(output, labels):
            return _sum_values(caller, loss(output, labels), len(jax.tree.leaves(output)[0]))

        def total(output):
            return measure(output, labels)

        _target.verify(caller, f, whole, total, derivative=derivative)
    _, parts = _input.separate(f, whole)
    _arguments.check_finite(caller, parts)

    def unflatten(rows):
        arrays = _input.unflatten(rows, parts)
        return jax.tree.map(lambda array, leaf: array.astype(leaf.dtype), arrays, parts)

    def call(rows, examples=None):
        of_floats, _ = _input.separate(f, whole if examples is None else _take(whole, examples))
        return of_floats(unflatten(rows))

    def losses(rows, examples=None):
        chosen = labels if examples is None else _take(labels, examples)
        return measure(call(rows, examples), chosen)

    def restore(rows):
        arrays = unflatten(jnp.where(valid[:, None], rows, jnp.nan))
        return jax.tree.map(lambda leaf, part: leaf if part is None else part, whole, arrays)

    return Problem(caller, call, losses, labels, _flatten(parts), parts, unflatten, restore)


def as_scores(output: jax.Array) -> jax.Array:
    """Returns scores (N, classes); one logit s, of class 1, as the scores 0 and s."""
    scores = jnp.reshape(output, (len(output), math.prod(output.shape[1:])))
    if scores.shape[1] == 1:
        return jnp.concatenate([jnp.zeros_like(scores), scores], axis=1)
    return scores


def margins(output: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns how far the score of the label exceeds the best other one, (N,).

    Args:
      output: (N, classes); or one logit each, (N,) or (N, 1), of class 1 against class 0.
      labels: (N,) integers.
    """
    scores = as_scores(output)
    own = jnp.arange(scores.shape[1]) == labels[:, None]
    rest = jnp.max(jnp.where(own, -jnp.inf, scores), axis=1)
    return jnp.sum(jnp.where(own, scores, 0), axis=1) - rest


def broadcast(problem: Problem, argument: str, value: Any) -> jax.Array:
    """Returns a number, an array or a tree that broadcasts to x as rows (N, D)."""
    return _flatten(_input.broadcast_baseline(problem.caller, problem.parts, value, argument))


def as_sizes(problem: Problem, argument: str, value: Any) -> jax.Array:
    """Returns sizes of 0 or more as rows (N, D), NaN where a traced size is negative.

    Raises:
      ValueError: a size is no number of 0 or more, or the sizes do not broadcast to x.
    """
    rows = broadcast(problem, argument, _arguments.check_sizes(problem.caller, argument, value))
    return jnp.where(rows >= 0, rows, jnp.nan)


def as_bounds(problem: Problem, bounds: Any, *, finite: bool = False) -> list[jax.Array]:
    """Returns the smallest and largest valid inputs as rows (N, D), with `finite` finite ones.

    Both are NaN where a traced x is out of bounds, or traced bounds are not in order: an attack
    that clips to them gives NaN, and not an input further than epsilon from x.

    Raises:
      ValueError: the bounds are not two ends in order, each a number or an array that broadcasts to
        x; or x is not between them.
    """
    ends = _arguments.check_bounds(problem.caller, bounds, finite=finite)
    low, high = (broadcast(problem, "bounds", end) for end in ends)
    _arguments.check_inside(problem.caller, problem.parts, *ends)
    below, above = (_arguments.slack(problem.rows.dtype, jnp.abs(end)) for end in (low, high))
    valid = (problem.rows >= low - below) & (problem.rows <= high + above) & (low < high)
    return [jnp.where(valid, end, jnp.nan) for end in (low, high)]


def _flatten(parts: Any) -> jax.Array:
    with jax.numpy_dtype_promotion("standard"):  # a tree may have arrays of two precisions
        dtype = jnp.result_type(*(leaf.dtype for leaf in jax.tree.leaves(parts)))
    return _input.flatten(jax.tree.map(lambda leaf: leaf.astype(dtype), parts))


def _take(tree: Any, examples: jax.Array) -> Any:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[examples], tree)


def _sum_values(caller: str, values: Any, n: int) -> jax.Array:
    """Returns the sum of each example of a loss (n, ...)."""
    shape = jnp.shape(values)
    if shape[:1] != (n,):
        raise ValueError(
            f"{caller}: loss returns {shape} for {n} examples; expected ({n}, ...), the values of "
            "each example. Do not average over examples."
        )
    return jnp.sum(jnp.reshape(values, (n, math.prod(shape[1:]))), axis=1)
