"""Containers of data sets: arrays on the host, with a training and a test split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

__all__ = ["Dataset", "Split", "Weighted", "add_weights"]


class Split(NamedTuple):
    """Examples and their labels.

    Attributes:
      x: (N, H, W, C) float32 images in [0, 1].
      y: (N,) int32 labels, indices into `Dataset.classes`; (N, H, W) labels of pixels.
    """

    x: np.ndarray
    y: np.ndarray


class Dataset(NamedTuple):
    """A data set with a training and a test split.

    Attributes:
      train: the training split.
      test: the test split.
      classes: names of the labels, in order.
    """

    train: Split
    test: Split
    classes: tuple[str, ...]


class Weighted(NamedTuple):
    """Weighted examples with labels.

    Attributes:
      x: an array (N, ...), or a tree of them.
      y: (N, ...) labels.
      weight: float32 over the leading axes of the loss's values, (N,) or (N, T).
    """

    x: Any
    y: np.ndarray
    weight: np.ndarray


def add_weights(
    x: Any,
    y: Any,
    *,
    sample_weight: Any = None,
    class_weight: Mapping[int, float] | Sequence[float] | str | None = None,
    ignore_index: float | None = None,
) -> Weighted:
    """Adds weights to examples, for `train.fit`, `train.evaluate` and the training steps.

    Losses and metrics become sum(w l) / sum(w), as with PyTorch's `weight` and `ignore_index`.

    Args:
      x: the inputs, unchanged.
      y: (N, ...) labels; other targets if there is neither `class_weight` nor `ignore_index`.
      sample_weight: (N,) or (N, T) numbers of at least 0, or a boolean mask.
      class_weight: a weight for each class, as a dict or in order; or "balanced", n / (C n_c) for
        n_c labels of class c among n.
      ignore_index: a label to ignore, such as -100 for padding; NaN for missing numbers. It becomes
        0 in y, with weight 0.

    Returns:
      A `Weighted`, whose weight is the product of the three.

    Raises:
      ValueError: a class has no weight, the labels are not integers, or shapes do not match.
    """
    if isinstance(y, tuple | dict) and (class_weight is not None or ignore_index is not None):
        raise ValueError(
            "add_weights: y is several targets; expected one array for class_weight and "
            "ignore_index. Pass sample_weight= an array (N,)."
        )
    shape = np.shape(jax.tree.leaves(y)[0]) if isinstance(y, tuple | dict) else np.shape(y)
    weight = np.ones(shape[:1], np.float32)
    if sample_weight is not None:
        numbers = np.asarray(sample_weight)
        if numbers.dtype.kind not in "biuf":
            raise ValueError(
                f"add_weights: sample_weight is {sample_weight!r}; expected numbers. For weights "
                "by class pass class_weight='balanced'."
            )
        weight = numbers.astype(np.float32)
        if weight.ndim == 0 or weight.shape != shape[: weight.ndim]:
            raise ValueError(
                f"add_weights: sample_weight has shape {weight.shape} for y of shape {shape}; "
                "expected one per example, (N,), or per step, (N, T)."
            )
        if not np.isfinite(weight).all() or weight.min(initial=0) < 0:
            raise ValueError("add_weights: sample_weight has a number below 0 or not finite.")
    if isinstance(y, tuple | dict):
        return Weighted(x, y, weight)  # pyright: ignore[reportArgumentType]
    y = np.asarray(y)
    if ignore_index is None:
        counts = np.ones(y.shape, bool)
    else:
        counts = ~np.isnan(y) if np.isnan(ignore_index) else y != ignore_index
        y = np.where(counts, y, np.zeros_like(y))
    if class_weight is None and ignore_index is None:
        return Weighted(x, y, weight)
    each = counts.astype(np.float32)
    if class_weight is not None:
        each[counts] = _class_weights(y[counts], class_weight)
    return Weighted(x, y, weight.reshape(*weight.shape, *[1] * (y.ndim - weight.ndim)) * each)


def _class_weights(labels: np.ndarray, class_weight: Any) -> np.ndarray:
    """Returns the weight of every label."""
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"add_weights: labels are {labels.dtype}; expected integer classes.")
    classes, numbers, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ValueError(
                f"add_weights: class_weight is {class_weight!r}; expected 'balanced' or a weight "
                "for each class."
            )
        weights = len(labels) / (len(classes) * counts)
    else:
        known = class_weight if isinstance(class_weight, Mapping) else dict(enumerate(class_weight))
        missing = [int(c) for c in classes if int(c) not in known]
        if missing:
            raise ValueError(
                f"add_weights: class_weight has no weight for class {missing[0]}; expected one for "
                f"each of the classes {classes.tolist()}."
            )
        weights = np.array([known[int(c)] for c in classes], np.float64)
    if weights.size and not (np.isfinite(weights).all() and weights.min() >= 0):
        raise ValueError(f"add_weights: class weights are {weights.tolist()}; expected at least 0.")
    return weights.astype(np.float32)[numbers.reshape(-1)]


def images(pixels: np.ndarray, labels: np.ndarray, white: float) -> Split:
    """Returns a `Split` of pixels in 0 .. white, scaled to [0, 1], with a channel axis."""
    x = np.asarray(pixels, np.float32) / np.float32(white)
    return Split(x if x.ndim == 4 else x[..., None], np.asarray(labels, np.int32))


DIGITS = tuple("0123456789")
