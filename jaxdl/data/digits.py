"""Handwritten digits that come with the package: no download, no waiting.

The test part of the UCI "Optical Recognition of Handwritten Digits" (E. Alpaydin and C. Kaynak,
1998, doi:10.24432/C50P49), licensed CC BY 4.0: 1,797 digits by 13 writers, scanned at 32x32 and
counted down to 8x8 cells of 0 to 16 ink pixels each.
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
    """1,797 handwritten digits of 8x8 pixels, embedded: 1,438 to train, 359 to test.

    The split is fixed and by image, stratified by class: within each class, in the published
    order, every fifth image from the third on is a test image. Writers occur on both sides, so it
    measures how well known writers' digits are read.

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
