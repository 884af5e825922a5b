import flax.linen as linen
import jax
import numpy as np
import pytest

from jaxdl import nn

X = jax.random.normal(jax.random.key(7), (500, 40))


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_the_same_values_in_test_mode_and_the_same_law_in_training(rate):
    layer, twin = nn.dropout(rate), linen.Dropout(rate)
    np.testing.assert_array_equal(layer.apply({}, {}, X)[0], twin.apply({}, X, deterministic=True))
    ours, _ = layer.apply({}, {}, X, train=True, key=jax.random.key(0))
    theirs = twin.apply({}, X, deterministic=False, rngs={"dropout": jax.random.key(1)})
    both = (ours != 0) & (theirs != 0)
    np.testing.assert_allclose(ours[both], theirs[both], rtol=1e-6)
    assert abs(np.mean(ours == 0) - np.mean(theirs == 0)) < 0.02
