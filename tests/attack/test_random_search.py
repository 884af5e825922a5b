"""Random search: optimal on linear functions, within its box, and without a derivative."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdl import attack

W = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
X = np.random.default_rng(1).uniform(0.2, 0.8, (5, 6)).astype(np.float32)
LABELS = np.argmax(X @ W, -1)


def linear(x):
    return x @ W


def test_it_finds_the_worst_corner_of_a_linear_function():
    moved = attack.random_search(linear, X, LABELS, 0.1, key=jax.random.key(0), queries=400)
    corners = 0.1 * (2.0 * (np.arange(64)[:, None] >> np.arange(6) & 1) - 1)
    for x, label, actual in zip(X, LABELS, np.asarray(moved), strict=True):

        def margin(x, label=label):
            scores = np.asarray(x, np.float64) @ W
            return scores[..., label] - np.delete(scores, label, -1).max(-1)

        np.testing.assert_allclose(margin(actual), margin(x + corners).min(), atol=1e-5)


@jax.jit
def search(epsilon, key):
    return attack.random_search(linear, X, LABELS, epsilon, key=key, queries=3)


@given(st.integers(0, 99), st.floats(0, 0.6))
def test_it_stays_in_the_box_and_in_bounds(seed, epsilon):
    moved = search(np.float32(epsilon), jax.random.key(seed))
    assert np.abs(moved - X).max() <= epsilon + 1e-6
    assert 0 <= np.min(moved) and np.max(moved) <= 1


def test_a_function_without_a_derivative_and_a_tree():
    def f(x):
        return jnp.round(4 * x["a"]) - x["ids"].astype(jnp.float32)

    x = {"a": np.float32([[0.4], [0.6]]), "ids": np.array([[1], [2]])}
    attacked = jax.jit(
        lambda key: attack.random_search(f, x, np.array([1, 0]), 0.3, key=key, queries=8)
    )(jax.random.key(0))
    # Of one logit, class 1 is attacked downward and class 0 upward.
    np.testing.assert_allclose(attacked["a"], [[0.1], [0.9]], rtol=1e-6)
    np.testing.assert_array_equal(attacked["ids"], x["ids"])


@pytest.mark.parametrize(
    "change, words",
    [
        ({"queries": 0}, "queries is 0"),
        ({"key": 1}, "expected one PRNG key"),
        ({"labels": LABELS + 3}, "expected a class of 0 to 2"),
        ({"epsilon": -1.0}, "epsilon is -1.0"),
        ({"x": X + 1}, "expected x within them"),
    ],
)
def test_bad_arguments(change, words):
    options = {"x": X, "labels": LABELS, "epsilon": 0.1, "key": jax.random.key(0)} | change
    with pytest.raises(ValueError, match=words):
        attack.random_search(linear, **options)
