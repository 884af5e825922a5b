"""Sequence-to-sequence model: a bidirectional encoder and a decoder with optional attention.

Without attention, the decoder starts from the encoder's outputs (Sutskever, Vinyals and Le 2014,
arXiv 1409.3215). With attention, it also reads all encoder outputs at each step (Bahdanau, Cho and
Bengio 2015, arXiv 1409.0473). Here attention follows the recurrence (Luong, Pham and Manning 2015,
arXiv 1508.04025, fig. 2), so that training runs it for all steps at once.

Shapes: N sequences of S source and T target tokens, V target symbols, H features.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxdl.core import Module, Tree, compose
from jaxdl.nn.attention import additive_attention, dot_attention
from jaxdl.nn.dense import dense
from jaxdl.nn.dropout import dropout as dropout_layer
from jaxdl.nn.embedding import embedding
from jaxdl.nn.recurrent.bidirectional import bidirectional
from jaxdl.nn.recurrent.cell import Cell
from jaxdl.nn.recurrent.gru import gru
from jaxdl.nn.recurrent.stacked import rnn

__all__ = ["EncoderDecoder", "encoder_decoder"]


class EncoderDecoder(Module):
    """A sequence-to-sequence `Module`, whose decoder also runs one token at a time.

    `apply(params, state, source, lengths, previous_tokens)` uses teacher forcing: source (N, S)
    int32, lengths (N,), and previous_tokens (N, T) int32, the target shifted by one, starting with
    a start symbol. It returns logits (N, T, V).
    """

    def initial_carry(self, params: Tree, source: jax.Array, lengths: jax.Array) -> Any:
        """Encodes the source and returns the carry for `step`."""
        (memory, carry), _ = self.children["encoder"].apply(params["encoder"], {}, source, lengths)
        return carry, memory, lengths

    def step(self, params: Tree, carry: Any, tokens: jax.Array) -> tuple[Any, jax.Array]:
        """Runs the decoder on tokens (N,) and returns `(carry, logits (N, V))`, for `decode`."""
        carry, logits, _ = self.step_with_attention(params, carry, tokens)
        return carry, logits

    def step_with_attention(
        self, params: Tree, carry: Any, tokens: jax.Array
    ) -> tuple[Any, jax.Array, Any]:
        """Runs `step` and also returns the attention weights (N, S), None without attention."""
        hidden, memory, lengths = carry
        (logits, hidden, weights), _ = self.children["decoder"].apply(
            params["decoder"], {}, tokens[:, None], memory, lengths, hidden
        )
        weights = None if weights is None else weights[:, 0]
        return (hidden, memory, lengths), logits[:, 0], weights


def encoder_decoder(
    source_vocabulary_size: int,
    target_vocabulary_size: int,
    features: int,
    *,
    attention: Literal["additive", "dot", None] = "additive",
    cell: Callable[[int], Cell] = gru,
    dropout: float = 0.0,
) -> EncoderDecoder:
    """Makes a bidirectional encoder and a decoder, with or without attention.

    The decoder's initial carry is tanh of a dense layer of the mean of the encoder's outputs.

    Args:
      source_vocabulary_size, target_vocabulary_size: the number of symbols of each language.
      features: H, the width of the embeddings and of the decoder. The encoder has H/2 per
        direction.
      attention: "additive", "dot", or None for a decoder without attention.
      cell: makes a cell from its width.
      dropout: dropout rate of the embeddings and of the output layer's input.

    Returns:
      An `EncoderDecoder`.

    Raises:
      ValueError: `features` is odd; `attention` is unknown; and the errors of the layers.
    """
    kinds = {"additive": additive_attention(features), "dot": dot_attention(), None: None}
    if attention not in kinds or features % 2:
        raise ValueError(
            f"encoder_decoder: got attention={attention!r} and features={features!r}, expected "
            "'additive', 'dot' or None, and an even number of features."
        )
    decoder_cell, attention_layer = cell(features), kinds[attention]
    num_parts = len(decoder_cell.carry_sizes)

    def encode(call, source, lengths):
        x = call("dropout", call("embedding", source))
        memory = call("reader", x, lengths)
        mask = jnp.arange(memory.shape[1]) < lengths[:, None]
        total = jnp.sum(jnp.where(mask[..., None], memory, 0), axis=1)
        # At least 1, so that an empty row has the mean 0 instead of NaN.
        count = jnp.maximum(lengths, 1)[:, None].astype(memory.dtype)
        begin = jnp.tanh(call("begin", total / count))
        return memory, begin if num_parts == 1 else tuple(jnp.split(begin, num_parts, axis=-1))

    def decode(call, previous_tokens, memory, lengths, carry):
        x = call("dropout", call("embedding", previous_tokens))
        y, carry = call("writer", x, None, carry)
        weights = None
        if attention_layer is not None:
            context, weights = call("attention", y, memory, lengths)
            y = jnp.tanh(call("join", jnp.concatenate([y, context], axis=-1)))
        return call("scores", call("dropout", y)), carry, weights

    # The names of layers are entries of the parameter tree; checkpoints and seeds depend on them.
    encoder = compose(
        "encoder",
        dict(
            embedding=embedding(source_vocabulary_size, features),
            dropout=dropout_layer(dropout),
            reader=bidirectional(cell(features // 2)),
            begin=dense(sum(decoder_cell.carry_sizes.values())),
        ),
        encode,
    )
    attention_layers = {}
    if attention_layer is not None:
        attention_layers = dict(attention=attention_layer, join=dense(features))
    decoder = compose(
        "decoder",
        dict(
            embedding=embedding(target_vocabulary_size, features),
            dropout=dropout_layer(dropout),
            writer=rnn(decoder_cell, returns="carry"),
            scores=dense(target_vocabulary_size),
            **attention_layers,
        ),
        decode,
    )

    def forward(call, source, lengths, previous_tokens):
        memory, carry = call("encoder", source, lengths)
        return call("decoder", previous_tokens, memory, lengths, carry)[0]

    whole = compose("encoder_decoder", dict(encoder=encoder, decoder=decoder), forward)
    config = {"features": features, "attention": attention, "dropout": dropout}
    return EncoderDecoder(whole.init, whole.apply, whole.kind, config, whole.children)
