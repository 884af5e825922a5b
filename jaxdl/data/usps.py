"""USPS: handwritten digits from American envelopes (Hull 1994, doi:10.1109/34.291440)."""

from __future__ import annotations

import os

from jaxdl.data._files import data_file, read_npz
from jaxdl.data.dataset import DIGITS, Dataset, images

__all__ = ["usps"]


def usps(root: str | os.PathLike | None = None) -> Dataset:
    """Loads USPS: 7,291 and 2,007 handwritten digits of 16x16 pixels.

    The test digits are harder than those for training. There is no public download: provide a file
    `usps.npz` with the arrays train_data, train_target, test_data and test_target.

    Args:
      root: the folder of `usps.npz`; None looks in `$JAXDL_DATA/usps`, then in the user's cache.

    Returns:
      A `Dataset` of (N, 16, 16, 1) float32 images in [0, 1] and int32 labels.

    Raises:
      ValueError: the file is missing, damaged, or its arrays have other shapes.
    """
    expected = {}
    for part, n in (("train", 7291), ("test", 2007)):
        expected |= {f"{part}_data": ((n, 256), "<f4"), f"{part}_target": ((n,), "<i8")}
    arrays = read_npz(data_file("usps", "usps.npz", root=root), expected)
    train, test = (
        images(arrays[f"{part}_data"].reshape(-1, 16, 16), arrays[f"{part}_target"], 1)
        for part in ("train", "test")
    )
    return Dataset(train, test, DIGITS)
