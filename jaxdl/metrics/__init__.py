"""Metrics per example and per data set, and averages that add up exactly over batches."""

from jaxdl.metrics.dataset import (
    Collection,
    DatasetMetric,
    auc,
    average_precision,
    ece,
    f1,
    merge,
    precision,
    r2,
    recall,
    rmse,
)
from jaxdl.metrics.detection import DetectionScore, coco_map, voc_map
from jaxdl.metrics.examples import (
    Average,
    accuracy,
    binary_accuracy,
    binary_brier,
    brier,
    confusion,
    mean,
    top_k,
)
from jaxdl.metrics.fairness import GroupAccuracy, GroupReport, group_accuracy, wilson_interval
from jaxdl.metrics.names import BINARY_METRICS, METRICS, metric
from jaxdl.metrics.segmentation import miou, rand_f_score, split_segments
from jaxdl.metrics.spans import SpanScore, span_f1, spans

__all__ = [
    "BINARY_METRICS",
    "METRICS",
    "Average",
    "Collection",
    "DatasetMetric",
    "DetectionScore",
    "GroupAccuracy",
    "GroupReport",
    "SpanScore",
    "accuracy",
    "auc",
    "average_precision",
    "binary_accuracy",
    "binary_brier",
    "brier",
    "coco_map",
    "confusion",
    "ece",
    "f1",
    "group_accuracy",
    "mean",
    "merge",
    "metric",
    "miou",
    "precision",
    "r2",
    "rand_f_score",
    "recall",
    "rmse",
    "span_f1",
    "spans",
    "split_segments",
    "top_k",
    "voc_map",
    "wilson_interval",
]
