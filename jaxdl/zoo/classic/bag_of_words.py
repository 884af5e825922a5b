"""Bag of visual words: hand-designed image features. Csurka et al. 2004.

Normalized patches replace SIFT, as in Coates and Ng 2011 (AISTATS, sec. 3). Each stage is designed
without regard to the next:

    patches    on a grid, normalized in brightness and contrast
    words      the centres of K clusters of patches (k-means)
    bag        a histogram of the nearest words in each quarter of the image
    decision   a linear classifier of the histograms

The input is pixels, or the cells of `oriented_gradients`, which makes the patches SIFT-like.
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
      size: side of a patch, in pixels.
      stride: distance between patches, in pixels.
    """

    words: jax.Array
    size: int
    stride: int


def patches(x: jax.Array, size: int, stride: int) -> jax.Array:
    """Cuts out patches on a grid and normalizes each to mean 0 and, if not flat, norm 1.

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
    cut = jax.lax.conv_general_dilated_patches(
        x, (size, size), (stride, stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    cut = cut - cut.mean(-1, keepdims=True)
    norm = jnp.linalg.norm(cut, axis=-1, keepdims=True)
    return jnp.where(norm > 0.1, cut / jnp.maximum(norm, 0.1), 0)  # flat patches are noise


def k_means(key: jax.Array, x: jax.Array, clusters: int, *, rounds: int = 20) -> jax.Array:
    """Clusters points by Lloyd's algorithm.

    Args:
      key: a PRNG key; it draws the first centres from the data.
      x: (N, D).
      clusters: K, at most N.
      rounds: iterations of assignment and mean. A centre without points stays unchanged.

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
    """Returns the index of the nearest centre of each row."""
    # |x - c|^2 = |x|^2 - 2 x c + |c|^2, and |x|^2 does not depend on c
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
    """Builds a codebook from the patches of images.

    Args:
      key: a PRNG key.
      x: (N, H, W, C).
      words: K.
      size, stride: side and distance of the patches, in pixels.
      sample: the largest number of patches to cluster; more are subsampled at random.

    Returns:
      The codebook.

    Raises:
      ValueError: as `patches` and `k_means`.
    """
    draw, cluster = jax.random.split(key)
    points = patches(x, size, stride)
    points = points.reshape(-1, points.shape[-1])
    if len(points) > sample:
        points = jax.random.choice(draw, points, (sample,), replace=False)
    return Codebook(k_means(cluster, points, words), size, stride)


def bag(book: Codebook, x: jax.Array) -> jax.Array:
    """Returns the share of patches nearest to each word, for each quarter of each image.

    Args:
      book: the codebook.
      x: (N, H, W, C).

    Returns:
      (N, 4 K) shares; those of a quarter sum to 1.

    Raises:
      ValueError: as `patches`; or there are fewer than 2 patches along a side.
    """
    cut = patches(x, book.size, book.stride)
    k = len(book.words)
    words = jax.nn.one_hot(_nearest(cut, book.words), k, dtype=x.dtype)
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
