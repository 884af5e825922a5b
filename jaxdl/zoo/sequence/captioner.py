"""One to many: an image in, words out.

Vinyals et al. 2015 (arXiv 1411.4555): a convolutional network's features begin the state of a
recurrent network that writes. Lecture row K08.
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
    """An image-to-words `Module`, whose writer can also be run one word at a time.

    `apply(params, state, images, before)` is teacher forcing: before (N, T) int32 are the words
    moved by one, the first a start symbol; it gives logits (N, T, V).
    """

    def start(self, params: Tree, state: Tree, images: jax.Array) -> jax.Array:
        """The writer's carry before the first word, (N, H)."""
        see = self.children["see"]
        return see.apply(params.get("see", {}), state.get("see", {}), images)[0]

    def step(self, params: Tree, carry: jax.Array, tokens: jax.Array) -> tuple[Any, jax.Array]:
        """One word more, for `jaxdl.decode`: tokens (N,) to logits (N, V)."""
        (logits, carry), _ = self.children["write"].apply(
            params["write"], {}, tokens[:, None], carry
        )
        return carry, logits[:, 0]


def captioner(eye: Module, words: int, features: int) -> Captioner:
    """A network that sees, and a GRU that writes what it saw.

    Args:
      eye: from images to (N, F), for example convolutions and a `flatten`.
      words: size of the vocabulary.
      features: H, width of the embeddings and of the writer.

    Returns:
      A `Captioner`; its parameters are those of `see` and of `write`.

    Raises:
      ValueError: what the parts raise.
    """
    see = compose(
        "see",
        dict(eye=eye, begin=dense(features)),
        lambda call, images: jnp.tanh(call("begin", call("eye", images))),
    )

    def writing(call, before, carry):
        y, carry = call("writer", call("embedding", before), None, carry)
        return call("scores", y), carry

    parts = dict(
        embedding=embedding(words, features),
        writer=rnn(gru(features), returns="carry"),
        scores=dense(words),
    )
    write = compose("write", parts, writing)

    def forward(call, images, before):
        return call("write", before, call("see", images))[0]

    whole = compose("captioner", dict(see=see, write=write), forward, features=features)
    return Captioner(whole.init, whole.apply, whole.kind, whole.config, whole.children)
