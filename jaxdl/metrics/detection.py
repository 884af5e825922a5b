"""Mean average precision of detected boxes, as defined by COCO and Pascal VOC.

Detections of a class are sorted by score and matched with true boxes; a true box is matched once.
With tp and fp counts of the first k detections and n true boxes, precision is tp / (tp + fp) and
recall tp / n. The average precision of a class is an average of p(r), the largest precision at a
recall of r or more:

    COCO        r = 0, 0.01, ..., 1     and over the IoU thresholds 0.5, 0.55, ..., 0.95
    VOC 2007    r = 0, 0.1, ..., 1      IoU 0.5
    VOC 2010    area under p(r)         IoU 0.5

Lin et al. 2014, arXiv 1405.0312, and the program pycocotools; Everingham et al. 2010,
doi:10.1007/s11263-009-0275-4. Arrays are NumPy's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = ["DetectionScore", "coco_map", "voc_map"]

Arrays = Sequence[Any] | np.ndarray
COCO_IOU = tuple(np.linspace(0.5, 0.95, 10))
AREAS = {
    "all": (0.0, np.inf),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, np.inf),
}
"""COCO's ranges of areas, in pixels."""


class DetectionScore(NamedTuple):
    """COCO's numbers, in [0, 1]; NaN where there are no true boxes.

    Attributes:
      map: mean over the classes and the IoU thresholds 0.5, 0.55, ..., 0.95.
      map_50, map_75: mean over the classes at an IoU of 0.5 and of 0.75.
      small, medium, large: `map` of boxes of areas up to 32^2, up to 96^2 and above.
      recall: mean of the largest recall over classes and thresholds, for up to 100 detections.
      by_class: `map_50` of each class.
    """

    map: float
    map_50: float
    map_75: float
    small: float
    medium: float
    large: float
    recall: float
    by_class: dict[int, float]


def coco_map(
    boxes: Arrays,
    scores: Arrays,
    labels: Arrays,
    true_boxes: Arrays,
    true_labels: Arrays,
    *,
    max_detections: int = 100,
) -> DetectionScore:
    """Computes the mean average precision of COCO.

    Crowd regions, which COCO ignores, are not supported. Areas are those of the boxes.

    Args:
      boxes: of each of N images (D, 4), x0, y0, x1, y1; or one padded array (N, D, 4).
      scores: (D,) each.
      labels: (D,) each, integers; rows with label 0, the background, are ignored.
      true_boxes, true_labels: (M, 4) and (M,) each; rows with label 0 are padding.
      max_detections: detections of an image and a class that count, those with the highest scores.

    Returns:
      A `DetectionScore`.

    Raises:
      ValueError: the numbers of images or of rows differ, or a box or score is not finite.
    """
    images = _check("coco_map", boxes, scores, labels, true_boxes, true_labels)
    classes = sorted({int(c) for image in images for c in image[4]})
    precision = {name: [] for name in AREAS}
    recall = []
    for label in classes:
        for name, area_range in AREAS.items():
            matched, ignored, order, total = _evaluate(images, label, area_range, max_detections)
            if not total:
                continue
            rows = [
                _curve(matched[t][order], ignored[t][order], total) for t in range(len(COCO_IOU))
            ]
            precision[name].append([_at_recalls(*row, np.linspace(0, 1, 101)) for row in rows])
            if name == "all":
                recall.append([r[-1] if len(r) else 0.0 for r, _ in rows])
    means = {name: np.array(values).reshape(-1, 10) for name, values in precision.items()}
    return DetectionScore(
        map=_mean(means["all"]),
        map_50=_mean(means["all"][:, 0]),
        map_75=_mean(means["all"][:, 5]),
        small=_mean(means["small"]),
        medium=_mean(means["medium"]),
        large=_mean(means["large"]),
        recall=_mean(np.array(recall)),
        by_class={
            label: float(values[0]) for label, values in zip(classes, means["all"], strict=True)
        },
    )


def voc_map(
    boxes: Arrays,
    scores: Arrays,
    labels: Arrays,
    true_boxes: Arrays,
    true_labels: Arrays,
    *,
    year: int = 2010,
    iou: float = 0.5,
) -> tuple[float, dict[int, float]]:
    """Computes the mean average precision of Pascal VOC.

    A detection belongs to the true box of its class with the largest IoU, and is false if another
    detection with a higher score does, too. Objects marked as difficult are not supported, and
    coordinates are those of edges, without VOC's additional pixel.

    Args:
      boxes, scores, labels, true_boxes, true_labels: as for `coco_map`.
      year: 2007 for the mean at 11 recalls, 2010 for the area under the curve.
      iou: the smallest IoU of a detection with its true box.

    Returns:
      `(mean, by_class)`: the mean over the classes with true boxes, NaN if there are none, and the
      average precision of each.

    Raises:
      ValueError: as for `coco_map`, or another year.
    """
    if year not in (2007, 2010):
        raise ValueError(f"voc_map: year is {year!r}; expected 2007 or 2010.")
    images = _check("voc_map", boxes, scores, labels, true_boxes, true_labels)
    by_class = {}
    for label in sorted({int(c) for image in images for c in image[4]}):
        hits, ranks, total = [], [], 0
        for detected, score, kinds, true, true_kinds in images:
            true = true[true_kinds == label]
            order = np.argsort(-score[kinds == label], kind="stable")
            overlap = _iou(detected[kinds == label][order], true)
            free = np.ones(len(true), bool)
            for row in overlap:
                best = int(row.argmax()) if len(row) else 0
                hit = bool(len(row) and row[best] >= iou and free[best])
                if hit:
                    free[best] = False
                hits.append(hit)
            ranks.append(score[kinds == label][order])
            total += len(true)
        order = np.argsort(-np.concatenate(ranks), kind="stable")
        matched = np.array(hits, bool)[order]
        recall, precision = _curve(matched, np.zeros(len(matched), bool), total)
        if year == 2007:
            # Rounded, because 0.3 from a sum of tenths exceeds a recall of 3 / 10.
            by_class[label] = _at_recalls(recall, precision, np.round(np.arange(11) / 10, 1))
        else:
            by_class[label] = float(np.sum(np.diff(recall, prepend=0) * precision))
    return _mean(np.array(list(by_class.values()))), by_class


def _evaluate(images, label: int, area_range: tuple[float, float], max_detections: int):
    """Matches the detections of a class with its true boxes, as pycocotools does.

    Returns:
      `matched` and `ignored`, (thresholds, detections) each, the order of the detections by
      descending score, and the number of true boxes in the range of areas.
    """
    matched, ignored, ranks, total = [], [], [], 0
    for boxes, scores, labels, true, true_labels in images:
        true = true[true_labels == label]
        outside = _outside(true, area_range)
        # True boxes outside of the range come last: they are matched only if no other fits.
        true, outside = true[np.argsort(outside, kind="stable")], np.sort(outside)
        order = np.argsort(-scores[labels == label], kind="stable")[:max_detections]
        rows, score = boxes[labels == label][order], scores[labels == label][order]
        overlap, small = _iou(rows, true), _outside(rows, area_range)
        hit = np.zeros((len(COCO_IOU), len(rows)), bool)
        skip = np.repeat(small[None], len(COCO_IOU), axis=0)
        for t, threshold in enumerate(COCO_IOU):
            free = np.ones(len(true), bool)
            for d, row in enumerate(overlap):
                for part in (~outside, outside):
                    candidates = np.flatnonzero(free & part & (row >= min(threshold, 1 - 1e-10)))
                    if len(candidates):
                        # The last of equal ones, as in pycocotools.
                        best = candidates[::-1][row[candidates[::-1]].argmax()]
                        free[best], hit[t, d], skip[t, d] = False, True, outside[best]
                        break
        matched.append(hit)
        ignored.append(skip)
        ranks.append(score)
        total += int((~outside).sum())
    order = np.argsort(-np.concatenate(ranks), kind="stable")
    return np.concatenate(matched, axis=1), np.concatenate(ignored, axis=1), order, total


def _curve(matched: np.ndarray, ignored: np.ndarray, total: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns recall and p(recall) after each detection that is not ignored."""
    hits = np.cumsum(matched[~ignored])
    precision = hits / np.arange(1, len(hits) + 1)
    return hits / total, np.maximum.accumulate(precision[::-1])[::-1]


def _at_recalls(recall: np.ndarray, precision: np.ndarray, points: np.ndarray) -> float:
    """Returns the mean of p(r) over given recalls r; p is 0 above the largest recall."""
    index = np.searchsorted(recall, points, side="left")
    return float(np.mean(np.append(precision, 0.0)[index]))


def _outside(boxes: np.ndarray, area_range: tuple[float, float]) -> np.ndarray:
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return (area < area_range[0]) | (area > area_range[1])


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    low, high = np.maximum(a[:, None, :2], b[:, :2]), np.minimum(a[:, None, 2:], b[:, 2:])
    common = np.prod(np.maximum(high - low, 0), axis=-1)
    area_a, area_b = (np.prod(part[:, 2:] - part[:, :2], axis=1) for part in (a, b))
    union = area_a[:, None] + area_b - common
    return common / np.where(union > 0, union, 1)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")


def _check(what: str, boxes, scores, labels, true_boxes, true_labels) -> list[tuple]:
    """Returns the arrays of each image, in float64 and without padding."""
    parts = (boxes, scores, labels, true_boxes, true_labels)
    if len({len(part) for part in parts}) != 1:
        raise ValueError(
            f"{what}: arrays of {[len(part) for part in parts]} images; expected equal numbers."
        )
    images = []
    for i, arrays in enumerate(zip(*parts, strict=True)):
        box, score, label, true, true_label = (np.asarray(a) for a in arrays)
        rows, true_rows = label.shape, true_label.shape
        if (box.shape, score.shape) != ((*rows, 4), rows) or true.shape != (*true_rows, 4):
            raise ValueError(
                f"{what}: image {i} has boxes {box.shape}, scores {score.shape}, labels {rows}, "
                f"true boxes {true.shape} and labels {true_rows}; expected (D, 4), (D,), (D,), "
                "(M, 4) and (M,)."
            )
        keep, true_keep = label != 0, true_label != 0
        floats = [a.astype(np.float64) for a in (box[keep], score[keep], true[true_keep])]
        if not all(np.isfinite(a).all() for a in floats):
            raise ValueError(f"{what}: a box or score of image {i} is not finite.")
        images.append((floats[0], floats[1], label[keep], floats[2], true_label[true_keep]))
    return images
