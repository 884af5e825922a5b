"""Dropout: random zeros during training.

Srivastava et al. 2014 (JMLR 15). A layer of M units has 2^M thinned networks that share weights;
for a linear unit, the scaled network is their exact mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp

from jaxdl.core import Module
from jaxdl.nn import _check

__all__ = ["dropout"]


def drop(
    x: jax.Array, key: jax.Array, rate: float, *, shared_axes: Sequence[int] = ()
) -> jax.Array:
    """Sets each value to 0 with probability `rate`, independently, without scaling.

    Args:
      x: an array of any shape.
      key: a PRNG key.
      rate: the probability of dropping a value, in [0, 1).
      shared_axes: axes along which values are dropped or kept together.

    Returns:
      An array of x's shape and dtype.
    """
    shared = {axis % x.ndim for axis in shared_axes}
    shape = tuple(1 if axis in shared else size for axis, size in enumerate(x.shape))
    # Not a product with the mask: 0 times inf is NaN.
    return jnp.where(jax.random.bernoulli(key, 1 - rate, shape), x, 0)


def dropout(
    rate: float,
    *,
    scale_at: Literal["train", "test"] = "train",
    shared_axes: Sequence[int] = (),
) -> Module:
    """Creates a layer that drops each value with probability `rate` during training.

    One of the two modes scales the values, so that their expectation is the same in both::

        scale_at="train"   train: m x / (1 - rate)   test: x              "inverted", the usual form
        scale_at="test"    train: m x                test: (1 - rate) x   of the original paper

    Args:
      rate: the probability of dropping a value, in [0, 1).
      scale_at: the mode in which values are scaled.
      shared_axes: axes along which values are dropped or kept together. 1 drops a feature of a
        sequence (N, T, D) at all steps, as in variational dropout (Gal and Ghahramani 2016, arXiv
        1512.05287); (1, 2) drops whole channels of an image.

    Returns:
      A `Module` without parameters, for inputs of any shape. The mask depends on the key.

    Raises:
      ValueError: `rate` is outside [0, 1), or `scale_at` is unknown; at init, the input is not
        floating-point; with `train=True`, the key is missing.
    """
    if not 0 <= rate < 1:
        raise ValueError(
            f"dropout: rate is {rate!r}; expected a probability of dropping, in [0, 1)."
        )
    if scale_at not in ("train", "test"):
        raise ValueError(f"dropout: scale_at is {scale_at!r}; expected 'train' or 'test'.")
    keep = 1 - rate

    def init(key, x):
        _check.floating("dropout", x, min_ndim=0)
        return {}, {}

    def apply(params, state, x, *, train=False, key=None, **_):
        if not train:
            return (x if scale_at == "train" else x * keep), state
        if key is None:
            raise ValueError(
                "dropout: no key with train=True; expected a PRNG key for the mask: "
                "model.apply(params, state, x, train=True, key=key)."
            )
        y = drop(x, key, rate, shared_axes=shared_axes)
        return (y / keep if scale_at == "train" else y), state

    return Module(init, apply, "dropout", {"rate": rate, "scale_at": scale_at})
