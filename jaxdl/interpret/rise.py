"""RISE: the score through random masks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl.interpret import _compile, _input, _layer, _target

__all__ = ["rise"]


@_compile.once
@_target.each
def rise(
    f: Callable[[Any], Any],
    x: Any,
    *,
    key: jax.Array,
    target: _target.Target = None,
    baseline: Any = 0.0,
    samples: int = 2048,
    cells: int = 7,
    keep: float = 0.5,
    batch_size: int | None = None,
) -> Any:
    """The mean score of x seen through random smooth masks, by what each mask let through.

    Petsiuk, Das and Saenko 2018 (arXiv 1806.07421), eq. 6 and sec. 3.2: coarse grids of 0 and 1,
    stretched and shifted at random.

    Args:
      f, target: as for `saliency`; "argmax" is the class that x itself is given.
      x: (N, H, W, C), or a tree of such images; each has masks of its own.
      key: a PRNG key.
      baseline: what is seen where a mask is 0.
      samples: masks.
      cells: along each side of the coarse grid.
      keep: the chance of a cell to be 1, in (0, 1).
      batch_size: masks run side by side; None for as many as `memory_budget` allows.

    Returns:
      (N, H, W), or a tree of them like x, in units of the score.

    Raises:
      ValueError: x is not of images (N, H, W, C); `samples` or `cells` is below 1, or `keep` not
        in (0, 1).
    """
    name = "rise"
    x, like = _layer.arrays(name, f, x, None)
    base = _input.baselines(name, like, baseline)
    samples, cells = _input.at_least(name, 1, samples=samples, cells=cells)
    leaves, tree = jax.tree.flatten(like)
    if any(leaf.ndim != 4 for leaf in leaves) or not 0 < keep < 1:
        raise ValueError(
            f"{name}: x has shape {', '.join(str(leaf.shape) for leaf in leaves)}, keep={keep}; "
            "expected images (N, H, W, C) and a chance between 0 and 1. Take ablation or lime for "
            "inputs of another kind."
        )

    def mask(key, leaf):
        """Returns a stretched and shifted grid, (H, W)."""
        of_cells, *shifts = jax.random.split(key, 3)
        shape = leaf.shape[1:3]
        sizes = [-(-side // cells) for side in shape]
        grid = jax.random.bernoulli(of_cells, keep, (cells + 1, cells + 1)).astype(leaf.dtype)
        large = [(cells + 1) * size for size in sizes]
        corner = [jax.random.randint(k, (), 0, n) for k, n in zip(shifts, sizes, strict=True)]
        return jax.lax.dynamic_slice(jax.image.resize(grid, large, "linear"), corner, shape)

    def explained(rows, target):
        x, base = rows
        target = _target.settled(name, f, x, target)
        g, x = _input.separate(name, f, x)

        def masked(i):
            keys = jax.random.split(jax.random.fold_in(key, i), len(leaves))
            masks = tree.unflatten([mask(*of) for of in zip(keys, leaves, strict=True)])
            mixed = jax.tree.map(lambda m, x, b: b + m[..., None] * (x - b), masks, x, base)
            score = _target.score(name, g(mixed), target)
            return jax.tree.map(lambda m: score[:, None, None] * m.astype(score.dtype), masks)

        weights = jnp.full(samples, 1 / (samples * keep))
        return _input.weighted_sum(name, masked, weights, batch_size)

    return _input.by_examples_or_evaluations(name, explained, (x, base), target, batch_size)
