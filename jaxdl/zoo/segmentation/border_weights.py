"""The weight map of U-Net, which makes a network learn the borders between touching cells.

Ronneberger, Fischer and Brox 2015, arXiv 1505.04597, eq. 2:

    w(x) = w_c(x) + w_0 exp(-(d_1(x) + d_2(x))^2 / (2 sigma^2))

d_1 and d_2 are the distances of x to the nearest and the second nearest cell.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxdl._optional import extra

__all__ = ["border_weights"]


def border_weights(
    cells: Any,
    *,
    w0: float = 10.0,
    sigma: float = 5.0,
    class_weight: tuple[float, float] | None = None,
) -> np.ndarray:
    """Computes the weight of each pixel from the cells of an image.

    The second term is added on the background only: within a cell d_1 is 0, and the paper's figure
    3d has no border there.

    Args:
      cells: (H, W) integers, 0 for the background and another number for each cell.
      w0: the largest weight that a narrow border adds.
      sigma: its decay, in pixels.
      class_weight: w_c of the background and of cells; None balances them, n / (2 n_c) for n_c of n
        pixels.

    Returns:
      (H, W) float32 weights. Stack them as the third part of the data of `train.fit`.

    Raises:
      ValueError: `cells` is no such array, or a number is negative.
    """
    cells = np.asarray(cells)
    if cells.ndim != 2 or not np.issubdtype(cells.dtype, np.integer):
        raise ValueError(
            f"border_weights: cells are {cells.dtype}{list(cells.shape)}; expected integers (H, W),"
            " a number for each cell. Number the parts of a mask with scipy.ndimage.label."
        )
    if w0 < 0 or not sigma > 0 or min(class_weight or (0,)) < 0:
        raise ValueError(
            f"border_weights: w0 is {w0!r}, sigma {sigma!r} and class_weight {class_weight!r}; "
            "expected numbers of at least 0, and a sigma above 0."
        )
    with extra("experiments", "border_weights"):
        from scipy import ndimage

    background = cells == 0
    if class_weight is None:
        counts = np.maximum(1, [background.sum(), (~background).sum()])
        class_weight = tuple(cells.size / (2 * counts))
    weights = np.where(background, *class_weight)
    # inf where there is no second cell, since exp(-inf) adds no border.
    nearest = np.full((2, *cells.shape), np.inf)
    for cell in np.unique(cells[~background]):
        # One cell at a time, because all distances need the memory of an image for each cell.
        distance = np.asarray(ndimage.distance_transform_edt(cells != cell))
        nearest = np.sort(np.concatenate([nearest, distance[None]]), axis=0)[:2]
    border = w0 * np.exp(-(nearest.sum(axis=0) ** 2) / (2 * sigma**2))
    return (weights + border * background).astype(np.float32)
