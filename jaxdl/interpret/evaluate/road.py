"""ROAD: scores as pixels are replaced by a noisy mean of their neighbors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl.interpret import _batching, _target
from jaxdl.interpret.evaluate.faithfulness import Curve

__all__ = ["road"]


def road(
    f: Callable[[jax.Array], Any],
    x: jax.Array,
    attributions: jax.Array,
    *,
    key: jax.Array,
    target: _target.Target = None,
    shares: Sequence[float] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9),
    noise: float = 0.01,
    most: bool = True,
) -> Curve:
    """Computes the scores as pixels are removed and imputed from their neighbors.

    Rong et al. 2022 (arXiv 2202.00449), sec. 4.2: a removed pixel is the mean of its eight
    neighbors, with weights of 1/6 for the four at its sides and 1/12 for the four at its corners,
    plus a little noise. The linear system is solved by conjugate gradients.

    Args:
      f, target: as for `saliency`. "argmax" is the predicted class of x itself.
      x: (N, H, W, C).
      attributions: (N, H, W), or (N, H, W, C), summed over channels.
      key: a PRNG key, for the noise.
      shares: increasing shares of removed pixels, each in (0, 1).
      noise: its standard deviation, in units of the input.
      most: whether to remove the pixels with the largest attribution first (MoRF), or those with
        the smallest (LeRF).

    Returns:
      A `Curve` from no pixel removed over `shares`. Its area is over these shares. A smaller area
      is better for `most`, a larger one otherwise.

    Raises:
      ValueError: x is not (N, H, W, C), the attributions do not fit, or the shares do not increase.
    """
    name = "road"
    f, x, target = _target.prepare(name, f, x, target)
    if not isinstance(x, jax.Array):
        raise ValueError(
            f"{name}: x is {jax.tree.structure(x)}; expected images (N, H, W, C). Close over the "
            "other inputs in f."
        )
    maps = jnp.asarray(attributions)
    maps = jnp.sum(maps, -1) if maps.ndim == 4 else maps
    cuts = [0.0, *shares]
    if x.ndim != 4 or maps.shape != x.shape[:3] or sorted(set(cuts)) != cuts or cuts[-1] >= 1:
        raise ValueError(
            f"{name}: x {x.shape}, attributions {maps.shape}, shares {tuple(shares)}; expected "
            "(N, H, W, C), (N, H, W) or (N, H, W, C), and increasing shares between 0 and 1."
        )
    flat = maps.reshape(len(x), -1)
    rank = jnp.argsort(jnp.argsort(-flat if most else flat, axis=1), axis=1).reshape(maps.shape)
    jitter = noise * jax.random.normal(key, x.shape, x.dtype)

    def score(count):
        gone = (rank < count)[..., None]
        imputed = jnp.where(gone, impute(x, gone) + jitter, x)
        return _target.score(name, f(imputed), target)

    counts = jnp.asarray([round(share * flat.shape[1]) for share in cuts], rank.dtype)
    scores = _batching.map_evaluations(name, lambda i: score(counts[i]), len(cuts), None).T
    return Curve(scores, jnp.trapezoid(scores, jnp.asarray(cuts, scores.dtype), axis=1))


def impute(x: jax.Array, gone: jax.Array) -> jax.Array:
    """Replaces removed pixels by the weighted mean of their neighbors.

    Args:
      x: (N, H, W, C).
      gone: (N, H, W, 1), the removed pixels, not all.

    Returns:
      Like x.
    """
    side, corner = 1 / 6, 1 / 12
    kernel = jnp.array([[corner, side, corner], [side, 0.0, side], [corner, side, corner]], x.dtype)

    def sum_neighbors(image):
        padded = jnp.pad(image, [(0, 0), (1, 1), (1, 1), (0, 0)])
        rows, columns = image.shape[1:3]
        return sum(
            kernel[i, j] * padded[:, i : i + rows, j : j + columns]
            for i in range(3)
            for j in range(3)
        )

    # At the edge there are fewer neighbors, whose weights must sum to one.
    weight = sum_neighbors(jnp.ones_like(x))
    known = jnp.where(gone, 0, x)

    def system(image):
        """Applies the symmetric positive definite matrix of the removed pixels."""
        image = jnp.where(gone, image, 0)
        return jnp.where(gone, weight * image - sum_neighbors(image), image)

    right = jnp.where(gone, sum_neighbors(known), 0)
    solved, _ = jax.scipy.sparse.linalg.cg(system, right, tol=1e-6, maxiter=500)
    return jnp.where(gone, solved, x)
