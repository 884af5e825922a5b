"""Transposed convolutions that begin as bilinear upsampling."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxdl
from jaxdl import nn
from tests.nn.filled import normal


@functools.cache
def layer(window, stride, padding):
    """A layer with 5 channels, compiled, and its initial parameters."""
    model = nn.conv_transpose(
        5, window, stride=stride, padding=padding, use_bias=False, kernel_init="bilinear"
    )
    params, _ = jaxdl.init(model, jax.random.key(0), np.zeros((1, 6, 5, 5), np.float32))
    return jax.jit(functools.partial(model.apply, params, {})), params


@pytest.mark.row("H03")
@pytest.mark.parametrize("factor", [2, 3])
def test_it_is_bilinear_upsampling(factor):
    """Odd factors have odd windows; at the edges zeros come in, where `resize` repeats a pixel."""
    x = normal(0, 1, 6, 5, 5)
    y = np.asarray(layer(2 * factor - factor % 2, factor, "SAME")[0](x)[0])
    expected = jax.image.resize(x, (1, 6 * factor, 5 * factor, 5), "bilinear")
    assert y.shape == expected.shape
    inner = slice(factor, -factor)
    np.testing.assert_allclose(y[:, inner, inner], expected[:, inner, inner], atol=1e-5)


def closed_form(x, window, stride):
    """y[o] = sum_i x[i] max(0, 1 - |o - i s - c| / f) along both axes, for no padding."""
    f, c = -(-window // 2), (window - 1) / 2
    for axis in (1, 2):
        n = x.shape[axis]
        o, i = np.ogrid[: (n - 1) * stride + window, :n]
        x = np.moveaxis(
            np.tensordot(np.maximum(0, 1 - abs(o - i * stride - c) / f), x, (1, axis)), 0, axis
        )
    return x


@pytest.mark.row("H03")
@given(st.sampled_from([(4, 2), (5, 3), (3, 2)]), st.integers(0, 1000))
def test_it_is_its_closed_form_for_every_window_and_stride(sizes, seed):
    x = normal(seed, 1, 6, 5, 5)
    y = layer(*sizes, 0)[0](x)[0]
    np.testing.assert_allclose(y, closed_form(np.float64(x), *sizes), atol=1e-5)


def test_channels_stay_apart_and_the_window_may_have_any_number_of_axes(key):
    kernel = np.asarray(nn.initializer("bilinear")(key, (4, 3, 3), np.float32))
    np.testing.assert_array_equal(kernel, np.eye(3) * np.array([1, 3, 3, 1])[:, None, None] / 4)
    line = nn.initializer("bilinear")(key, (3, 1, 1), np.float32)[:, 0, 0]
    np.testing.assert_array_equal(line, [0.5, 1, 0.5])


def test_other_numbers_of_channels_raise(key):
    with pytest.raises(ValueError, match=r"bilinear: kernel \[4, 4, 3, 2\].*Pass features=3"):
        nn.initializer("bilinear")(key, (4, 4, 3, 2), np.float32)
    with pytest.raises(ValueError, match=r"bilinear: kernel \[3, 3\]"):
        nn.initializer("bilinear")(key, (3, 3), np.float32)
