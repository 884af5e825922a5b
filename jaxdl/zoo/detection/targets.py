"""Matching of anchors and proposals with true boxes, and their sampling, with fixed shapes.

Ren et al. 2015, arXiv 1506.01497, section 3.1.2, and Girshick 2015, arXiv 1504.08083, section 2.3.
True boxes are padded to a fixed number; their classes are 1, 2, ..., and 0 marks padding.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxdl._check import require_ints, require_number
from jaxdl.core import Module
from jaxdl.zoo.detection.boxes import iou

__all__ = ["Matches", "match", "sample", "sampler", "smooth_l1"]


class Matches(NamedTuple):
    """The true box of each of A reference boxes.

    Attributes:
      index: (A,) the true box with the largest IoU.
      positive: (A,) whether the reference box is an example of that box.
      negative: (A,) whether it is an example of the background. Others are not used.
    """

    index: jax.Array
    positive: jax.Array
    negative: jax.Array


def match(
    reference: jax.Array,
    boxes: jax.Array,
    labels: jax.Array,
    *,
    low: float,
    high: float,
    best: bool = False,
) -> Matches:
    """Matches reference boxes with the true boxes of one image.

    Args:
      reference: (A, 4) anchors or proposals.
      boxes: (M, 4) true boxes.
      labels: (M,) their classes, 0 for padding.
      low: below this IoU with all true boxes a reference box is negative.
      high: from this IoU on it is positive.
      best: whether the reference boxes that overlap a true box most are positive in any case.

    Returns:
      `Matches` of the reference boxes. Without true boxes, all are negative.
    """
    # -1, because an anchor may have IoU 0 with all true boxes, and padding must rank below.
    overlap = jnp.where(labels[:, None] > 0, iou(boxes, reference), -1)
    index, largest = jnp.argmax(overlap, axis=0), jnp.max(overlap, axis=0)
    positive = largest >= high
    if best:
        # All tied anchors, as in section 3.1.2 (i); padding has a maximum of -1.
        top = jnp.max(overlap, axis=1, keepdims=True)
        positive |= jnp.any((overlap == top) & (top > 0), axis=0)
    return Matches(index, positive, (largest < low) & ~positive)


def sample(
    key: jax.Array, positive: jax.Array, negative: jax.Array, *, count: int, fraction: float
) -> tuple[jax.Array, jax.Array]:
    """Draws positive and negative examples without replacement.

    Args:
      key: a PRNG key.
      positive, negative: (A,) bools.
      count: the number of examples, at most A.
      fraction: the largest part of positive examples. If there are fewer, negative ones take their
        place; they are not replaced if there are too few of them.

    Returns:
      `(indices (count,), valid (count,))`: positive examples, then negative ones, then the index 0
      where `valid` is False.

    Raises:
      ValueError: `count` is not in 1 .. A, or `fraction` is not in (0, 1].
    """
    (count,) = require_ints("sample", 1, count=count)
    fraction = require_number(
        "sample", "above 0, at most 1", lambda f: 0 < f <= 1, fraction=fraction
    )
    if count > len(positive):
        raise ValueError(f"sample: count is {count}; expected at most {len(positive)} examples.")
    # The largest of random numbers are a sample without replacement of fixed shape.
    draws = jax.random.uniform(key, positive.shape)

    def draw(mask, n):
        values, indices = lax.top_k(jnp.where(mask, draws, -1), n)
        return indices, values >= 0

    first, first_valid = draw(positive, max(1, int(count * fraction)))
    second, second_valid = draw(negative, count)
    indices = jnp.concatenate([first, second])
    valid = jnp.concatenate([first_valid, second_valid])
    order = jnp.argsort(~valid, stable=True)[:count]  # positive ones stay first
    return jnp.where(valid[order], indices[order], 0), valid[order]


def sampler(count: int, fraction: float) -> Module:
    """Builds `sample` as a layer, which receives a new key in every training step.

    Args:
      count, fraction: as for `sample`; `count` is reduced to A if there are fewer examples.

    Returns:
      A `Module` from `positive` and `negative`, (N, A) each, to `(indices, valid)`, (N, count)
      each. With `train=False` it draws with one fixed key, so that a loss is reproducible.
    """

    def apply(params, state, positive, negative, *, train=False, key=None, **_):
        if train and key is None:
            raise ValueError("sampler: no key with train=True; pass key= to apply.")
        key = key if train and key is not None else jax.random.key(0)
        keys = jax.random.split(key, len(positive))
        draw = functools.partial(sample, count=min(count, positive.shape[1]), fraction=fraction)
        return jax.vmap(draw)(keys, positive, negative), state

    def init(key, positive, negative):
        return {}, {}

    return Module(init, apply, "sampler", {"count": count, "fraction": fraction})


def smooth_l1(output: jax.Array, target: jax.Array, *, beta: float = 1 / 9) -> jax.Array:
    """Computes the sum over the last axis of the loss of Girshick 2015, eq. 3.

    e^2 / (2 beta) where |e| < beta, else |e| - beta / 2, for e = output - target.

    Args:
      output, target: (..., F).
      beta: the end of the quadratic part; 1 in the paper's equation, 1/9 in Detectron.

    Returns:
      (...) losses.
    """
    error = jnp.abs(output - target)
    return jnp.where(error < beta, error**2 / (2 * beta), error - beta / 2).sum(-1)
