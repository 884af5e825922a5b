"""Metrics of segmented images: intersection over union, and the Rand score of segments."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxdl._optional import extra
from jaxdl.metrics.dataset import DatasetMetric
from jaxdl.metrics.examples import mask_unknown, read_classes

__all__ = ["miou", "rand_f_score", "split_segments"]


def miou(ignore: int | None = None) -> DatasetMetric:
    """Returns the mean intersection over union, mean_k M_kk / (sum_j M_kj + sum_i M_ik - M_kk).

    M is the confusion matrix of all pixels of the data set, so that the value does not depend on
    the batches. The mean is over the classes that are a label or a decision of some pixel.

    Args:
      ignore: a label whose pixels are not counted, such as 255 for the edges of objects in VOC.

    Returns:
      A metric in [0, 1] of scores (N, H, W, K) and integer classes (N, H, W); NaN if all pixels
      are ignored, or if another label is out of range.
    """

    def read(output, target):
        classes = read_classes("miou", output, target)
        labels = mask_unknown(classes, classes, output)
        if ignore is not None:
            labels = jnp.where(classes == ignore, -1, labels)
        return labels, jnp.argmax(output, axis=-1)

    def compute(labels, decisions, sample_weight=None):
        counted = labels >= 0
        labels, decisions = (a[counted].astype(int) for a in (labels, decisions))
        weight = np.ones(len(labels)) if sample_weight is None else sample_weight[counted]
        correct = labels == decisions
        classes = 1 + max(labels.max(initial=-1), decisions.max(initial=-1))
        both = np.bincount(labels[correct], weight[correct], minlength=classes)
        union = sum(np.bincount(a, weight, minlength=classes) for a in (labels, decisions)) - both
        present = union > 0
        return float(np.mean(both[present] / union[present])) if present.any() else float("nan")

    return DatasetMetric(compute, read, "miou")


def rand_f_score(segments: Any, target: Any) -> float:
    """Returns the foreground-restricted Rand F-score of segments, 2 sum n_ij^2 / (S + T).

    n_ij counts the pixels of segment i that are in the true segment j, S = sum_i (sum_j n_ij)^2 and
    T = sum_j (sum_i n_ij)^2. It is the F1 of pairs of pixels "in the same segment": splits and
    mergers lower it, errors within borders hardly do. Arganda-Carreras et al. 2015
    (doi:10.3389/fnana.2015.00142), eq. 1 with alpha = 1/2. The scores of several images are
    averaged.

    Args:
      segments: (H, W) integers, a number for each segment; see `split_segments`.
      target: (H, W) integers, the true segments; pixels that are 0, the border, are not counted.

    Returns:
      A number in (0, 1].

    Raises:
      ValueError: the shapes differ, the arrays are not integers, or `target` is 0 everywhere.
    """
    segments, target = np.asarray(segments), np.asarray(target)
    integers = all(np.issubdtype(a.dtype, np.integer) for a in (segments, target))
    if segments.shape != target.shape or not integers or not np.any(target):
        raise ValueError(
            f"rand_f_score: segments are {segments.dtype}{list(segments.shape)} and target "
            f"{target.dtype}{list(target.shape)}; expected integers of one shape, and a target "
            "that is not 0 everywhere. Number the segments with split_segments."
        )
    pairs = np.stack([segments[target != 0], target[target != 0]])

    def squares(a):
        counts = np.unique(a, axis=-1, return_counts=True)[1]
        return float(np.sum(counts.astype(np.float64) ** 2))

    return 2 * squares(pairs) / (squares(pairs[0]) + squares(pairs[1]))


def split_segments(interior: Any) -> np.ndarray:
    """Numbers the connected parts of a mask, and gives the pixels between to the nearest part.

    Pixels are connected along rows and columns. The result has no border, as after the thinning of
    Arganda-Carreras et al. 2015, so that the width of predicted borders does not change
    `rand_f_score`. For the target use `target * split_segments(target)`, which keeps its border.

    Args:
      interior: (H, W) bools, or integers that are 0 on the border.

    Returns:
      (H, W) integers from 1 on; 0 everywhere if the mask is empty.

    Raises:
      ValueError: `interior` is not a mask with two axes.
    """
    interior = np.asarray(interior)
    if interior.ndim != 2 or interior.dtype.kind not in "biu":
        raise ValueError(
            f"split_segments: interior is {interior.dtype}{list(interior.shape)}; expected one "
            "mask (H, W) of bools or integers. Compare probabilities with a threshold first."
        )
    with extra("metrics", "split_segments"):
        from scipy import ndimage

    parts = np.zeros(interior.shape, np.int32)
    # Without parts there is no nearest one for the distance transform to return.
    if not ndimage.label(interior, output=parts):
        return parts
    nearest = np.zeros((2, *interior.shape), np.int32)
    ndimage.distance_transform_edt(
        parts == 0, return_distances=False, return_indices=True, indices=nearest
    )
    return parts[tuple(nearest)]
