"""The mathematics of the layers as functions of arrays, without parameters and state.

`nn.conv(32)` is a layer that creates its kernel and bias; `nn.functional.conv(x, kernel, bias)`
computes the same convolution from arrays that the caller provides. A layer and its function have
the same name. Of a recurrent cell, the function is one time step: `nn.functional.lstm_step`.

    x = nn.functional.max_pool(jax.nn.relu(nn.functional.conv(x, kernel, bias)), 2)
    logits = nn.functional.dense(x.reshape(len(x), -1), weights)
"""

from jaxdl.nn.attention import additive_scores, attend, dot_scores
from jaxdl.nn.conv import convolution as conv
from jaxdl.nn.conv import transposed_convolution as conv_transpose
from jaxdl.nn.dense import affine as dense
from jaxdl.nn.dropout import drop as dropout
from jaxdl.nn.embedding import lookup as embedding
from jaxdl.nn.norm import moments, normalize
from jaxdl.nn.pool import average_pooling as avg_pool
from jaxdl.nn.pool import max_pooling as max_pool
from jaxdl.nn.recurrent.gru import gru_step
from jaxdl.nn.recurrent.lstm import coupled_lstm_step, lstm_step, peephole_lstm_step
from jaxdl.nn.recurrent.rnn import elman_step, jordan_step, lateral_step

__all__ = [
    "additive_scores",
    "attend",
    "avg_pool",
    "conv",
    "conv_transpose",
    "coupled_lstm_step",
    "dense",
    "dot_scores",
    "dropout",
    "elman_step",
    "embedding",
    "gru_step",
    "jordan_step",
    "lateral_step",
    "lstm_step",
    "max_pool",
    "moments",
    "normalize",
    "peephole_lstm_step",
]
