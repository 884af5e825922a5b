"""Images of squares, circles and triangles with their boxes, for localization and detection."""

from __future__ import annotations

import numpy as np

from jaxdl._check import require_ints

__all__ = ["shapes"]

CLASSES = ("background", "square", "circle", "triangle")


def shapes(
    count: int, *, size: int = 32, objects: int = 1, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws images of coloured shapes on a noisy background.

    A shape has a diameter of a quarter to a half of the image, a random position inside of it, and
    a random bright colour. Later shapes may cover earlier ones.

    Args:
      count: N, the number of images.
      size: height and width of the images, at least 8.
      objects: M, the largest number of shapes of an image; with more than one, each image has a
        random number of them from 1 on.
      seed: determines the images.

    Returns:
      `(images (N, size, size, 3), boxes (N, M, 4), labels (N, M))`: float32 pixels in [0, 1],
      float32 boxes x0, y0, x1, y1 in pixels, and int32 labels 1 to 3 for square, circle and
      triangle. Rows of padding are 0.

    Raises:
      ValueError: a number is too small.
    """
    count, objects = require_ints("shapes", 1, count=count, objects=objects)
    (size,) = require_ints("shapes", 8, size=size)
    random = np.random.default_rng(seed)
    images = random.uniform(0, 0.3, (count, size, size, 3)).astype(np.float32)
    boxes = np.zeros((count, objects, 4), np.float32)
    labels = np.zeros((count, objects), np.int32)
    y, x = np.mgrid[:size, :size] + 0.5
    for n in range(count):
        for m in range(random.integers(1, objects + 1)):
            side = int(random.integers(size // 4, size // 2 + 1))
            x0, y0 = random.integers(0, size - side + 1, 2)
            label = int(random.integers(1, 4))
            across, down = (x - x0) / side, (y - y0) / side
            inside = (across >= 0) & (across <= 1) & (down >= 0) & (down <= 1)
            if label == 2:
                inside = (across - 0.5) ** 2 + (down - 0.5) ** 2 <= 0.25
            elif label == 3:
                inside &= np.abs(across - 0.5) <= down / 2
            images[n, inside] = random.uniform(0.4, 1, 3)
            rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
            boxes[n, m] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
            labels[n, m] = label
    return images, boxes, labels
