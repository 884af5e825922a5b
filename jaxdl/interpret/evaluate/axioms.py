"""What an attribution ought to satisfy exactly, and by how much it does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl.interpret import _input, _target
from jaxdl.interpret.saliency import saliency

__all__ = ["completeness", "input_invariance", "non_sensitivity"]


def completeness(
    f: Callable[[Any], Any],
    x: Any,
    attributions: Any,
    *,
    target: _target.Target = None,
    baseline: Any = None,
) -> jax.Array:
    """The sum of the attributions less what it should be: y(x), or y(x) - y(baseline).

    Args:
      f, x, target: as for `saliency`; "argmax" is the class that x itself is given.
      attributions: arrays like x, not scaled.
      baseline: for methods that compare with one; None for those that hand on the score (`lrp`).

    Returns:
      (N,), in units of the score.

    Raises:
      ValueError: the attributions' shapes are not x's; as `saliency`.
    """
    name = "completeness"
    f, x, target = _target.prepare(name, f, x, target)
    attributions = _input.as_attributions(name, x, attributions)
    due = _target.score(name, f(x), target)
    if baseline is not None:
        due = due - _target.score(name, f(_input.broadcast_baseline(name, x, baseline)), target)
    return jnp.sum(_input.flatten(attributions), axis=1) - due


def non_sensitivity(
    f: Callable[[Any], Any],
    x: Any,
    attributions: Any,
    *,
    target: _target.Target = None,
    tolerance: float = 1e-6,
) -> jax.Array:
    """The share of features that have an attribution though the score does not answer to them.

    Nguyen and Martinez 2020 (arXiv 2007.07584), sec. 3.2, with "does not answer" for a derivative
    below the tolerance.

    Args:
      f, x, target: as for `saliency`.
      attributions: like x.
      tolerance: of both, relative to the greatest of each example.

    Returns:
      (N,), from 0 to 1; 0 is best.

    Raises:
      ValueError: as `completeness`.
    """
    name = "non_sensitivity"
    f, x, target = _target.prepare(name, f, x, target)
    attributions = _input.as_attributions(name, x, attributions)
    slope, given = (
        jnp.abs(_input.flatten(a)) for a in (saliency(f, x, target=target), attributions)
    )
    near = lambda a: a <= tolerance * jnp.max(a, axis=1, keepdims=True)  # noqa: E731
    return jnp.mean((near(slope) & ~near(given)).astype(slope.dtype), axis=1)


def input_invariance(
    method: Callable[..., Any],
    f: Callable[[Any], Any],
    x: Any,
    shift: Any,
    *,
    target: _target.Target = None,
    **options,
) -> jax.Array:
    """How far the attribution moves when input and network are shifted against each other.

    Kindermans et al. 2019 (arXiv 1711.00867): f(x) and g(x + shift) = f(x) are the same; a method
    with a fixed baseline explains them differently.

    Args:
      method: any attribution.
      f, x, target: as for `saliency`.
      shift: a number, what broadcasts to x, or a tree like x.
      **options: passed to the method.

    Returns:
      (N,), the greatest difference, in units of the attribution; 0 is best.

    Raises:
      ValueError: as the method; the shift does not broadcast to x.
    """
    name = "input_invariance"
    f, x, target = _target.prepare(name, f, x, target)
    first_example = jax.tree.map(lambda x: x[:1], x)
    shift = _input.broadcast_baseline(name, first_example, shift, "shift")
    move = lambda sign, x: jax.tree.map(lambda x, s: x + sign * s, x, shift)  # noqa: E731
    first = method(f, x, target=target, **options)
    second = method(lambda x: f(move(-1, x)), move(1, x), target=target, **options)
    change = jnp.abs(_input.flatten(first) - _input.flatten(second))
    return jnp.max(change, axis=1)
