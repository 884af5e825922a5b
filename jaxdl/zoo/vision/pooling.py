"""Poolings of Caffe and PyTorch that published weights expect.

`ceil_max_pool` rounds the size of its output up, `adaptive_avg_pool` gives every input the same
size of output. Letters: N examples, H and W height and width, C channels.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from jaxdl._check import require_ints
from jaxdl.nn import functional as F

__all__ = ["adaptive_avg_pool", "ceil_max_pool"]


def ceil_max_pool(window: int, *, stride: int) -> Callable[[jax.Array], jax.Array]:
    """Returns a max pooling whose last windows may reach over the edge, as in Caffe.

    Args:
      window: the size k of the window.
      stride: the step s of the window, at most k.

    Returns:
      A function from (N, H, W, C) to (N, ceil((H - k) / s) + 1, ceil((W - k) / s) + 1, C).

    Raises:
      ValueError: a size is not a positive integer, or the stride exceeds the window.
    """
    require_ints("ceil_max_pool", 1, window=window, stride=stride)
    if stride > window:
        raise ValueError(
            f"ceil_max_pool: stride is {stride}; expected at most the window of {window}, because "
            "the last window would lie outside of the image."
        )

    def ceil_max_pool(x):
        # Less than the window, because a window of padding alone would give -inf.
        edges = [(0, (window - size) % stride) for size in x.shape[1:-1]]
        return F.max_pool(x, window, stride=stride, padding=edges)

    return ceil_max_pool


def adaptive_avg_pool(size: int) -> Callable[[jax.Array], jax.Array]:
    """Returns an average pooling to a map of `size` x `size`, as in PyTorch.

    Position i is the mean of rows floor(i H / size) to ceil((i + 1) H / size) - 1, and so along W;
    windows overlap if `size` does not divide H. A map of this size is returned unchanged.

    Args:
      size: height and width of the output.

    Returns:
      A function from (N, H, W, C) to (N, size, size, C).

    Raises:
      ValueError: the size is not a positive integer.
    """
    require_ints("adaptive_avg_pool", 1, size=size)

    def adaptive_avg_pool(x):
        if x.shape[1:3] == (size, size):
            return x
        # Axis by axis takes 2 size slices instead of size^2; the mean over a rectangle separates.
        for axis in (1, 2):
            cells = x.shape[axis]
            windows = [(i * cells // size, -(-(i + 1) * cells // size)) for i in range(size)]
            parts = [lax.slice_in_dim(x, *window, axis=axis) for window in windows]
            x = jnp.concatenate([jnp.mean(part, axis, keepdims=True) for part in parts], axis)
        return x

    return adaptive_avg_pool
