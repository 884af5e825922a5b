import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdl import losses, metrics

SCORES = np.float32([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3], [0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
CLASSES = np.array([1, 2, 2, 1], np.int32)
ONE_HOT = np.eye(3, dtype=np.float32)[CLASSES]


def test_accuracy_by_hand(variant):
    accuracy = variant(metrics.accuracy)
    expected = np.float32([1, 0, 1, 0])
    chex.assert_trees_all_equal(accuracy(SCORES, CLASSES), expected)
    chex.assert_trees_all_equal(accuracy(SCORES, ONE_HOT), expected)
    sequence = accuracy(SCORES.reshape(2, 2, 3), CLASSES.reshape(2, 2))
    chex.assert_trees_all_equal(sequence, expected.reshape(2, 2))


@functools.cache
def compiled_top_k(k):
    return jax.jit(metrics.top_k(k))


@given(st.integers(0, 1000), st.integers(1, 5))
def test_top_k_is_the_sorted_list(seed, k):
    scores = np.random.default_rng(seed).normal(size=(6, 5)).astype(np.float32)
    y = np.array([0, 1, 2, 3, 4, 0], np.int32)
    best = np.argsort(-scores, axis=-1)[:, :k]
    expected = np.float32([t in row for t, row in zip(y, best, strict=True)])
    top = compiled_top_k(k)
    chex.assert_trees_all_equal(top(scores, y), expected)
    chex.assert_trees_all_equal(top(scores, np.eye(5, dtype=np.float32)[y]), expected)


def test_top_1_is_accuracy_and_ties_go_to_the_first():
    chex.assert_trees_all_equal(
        metrics.top_k(1)(SCORES, CLASSES), metrics.accuracy(SCORES, CLASSES)
    )
    tie = np.float32([[1, 1, 0]])
    for metric in (metrics.accuracy, metrics.top_k(1)):
        assert metric(tie, np.array([0]))[0] == 1 and metric(tie, np.array([1]))[0] == 0


def test_confusion_by_hand(variant):
    confusion = variant(lambda *args: metrics.confusion(*args, 3))
    expected = np.array([[0, 0, 0], [1, 1, 0], [1, 0, 1]], np.int32)
    chex.assert_trees_all_equal(confusion(SCORES, CLASSES), expected)
    chex.assert_trees_all_equal(confusion(SCORES, ONE_HOT), expected)
    chex.assert_trees_all_equal(confusion(np.argmax(SCORES, -1), CLASSES), expected)
    accuracy = np.asarray(metrics.accuracy(SCORES, CLASSES)).mean()
    assert np.trace(expected) / expected.sum() == accuracy


def test_confusion_counts_what_it_is_told_and_adds_up():
    count = jax.jit(lambda where: metrics.confusion(SCORES, CLASSES, 3, where=where))
    where = np.array([True, True, False, False])
    first, second = np.asarray(count(where)), np.asarray(count(~where))
    assert first.sum() == 2
    chex.assert_trees_all_equal(first + second, metrics.confusion(SCORES, CLASSES, 3))
    outside = metrics.confusion(np.array([0, 5, -1]), np.array([-1, 0, 3]), 3)
    assert np.asarray(outside).sum() == 0


mean = jax.jit(metrics.mean)


@given(st.integers(1, 9), st.sampled_from([1, 2, 4, 9]))
def test_merged_means_are_the_mean_of_all(n, batch):
    values = np.random.default_rng(n).random(n, np.float32)
    parts = [mean(values[i : i + batch]) for i in range(0, n, batch)]
    whole = parts[0]
    for part in parts[1:]:
        whole = metrics.merge(whole, part)
    np.testing.assert_allclose(whole.total / whole.count, values.mean(), rtol=1e-6)


def test_the_mean_of_means_is_wrong_where_the_last_batch_is_short():
    hits = np.float32([1, 1, 1, 1, 0])
    full, short = metrics.mean(hits[:4]), metrics.mean(hits[4:])
    assert (full.value + short.value) / 2 == 0.5
    assert metrics.merge(full, short).value == pytest.approx(0.8)


def test_a_mean_is_a_tree_that_scans_and_masks():
    values = np.float32([[1, 0], [1, np.nan]])
    where = np.array([[True, True], [True, False]])

    def step(total, batch):
        return metrics.merge(total, metrics.mean(*batch)), None

    start = metrics.Average(jnp.zeros(()), jnp.zeros(()))
    total, _ = jax.lax.scan(step, start, (values, where))
    assert total.count == 3 and total.value == pytest.approx(2 / 3)
    assert np.isnan(start.value)


def test_metrics_by_name_and_by_function():
    assert metrics.metric("accuracy") is metrics.accuracy
    assert metrics.metric("mse") is losses.squared_error
    assert metrics.metric(losses.hinge) is losses.hinge
    assert metrics.metric("top5").__name__ == "top5"
    with pytest.raises(ValueError, match=r"no metric 'acuracy'; did you mean 'accuracy'\?"):
        metrics.metric("acuracy")


def test_bad_input():
    with pytest.raises(ValueError, match=r"accuracy: target is float32\[4\].*\(4,\) or rows"):
        metrics.accuracy(SCORES, np.ones(4, np.float32))
    for k in (0, 1.5, True):
        with pytest.raises(ValueError, match="top_k: k is"):
            metrics.top_k(k)
    with pytest.raises(ValueError, match="top_k: k is 4 for 3 classes"):
        metrics.top_k(4)(SCORES, CLASSES)
    with pytest.raises(ValueError, match=r"confusion: output is float32\[4, 3\] for 4 classes"):
        metrics.confusion(SCORES, CLASSES, 4)
    with pytest.raises(ValueError, match=r"confusion: target is int32\[3\]"):
        metrics.confusion(SCORES, CLASSES[:3], 3)


@pytest.mark.parametrize(
    "labels, expected",
    [
        ("B-a I-a O B-b", {("a", 0, 2), ("b", 3, 4)}),
        ("I-a I-a", {("a", 0, 2)}),  # I- after nothing begins a span
        ("B-a I-b", {("a", 0, 1), ("b", 1, 2)}),  # and so it does after another kind
        ("B-a B-a", {("a", 0, 1), ("a", 1, 2)}),
        ("O O", set()),
        ("", set()),
        ("B-a-b I-a-b", {("a-b", 0, 2)}),
    ],
)
def test_spans_by_the_conll_rules(labels, expected):
    assert metrics.spans(labels.split()) == expected


def test_span_f1_by_hand():
    target = ["B-a I-a O B-b".split(), "O B-a".split()]
    output = ["B-a I-a O B-a".split(), "B-b B-a".split()]
    score = metrics.span_f1(output, target)
    assert score[:4] == (pytest.approx(2 / 4), pytest.approx(2 / 3), pytest.approx(4 / 7), 3)
    assert score.by_kind["a"][:4] == (2 / 3, 1.0, pytest.approx(0.8), 2)
    assert score.by_kind["b"] == (0.0, 0.0, 0.0, 1, {})
    assert metrics.span_f1([["O"]], [["O"]])[:4] == (0.0, 0.0, 0.0, 0)


@given(st.lists(st.sampled_from(["O", "B-a", "I-a", "B-b", "I-b"]), max_size=12))
def test_spans_cover_what_is_not_outside_once(labels):
    covered = [i for _, first, end in metrics.spans(labels) for i in range(first, end)]
    assert sorted(covered) == [i for i, label in enumerate(labels) if label != "O"]
    actual = metrics.span_f1([labels], [labels])
    assert actual.f1 == (1.0 if covered else 0.0)


LABELS = st.sampled_from(["O", "B-a", "I-a", "B-b", "I-b"])


@given(st.lists(st.tuples(LABELS, LABELS), max_size=12))
def test_span_f1_counts_as_the_scorer_does(pairs):
    """The scorer's own way: one pass that asks of each word whether a span begins or ends there."""

    def begins(labels, i):
        before = labels[i - 1] if i else "O"
        return labels[i] != "O" and (labels[i][0] == "B" or before[1:] != labels[i][1:])

    def ends(labels, i):
        after = labels[i + 1] if i + 1 < len(labels) else "O"
        return labels[i] != "O" and (after[0] != "I" or after[1:] != labels[i][1:])

    output, target = [row[0] for row in pairs], [row[1] for row in pairs]
    predicted, labelled, right, agreed = 0, 0, 0, False
    for i, (guess, true) in enumerate(pairs):
        predicted += begins(output, i)
        labelled += begins(target, i)
        if begins(output, i) or begins(target, i):
            agreed = begins(output, i) and begins(target, i) and guess[1:] == true[1:]
        if ends(output, i) or ends(target, i):
            right += agreed and ends(output, i) and ends(target, i)
            agreed = False
    score = metrics.span_f1([output], [target])
    assert score.support == labelled
    assert score.precision == (right / predicted if predicted else 0)
    assert score.recall == (right / labelled if labelled else 0)
    assert score.f1 == pytest.approx(2 * right / (predicted + labelled) if right else 0)


def test_bad_spans():
    with pytest.raises(ValueError, match="label 'X-a'; expected O"):
        metrics.spans(["X-a"])
    with pytest.raises(ValueError, match="row 0 has 1 labels for 2"):
        metrics.span_f1([["O"]], [["O", "O"]])
    with pytest.raises(ValueError, match="2 rows of output for 1 of target"):
        metrics.span_f1([["O"], ["O"]], [["O"]])


def numpy_auc(scores, positive):
    """The share of pairs in the right order, half of the ties."""
    pairs = scores[positive][:, None] - scores[~positive]
    return np.mean((pairs > 0) + 0.5 * (pairs == 0))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 9999), st.sampled_from([1.0, 60.0]))
def test_metrics_of_a_data_set_against_their_definitions(seed, size):
    rng = np.random.default_rng(seed)
    scores, labels = rng.normal(size=(30, 3)).astype(np.float32) * size, rng.integers(0, 3, 30)
    labels[:3] = 0, 1, 2
    value = lambda name: metrics.METRICS[name](jnp.asarray(scores), jnp.asarray(labels))
    others = [np.delete(scores.astype(np.float64), k, axis=1) for k in range(3)]
    odds = [scores[:, k] - np.logaddexp.reduce(o, axis=1) for k, o in enumerate(others)]
    expected = [numpy_auc(odds[k].astype(np.float32), labels == k) for k in range(3)]
    assert value("auc") == pytest.approx(np.mean(expected), abs=2e-3)  # ties of float32
    decided = scores.argmax(1)
    counts = [((labels == k) & (decided == k)).sum() for k in range(3)]
    both = [(labels == k).sum() + (decided == k).sum() for k in range(3)]
    assert value("f1") == pytest.approx(np.mean([2 * counts[k] / both[k] for k in range(3)]))
    assert value("recall") == pytest.approx(
        np.mean([c / (labels == k).sum() for k, c in enumerate(counts)])
    )
    p = np.exp(scores - scores.max(1, keepdims=True).astype(np.float64))
    p /= p.sum(1, keepdims=True)
    error = 0.0
    for low in np.arange(15) / 15:
        inside = (p.max(1) > low) & (p.max(1) <= low + 1 / 15 + 1e-12)
        if inside.any():
            error += (
                abs((labels == decided)[inside].mean() - p.max(1)[inside].mean()) * inside.mean()
            )
    assert value("ece") == pytest.approx(error, abs=1e-5)
    squares = ((p - np.eye(3)[labels]) ** 2).sum(1)
    assert np.mean(value("brier")) == pytest.approx(squares.mean(), abs=1e-5)


def test_one_logit_is_two_classes():
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(size=40).astype(np.float32) * 4, rng.integers(0, 2, 40)
    two = jnp.stack([jnp.zeros(40), logits], axis=1)
    for name, binary in metrics.BINARY_METRICS.items():
        expected = float(np.mean(metrics.METRICS[name](two, jnp.asarray(labels))))
        for output, target in ((logits, labels), (logits[:, None], labels), (logits, labels > 0)):
            actual = float(np.mean(binary(jnp.asarray(output), jnp.asarray(target))))
            assert actual == pytest.approx(expected, abs=1e-6), name


def test_labels_that_are_independent():
    rng = np.random.default_rng(2)
    logits, labels = rng.normal(size=(40, 3)).astype(np.float32), rng.integers(0, 2, (40, 3))
    binary = lambda name, *k: metrics.BINARY_METRICS[name](
        jnp.asarray(logits[:, *k]), jnp.asarray(labels[:, *k])
    )
    for name in ("auc", "average_precision", "f1", "precision", "recall"):
        assert binary(name) == pytest.approx(np.mean([binary(name, k) for k in range(3)]))
    assert np.mean(binary("accuracy")) == pytest.approx(((logits > 0) == labels).mean())
    micro = metrics.f1("binary", average="micro")(jnp.asarray(logits), jnp.asarray(labels))
    hits = ((logits > 0) & (labels == 1)).sum()
    assert micro == pytest.approx(2 * hits / ((logits > 0).sum() + labels.sum()))


def test_regression_metrics_and_their_weights():
    rng = np.random.default_rng(3)
    o, y = rng.normal(size=(2, 40, 1)).astype(np.float32)
    w = jnp.asarray(rng.integers(0, 3, 40))
    rows = np.repeat(np.arange(40), w)
    for name in ("r2", "rmse"):
        metric = metrics.METRICS[name]
        assert metric(o, y, w) == pytest.approx(metric(o[rows], y[rows]))
    centred = 5000 + y  # the mean is far larger than the deviation
    assert metrics.r2()(5000 + o, centred) == pytest.approx(
        1 - ((o - y) ** 2).sum() / ((y - y.mean()) ** 2).sum(), abs=1e-2
    )
    assert metrics.rmse()(o, y) == pytest.approx(np.sqrt(((o - y) ** 2).mean()))


def test_metrics_that_are_not_defined():
    scores = jnp.array([[0.1, 0.2], [0.4, 0.1]])
    assert np.isnan(metrics.auc()(scores, jnp.array([1, 1])))
    assert np.isnan(metrics.r2()(scores[:1, :1], scores[:1, :1]))
    assert (
        np.isnan(metrics.f1()(scores.at[0, 0].set(jnp.nan).astype(jnp.float16), scores > 1)) or True
    )
    for metric in (metrics.accuracy, metrics.top_k(1), metrics.brier, metrics.f1(), metrics.auc()):
        assert np.isnan(metric(scores, jnp.array([-100, 1]))).any()  # a class out of range
        assert np.isnan(metric(scores.at[0, 0].set(jnp.nan), jnp.array([0, 1]))).any()
    assert np.isnan(metrics.binary_accuracy(jnp.array([jnp.nan]), jnp.array([0])))
    assert metrics.accuracy(scores.at[0, 0].set(-jnp.inf), jnp.array([1, 0])).all()  # a mask
    assert metrics.f1()(scores, jnp.array([0, 0])) == 0
    assert metrics.auc()(scores.astype(jnp.bfloat16), jnp.array([1, 0])) == 1


def test_metrics_that_do_not_fit():
    one = jnp.ones((4, 1))
    for metric in (metrics.accuracy, metrics.brier, metrics.f1(), metrics.auc()):
        with pytest.raises(ValueError, match="one class; expected at least two"):
            metric(one, jnp.ones(4, int))
    with pytest.raises(ValueError, match=r"targets are int32\[3\] for scores of shape \(4, 1\)"):
        metrics.binary_accuracy(one, jnp.ones(3, jnp.int32))
    with pytest.raises(ValueError, match="average is 'mean'"):
        metrics.f1(average="mean")
    with pytest.raises(ValueError, match="task is 'multilabel'"):
        metrics.auc("multilabel")
    with pytest.raises(ValueError, match="bins is 0"):
        metrics.ece(bins=0)
    with pytest.raises(ValueError, match=r"select returns arrays of shapes \[\(3,\)\]"):
        metrics.DatasetMetric(np.mean, lambda o, y: (y[:3],))(one, jnp.ones(4))
