"""Selective search: boxes of an image that may contain objects, without learning.

Uijlings et al. 2013, doi:10.1007/s11263-013-0620-5. Small regions of similar colour (Felzenszwalb
and Huttenlocher 2004, doi:10.1023/B:VISI.0000022288.19776.77, by scikit-image) are merged, always
the two neighbours a, b with the largest similarity

    s(a, b) = sum_k min(h_a[k], h_b[k])                   colour
              + 1 - (|a| + |b|) / |I|                     small regions first
              + 1 - (|box(a, b)| - |a| - |b|) / |I|       regions that fit into each other

with colour histograms h, sizes |.| and the image I, until one region is left. The boxes of all
regions are proposals. The paper's similarity of texture and its other colour spaces are left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxdl._check import require_ints
from jaxdl._optional import extra

__all__ = ["selective_search"]

BINS = 25
"""Cells of the colour histogram of each channel, as in the paper."""


def selective_search(
    image: Any, count: int = 200, *, scale: float = 100.0, smallest: int = 20
) -> tuple[np.ndarray, np.ndarray]:
    """Proposes boxes of one image, the largest regions first.

    Args:
      image: (H, W, C) of one or three channels, pixels in [0, 1].
      count: R, the number of rows of the result.
      scale: larger values give larger initial regions.
      smallest: pixels of the smallest initial region.

    Returns:
      `(boxes (R, 4), valid (R,))`, float32 x0, y0, x1, y1 in pixels, and bools. Equal boxes are
      proposed once; where there are fewer than R, rows are 0 and not valid.

    Raises:
      ImportError: scikit-image is not installed.
      ValueError: the image has another shape or values that are not finite, or a number is too
        small.
    """
    pixels = np.asarray(image, np.float32)
    if pixels.ndim != 3 or pixels.shape[-1] not in (1, 3) or not np.isfinite(pixels).all():
        raise ValueError(
            f"selective_search: image has shape {pixels.shape}; expected (H, W, 1) or (H, W, 3) of "
            "finite values in [0, 1]."
        )
    count, smallest = require_ints("selective_search", 1, count=count, smallest=smallest)
    if not scale > 0:
        raise ValueError(f"selective_search: scale is {scale}; expected a number above 0.")
    with extra("superpixels", "selective_search"):
        from skimage.segmentation import felzenszwalb
    # sigma 0.8 as in Felzenszwalb and Huttenlocher 2004, who use it for all images.
    segments = felzenszwalb(pixels, scale=scale, sigma=0.8, min_size=smallest, channel_axis=-1)
    regions, neighbours = _describe(pixels, np.unique(segments, return_inverse=True)[1], segments)
    _merge(regions, neighbours, pixels.shape[0] * pixels.shape[1])
    regions.sort(key=lambda region: -region["size"])
    # A dict keeps the order of the sizes, which a set would lose.
    boxes = list(dict.fromkeys(tuple(region["box"]) for region in regions))[:count]
    result = np.zeros((count, 4), np.float32)
    result[: len(boxes)] = boxes
    return result, np.arange(count) < len(boxes)


def _describe(pixels, numbers, segments):
    """Returns size, box and histogram of each segment, and the pairs of neighbours."""
    numbers = numbers.reshape(segments.shape)
    y, x = np.indices(numbers.shape)
    cells = np.clip((pixels * BINS).astype(int), 0, BINS - 1)
    regions = []
    for number in range(numbers.max() + 1):
        inside = numbers == number
        histogram = [np.bincount(part, minlength=BINS) for part in cells[inside].T]
        rows, columns = y[inside], x[inside]
        regions.append(
            {
                "size": int(inside.sum()),
                "box": (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1),
                "histogram": np.concatenate(histogram) / (inside.sum() * pixels.shape[-1]),
            }
        )
    pairs = np.concatenate(
        [
            np.stack([numbers[:, :-1], numbers[:, 1:]], -1).reshape(-1, 2),
            np.stack([numbers[:-1], numbers[1:]], -1).reshape(-1, 2),
        ]
    )
    return regions, {tuple(sorted(pair)) for pair in pairs.tolist() if pair[0] != pair[1]}


def _merge(regions: list[dict], neighbours: set[tuple[int, int]], total: int) -> None:
    """Merges the most similar neighbours and appends each new region, until one is left."""
    similarity = {(i, j): _similarity(regions[i], regions[j], total) for i, j in neighbours}
    while similarity:
        # The pair breaks ties, so that the result is independent of the order of a set.
        pair = max(similarity, key=lambda pair: (similarity[pair], pair))
        a, b = (regions[i] for i in pair)
        size = a["size"] + b["size"]
        histogram = (a["size"] * a["histogram"] + b["size"] * b["histogram"]) / size
        regions.append({"size": size, "box": _enclose(a, b), "histogram": histogram})
        adjacent = {i for other in similarity if set(other) & set(pair) for i in other} - set(pair)
        similarity = {p: s for p, s in similarity.items() if not set(p) & set(pair)}
        new = len(regions) - 1
        for i in adjacent:
            similarity[i, new] = _similarity(regions[i], regions[new], total)


def _similarity(a: dict, b: dict, total: int) -> float:
    colour = np.minimum(a["histogram"], b["histogram"]).sum()
    x0, y0, x1, y1 = _enclose(a, b)
    size = a["size"] + b["size"]
    return float(colour + 1 - size / total + 1 - ((x1 - x0) * (y1 - y0) - size) / total)


def _enclose(a: dict, b: dict) -> tuple:
    corners = np.array([a["box"], b["box"]])
    return (*corners[:, :2].min(0).tolist(), *corners[:, 2:].max(0).tolist())
