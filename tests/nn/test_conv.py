import itertools

import chex
import jax
import numpy as np
import pytest
import scipy.signal
from hypothesis import given
from hypothesis import strategies as st

import jaxdl
from jaxdl import nn
from tests.nn.filled import normal


def by_loops(x, kernel, stride, pads, dilation):
    """A two-dimensional convolution, cell by cell."""
    x = np.pad(x, ((0, 0), *pads, (0, 0)))
    window = kernel.shape[:2]
    sizes = [
        (x.shape[1 + a] - (window[a] - 1) * dilation[a] - 1) // stride[a] + 1 for a in range(2)
    ]
    y = np.zeros((len(x), *sizes, kernel.shape[-1]))
    for i, j in np.ndindex(*sizes):
        for m, n in np.ndindex(*window):
            cell = x[:, i * stride[0] + m * dilation[0], j * stride[1] + n * dilation[1]]
            y[:, i, j] += cell @ kernel[m, n]
    return y


@pytest.mark.row("F03", "F04", "F05")
@given(
    st.tuples(st.integers(1, 2), st.integers(1, 2)),
    st.sampled_from([((0, 0), (0, 0)), ((1, 1), (1, 1)), ((0, 1), (2, 0))]),
    st.tuples(st.integers(1, 2), st.integers(1, 2)),
)
def test_stride_padding_and_dilation_are_the_loops(stride, pads, dilation):
    x, kernel = normal(0, 2, 6, 7, 2), normal(1, 3, 2, 2, 3)
    y = nn.functional.conv(x, kernel, stride=stride, padding=pads, dilation=dilation)
    expected = by_loops(np.asarray(x), np.asarray(kernel), stride, pads, dilation)
    chex.assert_trees_all_close(y, expected.astype(np.float32), atol=1e-5)


@pytest.mark.row("F04")
@pytest.mark.parametrize("k, p", [(1, 0), (3, 0), (3, 1)])
def test_the_size_formula(k, p):
    for n, s in itertools.product([7, 8], [1, 2, 3]):
        y = jax.eval_shape(
            lambda x, w, s=s: nn.functional.conv(x, w, stride=s, padding=p),
            np.ones((1, n, 1), np.float32),
            np.ones((k, 1, 1), np.float32),
        )
        assert y.shape[1] == (n + 2 * p - k) // s + 1, (n, s)


def test_groups_do_not_see_each_other():
    x, kernel = normal(0, 2, 5, 5, 4), normal(1, 3, 3, 2, 6)
    y = nn.functional.conv(x, kernel, groups=2)
    halves = zip(np.split(np.asarray(x), 2, -1), np.split(np.asarray(kernel), 2, -1), strict=True)
    expected = np.concatenate([nn.functional.conv(*half) for half in halves], -1)
    chex.assert_trees_all_close(y, expected, atol=1e-5)


def test_circular_padding_is_a_roll():
    x, kernel = normal(0, 1, 5, 1), normal(1, 3, 1, 1)
    y = nn.functional.conv(x, kernel, padding="CIRCULAR")
    x, kernel = np.asarray(x), np.asarray(kernel)
    expected = sum(np.roll(x, 1 - i, 1) * kernel[i, 0, 0] for i in range(3))
    chex.assert_trees_all_close(y, expected, atol=1e-5)


@pytest.mark.row("F01")
def test_flipped_it_is_scipys_convolution():
    x, kernel = np.asarray(normal(0, 6, 7)), np.asarray(normal(1, 3, 4))
    y = nn.functional.conv(x[None, ..., None], kernel[..., None, None], padding="VALID", flip=True)
    expected = scipy.signal.convolve2d(x, kernel, mode="valid")
    chex.assert_trees_all_close(y[0, ..., 0], expected, atol=1e-5)


@pytest.mark.row("F14")
@pytest.mark.parametrize("stride, padding", [(1, 0), (2, 0), (2, 1), (1, 1), (3, 2)])
def test_the_transpose_is_the_adjoint(stride, padding):
    kernel = normal(1, 3, 3, 2, 4)
    options = dict(stride=stride, padding=padding)
    n = 5
    out = (n - 1) * stride - 2 * padding + 3
    x, y = normal(0, 1, out, out, 2), normal(2, 1, n, n, 4)
    forth = nn.functional.conv(x, kernel, **options)
    back = nn.functional.conv_transpose(y, np.asarray(kernel).swapaxes(2, 3), flip=True, **options)
    assert forth.shape == y.shape and back.shape == x.shape
    chex.assert_trees_all_close(np.vdot(forth, y), np.vdot(x, back), rtol=1e-4, atol=1e-4)


@pytest.mark.row("F14")
@pytest.mark.parametrize("i, s, p, size", [(2, 1, 0, 4), (2, 2, 0, 5), (3, 2, 1, 5)])
def test_the_transposes_sizes_of_the_animations(i, s, p, size):
    x, kernel = np.ones((1, i, i, 1), np.float32), np.ones((3, 3, 1, 1), np.float32)
    y = jax.eval_shape(
        lambda x, kernel: nn.functional.conv_transpose(x, kernel, stride=s, padding=p), x, kernel
    )
    assert y.shape == (1, size, size, 1)


def test_bad_arguments(key):
    x, kernel = np.ones((1, 5, 5, 3), np.float32), np.ones((3, 3, 3, 2), np.float32)
    cases = [
        (dict(implementation="fast"), "implementation is 'fast'"),
        (dict(implementation="cpu", dilation=2), "implementation is 'cpu'"),
        (dict(padding="HALF"), "no padding 'HALF'"),
        (dict(padding=-1), "padding is -1"),
        (dict(stride=0), r"stride\[0\] is 0"),
        (dict(groups=2), "3 channels .* in 2 groups"),
        (dict(padding="VALID", dilation=3), "conv: a window"),
    ]
    for options, words in cases:
        with pytest.raises(ValueError, match=words):
            nn.functional.conv(x, kernel, **options)
    with pytest.raises(ValueError, match=r"Add a batch axis"):
        nn.functional.conv(x[0], kernel)
    with pytest.raises(ValueError, match="padding .* for a window"):
        nn.functional.conv_transpose(x, kernel, padding=3)
    with pytest.raises(ValueError, match="kernel_size"):
        nn.conv(3, 0)
    with pytest.raises(ValueError, match="features"):
        nn.conv(0)
    with pytest.raises(ValueError, match="kernel_size is .3, 3."):
        jaxdl.init(nn.conv(3, (3, 3)), key, np.ones((1, 5, 2), np.float32))


def test_images_without_channels_are_no_sequences(key):
    """Honest 1-D convolution says so by a size for its one axis, or has a shape of no image."""
    shape = lambda layer, *shape: jax.eval_shape(layer.init, key, np.zeros(shape))
    for layer in (nn.conv(4), nn.conv(4, 5), nn.conv_transpose(4)):
        with pytest.raises(
            ValueError, match=r"input \(2, 28, 28\).*x\[..., None\].*kernel_size=\("
        ):
            shape(layer, 2, 28, 28)
        with pytest.warns(UserWarning, match="20 channels. Grey images need a channel axis"):
            shape(layer, 2, 28, 20)
        shape(layer, 2, 28, 28, 1), shape(layer, 2, 100, 3)
    for layer in (nn.conv(4, (3,)), nn.conv_transpose(4, [3]), nn.max_pool((2,)), nn.avg_pool([2])):
        shape(layer, 2, 28, 28)
    for layer in (nn.max_pool(2), nn.avg_pool(3)):
        with pytest.warns(UserWarning, match=r"pool: input \(2, 28, 28\).*window=\("):
            shape(layer, 2, 28, 28)
