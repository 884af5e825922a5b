"""Bag of visual words: pictures described by hand-made steps. Lecture rows A16, A17.

Csurka et al. 2004; with normalized patches in the place of SIFT, as Coates and Ng 2011 do
(AISTATS, sec. 3). Each stage is made without regard to the next, which is what "shallow" means in
the lectures:

    patches    cut out on a grid, brightness and contrast taken out
    words      the centres of K clusters of patches (k-means)
    bag        in each quarter of the picture, how often each word is the nearest
    decision   a linear classifier on the bags

Patches are of pixels, or of the cells of `oriented_gradients`, which makes them SIFT-like.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

__all__ = ["Codebook", "bag", "codebook", "k_means", "patches"]


class Codebook(NamedTuple):
    """Visual words.

    Attributes:
      words: (K, P).
      size: pixels of a patch's side.
      stride: pixels from a patch to the next.
    """

    words: jax.Array
    size: int
    stride: int


def patches(x: jax.Array, size: int, stride: int) -> jax.Array:
    """Patches on a grid, each with mean 0 and, where it is not flat, norm 1.

    Args:
      x: (N, H, W, C).
      size, stride: in pixels.

    Returns:
      (N, rows, columns, size * size * C).

    Raises:
      ValueError: x is no batch of images, or smaller than a patch.
    """
    if x.ndim != 4 or min(x.shape[1:3]) < size:
        raise ValueError(f"patches: x is {x.shape}; expected (N, H, W, C), {size} or more a side.")
    found = jax.lax.conv_general_dilated_patches(
        x, (size, size), (stride, stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    found = found - found.mean(-1, keepdims=True)
    norm = jnp.linalg.norm(found, axis=-1, keepdims=True)
    return jnp.where(norm > 0.1, found / jnp.maximum(norm, 0.1), 0)


def k_means(key: jax.Array, x: jax.Array, clusters: int, *, rounds: int = 20) -> jax.Array:
    """Lloyd's algorithm: centres that are the means of what is nearest to them.

    Args:
      key: a PRNG key, which draws the first centres from the data.
      x: (N, D).
      clusters: K, at most N.
      rounds: of assignment and mean. A centre that nothing is near to stays.

    Returns:
      (K, D) centres.

    Raises:
      ValueError: there are fewer points than clusters.
    """
    if x.ndim != 2 or len(x) < clusters:
        raise ValueError(f"k_means: x is {x.shape}; expected (N, D) with N of {clusters} or more.")

    def move(centres, _):
        ours = jax.nn.one_hot(_nearest(x, centres), clusters, dtype=x.dtype)
        count = ours.sum(0)[:, None]
        means = ours.T @ x / jnp.maximum(count, 1)
        return jnp.where(count > 0, means, centres), None

    first = jax.random.choice(key, x, (clusters,), replace=False)
    return jax.lax.scan(move, first, length=rounds)[0]


def _nearest(x: jax.Array, centres: jax.Array) -> jax.Array:
    """Which centre is nearest: |x - c|^2 = |x|^2 - 2 x c + |c|^2, of which the first is common."""
    return jnp.argmin((centres**2).sum(-1) - 2 * x @ centres.T, axis=-1)


def codebook(
    key: jax.Array,
    x: jax.Array,
    words: int,
    *,
    size: int = 5,
    stride: int = 1,
    sample: int = 50_000,
) -> Codebook:
    """Words from the patches of images.

    Args:
      key: a PRNG key.
      x: (N, H, W, C).
      words: K.
      size, stride: of the patches, in pixels.
      sample: at most so many patches are clustered, drawn at random.

    Returns:
      The codebook.

    Raises:
      ValueError: as `patches` and `k_means`.
    """
    draw, cluster = jax.random.split(key)
    found = patches(x, size, stride)
    found = found.reshape(-1, found.shape[-1])
    if len(found) > sample:
        found = jax.random.choice(draw, found, (sample,), replace=False)
    return Codebook(k_means(cluster, found, words), size, stride)


def bag(book: Codebook, x: jax.Array) -> jax.Array:
    """How often each word is the nearest, in each quarter of each image.

    Args:
      book: the codebook.
      x: (N, H, W, C).

    Returns:
      (N, 4 K) shares; those of a quarter sum to 1.

    Raises:
      ValueError: as `patches`; or there are fewer than 2 patches along a side.
    """
    found = patches(x, book.size, book.stride)
    k = len(book.words)
    words = jax.nn.one_hot(_nearest(found, book.words), k, dtype=x.dtype)
    rows, columns = (n // 2 for n in words.shape[1:3])
    if not rows or not columns:
        raise ValueError(
            f"bag: x is {x.shape} and has {words.shape[1]} x {words.shape[2]} patches of size "
            f"{book.size}; expected 2 or more a side, for the quarters. Pass larger images."
        )
    quarters = [
        part.mean((1, 2))
        for half in (words[:, :rows], words[:, rows:])
        for part in (half[:, :, :columns], half[:, :, columns:])
    ]
    return jnp.concatenate(quarters, -1)
