import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdl import nn, train
from tests.train import toy

LINE = nn.dense(1, use_bias=False, kernel_init="ones")


def quadratic(curvature):
    """l = curvature / 2 w^2 over one weight w: steps of eta multiply w by 1 - eta curvature."""
    x = np.ones((8, 1), np.float32)
    return (x, x * 0), lambda output, target: curvature / 2 * output[:, 0] ** 2


def test_the_losses_are_those_of_the_growing_steps():
    data, loss = quadratic(2.0)
    actual = train.lr_find(LINE, data, loss=loss, batch_size=4, lowest=1e-3, highest=10, steps=20)
    rates, w, expected = np.geomspace(1e-3, 10, 20), 1.0, []
    for rate in rates:
        expected.append(w**2)
        w *= 1 - 2 * rate
    np.testing.assert_allclose(actual.learning_rates, rates, rtol=1e-6)
    np.testing.assert_allclose(actual.losses, expected, rtol=2e-3)
    average = np.zeros(20)
    for t in range(20):
        weights = 0.9 ** np.arange(t, -1, -1)
        average[t] = weights @ np.array(expected)[: t + 1] / weights.sum()
    np.testing.assert_allclose(actual.smoothed, average, rtol=2e-3)
    assert actual.suggestion == pytest.approx(rates[average.argmin()] / 10)


@pytest.mark.parametrize("curvature", [0.5, 50.0])
def test_the_suggestion_follows_the_curvature(curvature):
    data, loss = quadratic(curvature)
    actual = train.lr_find(LINE, data, loss=loss, batch_size=4, smoothing=0.5)
    # A quadratic diverges from 2 / curvature on.
    assert 0.01 < actual.suggestion * curvature < 2


def test_each_epoch_has_every_row_once_and_in_an_order_of_its_own():
    """Ten rows in batches of four, each with its number for a loss: the last batch has two."""
    data = np.ones((10, 1), np.float32), np.arange(10, dtype=np.float32)
    number = lambda output, target: target + 0 * output[:, 0]
    actual = train.lr_find(LINE, data, loss=number, batch_size=4, steps=6)
    first, second = actual.losses.reshape(2, 3)
    for means in (first, second):
        assert means @ [4, 4, 2] == pytest.approx(45)
    assert not np.allclose(first, second)


def test_nothing_given_is_changed():
    model, data = toy.mlp(), toy.data()
    state = train.init_state(model, optax.sgd(1e-3), jax.random.key(0), data[0])
    kept = toy.plain(jax.tree.map(jnp.copy, state))
    options = {"loss": "cross_entropy", "batch_size": 8, "steps": 12}
    actual = train.lr_find(model, data, optimizer=optax.rmsprop, state=state, **options)
    chex.assert_trees_all_equal(toy.plain(state), kept)
    again = train.lr_find(model, data, optimizer=optax.rmsprop, state=state, **options)
    np.testing.assert_array_equal(actual.losses, again.losses)
    assert np.isfinite(actual.losses).all() and actual.losses.shape == (12,)


def test_bad_arguments():
    model, data = toy.mlp(), toy.data()
    for options in ({"lowest": 0.0}, {"lowest": 2, "highest": 1}, {"steps": 1}, {"smoothing": 1}):
        with pytest.raises(ValueError, match="expected 0 < lowest < highest"):
            train.lr_find(model, data, loss="cross_entropy", **options)
    with pytest.raises(ValueError, match="at most 50"):
        train.lr_find(model, data, loss="cross_entropy", batch_size=51)
    for built in (optax.sgd(0.1), "adam"):
        with pytest.raises(ValueError, match="expected a function that makes one"):
            train.lr_find(model, data, loss="cross_entropy", optimizer=built)
    nothing = lambda output, target: output[:, 0] * jnp.nan
    with pytest.raises(ValueError, match="NaN from the first step"):
        train.lr_find(model, data, loss=nothing, steps=3)
