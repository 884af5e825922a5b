"""RISE: the mean of random masks, weighted by the scores of masked images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl._check import require_ints
from jaxdl.interpret import _batching, _input
from jaxdl.interpret._explanation import explain_batches, explanation
from jaxdl.interpret._target import Target

__all__ = ["rise"]


@explanation
def rise(
    f: Callable[[Any], Any],
    x: Any,
    *,
    key: jax.Array,
    target: Target = None,
    baseline: Any = 0.0,
    samples: int = 2048,
    cells: int = 7,
    keep: float = 0.5,
    batch_size: int | None = None,
) -> Any:
    """Computes the mean score of x under random smooth masks, weighted by each mask.

    Petsiuk, Das and Saenko 2018 (arXiv 1806.07421), eq. 6 and sec. 3.2: random grids of 0 and 1 are
    upsampled and shifted at random.

    Args:
      f, target: as for `saliency`. "argmax" is the predicted class of x itself.
      x: (N, H, W, C), or a tree of such images. Each image of a tree has its own masks.
      key: a PRNG key.
      baseline: the value of a masked pixel.
      samples: masks.
      cells: cells along each side of the grid.
      keep: the probability of a cell to be 1, in (0, 1).
      batch_size: masks evaluated side by side; None for the largest number within `memory_budget`.

    Returns:
      (N, H, W), or a tree of them like x, in units of the score.

    Raises:
      ValueError: x has an array that is not (N, H, W, C); `samples` or `cells` is below 1; or
        `keep` is not in (0, 1).
    """
    name = "rise"
    images = _input.separate(f, x)[1]
    base = _input.broadcast_baseline(name, images, baseline)
    samples, cells = require_ints(name, 1, samples=samples, cells=cells)
    leaves, tree = jax.tree.flatten(images)
    if any(leaf.ndim != 4 for leaf in leaves) or not 0 < keep < 1:
        raise ValueError(
            f"{name}: x has shape {', '.join(str(leaf.shape) for leaf in leaves)}, keep={keep}; "
            "expected images (N, H, W, C) and a probability between 0 and 1. Use ablation or lime "
            "for other inputs."
        )

    def draw_mask(key, leaf):
        """Returns a random grid, upsampled and shifted, (H, W)."""
        of_cells, *shifts = jax.random.split(key, 3)
        shape = leaf.shape[1:3]
        sizes = [-(-side // cells) for side in shape]
        grid = jax.random.bernoulli(of_cells, keep, (cells + 1, cells + 1)).astype(leaf.dtype)
        large = [(cells + 1) * size for size in sizes]
        corner = [jax.random.randint(k, (), 0, n) for k, n in zip(shifts, sizes, strict=True)]
        return jax.lax.dynamic_slice(jax.image.resize(grid, large, "linear"), corner, shape)

    def explain(f, score, x, base):
        def evaluate(i):
            # The masks of a sample are shared by the examples, as in the paper.
            keys = jax.random.split(jax.random.fold_in(key, i), len(leaves))
            masks = tree.unflatten([draw_mask(*of) for of in zip(keys, leaves, strict=True)])
            masked = jax.tree.map(lambda m, x, b: b + m[..., None] * (x - b), masks, x, base)
            scores = score(f(masked))
            return jax.tree.map(lambda m: scores[:, None, None] * m.astype(scores.dtype), masks)

        # Division by `keep`, the expected mask, makes the map of a constant score that score.
        weights = jnp.full(samples, 1 / (samples * keep))
        return _batching.accumulate(name, evaluate, weights, batch_size)

    options = {"others": (base,), "perturbs": True}
    return explain_batches(name, explain, f, x, target, None, batch_size, **options)
