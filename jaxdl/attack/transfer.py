"""Measures of attacks: success, robust accuracy, and transfer between functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxdl.attack import _problem

__all__ = ["robust_accuracy", "succeeds", "transfer_matrix"]


def succeeds(f: Callable[[Any], Any], x: Any, labels: Any, *, targeted: bool = False) -> jax.Array:
    """Returns whether f assigns each input to a wrong class.

    Args:
      f: from inputs (N, ...) to scores (N, classes); or to one logit each, (N,) or (N, 1).
      x: (N, ...), the attacked inputs, floating-point, or a tree of arrays.
      labels: (N,), the true classes, or with `targeted` the wanted ones.
      targeted: whether to return instead whether f assigns each input to its label.

    Returns:
      (N,) truth values; False where a score is NaN, or a traced label out of range.

    Raises:
      ValueError: x is not a batch of floats that fits the labels; f returns no scores; or a label
        is out of range.
    """
    is_label, valid = _judge("succeeds", f, x, labels)
    return valid & (is_label if targeted else ~is_label)


def _judge(
    caller: str, f: Callable[[Any], Any], x: Any, labels: Any
) -> tuple[jax.Array, jax.Array]:
    """Returns whether f assigns each input to its label, and whether that can be known, (N,)."""
    problem = _problem.prepare(caller, f, x, labels, derivative=False)
    scores = _problem.as_scores(problem.f(problem.rows))
    known = (problem.labels >= 0) & (problem.labels < scores.shape[1])
    valid = known & ~jnp.any(jnp.isnan(scores), axis=1)
    return jnp.argmax(scores, axis=1) == problem.labels, valid


def _accuracy(caller: str, f: Callable[[Any], Any], x: Any, labels: Any) -> jax.Array:
    """Returns the accuracy of f, NaN if a score is NaN."""
    is_label, valid = _judge(caller, f, x, labels)
    return jnp.mean(jnp.where(valid, is_label.astype(float), jnp.nan))


def robust_accuracy(
    f: Callable[[Any], Any],
    x: Any,
    labels: Any,
    attack: Callable[[Callable[[Any], Any], Any, Any, jax.Array], Any],
    epsilons: ArrayLike,
) -> jax.Array:
    """Returns the accuracy of f under an attack of several sizes, in one mapped call.

    Args:
      f, x, labels: as for `succeeds`, with the inputs before the attack.
      attack: `attack(f, x, labels, epsilon) -> attacked x`, such as `pgd`, or
        `functools.partial(pgd, norm="l2")`.
      epsilons: (E,), the sizes. All of them are attacked side by side.

    Returns:
      (E,), accuracies from 0 to 1; NaN if a score is NaN, as for a traced epsilon below 0.

    Raises:
      ValueError: epsilons are not numbers (E,) of 0 or more; or as for the attack.
    """
    known = not isinstance(epsilons, Tracer)
    if np.ndim(epsilons) != 1 or (known and not np.all(np.asarray(epsilons) >= 0)):
        raise ValueError(
            f"robust_accuracy: epsilons are {epsilons!r}; expected (E,), numbers >= 0."
        )

    def measure(epsilon):
        return _accuracy("robust_accuracy", f, attack(f, x, labels, epsilon), labels)

    return jax.vmap(measure)(jnp.asarray(epsilons, jnp.result_type(float)))


def transfer_matrix(
    functions: Sequence[Callable[[Any], Any]],
    x: Any,
    labels: Any,
    attack: Callable[[Callable[[Any], Any], Any, Any], Any],
) -> jax.Array:
    """Returns the accuracy of every function on inputs that attack every other.

    Papernot et al. 2016 (arXiv 1605.07277): an attacker without access to a function attacks a
    substitute. The diagonal is the white-box attack.

    Args:
      functions: M functions as for `succeeds`, of the same inputs and classes.
      x, labels: as for `succeeds`, with the inputs before the attack.
      attack: `attack(f, x, labels) -> attacked x`, such as
        `functools.partial(pgd, epsilon=0.1)`.

    Returns:
      (M, M), the accuracy of function j on inputs that attack function i in row i, column j; NaN
      if a score is NaN.

    Raises:
      ValueError: there are no functions; or as for the attack.
    """
    functions = list(functions)
    if not functions:
        raise ValueError("transfer_matrix: there are no functions; expected at least one.")
    rows = []
    for source in functions:
        attacked = attack(source, x, labels)
        rows.append([_accuracy("transfer_matrix", f, attacked, labels) for f in functions])
    return jnp.stack([jnp.stack(row) for row in rows])
