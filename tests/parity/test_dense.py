import flax.linen as linen
import jax
import pytest

from jaxdl import nn
from tests.parity.flax_parity import assert_same_as_linen


@pytest.mark.parametrize("use_bias", [True, False])
def test_dense(use_bias):
    x = jax.random.normal(jax.random.key(7), (5, 3))
    assert_same_as_linen(nn.dense(4, use_bias=use_bias), linen.Dense(4, use_bias=use_bias), x)
