"""Attributions by changing the input: leaving features out, one by one or in coalitions.

Perturbed copies run through f side by side, `batch_size` of them at a time, never in a Python loop.
Features are named by a mask of numbers: pixels, segments of an image, words. Lecture rows Q01, Q13,
Q14.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.interpret import _compile, _input, _layer, _target
from jaxdl.jaxpr import incremental

__all__ = ["ablation", "occlusion", "permutation"]


@_compile.once
@_target.each
def ablation(
    f: Callable[[Any], Any],
    x: Any,
    *,
    target: _target.Target = None,
    baseline: Any = 0.0,
    mask: Any = None,
    layer: str | None = None,
    batch_size: int | None = None,
) -> Any:
    """y(x) - y(x without the feature), for each feature. Lecture rows Q01, Q13, Q14.

    Args:
      f, target: as for `saliency`; "argmax" is the class that x itself is given.
      x: (N, ...), or a tree of such arrays; integers in it are passed to f and not explained.
      baseline: what a feature is replaced by: a number, what broadcasts to x, or a tree like x.
      mask: integers that broadcast to an example's shape, the same number for all that belongs to
        one feature: segments, or words of (T, D) by `arange(T)[:, None]`. With a batch axis, each
        example has its own, as of `superpixels`. For a tree, a tree of masks; the same number in
        two arrays is one feature. None, also in a tree, for every value by itself.
      layer: a path; features are then those of the value there, and so is all else.
      batch_size: features left out side by side; None for as many as `memory_budget` allows.

    Returns:
      Like x; all that belongs to a feature has its value, in units of the score.

    Raises:
      ValueError: as `saliency`; the mask is no integers, or does not broadcast.
    """
    name = "ablation"
    x, like = _layer.arrays(name, f, x, layer)
    base, numbers, count = features(name, like, baseline, mask)

    def explained(rows, target):
        x, base, ids = rows
        g, x = _layer.located(name, f, x, layer)
        boxes = _boxes(numbers, x, count)

        def without(i):
            def replace(box, ids, base, x):
                return jnp.where(box.of(ids, i) == i, box.of(base, i), box.of(x, i))

            return jax.tree.map(replace, boxes, ids, base, x)

        return _falls(name, g, x, target, boxes, without, batch_size).T

    rows = x, base, numbers
    falls = _input.by_examples_or_evaluations(name, explained, rows, target, batch_size)
    return to_values(falls, numbers, like)


@_compile.once
@_target.each
def occlusion(
    f: Callable[[Any], Any],
    x: Any,
    window: Any,
    *,
    stride: Any = 1,
    target: _target.Target = None,
    baseline: Any = 0.0,
    layer: str | None = None,
    batch_size: int | None = None,
) -> Any:
    """The mean fall of the score over all windows that cover a value, when they are covered.

    Zeiler and Fergus 2014 (arXiv 1311.2901), sec. 4.2; lecture row Q01.

    Args:
      f, x, target, baseline, layer: as for `ablation`.
      window: its size along each axis of an example, e.g. (4, 4, 1) or (4, 4, 3). For a tree, the
        sizes that fit every array, or a tree of them; a window covers one array at a time.
      stride: steps from one window to the next, for all axes or for each; the last window may reach
        over the edge. For a tree, also a tree of them.
      batch_size: windows covered side by side; None for as many as `memory_budget` allows.

    Returns:
      Like x, in units of the score.

    Raises:
      ValueError: as `ablation`; the window does not fit in an example, or a stride is below 1 or
        leaves gaps between windows.
    """
    name = "occlusion"
    x, like = _layer.arrays(name, f, x, layer)
    base = _input.baselines(name, like, baseline)
    tree = jax.tree.structure(like)
    windows = _for_each(name, like, "window", window)
    strides = _for_each(name, like, "stride", stride)

    def explained(rows, target):
        x, base = rows
        target = _target.settled(name, f, x, target)
        g, x = _layer.located(name, f, x, layer)
        leaves, falls = tree.flatten_up_to(x), []
        for i, options in enumerate(zip(tree.flatten_up_to(base), windows, strides, strict=True)):
            of_leaf = lambda a, i=i: g(tree.unflatten([*leaves[:i], a, *leaves[i + 1 :]]))  # noqa: E731
            falls.append(_occlude(name, of_leaf, leaves[i], *options, target, batch_size))
        return tree.unflatten(falls)

    return _input.by_examples_or_evaluations(name, explained, (x, base), target, batch_size)


def _for_each(name, x, argument, sizes):
    """Returns window sizes or strides for each array of x: the same for all, or a tree like x."""
    if hasattr(sizes, "__index__") or all(hasattr(size, "__index__") for size in sizes):
        return [sizes] * len(jax.tree.leaves(x))
    return jax.tree.structure(x).flatten_up_to(_input.match(name, x, argument, sizes))


def _occlude(name, f, x, base, window, stride, target, batch_size):
    """Returns the occlusion of one array."""
    shape = x.shape[1:]
    window, stride = np.asarray(window).tolist(), np.asarray(stride).tolist()  # not JAX's arrays
    steps = tuple(stride) if isinstance(stride, list) else (stride,) * len(shape)
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
    box = incremental.within(corners, corners + (len(x), *window), x.shape)

    def covered(i):
        inside = jnp.ones((), bool)  # the last windows begin after their boxes, which end with x
        for axis, late in enumerate(jnp.asarray(corners - box.starts)[i]):
            cells = jnp.arange(box.sizes[axis]) >= late
            inside &= cells.reshape([-1 if a == axis else 1 for a in range(x.ndim)])
        return jnp.where(inside, box.of(base, i), box.of(x, i))

    falls = _falls(name, f, x, target, box, covered, batch_size)
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
    f: Callable[[Any], Any],
    x: Any,
    *,
    key: jax.Array,
    target: _target.Target = None,
    mask: Any = None,
    layer: str | None = None,
    batch_size: int | None = None,
) -> Any:
    """The fall of the score when a feature is that of another example of the batch.

    Breiman 2001 (doi:10.1023/A:1010933404324), sec. 10, for each example; the mean over the batch
    is the importance of the feature.

    Args:
      f, x, target, mask, layer: as for `ablation`, N of two or more.
      key: a PRNG key, for the order in which examples exchange a feature.
      batch_size: features exchanged side by side; None for as many as `memory_budget` allows.

    Returns:
      Like x; all that belongs to a feature has its value, in units of the score.

    Raises:
      ValueError: as `ablation`; there is one example alone.
    """
    name = "permutation"
    x, like = _layer.arrays(name, f, x, layer)
    _, numbers, count = features(name, like, 0.0, mask)
    n = _input.count_examples(name, x)
    if n < 2:
        raise ValueError(f"{name}: x has {n} example; expected others to exchange with.")
    # Features come from all examples, also where some of them are explained at a time.
    value = lambda x, _: _layer.located(name, f, x, layer)[1]  # noqa: E731
    everyone = _input.by_examples_or_evaluations(name, value, x, None, batch_size)

    def explained(rows, target):
        x, ids, places = rows
        g, x = _layer.located(name, f, x, layer)
        boxes = _boxes(numbers, x, count)

        def exchanged(i):
            others = jax.random.permutation(jax.random.fold_in(key, i), n)[places]

            def replace(box, ids, x, everyone):
                other = box.widened([0], everyone.shape).of(everyone, i)[others]
                return jnp.where(box.of(ids, i) == i, other, box.of(x, i))

            return jax.tree.map(replace, boxes, ids, x, everyone)

        return _falls(name, g, x, target, boxes, exchanged, batch_size).T

    rows = x, numbers, jnp.arange(n)
    falls = _input.by_examples_or_evaluations(name, explained, rows, target, batch_size)
    return to_values(falls, numbers, like)


def _falls(name, f, x, target, boxes, changed, batch_size):
    """Returns (K, N), the fall of each example's score when the cells of each box are changed."""
    target = _target.settled(name, f, x, target)
    count = len(jax.tree.leaves(boxes)[0].starts)

    @jax.jit
    def falls(x):
        output, again = incremental.rerun(f, x, boxes)
        whole = _target.score(name, output, target)

        def fall(i):
            return whole - _target.score(name, again(i, changed(i)), target)

        return _input.mapped(name, fall, count, batch_size)

    return falls(x)


def _boxes(ids, x, count):
    """Returns for each array of x the boxes around each feature's cells, of all examples."""

    def around(ids, x):
        starts, ends = np.tile(x.shape, (count, 1)), np.zeros((count, x.ndim), int)
        for axis, cells in enumerate(np.indices(ids.shape)):
            np.minimum.at(starts[:, axis], ids.ravel(), cells.ravel())
            np.maximum.at(ends[:, axis], ids.ravel(), cells.ravel() + 1)
        starts[:, 0], ends[:, 0] = 0, len(x)
        return incremental.within(starts, ends, x.shape)

    return jax.tree.map(around, ids, x)


def features(name: str, x: Any, baseline: Any, mask: Any) -> tuple[Any, Any, int]:
    """Returns what the coalitions of x's features are made of.

    Args:
      name: the public function's name, for messages.
      x: arrays (N, ...), or their shapes.
      baseline, mask: as for `ablation`.

    Returns:
      The baseline like x; the feature of each value, from 0, (1 or N, ...); and the greatest number
      of features that an example has.
    """
    base = _input.baselines(name, x, baseline)
    masks = jax.tree.map(lambda _: None, x) if mask is None else _input.match(name, x, "mask", mask)
    leaves, parts = map(jax.tree.structure(x).flatten_up_to, (x, masks))
    parts = [None if part is None else _known(name, part) for part in parts]
    free = 1 + max(
        (int(np.max(part, initial=-1)) for part in parts if part is not None), default=-1
    )
    rows = []
    for leaf, part in zip(leaves, parts, strict=True):
        if part is None:
            size = math.prod(leaf.shape[1:])
            part, free = np.arange(free, free + size).reshape(leaf.shape[1:]), free + size
        rows.append(_mask_rows(name, leaf, part))
    n = max(map(len, rows))
    numbers = np.concatenate([np.broadcast_to(row, (n, row.shape[1])) for row in rows], axis=1)
    ids = np.zeros_like(numbers)
    for row, own in zip(ids, numbers, strict=True):
        row[:] = np.unique(own, return_inverse=True)[1].reshape(-1)
    return base, _input.unflatten(ids, x), int(ids.max(initial=-1)) + 1


def _known(name: str, mask: Any) -> np.ndarray:
    """Returns the mask of one array as NumPy's: the number of features is that of a shape."""
    try:
        return np.asarray(mask)
    except jax.errors.TracerArrayConversionError as error:
        raise ValueError(
            f"{name}: the mask is traced; expected its numbers, which say how many features there "
            "are. Make it outside of jax.jit, and close over it."
        ) from error


def _mask_rows(name: str, leaf: jax.Array, ids: np.ndarray) -> np.ndarray:
    """Returns the mask of one array as rows (1 or N, values)."""
    n, *shape = leaf.shape
    if not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"{name}: the mask is {ids.dtype}; expected integers, one for a feature.")
    of_each = ids.ndim == leaf.ndim
    try:
        ids = np.broadcast_to(ids, leaf.shape if of_each else shape)
    except ValueError as error:
        raise ValueError(
            f"{name}: the mask has shape {ids.shape} for {n} examples of {tuple(shape)}; expected "
            "what broadcasts to an example, or with a batch axis a mask of each."
        ) from error
    return ids.reshape(n if of_each else 1, math.prod(shape))


def of_coalitions(
    name: str,
    f: Callable[[Any], Any],
    rows: tuple[Any, Any, Any],
    target: _target.Target,
    layer: str | None,
    batch_size: int | None,
    explain: Callable[[Callable[[jax.Array], jax.Array]], Any],
) -> Any:
    """Returns what `explain(score)` makes of the scores of coalitions, as examples fit in memory.

    Args:
      name, f, target, layer, batch_size: those of the public function.
      rows: x, its baseline, and the feature of each value.
      explain: from the function `score`, of a coalition (M,) of truth values to the scores (N,) of
        x without the other features, to a tree of arrays (N, ...).
    """

    def explained(rows, target):
        x, base, ids = rows
        target = _target.settled(name, f, x, target)
        g, x = _layer.located(name, f, x, layer)
        return explain(lambda present: _target.score(name, g(keep(present, ids, x, base)), target))

    return _input.by_examples_or_evaluations(name, explained, rows, target, batch_size)


def keep(present: jax.Array, ids: Any, x: Any, base: Any) -> Any:
    """Returns x with the features that are not in a coalition, (M,) truth values, from base."""
    return jax.tree.map(lambda ids, x, b: jnp.where(present[ids], x, b), ids, x, base)


def to_values(values: jax.Array, ids: Any, x: Any) -> Any:
    """Returns arrays like x with the value of each one's feature, of values (N, M)."""

    def spread(ids, x):
        own = jnp.take_along_axis(values, ids.reshape(len(ids), -1), axis=1)
        return own.reshape(x.shape).astype(x.dtype)

    return jax.tree.map(spread, ids, x)
