"""Accuracy by group: intervals of the literature, and a data set whose small group loses."""

import itertools

import jax
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from jaxdl import metrics, nn, train


def outcomes(*counts):
    """Returns predictions, labels and groups of (right, number) pairs."""
    right = np.concatenate([np.arange(n) < hits for hits, n in counts])
    groups = np.concatenate([np.full(n, i) for i, (_, n) in enumerate(counts)])
    return right.astype(int), np.ones(len(right), int), groups


@given(st.integers(1, 50), st.integers(0, 50), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_wilson_intervals_are_those_of_scipy(count, right, confidence):
    right = min(right, count)
    expected = stats.binomtest(right, count).proportion_ci(confidence, method="wilson")
    np.testing.assert_allclose(
        metrics.wilson_interval(right, count, confidence), expected, atol=1e-12
    )


@pytest.mark.row("R08")
@pytest.mark.parametrize(
    "counts, interval",
    [
        # Newcombe 1998, table II, method 10.
        (((56, 70), (48, 80)), (0.0524, 0.3339)),
        (((9, 10), (3, 10)), (0.1705, 0.8090)),
        (((6, 7), (2, 7)), (0.0582, 0.8062)),
        (((5, 56), (0, 29)), (-0.0381, 0.1926)),
        (((10, 10), (0, 10)), (0.6075, 1.0)),
    ],
)
def test_the_gap_has_newcombes_interval(counts, interval):
    report = metrics.group_accuracy(*outcomes(*counts))
    shares = [right / n for right, n in counts]
    assert (report.best, report.worst) == (0, 1)
    assert report.gap == pytest.approx(shares[0] - shares[1])
    np.testing.assert_allclose((report.low, report.high), interval, atol=6e-5)
    assert [row.count for row in report.groups] == [n for _, n in counts]
    assert [row.accuracy for row in report.groups] == shares


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(1, 20)), min_size=2, max_size=5),
    st.integers(0, 99),
)
def test_the_order_of_examples_does_not_matter(counts, seed):
    parts = outcomes(*((min(hits, n), n) for hits, n in counts))
    report = metrics.group_accuracy(*parts)
    order = np.random.default_rng(seed).permutation(len(parts[0]))
    assert report == metrics.group_accuracy(*(part[order] for part in parts))
    assert report.low <= report.gap <= report.high and report.gap >= 0
    for row in report.groups:
        assert 0 <= row.low <= row.accuracy <= row.high <= 1
    pairs = itertools.combinations(report.groups, 2)
    assert report.gap == max(abs(a.accuracy - b.accuracy) for a, b in pairs)


def test_more_groups_make_the_interval_wider():
    two = metrics.group_accuracy(*outcomes((56, 70), (48, 80)))
    # Three pairs: the level is 1 - 0.05 / 3.
    three = metrics.group_accuracy(*outcomes((56, 70), (48, 80), (7, 10)))
    alone = metrics.group_accuracy(*outcomes((56, 70), (48, 80)), confidence=1 - 0.05 / 3)
    assert three[1:] == alone[1:] and three.low < two.low and two.high < three.high


def test_scores_and_names():
    scores = np.eye(3)[[0, 1, 2, 0]]
    report = metrics.group_accuracy(scores, [0, 1, 1, 0], np.array(["b", "a", "a", "b"]))
    assert [row.group for row in report.groups] == ["a", "b"]
    assert (report.best, report.worst, report.gap) == ("b", "a", 0.5)


@pytest.mark.row("R08")
def test_a_small_group_loses_and_weights_help():
    """Two groups whose classes differ by different features; one has 4 % of the examples."""

    def make(small, seed, n=2000):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(n, 4)).astype(np.float32)
        group = rng.random(n) < small
        # The sign of the one feature in the one group, in part its opposite in the other.
        y = np.where(group, x[:, 1] - 0.5 * x[:, 0] > 0, x[:, 0] > 0).astype(np.int32)
        return x, y, group.astype(int)

    model = nn.serial(nn.dense(2))
    optimizer = optax.sgd(0.5)
    x, y, group = make(0.04, 0)
    test_x, test_y, test_group = make(0.5, 1)

    def report(weight):
        state, _ = train.fit(
            model,
            (x, y, weight),
            loss="cross_entropy",
            optimizer=optimizer,
            batch_size=100,
            epochs=5,
            verbose=0,
        )
        scores = jax.jit(train.predictor(model, state))(test_x)
        return metrics.group_accuracy(scores, test_y, test_group)

    plain = report(np.ones(len(y), np.float32))
    assert (plain.best, plain.worst) == (0, 1) and plain.low > 0.2
    # Both groups have the same weight together.
    balanced = report((len(y) / 2 / np.bincount(group))[group].astype(np.float32))
    assert balanced.high < plain.low


@pytest.mark.parametrize(
    "arguments, words",
    [
        (([1, 0], [1, 0], [0, 0]), "expected at least two different ones"),
        (([1, 0], [1, 0], [0, 1, 1]), r"groups \(3,\); expected"),
        (([0.5, 0.1], [1, 0], [0, 1]), "For one logit pass"),
        (([[np.nan, 1], [0, 1]], [1, 0], [0, 1]), "scores are NaN"),
        (([1, 0], [1, 0], [0, 1], 1.0), r"confidence is 1.0; expected a number in \(0, 1\)"),
    ],
)
def test_bad_arguments(arguments, words):
    *arrays, confidence = arguments if len(arguments) == 4 else (*arguments, 0.95)
    with pytest.raises(ValueError, match=words):
        metrics.group_accuracy(*map(np.array, arrays), confidence=confidence)


def test_bad_counts():
    with pytest.raises(ValueError, match="right is 3 and count 2"):
        metrics.wilson_interval(3, 2)


@pytest.mark.parametrize(
    ("predictions", "labels"),
    [
        (jax.numpy.array([0.9, -0.5, 1, 0], "bfloat16"), [1, 0, 1, 0]),
        ([1, 0, 1, 0], ["1", "0", "1", "0"]),
        ([1, 0, 1, 0], [1.0, np.nan, 1.0, 0.0]),
    ],
)
def test_values_that_are_no_classes_of_one_kind(predictions, labels):
    with pytest.raises(ValueError, match="expected classes"):
        metrics.group_accuracy(predictions, labels, [0, 0, 1, 1])
