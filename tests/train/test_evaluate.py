import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdl import Module, losses, train
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
        resident_bytes=resident_bytes,
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


def test_one_compilation_whatever_the_last_batch():
    traces = []

    def apply(params, state, x, **options):
        traces.append(x.shape)
        return MODEL.apply(params, state, x, **options)

    model = Module(MODEL.init, apply)
    train.predict(model, state(), X, batch_size=16)
    assert traces == [(16, 4)]
    train.predict(model, state(), X[:40], batch_size=16)
    assert traces == [(16, 4)]
    train.evaluate(model, state(), (X, Y), loss="cross_entropy", batch_size=16, check=False)
    train.evaluate(model, state(), (X, Y), loss="cross_entropy", batch_size=16, check=False)
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
    with pytest.raises(ValueError, match="x is empty"):
        train.predict(MODEL, state(), X[:0])
    with pytest.raises(ValueError, match="predict: batch_size is 0"):
        train.predict(MODEL, state(), X, batch_size=0)
    with pytest.raises(ValueError, match="labels from 0 to 3"):
        train.evaluate(MODEL, state(), (X, np.where(Y == 2, 3, Y)), loss="cross_entropy")
    with pytest.raises(ValueError, match="did you mean 'accuracy'"):
        train.evaluate(MODEL, state(), (X, Y), metrics=["acuracy"])
    with pytest.raises(ValueError, match="nothing to evaluate"):
        train.evaluate(MODEL, state(), (X, np.eye(3)[Y]))
