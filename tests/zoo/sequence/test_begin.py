"""Encoder-decoder and captioner against NumPy: the initial carry and the scores of each word."""

import functools

import jax
import numpy as np
import pytest

from jaxdl import nn
from jaxdl.zoo.sequence.captioner import captioner
from jaxdl.zoo.sequence.encoder_decoder import encoder_decoder
from tests.nn import numpy_cells as cells
from tests.nn.filled import filled

RNG = np.random.default_rng(0)
PREVIOUS_TOKENS = RNG.integers(0, 9, (3, 4), dtype=np.int32)
LENGTHS = np.array([5, 3, 0], np.int32)
READER = cells.both_ways(cells.over_time(cells.gru_after, cells.zeros()))
to_numpy = functools.partial(jax.tree.map, np.asarray)


def dense(params, x):
    return x @ params["kernel"] + params["bias"]


def run_decoder(params, carry):
    """Returns the outputs of a GRU on `PREVIOUS_TOKENS`."""
    words = params["embedding"]["embedding"][PREVIOUS_TOKENS]
    return cells.over_time(cells.gru_after, lambda p, x: carry)(params["writer"], {}, words)


def attend(params, kind, queries, memory):
    """Returns the mean of the encoder states, weighted by the softmax of their scores."""
    if kind == "additive":
        q, k = queries @ params["query_kernel"], memory @ params["key_kernel"]
        scores = np.tanh(q[:, None] + k[None] + params["bias"]) @ params["weights"]
    else:
        scores = queries @ memory.T / np.sqrt(memory.shape[1])
    weights = np.exp(scores)
    return weights / weights.sum(-1, keepdims=True) @ memory


@pytest.mark.row("K07")
@pytest.mark.parametrize("attention", ["additive", "dot", None])
def test_the_encoder_decoder(attention):
    source = RNG.integers(1, 7, (3, 5), dtype=np.int32)
    model = encoder_decoder(7, 9, 4, attention=attention)
    params, state = to_numpy(filled(model, source, LENGTHS, PREVIOUS_TOKENS))
    logits, _ = jax.jit(model.apply)(params, state, source, LENGTHS, PREVIOUS_TOKENS)
    encoder, decoder = params["encoder"], params["decoder"]
    memory = READER(encoder["reader"], encoder["embedding"]["embedding"][source], LENGTHS)
    means = memory.sum(1) / np.maximum(LENGTHS, 1)[:, None]
    y = run_decoder(decoder, np.tanh(dense(encoder["begin"], means)))
    if attention:
        context = np.stack(
            [
                attend(decoder.get("attention"), attention, q, m[: max(n, 1)])
                for q, m, n in zip(y, memory, LENGTHS, strict=True)
            ]
        )
        y = np.tanh(dense(decoder["join"], np.concatenate([y, context], -1)))
    np.testing.assert_allclose(logits, dense(decoder["scores"], y), atol=1e-5)


@pytest.mark.row("K08")
def test_the_captioner():
    images = RNG.normal(size=(3, 2, 2, 1)).astype(np.float32)
    model = captioner(nn.flatten(), 9, 4)
    params, state = to_numpy(filled(model, images, PREVIOUS_TOKENS))
    logits, _ = jax.jit(model.apply)(params, state, images, PREVIOUS_TOKENS)
    y = run_decoder(params["write"], np.tanh(dense(params["see"]["begin"], images.reshape(3, -1))))
    np.testing.assert_allclose(logits, dense(params["write"]["scores"], y), atol=1e-5)
