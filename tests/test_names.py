"""What losses and optimizers are by their names."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import losses, optim


def test_keras_names_of_losses():
    assert losses.loss("mean_squared_error") is losses.squared_error
    assert losses.loss("sparse_categorical_crossentropy") is losses.cross_entropy


@pytest.mark.parametrize(
    "name, rate", [("sgd", 0.01), ("momentum", 0.01), ("adagrad", 0.01), ("adam", 0.001)]
)
def test_the_rate_where_none_is_given(name, rate):
    """A first step from a gradient of 1 is as long as the rate."""
    tx, w = optim.optimizer(name), jnp.asarray(np.float32([2.0]))
    with jax.numpy_dtype_promotion("standard"):  # optax's adam mixes its counter with floats
        update, _ = jax.jit(lambda w: tx.update(jnp.ones_like(w), tx.init(w), w))(w)
    assert float(update[0]) == pytest.approx(-rate, rel=1e-5)
