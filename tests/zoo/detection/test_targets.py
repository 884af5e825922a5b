"""Matching, sampling, proposals, losses and decisions, against loops and by hand."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdl.zoo.detection import boxes
from jaxdl.zoo.detection.head import WEIGHTS, detect, multi_task_loss
from jaxdl.zoo.detection.rpn import propose, rpn_losses
from jaxdl.zoo.detection.targets import Matches, match, sample, sampler, smooth_l1
from tests.zoo.detection.test_boxes import draw, iou

find = jax.jit(functools.partial(match, low=0.3, high=0.5, best=True))


@given(st.integers(0, 10**6), st.integers(0, 4))
def test_matching_is_the_papers_rule(seed, objects):
    reference, truth = draw(seed, 20), draw(seed + 1, 4)
    labels = np.where(np.arange(4) < objects, 1, 0)
    matches = find(reference, truth, labels)
    overlap = np.asarray(iou(truth, reference))[:objects]
    largest = overlap.max(0, initial=-1)
    best = (overlap == overlap.max(1, keepdims=True)) & (overlap > 0)
    positive = (largest >= 0.5) | best.any(0)
    np.testing.assert_array_equal(matches.positive, positive)
    np.testing.assert_array_equal(matches.negative, (largest < 0.3) & ~positive)
    if objects:
        np.testing.assert_array_equal(matches.index, overlap.argmax(0))


draw_sample = jax.jit(functools.partial(sample, count=8, fraction=0.25))


@given(st.integers(0, 10**6), st.integers(0, 6), st.integers(0, 14))
def test_a_sample_has_its_numbers(seed, positives, negatives):
    kinds = np.random.default_rng(seed).permutation(20)
    positive, negative = kinds < positives, (kinds >= 6) & (kinds < 6 + negatives)
    sampled = draw_sample(jax.random.key(seed), positive, negative)
    indices, valid = map(np.asarray, sampled)
    chosen = indices[valid].tolist()
    assert len(set(chosen)) == len(chosen)
    first = min(positives, 2)  # a quarter of 8
    assert positive[chosen].sum() == first
    assert negative[chosen].sum() == min(negatives, 8 - first)
    assert valid.sum() == len(chosen) and not np.any(indices[~valid])


def test_a_sampler_draws_anew_in_training_only():
    layer, positive = sampler(4, 0.5), np.zeros((2, 30), bool)
    apply = jax.jit(layer.apply, static_argnames="train")
    (first, _), _ = apply({}, {}, positive, ~positive)
    (second, _), _ = apply({}, {}, positive, ~positive)
    (third, _), _ = apply({}, {}, positive, ~positive, train=True, key=jax.random.key(5))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, third) and not np.array_equal(third[0], third[1])
    with pytest.raises(ValueError, match="no key with train=True"):
        layer.apply({}, {}, positive, ~positive, train=True)
    with pytest.raises(ValueError, match="count is 31; expected at most 30"):
        sample(jax.random.key(0), positive[0], positive[0], count=31, fraction=0.5)
    with pytest.raises(ValueError, match="fraction is 0"):
        sample(jax.random.key(0), positive[0], positive[0], count=3, fraction=0)


ANCHORS = np.array([[0, 0, 10, 10], [0, 0, 20, 20], [30, 30, 40, 50], [5, 5, 9, 9]], np.float32)


@pytest.mark.row("H09")
def test_proposals_are_the_best_boxes_of_each_level():
    logits = np.array([1.0, 2.0, 3.0, 5.0], np.float32)
    wanted = np.array([[1, 2, 11, 12], [1, 2, 12, 12], [30, 30, 80, 50], [7, 7, 7, 7]], np.float32)
    wanted[3, 2:] += 1e-4  # too small to keep
    deltas = np.asarray(boxes.encode(wanted, ANCHORS))
    levels = [ANCHORS[:3], ANCHORS[3:]]
    run = functools.partial(propose, anchors=levels, image_shape=(48, 64), after=3, threshold=0.7)
    rois, valid = jax.jit(run)(logits, deltas)
    # The first box overlaps the second one of its level by more than 0.7.
    np.testing.assert_allclose(rois, [[30, 30, 64, 48], [1, 2, 12, 12], [0] * 4], atol=1e-4)
    assert valid.tolist() == [True, True, False]
    one, valid = jax.jit(functools.partial(run, before=1))(logits, deltas)
    assert valid.tolist() == [True, False, False]


@pytest.mark.row("H06", "H09")
def test_losses_by_hand():
    """The multi-task loss: cross-entropy, and the regression of objects alone."""
    truth = np.array([[0, 0, 10, 20], [0, 0, 0, 0]], np.float32)  # the second row is padding
    matches = Matches(
        jnp.array([0, 0, 1, 0]), jnp.array([True, False, False, True]), jnp.zeros(4, bool)
    )
    logits, deltas = np.array([0.0, 2.0, -1.0, 9.0], np.float32), np.zeros((4, 4), np.float32)
    indices, valid = np.array([0, 1, 2, 0]), np.array([True, True, True, False])
    objectness, box = jax.jit(rpn_losses)(logits, deltas, ANCHORS, matches, truth, indices, valid)
    softplus = lambda x: math.log1p(math.exp(x))
    assert objectness == pytest.approx((softplus(0) + softplus(2) + softplus(-1)) / 3, rel=1e-5)
    # Of anchor 0 the targets are (0, 0.5, 0, log 2).
    smooth = (0.5 - 1 / 18) + (math.log(2) - 1 / 18)
    assert box == pytest.approx(smooth / 3, rel=1e-5)

    scores = np.array([[1, 0, 2], [0, 0, 0], [5, 5, 5]], np.float32)
    own = np.zeros((3, 3, 4), np.float32)
    own[0, 2] = [0, 5, 0, 5 * math.log(2) + 1]  # an error of 1 in the last number
    own[1] = own[2] = 7  # the background and the padding have no box
    classes, box = jax.jit(multi_task_loss)(
        scores,
        own,
        np.concatenate([ANCHORS[:2], np.zeros((1, 4), np.float32)]),
        np.array([2, 0, 1]),
        truth[[0, 0, 1]],
        np.array([True, True, False]),
    )
    first = math.log(math.exp(1) + 1 + math.exp(2)) - 2
    assert classes == pytest.approx((first + math.log(3)) / 2, rel=1e-5)
    assert box == pytest.approx((1 - 1 / 18) / 2, rel=1e-4)
    errors = np.array([[0.05, -0.05], [2, 0]], np.float32)
    expected = [0.05**2 * 9, 2 - 1 / 18]
    np.testing.assert_allclose(smooth_l1(errors, np.zeros_like(errors)), expected, rtol=1e-5)


def test_decisions_by_hand():
    rois = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [20, 20, 30, 30], [0, 0, 0, 0]], np.float32)
    valid = np.array([True, True, True, False])
    scores = np.array([[0.1, 0.8, 0.1], [0.3, 0.6, 0.1], [0.02, 0.02, 0.96], [0, 1, 0]])
    logits = np.log(scores + 1e-9).astype(np.float32)
    deltas = np.zeros((4, 3, 4), np.float32)
    deltas[2, 2] = boxes.encode(np.array([22, 20, 70, 30], np.float32), rois[2], WEIGHTS)
    run = functools.partial(detect, image_shape=(40, 50), score_threshold=0.05, count=5)
    run = jax.jit(run)
    objects = run(logits, deltas, rois, valid)
    # Region 1 overlaps region 0 by more than a half: its class 1 is suppressed; and of the three
    # regions with class 2 at 0.1 one is suppressed likewise.
    assert objects.labels.tolist() == [2, 1, 2, 0, 0]
    assert objects.valid.tolist() == [True, True, True, False, False]
    np.testing.assert_allclose(objects.scores, [0.96, 0.8, 0.1, 0, 0], atol=1e-5)
    expected = [[22, 20, 50, 30], [0, 0, 10, 10], [0, 0, 10, 10], [0] * 4, [0] * 4]
    np.testing.assert_allclose(objects.boxes, expected, atol=1e-3)
    logits[0] = np.nan
    assert np.isnan(run(logits, deltas, rois, valid).scores[0])
