import flax.linen as linen
import pytest

from jaxdl import nn
from tests.parity.flax_parity import assert_same_as_linen, draw


@pytest.mark.parametrize("use_bias", [True, False])
def test_dense(use_bias):
    assert_same_as_linen(
        nn.dense(4, use_bias=use_bias), linen.Dense(4, use_bias=use_bias), draw(5, 3)
    )
