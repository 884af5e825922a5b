"""Weights of examples, classes and steps, in losses and metrics; broadcast losses."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxdl
from jaxdl import data, losses, metrics, nn, serial, train
from tests.train import toy

MODEL, SGD = toy.mlp(), optax.sgd(0.1)
X, Y = toy.data()
fit = functools.partial(
    train.fit, MODEL, loss="cross_entropy", optimizer=SGD, batch_size=50, verbose=0
)
evaluate = functools.partial(
    train.evaluate, loss="cross_entropy", metrics=["accuracy", "f1", "auc"], batch_size=16
)


@functools.cache
def state():
    return fit((X, Y), epochs=3)[0]


def test_a_weight_is_a_number_of_copies():
    """A batch of all rows, weighted, descends as one in which each row stands so many times."""
    copies = np.arange(50) % 3
    rows = np.repeat(np.arange(50), copies)
    weighted, _ = fit((X, Y, copies.astype(np.float32)), epochs=3)
    copied, _ = fit((X[rows], Y[rows]), batch_size=len(rows), epochs=3)
    chex.assert_trees_all_close(weighted.params, copied.params, rtol=1e-4, atol=1e-6)
    actual = evaluate(MODEL, state(), (X, Y, copies))
    expected = evaluate(MODEL, state(), (X[rows], Y[rows]))
    assert actual == pytest.approx(expected, rel=1e-5)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 99))
def test_weighted_means_are_those_of_numpy(seed):
    weight = np.random.default_rng(seed).uniform(size=50).astype(np.float32)
    weight[::5] = 0
    result = train.evaluate(
        MODEL, state(), (X, Y, weight), loss="cross_entropy", metrics=["accuracy"], batch_size=16
    )
    logits = np.asarray(train.predict(MODEL, state(), X), np.float64)
    values = np.log(np.exp(logits).sum(1)) - logits[np.arange(50), Y]
    assert result["loss"] == pytest.approx(np.average(values, weights=weight), rel=1e-5)
    right = logits.argmax(1) == Y
    assert result["accuracy"] == pytest.approx(np.average(right, weights=weight), rel=1e-5)


def test_labels_to_ignore_leave_no_trace():
    labels = np.where(np.arange(50) % 4 == 0, -100, Y)
    kept = labels >= 0
    ignoring = data.add_weights(X, labels, ignore_index=-100)
    assert ignoring.weight.dtype == np.float32 and set(ignoring.weight) == {0, 1}
    steps = np.ones((4, 3), int)  # batches without a label to ignore have weights of the same shape
    assert data.add_weights(steps, steps, ignore_index=-100).weight.shape == (4, 3)
    expected = evaluate(MODEL, state(), (X[kept], Y[kept]))
    assert evaluate(MODEL, state(), ignoring) == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match="labels from -100 to 2.*ignore_index=-100"):
        evaluate(MODEL, state(), (X, labels))
    masked = X, labels, kept  # what has no weight is not looked at
    assert evaluate(MODEL, state(), masked) == pytest.approx(expected, rel=1e-5)


def test_padded_steps_of_sequences():
    """The labels of the padding in a tagger, against a mean over the real steps alone."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 5, (20, 6)).astype(np.int32)
    lengths = rng.integers(1, 6, 20).astype(np.int32)
    labels = np.where(np.arange(6) < lengths[:, None], (tokens + 1) % 5, -100).astype(np.int32)
    net = serial(nn.embedding(5, 4), nn.dense(5))
    pairs = data.add_weights(tokens, labels, ignore_index=-100)
    trained, history = train.fit(
        net, pairs, loss="cross_entropy", optimizer=optax.adam(0.1), batch_size=8, epochs=20,
        verbose=0,
    )  # fmt: skip
    result = train.evaluate(net, trained, pairs, loss="cross_entropy", metrics=["accuracy", "f1"])
    logits = np.asarray(train.predict(net, trained, tokens), np.float64)
    real = labels >= 0
    values = np.log(np.exp(logits).sum(-1)) - np.take_along_axis(
        logits, np.maximum(labels, 0)[..., None], -1
    )[..., 0]  # fmt: skip
    assert result["loss"] == pytest.approx(values[real].mean(), abs=1e-6)
    assert result["accuracy"] == (logits.argmax(-1) == labels)[real].mean() == 1
    assert result["f1"] == 1
    assert history["accuracy"][-1] == 1


def test_class_weights():
    weights = {0: 1.0, 1: 5.0, 2: 0.0}
    expected = np.array([weights[k] for k in Y], np.float32)
    np.testing.assert_array_equal(data.add_weights(X, Y, class_weight=weights).weight, expected)
    listed = data.add_weights(X, Y, class_weight=[1, 5, 0], sample_weight=np.full(50, 2.0))
    np.testing.assert_array_equal(listed.weight, 2 * expected)
    balanced = data.add_weights(X, Y, class_weight="balanced").weight
    totals = [balanced[k == Y].sum() for k in range(3)]
    np.testing.assert_allclose(totals, 50 / 3, rtol=1e-6)


def test_a_batch_without_weight_changes_nothing():
    weight = np.ones(50, np.float32)
    weight[:16] = 0
    step = jax.jit(train.make_train_step(MODEL, "cross_entropy", SGD))
    new, values = step(state(), (X[:16], Y[:16], weight[:16]))
    chex.assert_trees_all_equal(new.params, state().params)
    assert values["loss"] == (0, 0)


def test_weights_of_images_weigh_pixels():
    values = jnp.arange(24.0).reshape(2, 3, 4)
    weight = jnp.array([[1.0, 0, 2], [0, 0, 1]])
    expected = np.average(np.asarray(values).mean(-1), weights=weight)
    assert losses.reduce(values, weight) == pytest.approx(expected)
    assert losses.reduce(values.at[1, 0].set(jnp.nan), weight) == pytest.approx(expected)


ONE = serial(nn.dense(8), jax.nn.relu, nn.dense(1))
LOGITS = jnp.array([[0.3], [-1], [2], [0]])
BROADCAST = {
    "(N, 1) and (N,)": (lambda o, y: (o - y) ** 2, LOGITS, jnp.arange(4.0)),
    "their mean": (lambda o, y: ((o - y) ** 2).mean(-1), LOGITS, jnp.arange(4.0)),
    "of optax": (optax.losses.sigmoid_binary_cross_entropy, LOGITS, jnp.array([0, 1, 1, 0])),
    "(N,) and (N, 1)": (lambda o, y: (o - y) ** 2, LOGITS[:, 0], jnp.ones((4, 1))),
    "(N, 1) and (N, 3)": (lambda o, y: (o - y) ** 2, LOGITS, jnp.ones((4, 3))),
    "(N, T, 1) and (N, T)": (lambda o, y: abs(o - y), jnp.ones((2, 2, 1)), jnp.ones((2, 2))),
}


@pytest.mark.parametrize("loss, output, y", BROADCAST.values(), ids=BROADCAST)
def test_a_broadcast_loss_is_refused(loss, output, y):
    model = jaxdl.as_module(lambda x: output)
    for function, name in ((loss, "loss"), (None, "m")):
        step = train.make_eval_step(model, function, metrics={"m": loss})
        with pytest.raises(ValueError, match=f"{name} broadcasts the output .* and the target"):
            step(train.TrainState({}, {}, None, jax.random.key(0), jnp.int32(0)), (output, y))


def test_losses_that_are_no_broadcast():
    """Of a target alone, of an output alone, by classes, and of pairs of examples."""
    step = lambda loss, y: train.make_eval_step(MODEL, loss)(state(), (X, y))["loss"].value
    assert step(lambda o, y: y, Y.astype(np.float32)) == pytest.approx(Y.mean())
    assert np.isfinite(step(lambda o, y: o.sum(-1), Y))
    assert np.isfinite(step(lambda o, y: jax.nn.one_hot(y, 3) @ o.T @ jnp.ones(50), Y))
    assert np.isfinite(step("mse", np.eye(3, dtype=np.float32)[Y]))


BINARY = (X[:, :1] > 0).astype(np.int32)


@pytest.mark.parametrize("loss", ["binary_crossentropy", optax.losses.sigmoid_binary_cross_entropy])
def test_the_accuracy_of_one_logit(loss):
    trained, history = train.fit(
        ONE, (X, BINARY), loss=loss, optimizer=SGD, batch_size=16, verbose=0,
        eval_data=(X, BINARY),
    )  # fmt: skip
    right = (np.asarray(train.predict(ONE, trained, X)) > 0) == BINARY
    assert history["eval_accuracy"] == [pytest.approx(right.mean())]
    again = train.evaluate(ONE, trained, (X, BINARY), metrics=["accuracy", "auc", "brier"])
    assert again["accuracy"] == pytest.approx(right.mean()) and 0 < again["auc"] < 1


def test_regressions_have_no_accuracy():
    numbers = np.round(40 + 10 * X[:, :1]).astype(np.int32)
    options = {"optimizer": SGD, "batch_size": 16, "verbose": 0}
    _, history = train.fit(ONE, (X, numbers), loss="mse", **options)
    assert set(history) == {"loss", "seconds", "compile_seconds"}
    with pytest.raises(ValueError, match="metric 'accuracy' is for classification.*'mae'"):
        train.fit(ONE, (X, numbers), loss="mae", metrics=["accuracy"], **options)
    for loss in ("cross_entropy", "hinge"):
        with pytest.raises(ValueError, match="one class, whose loss is always 0.*binary_cross"):
            train.fit(ONE, (X, BINARY), loss=loss, **options)
    with pytest.raises(ValueError, match=r"labels from -1 to 1.*\(y \+ 1\) / 2"):
        train.fit(ONE, (X, 2 * BINARY - 1), loss="binary_cross_entropy", **options)


BAD = {
    "class without weight": ({"class_weight": {0: 1}}, "no weight for class 1.*\\[0, 1, 2\\]"),
    "another word": ({"class_weight": "equal"}, "is 'equal'; expected 'balanced'"),
    "negative": ({"class_weight": [1, -1, 1]}, "expected at least 0"),
    "shape": ({"sample_weight": np.ones(3)}, r"shape \(3,\) for y of shape \(50,\)"),
}


@pytest.mark.parametrize("options, words", BAD.values(), ids=BAD)
def test_bad_weights(options, words):
    with pytest.raises(ValueError, match=words):
        data.add_weights(X, Y, **options)


def test_weights_of_more_axes_than_the_values():
    with pytest.raises(ValueError, match=r"weight is float32\[16, 2\] for values of shape \(16,\)"):
        evaluate(MODEL, state(), (X, Y, np.ones((50, 2), np.float32)))
    assert metrics.mean(jnp.ones(4), jnp.ones((4, 1))).value == 1


@pytest.mark.parametrize("last, loss", [
    (jax.nn.softmax, "cross_entropy"), (jax.nn.sigmoid, "binary_cross_entropy"),
    (lambda s: jax.jit(jax.nn.softmax)(s), optax.losses.softmax_cross_entropy),
    (nn.serial(nn.dense(3), jax.nn.softmax), "categorical_crossentropy"),
])  # fmt: skip
def test_probabilities_in_place_of_logits(last, loss):
    rows = np.eye(3, dtype=np.float32)[Y]
    with pytest.warns(UserWarning, match="model ends in a s.*, and the loss takes logits; leave"):
        train.evaluate(serial(MODEL, last), *bare(serial(MODEL, last), rows), loss=loss)
    inner = serial(last, nn.dense(3))  # within a model they are as good as any other function
    train.evaluate(inner, *bare(inner, rows), loss=loss)


def bare(model, y):
    params, model_state = jaxdl.init(model, jax.random.key(0), X)
    return train.TrainState(params, model_state, None, jax.random.key(0), jnp.int32(0)), (X, y)


def test_labels_that_are_no_classes():
    """Several labels at once, or numbers, where a loss or a metric of classes is asked for."""
    several = np.eye(3, dtype=np.float32)[Y] + np.eye(3, dtype=np.float32)[0]
    with pytest.raises(ValueError, match="rows that sum to 2 .. 2.*'binary_cross_entropy'"):
        evaluate(MODEL, state(), (X, several))
    for loss in ("mse", None, lambda o, t: ((o - t) ** 2).mean(-1)):
        with pytest.raises(ValueError, match="rows that sum to"):
            train.evaluate(MODEL, state(), (X, several), loss=loss, metrics=["accuracy"])
    with pytest.raises(ValueError, match="'top3' is for exclusive classes"):
        train.evaluate(MODEL, state(), (X, several > 0), loss="bce", metrics=["top3"])


def test_missing_labels_among_several():
    """AUC and F1 of each label over the rows that have it."""
    rng = np.random.default_rng(5)
    labels = rng.integers(-1, 2, (50, 3))
    pairs = data.add_weights(X, labels, ignore_index=-1)
    result = train.evaluate(MODEL, state(), pairs, loss="bce", metrics=["auc", "f1", "accuracy"])
    logits = np.asarray(train.predict(MODEL, state(), X))
    columns = [(logits[labels[:, k] >= 0, k], labels[labels[:, k] >= 0, k]) for k in range(3)]
    for name in ("auc", "f1"):
        own = [metrics.BINARY_METRICS[name](jnp.asarray(s), jnp.asarray(y)) for s, y in columns]
        assert result[name] == pytest.approx(np.mean(own)), name
    right = ((logits > 0) == labels)[labels >= 0].mean()
    assert result["accuracy"] == pytest.approx(right)


def test_a_loss_of_several_outputs_and_a_batch_by_name():
    model = jaxdl.as_module(lambda x: (jnp.ones((len(x), 3)), x[:, 0]))
    loss = lambda o, t: losses.cross_entropy(o[0], t[0]) + (o[1] - t[1]) ** 2
    step = train.make_eval_step(model, loss)
    start = train.TrainState({}, {}, None, jax.random.key(0), jnp.int32(0))
    assert np.isfinite(step(start, (X, (Y, X[:, 0])))["loss"].total)
    with pytest.raises(ValueError, match=r"batch is dict; expected \(x, y\)"):
        step(start, {"x": X})
