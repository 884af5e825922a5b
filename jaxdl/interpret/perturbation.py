"""Attributions by changing the input: leaving features out, one by one or in coalitions.

Perturbed copies run through f side by side, `chunk` of them at a time, never in a Python loop.
Features are named by a mask of numbers: pixels, segments of an image, words. Lecture rows Q01, Q13,
Q14.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.interpret import _at, _compile, _incremental, _input, _target

__all__ = ["ablation", "occlusion", "permutation"]


@_compile.once
@_target.each
def ablation(
    f: Callable[[jax.Array], Any],
    x: jax.Array,
    *,
    target: _target.Target = None,
    baseline: Any = 0.0,
    mask: Any = None,
    at: str | None = None,
    chunk: int | None = None,
) -> jax.Array:
    """y(x) - y(x without the feature), for each feature. Lecture rows Q01, Q13, Q14.

    Args:
      f, target: as for `saliency`; "argmax" is the class that x itself is given.
      x: (N, ...).
      baseline: what a feature is replaced by, a number or what broadcasts to x.
      mask: integers that broadcast to an example's shape, the same number for all that belongs to
        one feature: segments, or words of (T, D) by `arange(T)[:, None]`. With a batch axis, each
        example has its own, as of `superpixels`. None for every value by itself.
      at: a path; features are then those of the value there, and so is all else.
      chunk: features left out side by side; None for all.

    Returns:
      Like x; all that belongs to a feature has its value, in units of the score.

    Raises:
      ValueError: as `saliency`; the mask is no integers, or does not broadcast.
    """
    name = "ablation"
    f, x = _at.located(name, f, x, at)
    base, ids, count = features(name, x, baseline, mask)
    box = _boxes(ids, x.shape, count)

    def without(i):
        return jnp.where(box.of(ids, i) == i, box.of(base, i), box.of(x, i))

    falls = _falls(name, f, x, target, box, without, chunk)
    return to_values(falls.T, ids, x)


@_compile.once
@_target.each
def occlusion(
    f: Callable[[jax.Array], Any],
    x: jax.Array,
    window: Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
    target: _target.Target = None,
    baseline: Any = 0.0,
    at: str | None = None,
    chunk: int | None = None,
) -> jax.Array:
    """The mean fall of the score over all windows that cover a value, when they are covered.

    Zeiler and Fergus 2014 (arXiv 1311.2901), sec. 4.2; lecture row Q01.

    Args:
      f, target, baseline, at: as for `ablation`.
      x: (N, ...).
      window: its size along each axis of an example, e.g. (4, 4, 1) or (4, 4, 3).
      stride: steps from one window to the next; the last one may reach over the edge.
      chunk: windows covered side by side; None for all.

    Returns:
      Like x, in units of the score.

    Raises:
      ValueError: as `ablation`; the window does not fit in an example, or a stride is below 1 or
        leaves gaps between windows.
    """
    name = "occlusion"
    f, x = _at.located(name, f, x, at)
    base = _input.baselines(name, x, baseline)
    shape = x.shape[1:]
    steps = (stride,) * len(shape) if isinstance(stride, int) else tuple(stride)
    window = tuple(window)
    fits = len(window) == len(steps) == len(shape) and all(
        1 <= w <= size and 1 <= s <= w for w, s, size in zip(window, steps, shape, strict=True)
    )
    if not fits:
        raise ValueError(
            f"{name}: window {window} and stride {stride} for examples of {shape}; expected a size "
            "for each axis, no larger than it, and strides of 1 up to the window."
        )
    axes = [range(0, size - w + s, s) for size, w, s in zip(shape, window, steps, strict=True)]
    corners = np.asarray(list(itertools.product((0,), *axes)))
    box = _incremental.within(corners, corners + (len(x), *window), x.shape)

    def covered(i):
        inside = jnp.ones((), bool)  # the last windows begin after their boxes, which end with x
        for axis, late in enumerate(jnp.asarray(corners - box.starts)[i]):
            cells = jnp.arange(box.sizes[axis]) >= late
            inside &= cells.reshape([-1 if a == axis else 1 for a in range(x.ndim)])
        return jnp.where(inside, box.of(base, i), box.of(x, i))

    falls = _falls(name, f, x, target, box, covered, chunk)
    total = falls.T.reshape(-1, *map(len, axes))
    for firsts, size, n in zip(axes, window, shape, strict=True):
        # The first axis of windows goes, and one of cells comes last: the mean of those over each.
        cells = np.arange(n) - np.asarray(firsts)[:, None]
        covers = (cells >= 0) & (cells < size)
        means = jnp.asarray(covers / covers.sum(0), total.dtype)
        total = jnp.tensordot(total, means, (1, 0), precision="highest")
    return total.astype(x.dtype)


@_compile.once
@_target.each
def permutation(
    f: Callable[[jax.Array], Any],
    x: jax.Array,
    *,
    key: jax.Array,
    target: _target.Target = None,
    mask: Any = None,
    at: str | None = None,
    chunk: int | None = None,
) -> jax.Array:
    """The fall of the score when a feature is that of another example of the batch.

    Breiman 2001 (doi:10.1023/A:1010933404324), sec. 10, for each example; the mean over the batch
    is the importance of the feature.

    Args:
      f, target, mask, at: as for `ablation`.
      x: (N, ...), N of two or more.
      key: a PRNG key, for the order in which examples exchange a feature.
      chunk: features exchanged side by side; None for all.

    Returns:
      Like x; all that belongs to a feature has its value, in units of the score.

    Raises:
      ValueError: as `ablation`; there is one example alone.
    """
    name = "permutation"
    f, x = _at.located(name, f, x, at)
    _, ids, count = features(name, x, 0.0, mask)
    if len(x) < 2:
        raise ValueError(f"{name}: x has {len(x)} example; expected others to exchange with.")
    box = _boxes(ids, x.shape, count)

    def exchanged(i):
        own = box.of(x, i)
        others = own[jax.random.permutation(jax.random.fold_in(key, i), len(x))]
        return jnp.where(box.of(ids, i) == i, others, own)

    falls = _falls(name, f, x, target, box, exchanged, chunk)
    return to_values(falls.T, ids, x)


def _falls(name, f, x, target, box, changed, chunk):
    """(K, N): by how much each example's score falls when the cells of each box are changed."""
    target = _target.settled(name, f, x, target)

    @jax.jit
    def falls(x):
        output, again = _incremental.rerun(f, x, box)
        whole = _target.score(name, output, target)

        def fall(i):
            return whole - _target.score(name, again(i, changed(i)), target)

        return _input.mapped(name, fall, len(box.starts), chunk)

    return falls(x)


def _boxes(ids, shape, count):
    """Around the cells of each feature, in whatever example has it."""
    starts, ends = np.tile(shape, (count, 1)), np.zeros((count, len(shape)), int)
    for axis, at in enumerate(np.indices(ids.shape)):
        np.minimum.at(starts[:, axis], ids.ravel(), at.ravel())
        np.maximum.at(ends[:, axis], ids.ravel(), at.ravel() + 1)
    starts[:, 0], ends[:, 0] = 0, shape[0]
    return _incremental.within(starts, ends, shape)


def features(name, x, baseline, mask):
    """The baseline, each value's feature from 0 (1 or N, ...), and the most that an example has."""
    base = _input.baselines(name, x, baseline)
    shape = x.shape[1:]
    ids = np.arange(math.prod(shape)).reshape(shape) if mask is None else np.asarray(mask)
    if not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"{name}: the mask is {ids.dtype}; expected integers, one for a feature.")
    try:
        ids = np.broadcast_to(ids, x.shape) if ids.ndim == x.ndim else np.broadcast_to(ids, shape)
    except ValueError as error:
        raise ValueError(
            f"{name}: the mask has shape {ids.shape} for {len(x)} examples of {shape}; expected "
            "what broadcasts to an example, or with a batch axis a mask of each."
        ) from error
    ids = ids if ids.ndim == x.ndim else ids[None]
    numbers = [np.unique(row, return_inverse=True)[1].reshape(shape) for row in ids]
    ids = np.stack(numbers) if numbers else ids
    return base, ids, int(ids.max(initial=-1)) + 1


def to_values(values: jax.Array, ids: np.ndarray, x: jax.Array) -> jax.Array:
    """Like x: at each value what its feature has, of values (N, M)."""
    spread = jnp.take_along_axis(values, ids.reshape(len(ids), -1), axis=1)
    return spread.reshape(x.shape).astype(x.dtype)
