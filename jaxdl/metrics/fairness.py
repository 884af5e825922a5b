"""Accuracy of each group of examples, such as persons of different skin colour, with intervals."""

from __future__ import annotations

import math
import statistics
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxdl._check import require_number

__all__ = ["GroupAccuracy", "GroupReport", "group_accuracy", "wilson_interval"]


class GroupAccuracy(NamedTuple):
    """The accuracy of one group.

    Attributes:
      group: its name, as in `groups`.
      count: its number of examples.
      accuracy: the share of correct predictions.
      low, high: the Wilson interval of the accuracy.
    """

    group: Any
    count: int
    accuracy: float
    low: float
    high: float


class GroupReport(NamedTuple):
    """The accuracies of all groups and their largest difference.

    Attributes:
      groups: a `GroupAccuracy` for each group, in the order of their names.
      best, worst: the names of the groups with the highest and the lowest accuracy.
      gap: the difference of their accuracies.
      low, high: the interval of the gap.
    """

    groups: tuple[GroupAccuracy, ...]
    best: Any
    worst: Any
    gap: float
    low: float
    high: float


def wilson_interval(right: int, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Returns the score interval of a share, right / count.

    Wilson 1927 (doi:10.1080/01621459.1927.10502953): the shares p for which |right / count - p| is
    at most z sqrt(p (1 - p) / count). Unlike the normal approximation it is in [0, 1] and not empty
    at shares of 0 and 1.

    Args:
      right: the number of successes, 0 to `count`.
      count: the number of trials, at least 1.
      confidence: the probability that the interval covers the share, in (0, 1).

    Returns:
      `(low, high)`, in [0, 1].

    Raises:
      ValueError: an argument is out of range.
    """
    _check_confidence("wilson_interval", confidence)
    if not 0 <= right <= count or count < 1:
        raise ValueError(
            f"wilson_interval: right is {right} and count {count}; expected 0 <= right <= count "
            "and at least one trial."
        )
    z = statistics.NormalDist().inv_cdf((1 + confidence) / 2)
    share, spread = right / count, z * z / count
    centre = share + spread / 2
    width = z * math.sqrt(share * (1 - share) / count + spread / (4 * count))
    # Rounding must not exclude the shares 0 and 1 themselves.
    low = 0.0 if right == 0 else max(0.0, (centre - width) / (1 + spread))
    high = 1.0 if right == count else min(1.0, (centre + width) / (1 + spread))
    return low, high


def group_accuracy(
    predictions: Any, labels: Any, groups: Any, *, confidence: float = 0.95
) -> GroupReport:
    """Compares the accuracy of groups of examples.

    The interval of the gap is that of Newcombe 1998 (Statistics in Medicine 17, 873-890), method
    10. Of K groups it has the level 1 - (1 - confidence) / P for the P = K (K - 1) / 2 pairs
    (Bonferroni), because the pair was chosen by its gap. If it excludes 0, the groups
    differ by more than chance explains. Equal accuracies are only one kind of fairness: for the
    errors of one kind, call this function on the examples of one class.

    Args:
      predictions: (N,) predicted classes, or (N, C) scores, whose largest is the prediction.
      labels: (N,) true classes.
      groups: (N,) the group of each example: integers, truth values or strings.
      confidence: the level of all intervals, in (0, 1).

    Returns:
      A `GroupReport`.

    Raises:
      ValueError: the arrays do not fit, scores are NaN, there are fewer than two groups, or
        `confidence` is out of range.
    """
    _check_confidence("group_accuracy", confidence)
    predictions, labels, groups = (np.asarray(a) for a in (predictions, labels, groups))
    if predictions.ndim == 2 and predictions.shape[1] > 1:
        if np.isnan(predictions.astype(np.float64)).any():
            raise ValueError("group_accuracy: scores are NaN; expected numbers.")
        predictions = predictions.argmax(1)
    if predictions.ndim != 1 or not predictions.shape == labels.shape == groups.shape:
        raise ValueError(
            f"group_accuracy: predictions have shape {predictions.shape}, labels {labels.shape} "
            f"and groups {groups.shape}; expected (N,) each, or scores (N, C) as predictions."
        )
    if jnp.issubdtype(predictions.dtype, jnp.floating):  # also bfloat16
        raise ValueError(
            f"group_accuracy: predictions are {predictions.dtype}; expected classes (N,) or scores "
            "(N, C). For one logit pass predictions > 0."
        )
    if jnp.issubdtype(labels.dtype, jnp.floating):
        raise ValueError(f"group_accuracy: labels are {labels.dtype}; expected classes (N,).")
    if (predictions.dtype.kind in "US") != (labels.dtype.kind in "US"):
        raise ValueError(
            f"group_accuracy: predictions are {predictions.dtype} and labels {labels.dtype}; "
            "expected classes of one kind."
        )
    names, members = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        raise ValueError(
            f"group_accuracy: groups are {names.tolist()}; expected at least two different ones."
        )
    right = predictions == labels
    hits, totals = np.bincount(members, right).astype(int), np.bincount(members)
    counts = list(zip(hits.tolist(), totals.tolist(), strict=True))
    rows = tuple(
        GroupAccuracy(name, n, hits / n, *wilson_interval(hits, n, confidence))
        for name, (hits, n) in zip(names.tolist(), counts, strict=True)
    )
    best = max(range(len(rows)), key=lambda i: rows[i].accuracy)
    worst = min(range(len(rows)), key=lambda i: rows[i].accuracy)
    pairs = math.comb(len(rows), 2)
    level = 1 - (1 - confidence) / pairs
    (low1, high1), (low2, high2) = (wilson_interval(*counts[i], level) for i in (best, worst))
    share1, share2 = rows[best].accuracy, rows[worst].accuracy
    gap = share1 - share2
    return GroupReport(
        rows,
        rows[best].group,
        rows[worst].group,
        gap,
        gap - math.hypot(share1 - low1, high2 - share2),
        gap + math.hypot(high1 - share1, share2 - low2),
    )


def _check_confidence(caller: str, confidence: Any) -> None:
    require_number(caller, "a number in (0, 1)", lambda c: 0 < c < 1, confidence=confidence)
