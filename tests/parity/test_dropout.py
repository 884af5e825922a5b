import flax.linen as linen
import jax
import numpy as np
import pytest

from jaxdl import nn
from tests.parity.flax_parity import draw

X = draw(500, 40)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_the_same_values_in_test_mode_and_the_same_law_in_training(rate):
    layer, twin = nn.dropout(rate), linen.Dropout(rate)
    np.testing.assert_array_equal(layer.apply({}, {}, X)[0], twin.apply({}, X, deterministic=True))
    ours, _ = jax.jit(lambda x, key: layer.apply({}, {}, x, train=True, key=key))(
        X, jax.random.key(0)
    )
    theirs = jax.jit(lambda x, key: twin.apply({}, x, deterministic=False, rngs={"dropout": key}))(
        X, jax.random.key(1)
    )
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    both = (ours != 0) & (theirs != 0)
    np.testing.assert_allclose(ours[both], theirs[both], rtol=1e-6)
    assert abs(np.mean(ours == 0) - np.mean(theirs == 0)) < 0.02
