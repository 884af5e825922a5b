"""jaxdl: deep learning in JAX as pure functions, with methods that explain the models."""

from jaxdl import (
    attack,
    compress,
    data,
    decode,
    defend,
    interpret,
    losses,
    metrics,
    nn,
    optim,
    train,
    tree,
)
from jaxdl.combine import frozen, residual, scan_layers, serial
from jaxdl.core import Call, Module, as_module, compose, init, named_key
from jaxdl.jaxpr.depth import depth
from jaxdl.jaxpr.receptive_field import ReceptiveField, receptive_field
from jaxdl.tap import capture, intervene
from jaxdl.tree import summary

__version__ = "0.1.0"

__all__ = [
    "Call",
    "Module",
    "ReceptiveField",
    "as_module",
    "attack",
    "capture",
    "compose",
    "compress",
    "data",
    "decode",
    "defend",
    "depth",
    "frozen",
    "init",
    "interpret",
    "intervene",
    "losses",
    "metrics",
    "named_key",
    "nn",
    "optim",
    "receptive_field",
    "residual",
    "scan_layers",
    "serial",
    "summary",
    "train",
    "tree",
]
