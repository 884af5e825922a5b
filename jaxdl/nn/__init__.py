"""Layers: one file a kind, the mathematics as a plain array function beside its factory."""

from jaxdl.combine import residual, serial, stack
from jaxdl.core import compose
from jaxdl.nn.activation import step
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

__all__ = [
    "INITIALIZERS",
    "affine",
    "average_pooling",
    "avg_pool",
    "batch_norm",
    "compose",
    "conv",
    "conv_transpose",
    "convolution",
    "dense",
    "drop",
    "dropout",
    "embedding",
    "flatten",
    "global_avg_pool",
    "global_max_pool",
    "group_norm",
    "initializer",
    "instance_norm",
    "layer_norm",
    "lookup",
    "lsuv",
    "max_pool",
    "max_pooling",
    "moments",
    "normalize",
    "residual",
    "serial",
    "stack",
    "step",
    "transposed_convolution",
]
