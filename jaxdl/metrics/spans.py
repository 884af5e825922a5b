"""Precision, recall and F1 of labelled spans; public as `jaxdl.metrics.span_f1`."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import NamedTuple


class SpanScore(NamedTuple):
    """Precision, recall and F1 of predicted spans.

    Attributes:
      precision, recall, f1: in [0, 1]; 0 / 0 is 0.
      support: the number of true spans.
      by_kind: the scores of each kind of span, with empty `by_kind`.
    """

    precision: float
    recall: float
    f1: float
    support: int
    by_kind: dict[str, SpanScore]


def spans(labels: Sequence[str]) -> set[tuple[str, int, int]]:
    """Returns the spans of IOB labels as `(kind, first, last + 1)`.

    The rules of the CoNLL-2000 scorer (Tjong Kim Sang and Buchholz 2000): B-x begins a span. I-x
    continues a span of kind x, and begins one after O or after another kind.

    Args:
      labels: such as O, B-artist, I-artist.

    Returns:
      The set of spans.

    Raises:
      ValueError: a label is not O, B-x or I-x.
    """
    result, begin, kind = set(), 0, ""
    # The additional O ends a span that reaches the last label.
    for i, label in enumerate([*labels, "O"]):
        prefix, _, name = label.partition("-")
        if label != "O" and (prefix not in ("B", "I") or not name):
            raise ValueError(f"spans: label {label!r}; expected O, or B- or I- and a kind.")
        if kind and (prefix != "I" or name != kind):
            result.add((kind, begin, i))
            kind = ""
        if name and not kind:
            begin, kind = i, name
    return result


def span_f1(output: Sequence[Sequence[str]], target: Sequence[Sequence[str]]) -> SpanScore:
    """Computes precision, recall and F1 of whole spans; kind, first and last must match.

    Args:
      output, target: the IOB labels of each sequence; see `spans`.

    Returns:
      A `SpanScore` over all sequences, and by kind.

    Raises:
      ValueError: the numbers of rows or of labels differ, or a label is no IOB label.
    """
    if len(output) != len(target):
        raise ValueError(f"span_f1: {len(output)} rows of output for {len(target)} of target.")
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for i, (guess, true) in enumerate(zip(output, target, strict=True)):
        if len(guess) != len(true):
            raise ValueError(f"span_f1: row {i} has {len(guess)} labels for {len(true)} of target.")
        predicted, expected = spans(guess), spans(true)
        groups = {"predicted": predicted, "true": expected, "correct": predicted & expected}
        for name, group in groups.items():
            for kind, _, _ in group:
                counts[kind][name] += 1
    total = sum(counts.values(), collections.Counter())
    return _score(total, {kind: _score(count, {}) for kind, count in sorted(counts.items())})


def _score(count: collections.Counter[str], by_kind: dict[str, SpanScore]) -> SpanScore:
    correct, predicted, true = count["correct"], count["predicted"], count["true"]
    precision = correct / predicted if predicted else 0.0
    recall = correct / true if true else 0.0
    f1 = 2 * correct / (predicted + true) if correct else 0.0
    return SpanScore(precision, recall, f1, true, by_kind)
