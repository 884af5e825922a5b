"""ROAD: pixels removed so that neither a hole nor its shape tells of them."""

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
    """The scores as pixels are removed, and filled in from their neighbours with a little noise.

    Rong et al. 2022 (arXiv 2202.00449), sec. 4.2: a removed pixel is the mean of its eight
    neighbours, with weights of 1/6 for the four beside it and 1/12 for the four at its corners; the
    linear system is solved by conjugate gradients.

    Args:
      f, target: as for `saliency`; "argmax" is the class that x itself is given.
      x: (N, H, W, C).
      attributions: (N, H, W), or (N, H, W, C), of which the channels are added up.
      key: a PRNG key, for the noise.
      shares: of the pixels that are removed, rising, each in (0, 1).
      noise: its standard deviation, in units of the input.
      most: whether the pixels with the greatest attribution go first (MoRF), or the least (LeRF).

    Returns:
      A `Curve` from none removed over `shares`; its area is over these shares. A smaller area is
      better for `most`, a greater one otherwise.

    Raises:
      ValueError: x is not (N, H, W, C), the attributions do not fit, or the shares do not rise.
    """
    name = "road"
    f, x, target = _target.prepare(name, f, x, target)
    if not isinstance(x, jax.Array):
        raise ValueError(
            f"{name}: x is {jax.tree.structure(x)}; expected images (N, H, W, C). Close over the "
            "other inputs in f."
        )
    given = jnp.asarray(attributions)
    given = jnp.sum(given, -1) if given.ndim == 4 else given
    cuts = [0.0, *shares]
    if x.ndim != 4 or given.shape != x.shape[:3] or sorted(set(cuts)) != cuts or cuts[-1] >= 1:
        raise ValueError(
            f"{name}: x {x.shape}, attributions {given.shape}, shares {tuple(shares)}; expected "
            "(N, H, W, C), (N, H, W) or (N, H, W, C), and rising shares between 0 and 1."
        )
    flat = given.reshape(len(x), -1)
    rank = jnp.argsort(jnp.argsort(-flat if most else flat, axis=1), axis=1).reshape(given.shape)
    jitter = noise * jax.random.normal(key, x.shape, x.dtype)

    def score(count):
        gone = (rank < count)[..., None]
        seen = jnp.where(gone, impute(x, gone) + jitter, x)
        return _target.score(name, f(seen), target)

    counts = jnp.asarray([round(share * flat.shape[1]) for share in cuts], rank.dtype)
    scores = _batching.map_evaluations(name, lambda i: score(counts[i]), len(cuts), None).T
    return Curve(scores, jnp.trapezoid(scores, jnp.asarray(cuts, scores.dtype), axis=1))


def impute(x: jax.Array, gone: jax.Array) -> jax.Array:
    """Images whose removed pixels are the weighted mean of their neighbours.

    Args:
      x: (N, H, W, C).
      gone: (N, H, W, 1), which pixels are removed; some must be left.

    Returns:
      Like x.
    """
    beside, corner = 1 / 6, 1 / 12
    kernel = jnp.array(
        [[corner, beside, corner], [beside, 0.0, beside], [corner, beside, corner]], x.dtype
    )

    def around(image):
        side = [(0, 0), (1, 1), (1, 1), (0, 0)]
        padded = jnp.pad(image, side)
        rows, columns = image.shape[1:3]
        return sum(
            kernel[i, j] * padded[:, i : i + rows, j : j + columns]
            for i in range(3)
            for j in range(3)
        )

    # At the edge there are fewer neighbours; the weights of those that are there add up to one.
    weight = around(jnp.ones_like(x))
    known = jnp.where(gone, 0, x)

    def system(image):
        """weight * v - around(v) on removed pixels: symmetric, and positive where some are left."""
        image = jnp.where(gone, image, 0)
        return jnp.where(gone, weight * image - around(image), image)

    right = jnp.where(gone, around(known), 0)
    solved, _ = jax.scipy.sparse.linalg.cg(system, right, tol=1e-6, maxiter=500)
    return jnp.where(gone, solved, x)
