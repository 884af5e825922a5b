"""Precision, recall and F1 of labelled spans; public as `jaxdl.metrics.span_f1`."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import NamedTuple


class SpanScore(NamedTuple):
    """How well spans were found.

    Attributes:
      precision, recall, f1: in [0, 1]; 0 where they would be 0 / 0.
      support: the number of true spans.
      by_kind: the same for each kind of span, whose own `by_kind` is empty.
    """

    precision: float
    recall: float
    f1: float
    support: int
    by_kind: dict[str, SpanScore]


def spans(labels: Sequence[str]) -> set[tuple[str, int, int]]:
    """The spans of IOB labels: `(kind, first, last + 1)`.

    The rules of the CoNLL-2000 scorer (Tjong Kim Sang and Buchholz 2000): B-x begins a span, and
    I-x goes on with one of kind x, or begins one after O or after another kind.

    Args:
      labels: such as O, B-artist, I-artist.

    Returns:
      The set of spans.

    Raises:
      ValueError: a label is none of O, B-x and I-x.
    """
    found, begin, kind = set(), 0, ""
    for i, label in enumerate([*labels, "O"]):
        prefix, _, name = label.partition("-")
        if label != "O" and (prefix not in ("B", "I") or not name):
            raise ValueError(f"spans: label {label!r}; expected O, or B- or I- and a kind.")
        if kind and (prefix != "I" or name != kind):
            found.add((kind, begin, i))
            kind = ""
        if name and not kind:
            begin, kind = i, name
    return found


def span_f1(output: Sequence[Sequence[str]], target: Sequence[Sequence[str]]) -> SpanScore:
    """Precision, recall and F1 of whole spans: right if kind, first and last all are.

    Args:
      output, target: for each sequence its IOB labels; see `spans`.

    Returns:
      A `SpanScore` over all sequences, and by kind.

    Raises:
      ValueError: the two differ in number of rows or of labels; a label is no IOB label.
    """
    if len(output) != len(target):
        raise ValueError(f"span_f1: {len(output)} rows of output for {len(target)} of target.")
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for i, (guess, true) in enumerate(zip(output, target, strict=True)):
        if len(guess) != len(true):
            raise ValueError(f"span_f1: row {i} has {len(guess)} labels for {len(true)} of target.")
        found, wanted = spans(guess), spans(true)
        for name, group in (("found", found), ("wanted", wanted), ("right", found & wanted)):
            for kind, _, _ in group:
                counts[kind][name] += 1
    total = sum(counts.values(), collections.Counter())
    return _score(total, {kind: _score(count, {}) for kind, count in sorted(counts.items())})


def _score(count: collections.Counter[str], by_kind: dict[str, SpanScore]) -> SpanScore:
    right, found, wanted = count["right"], count["found"], count["wanted"]
    share = lambda whole: right / whole if whole else 0.0  # noqa: E731
    f1 = 2 * right / (found + wanted) if right else 0.0
    return SpanScore(share(found), share(wanted), f1, wanted, by_kind)
