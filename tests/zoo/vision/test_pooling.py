"""Poolings of Caffe and PyTorch, against loops in NumPy."""

import math

import jax
import numpy as np
import pytest

from jaxdl.zoo.vision.pooling import adaptive_avg_pool, ceil_max_pool


@pytest.mark.parametrize("window, stride", [(3, 2), (2, 2), (3, 1)])
def test_the_last_window_may_reach_over_the_edge(window, stride):
    for size in (5, 6):
        x = np.random.default_rng(size).normal(size=(1, size, window, 2)).astype(np.float32)
        count = math.ceil((size - window) / stride) + 1
        expected = [x[:, i * stride : i * stride + window].max((1, 2)) for i in range(count)]
        y = ceil_max_pool(window, stride=stride)(x)
        np.testing.assert_array_equal(y, np.stack(expected, 1)[:, :, None], err_msg=str(size))


def test_averages_over_windows_that_cover_the_image():
    """By PyTorch's rule; 14 rows in 4 windows overlap, 12 do not, and 3 are repeated."""
    pool = jax.jit(adaptive_avg_pool(4))
    for height, width in ((14, 12), (3, 5)):
        x = np.random.default_rng(height).normal(size=(2, height, width, 3)).astype(np.float32)
        windows = [
            [slice(math.floor(i * n / 4), math.ceil((i + 1) * n / 4)) for i in range(4)]
            for n in (height, width)
        ]
        expected = [[x[:, a, b].mean((1, 2)) for b in windows[1]] for a in windows[0]]
        np.testing.assert_allclose(
            pool(x), np.moveaxis(np.array(expected), 2, 0), rtol=1e-5, atol=1e-6
        )
    x = x[:, :, :3]
    assert adaptive_avg_pool(3)(x) is x


def test_sizes_that_are_none():
    with pytest.raises(ValueError, match="stride is 3; expected at most the window of 2"):
        ceil_max_pool(2, stride=3)
    with pytest.raises(ValueError, match="window is 0; expected an integer of at least 1"):
        ceil_max_pool(0, stride=1)
    with pytest.raises(ValueError, match="size is 1.5; expected an integer"):
        adaptive_avg_pool(1.5)
    with pytest.raises(ValueError, match="max_pool.*does not fit"):
        ceil_max_pool(4, stride=2)(np.zeros((1, 2, 2, 1), np.float32))
