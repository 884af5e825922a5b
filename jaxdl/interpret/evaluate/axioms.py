"""Axioms: completeness, non-sensitivity and input invariance."""

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
    """Computes the sum of the attributions minus y(x), or y(x) - y(baseline).

    Args:
      f, x, target: as for `saliency`. "argmax" is the predicted class of x itself.
      attributions: arrays like x, without rescaling.
      baseline: the method's baseline; None for methods without one, such as `lrp`.

    Returns:
      (N,), in units of the score; 0 for complete attributions.

    Raises:
      ValueError: as `saliency`; or the attributions have other shapes than x.
    """
    name = "completeness"
    f, x, target = _target.prepare(name, f, x, target)
    attributions = _input.as_attributions(name, x, attributions)
    expected = _target.score(name, f(x), target)
    if baseline is not None:
        expected = expected - _target.score(
            name, f(_input.broadcast_baseline(name, x, baseline)), target
        )
    return jnp.sum(_input.flatten(attributions), axis=1) - expected


def non_sensitivity(
    f: Callable[[Any], Any],
    x: Any,
    attributions: Any,
    *,
    target: _target.Target = None,
    tolerance: float = 1e-6,
) -> jax.Array:
    """Computes the share of features with an attribution, but a derivative of zero.

    Nguyen and Martinez 2020 (arXiv 2007.07584), sec. 3.2, with a derivative below the tolerance for
    an insensitive feature.

    Args:
      f, x, target: as for `saliency`.
      attributions: like x.
      tolerance: the largest value that counts as zero, relative to the largest of each example.

    Returns:
      (N,), from 0 to 1; 0 is best.

    Raises:
      ValueError: as `completeness`.
    """
    name = "non_sensitivity"
    f, x, target = _target.prepare(name, f, x, target)
    attributions = _input.as_attributions(name, x, attributions)

    def is_zero(values):
        sizes = jnp.abs(_input.flatten(values))
        return sizes <= tolerance * jnp.max(sizes, axis=1, keepdims=True)

    slope = saliency(f, x, target=target)
    mismatches = is_zero(slope) & ~is_zero(attributions)
    return jnp.mean(mismatches.astype(jax.tree.leaves(slope)[0].dtype), axis=1)


def input_invariance(
    method: Callable[..., Any],
    f: Callable[[Any], Any],
    x: Any,
    shift: Any,
    *,
    target: _target.Target = None,
    **options,
) -> jax.Array:
    """Computes the change of an attribution when input and network are shifted.

    Kindermans et al. 2019 (arXiv 1711.00867): f(x) and g(x + shift) = f(x) are the same network. A
    method with a fixed baseline explains them differently.

    Args:
      method: any attribution method.
      f, x, target: as for `saliency`.
      shift: a number, an array that broadcasts to x, or a tree like x.
      **options: passed to the method.

    Returns:
      (N,), the largest difference, in units of the attribution; 0 is best.

    Raises:
      ValueError: as the method; or the shift does not broadcast to x.
    """
    name = "input_invariance"
    f, x, target = _target.prepare(name, f, x, target)
    # One shift for all examples, because the shifted network is one function.
    first_example = jax.tree.map(lambda x: x[:1], x)
    shift = _input.broadcast_baseline(name, first_example, shift, "shift")
    shifted = jax.tree.map(jnp.add, x, shift)

    def shifted_f(x):
        return f(jax.tree.map(jnp.subtract, x, shift))

    first = method(f, x, target=target, **options)
    second = method(shifted_f, shifted, target=target, **options)
    change = jnp.abs(_input.flatten(first) - _input.flatten(second))
    return jnp.max(change, axis=1)
