"""Anchors: reference boxes at every position of feature maps. Ren et al. 2015, arXiv 1506.01497.

An anchor of size s and aspect ratio r = h / w has the area s^2: h = s sqrt(r), w = s / sqrt(r). Its
coordinates relative to the position are rounded to integers, as in torchvision. The position (i, j)
of a map with stride d is the point (x, y) = (j d, i d) of the image.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["anchors", "base_anchors"]

RATIOS = (0.5, 1.0, 2.0)


def base_anchors(sizes: Sequence[float], ratios: Sequence[float] = RATIOS) -> np.ndarray:
    """Returns the anchors of one position, around (0, 0).

    Args:
      sizes: square roots of areas, in pixels.
      ratios: aspect ratios h / w.

    Returns:
      (len(ratios) len(sizes), 4) float32 boxes, by ratio and then by size.

    Raises:
      ValueError: a size or ratio is not above 0, or there is none.
    """
    if not sizes or not ratios or min(*sizes, *ratios) <= 0:
        raise ValueError(
            f"anchors: sizes are {tuple(sizes)} and ratios {tuple(ratios)}; expected positive "
            "numbers, one at least of each."
        )
    root = np.sqrt(np.array(ratios, np.float32))[:, None]
    length = np.array(sizes, np.float32)
    width, height = (length / root).reshape(-1), (length * root).reshape(-1)
    return np.round(np.stack([-width, -height, width, height], axis=-1) / 2)


def anchors(
    map_shapes: Sequence[tuple[int, int]],
    image_shape: tuple[int, int],
    sizes: Sequence[Sequence[float]],
    ratios: Sequence[float] = RATIOS,
) -> list[np.ndarray]:
    """Returns the anchors of all positions of each map.

    Args:
      map_shapes: height and width of each map.
      image_shape: height and width of the image; strides are the integer quotients of both.
      sizes: for each map the sizes of its anchors.
      ratios: aspect ratios h / w, the same for all maps.

    Returns:
      For each map (H W A, 4) float32 boxes, row by row, the A anchors of a position together.

    Raises:
      ValueError: the numbers of maps and of sizes differ, or a size or ratio is not above 0.
    """
    if len(map_shapes) != len(sizes):
        raise ValueError(
            f"anchors: sizes of {len(sizes)} levels for {len(map_shapes)} maps; expected a "
            "sequence of sizes for each map, finest first."
        )
    # NumPy, because anchors depend on shapes only and become constants of the program.
    levels = []
    for (height, width), level_sizes in zip(map_shapes, sizes, strict=True):
        y = np.arange(height) * (image_shape[0] // height)
        x = np.arange(width) * (image_shape[1] // width)
        y, x = (part.reshape(-1) for part in np.meshgrid(y, x, indexing="ij"))
        shifts = np.stack([x, y, x, y], axis=-1).astype(np.float32)
        boxes = shifts[:, None] + base_anchors(level_sizes, ratios)
        levels.append(boxes.reshape(-1, 4))
    return levels
