import functools
import itertools

import chex
import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdl import nn
from tests.nn.filled import filled

X = np.float32([[1, -2, 3, 0.5, 4]])
ones = functools.partial(np.ones, dtype=np.float32)


@functools.cache
def layers(rate):
    """Dropout that scales in training, and dropout that scales at test time, compiled."""
    return [
        jax.jit(
            lambda x, train=False, key=None, layer=layer: layer.apply(
                {}, {}, x, train=train, key=key
            )[0],
            static_argnames="train",
        )
        for layer in (nn.dropout(rate), nn.dropout(rate, scale_at="test"))
    ]


@given(st.integers(0, 1000), st.sampled_from([0.0, 0.3, 0.5, 0.9]))
def test_each_value_is_dropped_or_kept_and_scaled(seed, rate):
    x = np.arange(1, 41, dtype=np.float32)
    inverted, plain = layers(rate)
    y = np.asarray(inverted(x, train=True, key=jax.random.key(seed)))
    kept = y != 0
    chex.assert_trees_all_close(y, np.where(kept, x / np.float32(1 - rate), 0), rtol=1e-6)
    y = plain(x, train=True, key=jax.random.key(seed))
    chex.assert_trees_all_close(y, np.where(kept, x, 0))
    chex.assert_trees_all_close(inverted(x), x)
    chex.assert_trees_all_close(plain(x), np.float32(1 - rate) * x, rtol=1e-6)


def test_rate_is_the_probability_of_being_dropped(key):
    y = np.asarray(nn.functional.dropout(ones(100_000), key, 0.2))
    assert np.mean(y == 0) == pytest.approx(0.2, abs=5 * np.sqrt(0.2 * 0.8 / 1e5))


@pytest.mark.row("E06", "S22")
def test_at_half_a_weight_of_1_counts_half_at_test_time():
    """The deck prints "(1 - p)%" for the weights at a rate of p%; 100% - p% is meant."""
    weight, x = ones((1, 1)), ones((1, 1))
    y, _ = nn.dropout(0.5, scale_at="test").apply({}, {}, x)
    chex.assert_trees_all_equal(np.asarray(y) @ weight, x @ (0.5 * weight))


@pytest.mark.row("E06")
@pytest.mark.parametrize("scale_at", ["train", "test"])
def test_the_mean_training_output_of_a_linear_net_is_its_test_output(scale_at):
    model = nn.serial(nn.dense(6), nn.dropout(0.3, scale_at=scale_at), nn.dense(2))
    params, state = filled(model, X)
    n = 20_000

    def train(key):
        return model.apply(params, state, X, train=True, key=key)[0]

    outputs = np.asarray(jax.jit(jax.vmap(train))(jax.random.split(jax.random.key(1), n)))
    test, _ = model.apply(params, state, X)
    error = 5 * np.std(outputs, 0) / np.sqrt(n)
    assert np.all(error > 0) and np.all(np.abs(np.mean(outputs, 0) - test) < error)


@pytest.mark.row("E06")
def test_every_mini_batch_draws_its_own_mask(key):
    layer, x = nn.dropout(0.5), ones((4, 32))
    masks = [
        np.asarray(layer.apply({}, {}, x, train=True, key=jax.random.fold_in(key, step))[0])
        for step in range(3)
    ]
    for a, b in itertools.combinations(masks, 2):
        assert not np.array_equal(a, b)
    assert not np.array_equal(masks[0][0], masks[0][1])  # nor do the examples share one


@pytest.mark.row("E07")
def test_a_linear_units_scaled_net_is_the_mean_of_its_2_to_the_m_nets():
    w, b = np.float32([[0.5], [-1], [0.25], [2], [1.5]]), np.float32([0.75])
    affine = jax.jit(nn.functional.dense)
    nets = [affine(X * np.float32(mask), w, b) for mask in itertools.product((0, 1), repeat=5)]
    assert len(nets) == 2**5
    layer = nn.dropout(0.5, scale_at="test")
    scaled = affine(layer.apply({}, {}, X)[0], w, b)
    chex.assert_trees_all_equal(np.mean(np.stack(nets), 0), np.asarray(scaled))

    def trained(key):
        return nn.functional.dense(layer.apply({}, {}, X, train=True, key=key)[0], w, b)

    draws = jax.jit(jax.vmap(trained))(jax.random.split(jax.random.key(0), 3200))
    net, counts = np.unique(draws, return_counts=True)
    np.testing.assert_array_equal(net, np.sort(np.ravel(nets)))
    assert np.all(np.abs(counts - 100) < 5 * np.sqrt(100 * 31 / 32))  # each in a 32nd of the draws


def test_no_key_and_bad_settings():
    model = nn.serial(nn.dense(2), nn.dropout(0.5))
    params, state = filled(model, X)
    with pytest.raises(ValueError, match="dropout: no key.*train=True, key=key"):
        model.apply(params, state, X, train=True)
    for rate in (-0.1, 1.0, 50):
        with pytest.raises(ValueError, match="dropout: rate is"):
            nn.dropout(rate)
    with pytest.raises(ValueError, match="scale_at is 'eval'"):
        nn.dropout(0.5, scale_at="eval")
