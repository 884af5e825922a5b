"""Flattening: from feature maps to vectors, for fully connected layers."""

from __future__ import annotations

import math

import jax

from jaxdl.core import Module

__all__ = ["flatten"]


def flatten() -> Module:
    """Creates a layer that merges all axes but the first, in row-major order.

    Entry (n, h, w, c) of an input (N, H, W, C) moves to (n, (h W + w) C + c). Libraries with
    channels first use another order, which permutes the rows of the next layer's kernel.

    Returns:
      A `Module` without parameters from (N, ...) to (N, D).

    Raises:
      ValueError: the input is a scalar.
    """

    def init(key, x):
        _flatten(x)
        return {}, {}

    def apply(params, state, x, **_):
        return _flatten(x), state

    return Module(init, apply, "flatten")


def _flatten(x: jax.Array) -> jax.Array:
    if x.ndim == 0:
        raise ValueError("flatten: input is a scalar; expected a batch axis first.")
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))
