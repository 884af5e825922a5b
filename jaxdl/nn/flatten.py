"""Flattening: the step from feature maps to a fully connected layer."""

from __future__ import annotations

import math

import jax

from jaxdl.core import Module

__all__ = ["flatten"]


def flatten() -> Module:
    """All axes but the first in one, in row-major order. Lecture row F10.

    The last axis varies fastest: of a (N, H, W, C) input, entry (n, h, w, c) goes to
    (n, (h W + w) C + c). Other orders, such as channels first, permute the rows of the next
    layer's kernel.

    Returns:
      A `Module` without parameters from (N, ...) to (N, D).

    Raises:
      ValueError: the input is a scalar.
    """

    def init(key, x):
        _flat(x)
        return {}, {}

    def apply(params, state, x, **_):
        return _flat(x), state

    return Module(init, apply, "flatten")


def _flat(x: jax.Array) -> jax.Array:
    if x.ndim == 0:
        raise ValueError("flatten: input is a scalar; expected a batch axis first.")
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))
