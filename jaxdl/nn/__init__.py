"""Layers: one file a kind, the mathematics as a plain array function beside its factory."""

from jaxdl.core import compose, residual, serial, stack
from jaxdl.nn.conv import conv, conv_transpose, convolution, transposed_convolution
from jaxdl.nn.dense import affine, dense
from jaxdl.nn.flatten import flatten
from jaxdl.nn.initializers import INITIALIZERS, initializer
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
    "compose",
    "conv",
    "conv_transpose",
    "convolution",
    "dense",
    "flatten",
    "global_avg_pool",
    "global_max_pool",
    "initializer",
    "max_pool",
    "max_pooling",
    "residual",
    "serial",
    "stack",
    "transposed_convolution",
]
