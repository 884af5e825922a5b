import flax.linen as linen
import numpy as np

from jaxdl import nn
from tests.parity.flax_parity import assert_same_as_linen


def test_embedding():
    ids = np.array([[0, 3, 6], [6, 6, 1]])
    assert_same_as_linen(nn.embedding(7, 3), linen.Embed(7, 3), ids)
