"""Layers, recurrent cells and composites; `nn.functional` has their mathematics over arrays."""

from jaxdl.combine import residual, scan_layers, serial
from jaxdl.core import compose
from jaxdl.nn import functional
from jaxdl.nn.activation import heaviside
from jaxdl.nn.attention import additive_attention, dot_attention
from jaxdl.nn.conv import conv, conv_transpose
from jaxdl.nn.dense import dense
from jaxdl.nn.dropout import dropout
from jaxdl.nn.embedding import embedding
from jaxdl.nn.flatten import flatten
from jaxdl.nn.initializers import INITIALIZERS, initializer, lsuv
from jaxdl.nn.norm import batch_norm, group_norm, instance_norm, layer_norm
from jaxdl.nn.pool import avg_pool, global_avg_pool, global_max_pool, max_pool
from jaxdl.nn.recurrent import bptt
from jaxdl.nn.recurrent.bidirectional import bidirectional
from jaxdl.nn.recurrent.cell import Cell, unroll
from jaxdl.nn.recurrent.gru import gru
from jaxdl.nn.recurrent.lstm import coupled_lstm, lstm, peephole_lstm
from jaxdl.nn.recurrent.rnn import elman, jordan, lateral
from jaxdl.nn.recurrent.stacked import reset_carry, rnn, stacked_rnn

__all__ = [
    "INITIALIZERS",
    "Cell",
    "additive_attention",
    "avg_pool",
    "batch_norm",
    "bidirectional",
    "bptt",
    "compose",
    "conv",
    "conv_transpose",
    "coupled_lstm",
    "dense",
    "dot_attention",
    "dropout",
    "elman",
    "embedding",
    "flatten",
    "functional",
    "global_avg_pool",
    "global_max_pool",
    "group_norm",
    "gru",
    "heaviside",
    "initializer",
    "instance_norm",
    "jordan",
    "lateral",
    "layer_norm",
    "lstm",
    "lsuv",
    "max_pool",
    "peephole_lstm",
    "reset_carry",
    "residual",
    "rnn",
    "scan_layers",
    "serial",
    "stacked_rnn",
    "unroll",
]
