"""Whether near inputs have near explanations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl.interpret import _input, _target

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
    """The greatest relative change of the explanation within a small box around x.

    Yeh et al. 2019 (arXiv 1901.09392), def. 4.1, estimated from random points, over the norm of the
    explanation of x. Where that is 0 everywhere, it is the change itself, in units of the
    explanation, as in the paper.

    Args:
      method: any attribution.
      f, x, target: as for `saliency`; "argmax" is the class that x itself is given.
      key: a PRNG key.
      radius: half the side of the box, in units of the input.
      samples: random points.
      batch_size: points explained side by side; None for as many as `memory_budget` allows.
      **options: passed to the method.

    Returns:
      (N,), 0 or more; 0 is best.

    Raises:
      ValueError: as the method; `samples` is below 1.
    """
    name = "sensitivity_max"
    f, x, target = _target.prepare(name, f, x, target)
    (samples,) = _input.at_least(name, 1, samples=samples)
    leaves, tree = jax.tree.flatten(x)
    explain = lambda x: _input.flatten(method(f, x, target=target, **options))  # noqa: E731
    given = explain(x)

    def change(i):
        keys = jax.random.split(jax.random.fold_in(key, i), len(leaves))
        noise = [
            jax.random.uniform(k, leaf.shape, leaf.dtype, -radius, radius)
            for k, leaf in zip(keys, leaves, strict=True)
        ]
        moved = jax.tree.map(jnp.add, x, tree.unflatten(noise))
        return jnp.linalg.norm(explain(moved) - given, axis=1)

    changes = _input.mapped(name, change, samples, batch_size)
    size = jnp.linalg.norm(given, axis=1)
    return jnp.max(changes, axis=0) / jnp.where(size > 0, size, 1)
