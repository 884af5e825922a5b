"""Purification by a denoising autoencoder, and attacks through it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdl
from jaxdl import attack, data, defend, nn, train

DIGITS = data.digits()


@functools.cache
def networks():
    """Returns a classifier and a denoiser of the embedded digits, as functions."""
    model = jaxdl.serial(nn.flatten(), nn.dense(64), jax.nn.relu, nn.dense(10))
    state, _ = train.fit(
        model,
        DIGITS.train,
        loss="cross_entropy",
        optimizer=optax.adam(3e-3),
        batch_size=64,
        epochs=8,
        verbose=0,
    )
    autoencoder = defend.denoising_autoencoder(1, width=8)
    noisy = functools.partial(data.augment.noise, deviation=0.25)
    x = DIGITS.train.x
    denoiser, history = train.fit(
        autoencoder,
        train.AugmentedData((x, x), noisy),
        loss="squared_error",
        optimizer=optax.adam(3e-3),
        batch_size=64,
        epochs=8,
        verbose=0,
    )
    assert history["loss"][-1] < 0.025  # the noise itself has 0.0625
    return train.predictor(model, state), train.predictor(autoencoder, denoiser)


def accuracy(f, x):
    return float((np.argmax(jax.jit(f)(x), -1) == DIGITS.test.y).mean())


@pytest.mark.row("R05")
def test_purified_inputs_resist_an_attack_that_does_not_know_the_purifier():
    f, denoise = networks()
    purified = defend.purify(f, denoise)
    x, y = DIGITS.test
    unaware = jax.jit(lambda x: attack.pgd(f, x, y, 0.15, steps=10))(x)
    adaptive = jax.jit(lambda x: attack.pgd(purified, x, y, 0.15, steps=10))(x)
    assert accuracy(purified, x) > 0.85
    plain, defended = accuracy(f, unaware), accuracy(purified, unaware)
    assert defended > plain + 0.15
    # The denoiser is no secret to an attack through it.
    assert accuracy(purified, adaptive) < defended - 0.05


def test_the_shape_of_images_is_kept():
    model = defend.denoising_autoencoder(2, width=3)
    for size in ((1, 5, 7, 2), (2, 4, 4, 2)):
        x = jnp.zeros(size)
        shape = jax.eval_shape(lambda x: model.apply(*model.init(jax.random.key(0), x), x)[0], x)
        assert shape.shape == size
    with pytest.raises(ValueError, match=r"expected images \(N, H, W, 2\)"):
        jaxdl.init(model, jax.random.key(0), jnp.zeros((1, 5, 7, 1)))
    with pytest.raises(ValueError, match="width is 0"):
        defend.denoising_autoencoder(1, width=0)


def test_straight_through_has_the_values_of_the_transformation_and_the_slope_of_none():
    x, weights = jnp.array([[0.2, 0.7]]), jnp.array([2.0, -3.0])
    f = defend.purify(lambda x: x @ weights, defend.straight_through(jnp.round))
    value, slope = jax.jit(jax.value_and_grad(lambda x: f(x)[0]))(x)
    assert value == -3.0
    np.testing.assert_allclose(slope, [[2.0, -3.0]])
    np.testing.assert_allclose(jax.grad(lambda x: (jnp.round(x) @ weights)[0])(x), 0)
    batch = jnp.stack([x, x])
    np.testing.assert_allclose(jax.vmap(f)(batch), np.full((2, 1), -3.0))


def test_another_shape_is_refused():
    def flat(x):
        return x.reshape(len(x), -1)

    with pytest.raises(ValueError, match="denoise returns .* expected the same shape"):
        defend.purify(flat, flat)(jnp.zeros((2, 3, 3, 1)))
    with pytest.raises(ValueError, match="transform returns"):
        defend.straight_through(flat)(jnp.zeros((2, 3, 3, 1)))
