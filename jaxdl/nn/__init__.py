"""Layers: one file a kind, the mathematics as a plain array function beside its factory."""

from jaxdl.combine import residual, serial, stack
from jaxdl.core import compose
from jaxdl.nn.activation import step
from jaxdl.nn.attention import (
    additive_attention,
    additive_scores,
    attend,
    dot_attention,
    dot_scores,
)
from jaxdl.nn.conv import conv, conv_transpose, convolution, transposed_convolution
from jaxdl.nn.dense import affine, dense
from jaxdl.nn.dropout import drop, dropout
from jaxdl.nn.embedding import embedding, lookup
from jaxdl.nn.flatten import flatten
from jaxdl.nn.initializers import INITIALIZERS, initializer, lsuv
from jaxdl.nn.norm import (
    batch_norm,
    group_norm,
    instance_norm,
    layer_norm,
    moments,
    normalize,
)
from jaxdl.nn.pool import (
    average_pooling,
    avg_pool,
    global_avg_pool,
    global_max_pool,
    max_pool,
    max_pooling,
)
from jaxdl.nn.recurrent import bptt
from jaxdl.nn.recurrent.bidirectional import bidirectional
from jaxdl.nn.recurrent.cell import Cell, unroll
from jaxdl.nn.recurrent.gru import gru, gru_step
from jaxdl.nn.recurrent.lstm import (
    coupled_lstm,
    coupled_lstm_step,
    lstm,
    lstm_step,
    peephole_lstm,
    peephole_lstm_step,
)
from jaxdl.nn.recurrent.rnn import elman, elman_step, jordan, jordan_step, lateral, lateral_step
from jaxdl.nn.recurrent.stacked import reset_carry, rnn, stacked_rnn

__all__ = [
    "INITIALIZERS",
    "Cell",
    "additive_attention",
    "additive_scores",
    "affine",
    "attend",
    "average_pooling",
    "avg_pool",
    "batch_norm",
    "bidirectional",
    "bptt",
    "compose",
    "conv",
    "conv_transpose",
    "convolution",
    "coupled_lstm",
    "coupled_lstm_step",
    "dense",
    "dot_attention",
    "dot_scores",
    "drop",
    "dropout",
    "elman",
    "elman_step",
    "embedding",
    "flatten",
    "global_avg_pool",
    "global_max_pool",
    "group_norm",
    "gru",
    "gru_step",
    "initializer",
    "instance_norm",
    "jordan",
    "jordan_step",
    "lateral",
    "lateral_step",
    "layer_norm",
    "lookup",
    "lstm",
    "lstm_step",
    "lsuv",
    "max_pool",
    "max_pooling",
    "moments",
    "normalize",
    "peephole_lstm",
    "peephole_lstm_step",
    "reset_carry",
    "residual",
    "rnn",
    "serial",
    "stack",
    "stacked_rnn",
    "step",
    "transposed_convolution",
    "unroll",
]
