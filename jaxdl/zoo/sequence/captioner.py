"""Image captioner: an image encoder and a GRU decoder (Vinyals et al. 2015, arXiv 1411.4555).

The encoder's features give the decoder's initial carry. The parameter tree names its parts `see`
(with `eye` and `begin`) and `write`; random initialization and checkpoints depend on these names.

Shapes: N images, T tokens, V words in the vocabulary, H features.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxdl.core import Module, Tree, compose
from jaxdl.nn.dense import dense
from jaxdl.nn.embedding import embedding
from jaxdl.nn.recurrent.gru import gru
from jaxdl.nn.recurrent.stacked import rnn

__all__ = ["Captioner", "captioner"]


class Captioner(Module):
    """An image captioner as a `Module`, whose decoder also runs one token at a time.

    `apply(params, state, images, previous_tokens)` uses teacher forcing: previous_tokens (N, T)
    int32 are the target shifted by one, starting with a start symbol. It returns logits (N, T, V).
    """

    def initial_carry(self, params: Tree, state: Tree, images: jax.Array) -> jax.Array:
        """Returns the decoder's carry before the first token, (N, H)."""
        encoder = self.children["see"]
        return encoder.apply(params.get("see", {}), state.get("see", {}), images)[0]

    def step(self, params: Tree, carry: jax.Array, tokens: jax.Array) -> tuple[Any, jax.Array]:
        """Runs the decoder on tokens (N,) and returns `(carry, logits (N, V))`, for `decode`."""
        (logits, carry), _ = self.children["write"].apply(
            params["write"], {}, tokens[:, None], carry
        )
        return carry, logits[:, 0]


def captioner(encoder: Module, vocabulary_size: int, features: int) -> Captioner:
    """Makes an image captioner from an image encoder.

    Args:
      encoder: from images to (N, F), for example convolutions and `flatten`.
      vocabulary_size: V, the number of words.
      features: H, the width of the embeddings and of the decoder.

    Returns:
      A `Captioner`, with the encoder's parameters under `see` and the decoder's under `write`.

    Raises:
      ValueError: the errors of the layers.
    """
    see = compose(
        "see",
        dict(eye=encoder, begin=dense(features)),
        lambda call, images: jnp.tanh(call("begin", call("eye", images))),
    )

    def decode(call, previous_tokens, carry):
        y, carry = call("writer", call("embedding", previous_tokens), None, carry)
        return call("scores", y), carry

    decoder_layers = dict(
        embedding=embedding(vocabulary_size, features),
        writer=rnn(gru(features), returns="carry"),
        scores=dense(vocabulary_size),
    )
    write = compose("write", decoder_layers, decode)

    def forward(call, images, previous_tokens):
        return call("write", previous_tokens, call("see", images))[0]

    whole = compose("captioner", dict(see=see, write=write), forward, features=features)
    return Captioner(whole.init, whole.apply, whole.kind, whole.config, whole.children)
