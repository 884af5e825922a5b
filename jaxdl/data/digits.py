"""Handwritten digits that are part of the package.

The test set of the UCI "Optical Recognition of Handwritten Digits" (E. Alpaydin and C. Kaynak,
1998, doi:10.24432/C50P49), licensed CC BY 4.0: 1,797 digits by 13 writers, scanned at 32x32 and
reduced to 8x8 cells, each with its number of ink pixels, 0 to 16.
"""

from __future__ import annotations

import functools
import importlib.resources
import io

import numpy as np

from jaxdl.data.dataset import DIGITS, Dataset, images

__all__ = ["digits"]


@functools.cache
def digits() -> Dataset:
    """Returns 1,797 handwritten digits of 8x8 pixels: 1,438 to train, 359 to test.

    The split is fixed and stratified by class: in each class every fifth image from the third on,
    in the published order, is a test image. The same writers occur in both splits, so the test does
    not measure accuracy on unknown writers.

    Returns:
      A `Dataset` of (N, 8, 8, 1) float32 images in [0, 1] and int32 labels; the arrays are shared
      and read-only.
    """
    file = importlib.resources.files("jaxdl.data") / "digits.npz"
    with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as archive:
        pixels, labels = archive["pixels"], archive["labels"]
    held_out = np.zeros(len(labels), bool)
    for label in range(10):
        held_out[np.flatnonzero(labels == label)[2::5]] = True
    train, test = (images(pixels[rows], labels[rows], 16) for rows in (~held_out, held_out))
    for array in (*train, *test):
        array.flags.writeable = False
    return Dataset(train, test, DIGITS)
