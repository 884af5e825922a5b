"""Histograms of oriented gradients (HOG): hand-designed image features.

`cell_histograms` sums the gradients of each cell by direction, the core of SIFT (Lowe 2004, sec. 6)
and of HOG (Dalal and Triggs 2005, sec. 6). `hog` normalizes them in overlapping blocks. For
SIFT-like visual words, pass signed histograms to `bag_of_words.codebook`: patches of 4 x 4 cells
with 8 directions are SIFT's 128 numbers.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

__all__ = ["cell_histograms", "hog"]


def cell_histograms(x: jax.Array, cell: int, bins: int, *, signed: bool = False) -> jax.Array:
    """Sums the gradients of each cell by their direction.

    A pixel's gradient is the difference of its two neighbors, with the border repeated. Its norm is
    split between the two nearest directions by linear interpolation.

    Args:
      x: (N, H, W, C) of floats; the histograms of the channels are added.
      cell: pixels of a cell's side; H and W are multiples of it.
      bins: directions, 2 or more; bin b is centered at b / bins of the circle. Angles go from the
        right (growing columns) to the bottom (growing rows).
      signed: whether opposite directions differ; if not, the circle is half a turn.

    Returns:
      (N, H / cell, W / cell, bins), not negative.

    Raises:
      ValueError: x is no batch of images or not of floats, does not divide into cells, or there are
        too few bins.
    """
    if not jnp.issubdtype(x.dtype, jnp.floating):  # differences of unsigned integers wrap around
        raise ValueError(
            f"cell_histograms: x is of {x.dtype}; expected floats. Divide by 255, for example."
        )
    if x.ndim != 4 or cell < 1 or x.shape[1] % cell or x.shape[2] % cell or 0 in x.shape:
        raise ValueError(
            f"cell_histograms: x is {x.shape} and cell {cell}; expected (N, H, W, C) with H and W "
            f"multiples of cell. Pad or crop the images."
        )
    if bins < 2:
        raise ValueError(f"cell_histograms: bins is {bins}; expected 2 or more.")
    n, height, width, channels = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    down = padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]
    right = padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]
    turns = jnp.arctan2(down, right) / (2 * jnp.pi if signed else jnp.pi)
    offset = turns[..., None] * bins - jnp.arange(bins, dtype=x.dtype)
    distance = jnp.abs((offset + bins / 2) % bins - bins / 2)
    votes = jnp.hypot(down, right)[..., None] * jnp.maximum(1 - distance, 0)
    rows, columns = height // cell, width // cell
    return votes.reshape(n, rows, cell, columns, cell, channels, bins).sum((2, 4, 5))


def hog(x: jax.Array, cell: int = 4, bins: int = 9, block: int = 2) -> jax.Array:
    """Describes images by histograms of oriented gradients, normalized block by block.

    Args:
      x: (N, H, W, C).
      cell, bins: as for `cell_histograms`, without sign.
      block: cells of a block's side. Blocks overlap: there is one at every cell where it fits.

    Returns:
      (N, rows, columns, block * block * bins); each block has norm 1, or less where it is nearly
      flat: v / sqrt(|v|^2 + 0.01).

    Raises:
      ValueError: as `cell_histograms`; or an image has fewer cells than a block.
    """
    cells = cell_histograms(x, cell, bins)
    rows, columns = (side - block + 1 for side in cells.shape[1:3])
    if min(block, rows, columns) < 1:
        raise ValueError(
            f"hog: block is {block} for {cells.shape[1]} x {cells.shape[2]} cells; expected 1 or "
            f"more cells a side that fit."
        )
    parts = [cells[:, i : i + rows, j : j + columns] for i in range(block) for j in range(block)]
    blocks = jnp.concatenate(parts, -1)
    return blocks / jnp.sqrt((blocks**2).sum(-1, keepdims=True) + 0.01)
