"""RISE: the score through random masks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl.interpret import _compile, _input, _target

__all__ = ["rise"]


@_compile.once
@_target.each
def rise(
    f: Callable[[jax.Array], Any],
    x: jax.Array,
    *,
    key: jax.Array,
    target: _target.Target = None,
    baseline: Any = 0.0,
    samples: int = 2048,
    cells: int = 7,
    keep: float = 0.5,
    chunk: int | None = 64,
) -> jax.Array:
    """The mean score of x seen through random smooth masks, by what each mask let through.

    Petsiuk, Das and Saenko 2018 (arXiv 1806.07421), eq. 6 and sec. 3.2: coarse grids of 0 and 1,
    stretched and shifted at random.

    Args:
      f, target: as for `saliency`; "argmax" is the class that x itself is given.
      x: (N, H, W, C).
      key: a PRNG key.
      baseline: what is seen where a mask is 0.
      samples: masks.
      cells: along each side of the coarse grid.
      keep: the chance of a cell to be 1, in (0, 1).
      chunk: masks run side by side; None for all.

    Returns:
      (N, H, W), in units of the score.

    Raises:
      ValueError: x is not (N, H, W, C); `samples` or `cells` is below 1, or `keep` not in (0, 1).
    """
    name = "rise"
    x = _input.checked(name, x)
    base = _input.baselines(name, x, baseline)
    if x.ndim != 4 or samples < 1 or cells < 1 or not 0 < keep < 1:
        raise ValueError(
            f"{name}: x has shape {x.shape}, samples={samples}, cells={cells}, keep={keep}; "
            "expected (N, H, W, C), at least one sample and cell, and a chance between 0 and 1."
        )
    target = _target.settled(name, f, x, target)
    shape = x.shape[1:3]
    sizes = [-(-side // cells) for side in shape]
    large = [(cells + 1) * size for size in sizes]

    def masked(i):
        of_cells, *shifts = jax.random.split(jax.random.fold_in(key, i), 3)
        grid = jax.random.bernoulli(of_cells, keep, (cells + 1, cells + 1)).astype(x.dtype)
        corner = [jax.random.randint(k, (), 0, n) for k, n in zip(shifts, sizes, strict=True)]
        mask = jax.lax.dynamic_slice(jax.image.resize(grid, large, "linear"), corner, shape)
        seen = base + mask[..., None] * (x - base)
        score = _target.score(name, f(seen), target)
        return score[:, None, None] * mask.astype(score.dtype)

    weights = jnp.full(samples, 1 / (samples * keep))
    return _input.weighted_sum(name, masked, weights, chunk)
