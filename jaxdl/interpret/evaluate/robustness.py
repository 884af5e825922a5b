"""Whether near inputs have near explanations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl.interpret import _input, _target

__all__ = ["sensitivity_max"]


def sensitivity_max(
    method: Callable[..., jax.Array],
    f: Callable[[jax.Array], Any],
    x: jax.Array,
    *,
    key: jax.Array,
    target: _target.Target = None,
    radius: float = 0.02,
    samples: int = 10,
    chunk: int | None = None,
    **options,
) -> jax.Array:
    """The greatest relative change of the explanation within a small box around x.

    Yeh et al. 2019 (arXiv 1901.09392), def. 4.1, estimated from random points.

    Args:
      method: any attribution.
      f, x, target: as for `saliency`; "argmax" is the class that x itself is given.
      key: a PRNG key.
      radius: half the side of the box, in units of the input.
      samples: random points.
      chunk: points explained side by side; None for all.
      **options: passed to the method.

    Returns:
      (N,), 0 or more; 0 is best.

    Raises:
      ValueError: as the method; `samples` is below 1.
    """
    name = "sensitivity_max"
    x = _input.checked(name, x)
    if samples < 1:
        raise ValueError(f"{name}: samples is {samples}; expected at least 1.")
    target = _target.settled(name, f, x, target)
    given = method(f, x, target=target, **options)
    size = lambda a: jnp.linalg.norm(a.reshape(len(a), -1), axis=1)  # noqa: E731

    def moved(i):
        noise = jax.random.uniform(jax.random.fold_in(key, i), x.shape, x.dtype, -radius, radius)
        return size(method(f, x + noise, target=target, **options) - given)

    side = samples if chunk is None else chunk
    changes = jax.lax.map(moved, jnp.arange(samples), batch_size=side)
    return jnp.max(changes, axis=0) / size(given)
