"""Sequence to sequence: one network reads, another writes.

Sutskever, Vinyals and Le 2014 (arXiv 1409.3215) hand over the encoder's last state; Bahdanau, Cho
and Bengio 2015 (arXiv 1409.0473) let the decoder look at all of the encoder's states at each step.
Here the decoder's state looks after it has read the word before (Luong, Pham and Manning 2015,
arXiv 1508.04025, fig. 2): attention is apart from the recurrence, so that training runs over all
steps at once. Lecture rows K07, L01.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxdl.core import Module, Tree, compose
from jaxdl.nn.attention import additive_attention, dot_attention
from jaxdl.nn.dense import dense
from jaxdl.nn.dropout import dropout as drop
from jaxdl.nn.embedding import embedding
from jaxdl.nn.recurrent.bidirectional import bidirectional
from jaxdl.nn.recurrent.cell import Cell
from jaxdl.nn.recurrent.gru import gru
from jaxdl.nn.recurrent.stacked import rnn

__all__ = ["EncoderDecoder", "encoder_decoder"]


class EncoderDecoder(Module):
    """A sequence-to-sequence `Module`, whose decoder can also be run one step at a time.

    `apply(params, state, source, lengths, before)` is teacher forcing: source (N, S) int32,
    lengths (N,), before (N, T) the target moved by one, its first symbol a start symbol; it gives
    logits (N, T, V).
    """

    def start(self, params: Tree, source: jax.Array, lengths: jax.Array) -> Any:
        """What the decoder is given: the carry for `step`, from the source alone."""
        (memory, carry), _ = self.children["encoder"].apply(params["encoder"], {}, source, lengths)
        return carry, memory, lengths

    def step(self, params: Tree, carry: Any, tokens: jax.Array) -> tuple[Any, jax.Array]:
        """One symbol more, for `jaxdl.decode`: tokens (N,) to logits (N, V)."""
        carry, logits, _ = self.look(params, carry, tokens)
        return carry, logits

    def look(self, params: Tree, carry: Any, tokens: jax.Array) -> tuple[Any, jax.Array, Any]:
        """As `step`, with the attention weights (N, S), or None where there is no attention."""
        hidden, memory, lengths = carry
        (logits, hidden, weights), _ = self.children["decoder"].apply(
            params["decoder"], {}, tokens[:, None], memory, lengths, hidden
        )
        weights = None if weights is None else weights[:, 0]
        return (hidden, memory, lengths), logits[:, 0], weights


def encoder_decoder(
    source_symbols: int,
    target_symbols: int,
    features: int,
    *,
    attention: Literal["additive", "dot", None] = "additive",
    cell: Callable[[int], Cell] = gru,
    dropout: float = 0.0,
) -> EncoderDecoder:
    """An encoder that reads both ways and a decoder, with attention or without.

    Args:
      source_symbols, target_symbols: sizes of the two vocabularies.
      features: width H of the embeddings and of the decoder; the encoder has H/2 each way.
      attention: how the decoder looks at the encoder's outputs; None for not at all.
      cell: makes the cells from their width.
      dropout: of the embeddings and of what the scores are made from.

    Returns:
      An `EncoderDecoder`. The decoder begins with tanh of a layer over the mean of the encoder's
      outputs.

    Raises:
      ValueError: `features` is odd; `attention` is another word; what the parts raise.
    """
    looks = {"additive": additive_attention(features), "dot": dot_attention(), None: None}
    if attention not in looks or features % 2:
        raise ValueError(
            f"encoder_decoder: attention={attention!r}, features={features!r}; expected "
            "'additive', 'dot' or None, and an even number."
        )
    writer, look = cell(features), looks[attention]
    parts = list(writer.carry_sizes)

    def encode(call, source, lengths):
        x = call("dropout", call("embedding", source))
        memory = call("reader", x, lengths)
        real = jnp.arange(memory.shape[1]) < lengths[:, None]
        total = jnp.sum(jnp.where(real[..., None], memory, 0), axis=1)
        count = jnp.maximum(lengths, 1)[:, None].astype(memory.dtype)
        begin = jnp.tanh(call("begin", total / count))
        return memory, begin if len(parts) == 1 else tuple(jnp.split(begin, len(parts), axis=-1))

    def decode(call, before, memory, lengths, carry):
        x = call("dropout", call("embedding", before))
        y, carry = call("writer", x, None, carry)
        weights = None
        if look is not None:
            context, weights = call("attention", y, memory, lengths)
            y = jnp.tanh(call("join", jnp.concatenate([y, context], axis=-1)))
        return call("scores", call("dropout", y)), carry, weights

    width = sum(writer.carry_sizes.values())
    encoder = compose(
        "encoder",
        dict(
            embedding=embedding(source_symbols, features),
            dropout=drop(dropout),
            reader=bidirectional(cell(features // 2)),
            begin=dense(width),
        ),
        encode,
    )
    attending = {} if look is None else dict(attention=look, join=dense(features))
    decoder = compose(
        "decoder",
        dict(
            embedding=embedding(target_symbols, features),
            dropout=drop(dropout),
            writer=rnn(writer, returns="carry"),
            scores=dense(target_symbols),
            **attending,
        ),
        decode,
    )

    def forward(call, source, lengths, before):
        memory, carry = call("encoder", source, lengths)
        return call("decoder", before, memory, lengths, carry)[0]

    whole = compose("encoder_decoder", dict(encoder=encoder, decoder=decoder), forward)
    config = {"features": features, "attention": attention, "dropout": dropout}
    return EncoderDecoder(whole.init, whole.apply, whole.kind, config, whole.children)
