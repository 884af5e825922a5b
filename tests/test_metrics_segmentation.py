"""Metrics of segmented images."""

import itertools

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdl import losses, metrics

dice = jax.jit(losses.dice)


def draw(seed, n=3, classes=4):
    """Scores (n, 5, 6, classes) and labels, which are the decisions at about half of the pixels."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n, 5, 6, classes)).astype(np.float32)
    random = rng.integers(0, classes - 1, (n, 5, 6))
    labels = np.where(rng.random((n, 5, 6)) < 0.5, scores.argmax(-1), random)
    return scores, labels.astype(np.int32)


def loop(scores, labels, weight=None):
    """Mean intersection over union, class by class and pixel by pixel."""
    decisions, ratios = scores.argmax(-1), []
    weight = np.ones(labels.shape) if weight is None else weight
    for k in range(scores.shape[-1]):
        both = either = 0.0
        for d, y, w in zip(decisions.ravel(), labels.ravel(), weight.ravel(), strict=True):
            both += w * (d == k == y)
            either += w * (d == k or y == k)
        ratios += [both / either] if either else []
    return np.mean(ratios)


@pytest.mark.row("H02")
@given(st.integers(0, 1000))
def test_miou_is_exact_over_batches(seed):
    scores, labels = draw(seed)
    metric = metrics.metric("miou")
    parts = [metric.collect(scores[part], labels[part]) for part in (slice(2), slice(2, 3))]
    expected = loop(scores, labels)
    assert metric(scores, labels) == pytest.approx(expected)
    assert metrics.merge(*parts).value == pytest.approx(expected)
    weight = np.random.default_rng(seed).random((3, 5, 6)).astype(np.float32)
    assert metric(scores, labels, weight) == pytest.approx(loop(scores, labels, weight), rel=1e-5)


@pytest.mark.row("H02")
def test_ignored_pixels_and_absent_classes():
    scores, labels = draw(0)
    labels[0, :2] = 255
    kept = labels != 255
    expected = loop(scores, np.where(kept, labels, 0), kept * 1.0)
    assert metrics.miou(ignore=255)(scores, labels) == pytest.approx(expected)
    assert np.isnan(metrics.miou()(scores, labels))
    assert np.isnan(metrics.miou(ignore=0)(scores, 0 * labels))
    perfect = np.eye(4, dtype=np.float32)[[[0, 2, 2]]]
    assert metrics.miou()(perfect, np.array([[0, 2, 2]])) == 1  # classes 1 and 3 do not occur
    accuracy = metrics.mean(metrics.accuracy(perfect, np.array([[0, 2, 1]])))
    assert accuracy.value == pytest.approx(2 / 3) and accuracy.count == 3


def pairs(segments, target):
    """F1 of "two pixels are in the same segment", over all pairs of pixels of the foreground."""
    pixels = [(s, t) for s, t in zip(segments.ravel(), target.ravel(), strict=True) if t]
    both = proposed = true = 0
    for (s, t), (other, target) in itertools.product(pixels, pixels):
        both += s == other and t == target
        proposed += s == other
        true += t == target
    precision, recall = both / proposed, both / true
    return 2 * precision * recall / (precision + recall)


@pytest.mark.row("H11")
@given(st.integers(0, 1000))
def test_the_rand_score_is_that_of_all_pairs_of_pixels(seed):
    rng = np.random.default_rng(seed)
    segments, target = rng.integers(1, 4, (6, 7)), rng.integers(0, 3, (6, 7))
    score = metrics.rand_f_score(segments, target)
    assert score == pytest.approx(pairs(segments, target))
    renamed = np.array([0, 70, 5, 12])[segments]
    assert metrics.rand_f_score(renamed, target) == score


def test_a_merger_lowers_the_rand_score_and_a_wide_border_does_not():
    target = np.ones((9, 21), int)
    target[:, 10] = 0
    true = target * metrics.split_segments(target)
    assert sorted(np.unique(true)) == [0, 1, 2]
    assert metrics.rand_f_score(metrics.split_segments(target), true) == 1
    wide = target.copy()
    wide[:, 8:12] = 0
    assert metrics.rand_f_score(metrics.split_segments(wide), true) == 1
    gap = target.copy()
    gap[4, 10] = 1  # one pixel of the border missing joins both cells
    assert metrics.rand_f_score(metrics.split_segments(gap), true) == pytest.approx(2 / 3)


def test_connected_parts():
    mask = np.array([[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 1]], bool)
    parts = metrics.split_segments(mask)
    assert len({parts[0, 0], parts[1, 1], parts[1, 3]}) == 3  # a diagonal does not connect
    assert parts[1, 3] == parts[2, 3] == parts[0, 3] and parts.min() == 1
    assert not metrics.split_segments(np.zeros((2, 3), bool)).any()


def test_invalid_input():
    with pytest.raises(ValueError, match=r"interior is float64\[2, 2\].*with a threshold first"):
        metrics.split_segments(np.ones((2, 2)))
    whole = np.ones((2, 2), int)
    for segments, target in ((whole[:1], whole), (whole * 1.0, whole), (whole, 0 * whole)):
        with pytest.raises(ValueError, match="rand_f_score: segments are .*not 0 everywhere"):
            metrics.rand_f_score(segments, target)


@given(st.integers(0, 1000))
def test_dice_is_its_formula(seed):
    scores, labels = draw(seed, n=2)
    p = np.exp(np.float64(scores))
    p /= p.sum(-1, keepdims=True)
    expected = []
    for image in range(2):
        y = np.eye(4)[labels[image]]
        overlap = [
            2 * (p[image, ..., k] * y[..., k]).sum() / (p[image, ..., k] ** 2 + y[..., k]).sum()
            for k in range(4)
            if y[..., k].any()
        ]
        expected.append(1 - np.mean(overlap))
    np.testing.assert_allclose(dice(scores, labels), expected, rtol=1e-5)
    rows = np.eye(4, dtype=np.float32)[labels]
    np.testing.assert_allclose(dice(scores, rows), expected, rtol=1e-5)


def test_dice_at_its_ends():
    labels = np.zeros((1, 4, 4), np.int32)
    labels[0, 0] = 1
    right = 1e4 * (np.eye(3, dtype=np.float32)[labels] - 0.5)
    assert losses.dice(right, labels)[0] == 0 and losses.dice(-right, labels)[0] > 0.8
    assert np.isnan(losses.dice(right, labels + 2)).all()
    with pytest.raises(ValueError, match=r"dice: the output has shape \(4, 3\)"):
        losses.dice(right[0, 0], labels[0, 0])


@pytest.mark.row("H02")
def test_cross_entropy_of_pixels():
    """The probabilities of a pixel add up to 1, and its loss is -log of the one of its class."""
    scores, labels = draw(0)
    p = np.exp(np.float64(scores))
    p /= p.sum(-1, keepdims=True)
    values = losses.cross_entropy(scores, labels)
    expected = -np.log(np.take_along_axis(p, labels[..., None], -1))[..., 0]
    np.testing.assert_allclose(values, expected, rtol=1e-5)
