"""What the networks that write begin with."""

import jax
import numpy as np
import pytest

from jaxdl import nn
from jaxdl.zoo.sequence.captioner import captioner
from jaxdl.zoo.sequence.encoder_decoder import encoder_decoder
from tests.nn.filled import filled

RNG = np.random.default_rng(0)
BEFORE = RNG.integers(0, 9, (3, 4), dtype=np.int32)


def tanh_of_layer(x, layer):
    return np.tanh(x @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"]))


@pytest.mark.row("K07")
def test_the_decoder_with_tanh_of_a_layer_over_the_mean_of_what_was_read():
    source = RNG.integers(1, 7, (3, 5), dtype=np.int32)
    lengths = np.array([5, 3, 0], np.int32)
    model = encoder_decoder(7, 9, 4, attention=None)
    params, _ = filled(model, source, lengths, BEFORE)
    begin, memory, _ = jax.jit(model.start)(params, source, lengths)
    rows = zip(np.asarray(memory), lengths, strict=True)
    means = np.stack([row[:n].sum(0) / max(n, 1) for row, n in rows])
    expected = tanh_of_layer(means, params["encoder"]["begin"])
    np.testing.assert_allclose(begin, expected, atol=1e-6)


@pytest.mark.row("K08")
def test_the_captioner_with_tanh_of_a_layer_over_what_it_sees():
    images = RNG.normal(size=(3, 2, 2, 1)).astype(np.float32)
    model = captioner(nn.flatten(), 9, 4)
    params, state = filled(model, images, BEFORE)
    begin = jax.jit(model.start)(params, state, images)
    expected = tanh_of_layer(images.reshape(3, -1), params["see"]["begin"])
    np.testing.assert_allclose(begin, expected, atol=1e-6)
