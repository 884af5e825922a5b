"""Attributions by perturbation: ablation, occlusion and permutation of features.

Perturbed copies of x are evaluated in batches of `batch_size`, not in a Python loop. A mask of
integers defines the features: pixels, segments of an image, words.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.interpret import _batching, _input, _layer
from jaxdl.interpret._explanation import explain_batches, explanation
from jaxdl.interpret._target import Target
from jaxdl.jaxpr import incremental

__all__ = ["ablation", "occlusion", "permutation"]


@explanation
def ablation(
    f: Callable[[Any], Any],
    x: Any,
    *,
    target: Target = None,
    baseline: Any = 0.0,
    mask: Any = None,
    layer: str | None = None,
    batch_size: int | None = None,
) -> Any:
    """Computes the drop of the score, y(x) - y(x without it), for each feature.

    Args:
      f, target: as for `saliency`. "argmax" is the predicted class of x itself.
      x: (N, ...), or a tree of such arrays. Integers in it are passed to f and not explained.
      baseline: the replacement of a feature: a number, an array that broadcasts to x, or a tree
        like x.
      mask: integers that broadcast to an example's shape, with the same number for all values of a
        feature: segments of an image, or words of (T, D) by `arange(T)[:, None]`. With a batch
        axis, each example has its own mask, as from `superpixels`. For a tree, a tree of masks; the
        same number in two arrays is one feature. None, also in a tree, makes every value a feature.
      layer: as for `saliency`. Features, mask and baseline then refer to the layer's value.
      batch_size: features removed side by side; None for the largest number within `memory_budget`.

    Returns:
      Like x, in units of the score. All values of a feature have the feature's attribution.

    Raises:
      ValueError: as `saliency`; the mask is not of integers, or does not broadcast.
    """
    name = "ablation"
    shapes = _layer.eval_shape(name, f, x, layer)
    base, labels, count = label_features(name, shapes, baseline, mask)

    def explain(f, score, x, base, ids):
        boxes = _bound_features(labels, x, count)

        def ablate(i):
            def replace(box, ids, base, x):
                return jnp.where(box.of(ids, i) == i, box.of(base, i), box.of(x, i))

            return jax.tree.map(replace, boxes, ids, base, x)

        return _score_drops(name, f, score, x, boxes, ablate, batch_size).T

    options = {"others": (base, labels), "perturbs": True}
    drops = explain_batches(name, explain, f, x, target, layer, batch_size, **options)
    return spread_values(drops, labels, shapes)


@explanation
def occlusion(
    f: Callable[[Any], Any],
    x: Any,
    window: Any,
    *,
    stride: Any = 1,
    target: Target = None,
    baseline: Any = 0.0,
    layer: str | None = None,
    batch_size: int | None = None,
) -> Any:
    """Computes the mean drop of the score over all windows that cover a value.

    Zeiler and Fergus 2014 (arXiv 1311.2901), sec. 4.2.

    Args:
      f, x, target, baseline, layer: as for `ablation`.
      window: its size along each axis of an example, e.g. (4, 4, 1) or (4, 4, 3). For a tree, sizes
        that fit every array, or a tree of them. A window covers one array at a time.
      stride: steps from one window to the next, for all axes or for each. The last window can
        extend beyond the edge. For a tree, also a tree of them.
      batch_size: windows evaluated side by side; None for the largest number within
        `memory_budget`.

    Returns:
      Like x, in units of the score.

    Raises:
      ValueError: as `ablation`; the window does not fit in an example; or a stride is below 1 or
        leaves gaps between windows.
    """
    name = "occlusion"
    shapes = _layer.eval_shape(name, f, x, layer)
    base = _input.broadcast_baseline(name, shapes, baseline)
    tree = jax.tree.structure(shapes)
    windows = _expand(name, shapes, "window", window)
    strides = _expand(name, shapes, "stride", stride)

    def explain(f, score, x, base):
        leaves, bases = tree.flatten_up_to(x), tree.flatten_up_to(base)

        def occlude_leaf(i):
            def f_of_leaf(leaf):
                return f(tree.unflatten([*leaves[:i], leaf, *leaves[i + 1 :]]))

            options = leaves[i], bases[i], windows[i], strides[i], batch_size
            return _occlude(name, f_of_leaf, score, *options)

        return tree.unflatten(map(occlude_leaf, range(len(leaves))))

    options = {"others": (base,), "perturbs": True}
    return explain_batches(name, explain, f, x, target, layer, batch_size, **options)


def _expand(name, x, argument, sizes):
    """Returns window sizes or strides for each array of x."""
    if hasattr(sizes, "__index__") or all(hasattr(size, "__index__") for size in sizes):
        return [sizes] * len(jax.tree.leaves(x))
    return jax.tree.structure(x).flatten_up_to(_input.match(name, x, argument, sizes))


def _occlude(name, f, score, x, base, window, stride, batch_size):
    """Returns the occlusion of one array."""
    shape = x.shape[1:]
    window, stride = np.asarray(window).tolist(), np.asarray(stride).tolist()
    steps = tuple(stride) if isinstance(stride, list) else (stride,) * len(shape)
    window = tuple(window)
    fits = len(window) == len(steps) == len(shape) and all(
        1 <= w <= size and 1 <= s <= w for w, s, size in zip(window, steps, shape, strict=True)
    )
    if not fits:
        raise ValueError(
            f"{name}: window {window} and stride {stride} for examples of {shape}; expected a size "
            "for each axis, at most that of the axis, and strides from 1 to the size of the window."
        )
    axes = [range(0, size - w + s, s) for size, w, s in zip(shape, window, steps, strict=True)]
    corners = np.asarray(list(itertools.product((0,), *axes)))
    box = incremental.within(corners, corners + (len(x), *window), x.shape)

    def cover(i):
        inside = jnp.ones((), bool)
        # Boxes end with x, so that those of the last windows begin before the window.
        for axis, late in enumerate(jnp.asarray(corners - box.starts)[i]):
            cells = jnp.arange(box.sizes[axis]) >= late
            inside &= cells.reshape([-1 if a == axis else 1 for a in range(x.ndim)])
        return jnp.where(inside, box.of(base, i), box.of(x, i))

    drops = _score_drops(name, f, score, x, box, cover, batch_size)
    total = drops.T.reshape(-1, *map(len, axes))
    for firsts, size, n in zip(axes, window, shape, strict=True):
        # Contracts the first axis, of windows, and appends one of cells: the mean of the windows
        # over each cell.
        cells = np.arange(n) - np.asarray(firsts)[:, None]
        covers = (cells >= 0) & (cells < size)
        means = jnp.asarray(covers / covers.sum(0), total.dtype)
        total = jnp.tensordot(total, means, (1, 0), precision="highest")
    return total.astype(x.dtype)


@explanation
def permutation(
    f: Callable[[Any], Any],
    x: Any,
    *,
    key: jax.Array,
    target: Target = None,
    mask: Any = None,
    layer: str | None = None,
    batch_size: int | None = None,
) -> Any:
    """Computes the drop of the score when a feature is taken from another example.

    Breiman 2001 (doi:10.1023/A:1010933404324), sec. 10, for each example. The mean over the batch
    is the permutation importance of the feature.

    Args:
      f, x, target, mask, layer: as for `ablation`, with at least two examples.
      key: a PRNG key, for the order in which examples exchange a feature.
      batch_size: features exchanged side by side; None for the largest number within
        `memory_budget`.

    Returns:
      Like x, in units of the score. All values of a feature have the feature's attribution.

    Raises:
      ValueError: as `ablation`; or there is only one example.
    """
    name = "permutation"
    shapes = _layer.eval_shape(name, f, x, layer)
    _, labels, count = label_features(name, shapes, 0.0, mask)
    n = len(jax.tree.leaves(x)[0])
    if n < 2:
        raise ValueError(f"{name}: x has {n} example; expected at least 2 to permute features.")

    def get_values(f, score, x):
        return x

    # Features come from the whole batch, also when only a part of it is explained at a time.
    options = target, layer, batch_size
    everyone = explain_batches(name, get_values, f, x, *options, perturbs=True)

    def explain(f, score, x, ids, rows):
        boxes = _bound_features(labels, x, count)

        def exchange(i):
            donors = jax.random.permutation(jax.random.fold_in(key, i), n)[rows]

            def replace(box, ids, x, everyone):
                other = box.extend([0], everyone.shape).of(everyone, i)[donors]
                return jnp.where(box.of(ids, i) == i, other, box.of(x, i))

            return jax.tree.map(replace, boxes, ids, x, everyone)

        return _score_drops(name, f, score, x, boxes, exchange, batch_size).T

    others = labels, jnp.arange(n)
    drops = explain_batches(name, explain, f, x, *options, others=others, perturbs=True)
    return spread_values(drops, labels, shapes)


def _score_drops(name, f, score, x, boxes, change, batch_size):
    """Returns (K, N), the drop of each example's score for a change of each box."""
    count = len(jax.tree.leaves(boxes)[0].starts)

    @jax.jit
    def compute_drops(x):
        output, rerun = incremental.rerun(f, x, boxes)
        whole = score(output)

        def compute_drop(i):
            return whole - score(rerun(i, change(i)))

        return _batching.map_evaluations(name, compute_drop, count, batch_size)

    return compute_drops(x)


def _bound_features(ids, x, count):
    """Returns for each array of x the box around each feature, over all examples."""

    def bound(ids, x):
        starts, ends = np.tile(x.shape, (count, 1)), np.zeros((count, x.ndim), int)
        for axis, cells in enumerate(np.indices(ids.shape)):
            np.minimum.at(starts[:, axis], ids.ravel(), cells.ravel())
            np.maximum.at(ends[:, axis], ids.ravel(), cells.ravel() + 1)
        starts[:, 0], ends[:, 0] = 0, len(x)
        return incremental.within(starts, ends, x.shape)

    return jax.tree.map(bound, ids, x)


def label_features(name: str, x: Any, baseline: Any, mask: Any) -> tuple[Any, Any, int]:
    """Returns the baseline, the labels of features, and the number of features.

    Args:
      name: the public function's name, for messages.
      x: arrays (N, ...), or their shapes.
      baseline, mask: as for `ablation`.

    Returns:
      The baseline like x; the feature of each value, from 0, (1 or N, ...); and the largest number
      of features of an example.
    """
    base = _input.broadcast_baseline(name, x, baseline)
    masks = jax.tree.map(lambda _: None, x) if mask is None else _input.match(name, x, "mask", mask)
    leaves, parts = map(jax.tree.structure(x).flatten_up_to, (x, masks))
    parts = [None if part is None else _as_numpy(name, part) for part in parts]
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
    labels = np.concatenate([np.broadcast_to(row, (n, row.shape[1])) for row in rows], axis=1)
    ids = np.zeros_like(labels)
    # Labels of an example are renumbered without gaps: their largest number bounds the work.
    for row, example in zip(ids, labels, strict=True):
        row[:] = np.unique(example, return_inverse=True)[1].reshape(-1)
    return base, _input.unflatten(ids, x), int(ids.max(initial=-1)) + 1


def _as_numpy(name: str, mask: Any) -> np.ndarray:
    """Returns the mask of one array. Its values must be known: they determine shapes."""
    try:
        return np.asarray(mask)
    except jax.errors.TracerArrayConversionError as error:
        raise ValueError(
            f"{name}: the mask is traced; expected known numbers, since they determine the number "
            "of features. Compute the mask outside of jax.jit, and close over it."
        ) from error


def _mask_rows(name: str, leaf: jax.Array, ids: np.ndarray) -> np.ndarray:
    """Returns the mask of one array as rows (1 or N, values)."""
    n, *shape = leaf.shape
    if not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"{name}: the mask is {ids.dtype}; expected integers.")
    per_example = ids.ndim == leaf.ndim
    try:
        ids = np.broadcast_to(ids, leaf.shape if per_example else shape)
    except ValueError as error:
        raise ValueError(
            f"{name}: the mask has shape {ids.shape} for {n} examples of {tuple(shape)}; expected "
            "a shape that broadcasts to an example, or to the batch for a mask of each example."
        ) from error
    return ids.reshape(n if per_example else 1, math.prod(shape))


def explain_coalitions(
    name: str,
    explain: Callable[[Callable[[jax.Array], jax.Array]], Any],
    f: Callable[[Any], Any],
    x: Any,
    base: Any,
    ids: Any,
    target: Target,
    layer: str | None,
    batch_size: int | None,
) -> Any:
    """Returns `explain(score)`, computed for batches of examples that fit in memory.

    Args:
      name, f, x, target, layer, batch_size: those of the public function.
      explain: a function of `score`, which is from a coalition, (M,) truth values, to the scores
        (N,) of x without the other features. It returns a tree of arrays (N, ...).
      base: the baseline, like the explained input.
      ids: the feature of each value, as of `label_features`.
    """

    def explain_part(f, score, x, base, ids):
        def score_coalition(present):
            def mask(ids, x, base):
                return jnp.where(present[ids], x, base)

            return score(f(jax.tree.map(mask, ids, x, base)))

        return explain(score_coalition)

    options = {"others": (base, ids), "perturbs": True}
    return explain_batches(name, explain_part, f, x, target, layer, batch_size, **options)


def spread_values(values: jax.Array, ids: Any, x: Any) -> Any:
    """Returns arrays like x with each feature's value, from values (N, M)."""

    def spread_leaf(ids, x):
        spread = jnp.take_along_axis(values, ids.reshape(len(ids), -1), axis=1)
        return spread.reshape(x.shape).astype(x.dtype)

    return jax.tree.map(spread_leaf, ids, x)
