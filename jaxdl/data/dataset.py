"""What every loader returns: arrays on the host, split for training and for test."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["Dataset", "Split"]


class Split(NamedTuple):
    """Examples and their labels.

    Attributes:
      x: (N, H, W, C) float32 images in [0, 1].
      y: (N,) int32 labels, indices into `Dataset.classes`.
    """

    x: np.ndarray
    y: np.ndarray


class Dataset(NamedTuple):
    """A data set with its published, or stated, split.

    Attributes:
      train, test: the two splits.
      classes: the names of the labels, in order.
    """

    train: Split
    test: Split
    classes: tuple[str, ...]


def images(pixels: np.ndarray, labels: np.ndarray, white: float) -> Split:
    """A `Split` of integer pixels in 0 .. white; a missing channel axis is added."""
    x = np.asarray(pixels, np.float32) / np.float32(white)
    return Split(x if x.ndim == 4 else x[..., None], np.asarray(labels, np.int32))


DIGITS = tuple("0123456789")
