import functools
from typing import Any, cast

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdl import Module, data, losses, nn, serial, train
from tests.train import toy

MODEL = toy.noisy()
X, Y = toy.data()


@functools.cache
def state():
    return train.init_state(MODEL, optax.sgd(0.1), jax.random.key(3), X)


@functools.cache
def output():
    """What the model gives for X."""
    return np.asarray(jax.jit(MODEL.apply)(state().params, state().model_state, X)[0])


@pytest.mark.row("V04")
@pytest.mark.parametrize("batch_size", [1, 16, 50, 256])
@pytest.mark.parametrize("resident_bytes", [0, 2**31])
def test_the_batch_size_does_not_matter(batch_size, resident_bytes):
    result = train.evaluate(
        MODEL,
        state(),
        (X, Y),
        loss="cross_entropy",
        batch_size=batch_size,
        execution=train.Execution(resident_bytes=resident_bytes),
    )
    assert list(result) == ["loss", "accuracy"]
    wide = output().astype(np.float64)
    log_p = wide - np.log(np.exp(wide).sum(1, keepdims=True))
    expected = {
        "loss": -log_p[np.arange(50), Y].mean(),
        "accuracy": (output().argmax(1) == Y).mean(),
    }
    chex.assert_trees_all_close(result, expected, rtol=1e-6)


def test_metrics_alone_and_by_name():
    result = train.evaluate(MODEL, state(), (X, Y), metrics={"hits": "accuracy", "one": _one})
    assert result == {"hits": np.mean(output().argmax(1) == Y), "one": 1.0}
    one_hot = np.eye(3, dtype=np.float32)[Y]
    assert list(train.evaluate(MODEL, state(), (X, one_hot), loss="mse")) == ["loss"]


def _one(output, target):
    return jnp.ones(len(target))


@given(st.sampled_from([1, 7, 8, 9, 50]), st.sampled_from([1, 8, 64]))
def test_predictions_are_the_rows_one_by_one(n, batch_size):
    out = train.predict(MODEL, state(), X[:n], batch_size=batch_size)
    chex.assert_trees_all_close(out, output()[:n], rtol=1e-5, atol=1e-6)


def traced(model):
    """The model, and the shapes that it is traced for."""
    traces = []

    def apply(params, state, x, **options):
        traces.append(x.shape)
        return model.apply(params, state, x, **options)

    return Module(model.init, apply), traces


def test_predictions_compile_for_few_numbers_of_rows():
    model, traces = traced(MODEL)
    for n in range(1, len(X) + 1):
        out = train.predict(model, state(), X[:n], batch_size=24)
        chex.assert_trees_all_close(out, output()[:n], rtol=1e-5, atol=1e-6)
    assert [shape[0] for shape in traces] == [1, 2, 4, 8, 16, 24]


def test_evaluations_compile_for_few_numbers_of_rows():
    model, traces = traced(MODEL)
    hits = np.cumsum(output().argmax(1) == Y)
    for n in range(1, len(X) + 1):
        result = train.evaluate(
            model,
            state(),
            (X[:n], Y[:n]),
            metrics=["accuracy"],
            batch_size=8,
            execution=train.Execution(check=False),
        )
        assert result["accuracy"] == hits[n - 1] / n, n
    assert {shape[0] for shape in traces} == {1, 2, 4, 8} and len(traces) <= 12


def test_predictions_of_many_runs_and_several_outputs():
    runs = jax.tree.map(lambda a: jnp.stack([a, a]), state())
    out = train.predict_many(MODEL, runs, X[:5], batch_size=4)
    chex.assert_trees_all_close(out, np.stack([output()[:5]] * 2), rtol=1e-5, atol=1e-6)
    both = Module(MODEL.init, lambda *args: ({"a": args[2], "b": args[2][:, 0]}, {}))
    chex.assert_trees_all_equal(train.predict(both, state(), X[:3]), {"a": X[:3], "b": X[:3, 0]})


def test_predictions_of_rows_by_number_of_lists_and_under_transformations():
    rows = data.RandomAccessSource(50, lambda i: (X[i], Y[i]))
    for x in (rows, X.tolist(), jnp.asarray(X), jax.device_put(X, jax.devices()[0])):
        out = train.predict(MODEL, state(), x, batch_size=16)
        chex.assert_trees_all_close(out, output(), rtol=1e-5, atol=1e-6)
    slope = jax.jit(jax.grad(lambda x: train.predict(MODEL, state(), x)[0, 0]))(X[:2])
    assert slope[0].any() and not slope[1].any()


def test_one_compilation_whatever_the_last_batch():
    model, traces = traced(MODEL)
    train.predict(model, state(), X, batch_size=16)
    assert traces == [(16, 4)]
    train.predict(model, state(), X[:40], batch_size=16)
    assert traces == [(16, 4)]
    train.evaluate(
        model,
        state(),
        (X, Y),
        loss="cross_entropy",
        batch_size=16,
        execution=train.Execution(check=False),
    )
    train.evaluate(
        model,
        state(),
        (X, Y),
        loss="cross_entropy",
        batch_size=16,
        execution=train.Execution(check=False),
    )
    assert len(traces) == 2


def test_a_predictor_is_a_plain_function():
    f = train.predictor(MODEL, state())
    chex.assert_trees_all_close(f(X), output(), rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(jax.jit(f)(X), output(), rtol=1e-5, atol=1e-6)
    gradient = jax.jit(jax.grad(lambda x: losses.cross_entropy(f(x[None]), Y[:1])[0]))(X[0])
    assert gradient.shape == (4,) and gradient.any()
    rows = jax.jit(jax.vmap(lambda x: f(x[None])[0]))(X)
    chex.assert_trees_all_close(rows, output(), rtol=1e-5, atol=1e-6)


def test_bad_arguments():
    with pytest.raises(ValueError, match="x has 0 rows"):
        train.predict(MODEL, state(), X[:0])
    with pytest.raises(ValueError, match="predict: batch_size is 0"):
        train.predict(MODEL, state(), X, batch_size=0)
    with pytest.raises(ValueError, match=r"x is float32\[4\], one example.*Pass x\[None\]"):
        train.predict(MODEL, state(), X[0])
    square = serial(nn.dense(4))  # as many outputs as an example has numbers
    fresh = train.init_state(square, optax.sgd(0.1), jax.random.key(0), X)
    with pytest.raises(ValueError, match=r"one example.*Pass x\[None\]"):
        train.predict(square, fresh, X[0])
    with pytest.raises(ValueError, match="the output is float32.* for 8 rows"):
        train.predict(Module(MODEL.init, lambda *args: (args[2].mean(0), {})), state(), X[:8])
    with pytest.raises(ValueError, match="a tuple of 2 arrays.*Pass x alone"):
        train.predict(MODEL, state(), (X, Y))
    with pytest.raises(ValueError, match="x is a BatchStream; .*each batch's x"):
        train.predict(MODEL, state(), data.from_iterable([(X, Y)], steps=1))
    for call in (train.predict, train.predict_many, train.predictor, train.evaluate):
        rest = () if call is train.predictor else ((X, Y),) if call is train.evaluate else (X,)
        with pytest.raises(ValueError, match="states? is a dict; expected a train.TrainState"):
            call(MODEL, cast(Any, state().params), *rest)
    with pytest.raises(ValueError, match="labels from 0 to 3"):
        train.evaluate(MODEL, state(), (X, np.where(Y == 2, 3, Y)), loss="cross_entropy")
    with pytest.raises(ValueError, match="did you mean 'accuracy'"):
        train.evaluate(MODEL, state(), (X, Y), metrics=["acuracy"])
    with pytest.raises(ValueError, match="nothing to evaluate"):
        train.evaluate(MODEL, state(), (X, np.eye(3)[Y]))
