"""Layers: one file a kind, the mathematics as a plain array function beside its factory."""

from jaxdl.core import compose, residual, serial, stack
from jaxdl.nn.dense import affine, dense
from jaxdl.nn.initializers import INITIALIZERS, initializer

__all__ = [
    "INITIALIZERS",
    "affine",
    "compose",
    "dense",
    "initializer",
    "residual",
    "serial",
    "stack",
]
