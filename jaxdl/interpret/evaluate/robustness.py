"""Robustness: whether similar inputs have similar explanations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl._check import require_ints
from jaxdl.interpret import _batching, _input, _target

__all__ = ["sensitivity_max"]


def sensitivity_max(
    method: Callable[..., Any],
    f: Callable[[Any], Any],
    x: Any,
    *,
    key: jax.Array,
    target: _target.Target = None,
    radius: float = 0.02,
    samples: int = 10,
    batch_size: int | None = None,
    **options,
) -> jax.Array:
    """Computes the largest relative change of the explanation in a small box around x.

    Yeh et al. 2019 (arXiv 1901.09392), def. 4.1, estimated from random points, divided by the norm
    of the explanation of x. If that norm is 0, the result is the change itself, in units of the
    explanation, as in the paper.

    Args:
      method: any attribution method.
      f, x, target: as for `saliency`. "argmax" is the predicted class of x itself.
      key: a PRNG key.
      radius: half the side of the box, in units of the input.
      samples: number of random points.
      batch_size: points explained side by side; None for the largest number within `memory_budget`.
      **options: passed to the method.

    Returns:
      (N,), 0 or more; 0 is best.

    Raises:
      ValueError: as the method; or `samples` is below 1.
    """
    name = "sensitivity_max"
    f, x, target = _target.prepare(name, f, x, target)
    (samples,) = require_ints(name, 1, samples=samples)
    leaves, tree = jax.tree.flatten(x)

    def explain(x):
        return _input.flatten(method(f, x, target=target, **options))

    center = explain(x)

    def evaluate(i):
        keys = jax.random.split(jax.random.fold_in(key, i), len(leaves))
        noise = [
            jax.random.uniform(k, leaf.shape, leaf.dtype, -radius, radius)
            for k, leaf in zip(keys, leaves, strict=True)
        ]
        moved = jax.tree.map(jnp.add, x, tree.unflatten(noise))
        return jnp.linalg.norm(explain(moved) - center, axis=1)

    changes = _batching.map_evaluations(name, evaluate, samples, batch_size)
    size = jnp.linalg.norm(center, axis=1)
    return jnp.max(changes, axis=0) / jnp.where(size > 0, size, 1)
