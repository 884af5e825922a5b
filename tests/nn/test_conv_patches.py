"""Depthwise convolutions and those of few positions: patches and sums instead of XLA's own."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdl import nn
from jaxdl.nn import conv_cpu
from tests.nn.filled import normal
from tests.nn.test_conv_cpu import operations

SHAPES = {
    "depthwise": ((3, 6, 5, 4), (3, 2, 1, 4), {"padding": ((1, 1), (0, 1)), "groups": 4}),
    "depthwise, stride": (
        (2, 7, 6, 4),
        (3, 3, 1, 4),
        {"padding": ((1, 1), (0, 2)), "groups": 4, "stride": (2, 3)},
    ),
    "depthwise, 1-d": ((2, 9, 6), (3, 1, 6), {"padding": ((2, 0),), "groups": 6}),
    "few positions": ((2, 2, 2, 9), (3, 3, 9, 4), {"padding": 1}),
    "few positions, stride": ((2, 7, 6, 3), (3, 2, 3, 5), {"padding": 1, "stride": 2}),
    "few positions, 3-d": ((1, 3, 2, 2, 2), (2, 2, 2, 2, 3), {"padding": 0}),
}


@pytest.mark.parametrize("name", SHAPES)
def test_the_forms_agree_in_every_derivative(name):
    x_shape, kernel_shape, options = SHAPES[name]
    x, kernel = normal(0, *x_shape), normal(1, *kernel_shape)

    @functools.partial(jax.jit, static_argnums=2)
    def derivatives(x, kernel, form):
        def f(x, w):
            y = nn.functional.conv(x, w, **options, implementation=form)
            return jnp.sum(jnp.sin(y)), y

        gradient = jax.grad(f, (0, 1), has_aux=True)
        second = jax.jvp(lambda *a: gradient(*a)[0], (x, kernel), (jnp.cos(x), jnp.sin(kernel)))
        mapped = jax.vmap(lambda x: f(x, kernel)[1])(jnp.stack([x, 2 * x]))
        return gradient(x, kernel), second, mapped

    ours, xlas = (derivatives(x, kernel, form) for form in ("cpu", "xla"))
    chex.assert_trees_all_close(ours, xlas, atol=1e-3, rtol=1e-4)
    # The programs differ: otherwise this test compares XLA with itself.
    form = functools.partial(nn.functional.conv, **options, implementation="cpu")
    assert "conv_general_dilated" not in operations(form, x, kernel)


@given(st.integers(1, 3), st.integers(2, 4), st.integers(1, 2), st.integers(0, 3))
def test_a_depthwise_convolution_convolves_each_channel(n, window, stride, padding):
    """By NumPy, in float64."""
    x, kernel = np.asarray(normal(0, n, 6, 5, 3)), np.asarray(normal(1, window, window, 1, 3))
    ours = nn.functional.conv(x, kernel, groups=3, stride=stride, padding=padding)
    wide = np.pad(np.float64(x), ((0, 0), (padding,) * 2, (padding,) * 2, (0, 0)))
    views = np.lib.stride_tricks.sliding_window_view(wide, (window, window), (1, 2))
    expected = np.einsum("nhwcij,ijc->nhwc", views[:, ::stride, ::stride], kernel[:, :, 0])
    chex.assert_trees_all_close(ours, np.float32(expected), atol=1e-5)


@pytest.mark.parametrize("parts", [1, 2**30])
def test_the_kernels_gradient_is_computed_for_some_examples_at_a_time(parts, monkeypatch):
    monkeypatch.setattr(conv_cpu, "CHUNK", parts)
    conv_cpu.convolution_on_cpu.clear_cache()
    x, kernel = normal(0, 6, 5, 4, 3), normal(1, 3, 3, 1, 3)

    def loss(kernel, form):
        return jnp.sum(jnp.sin(nn.functional.conv(x, kernel, groups=3, implementation=form)))

    gradients = [jax.grad(loss)(kernel, form) for form in ("cpu", "xla")]
    chex.assert_trees_all_close(*gradients, atol=1e-4, rtol=1e-4)
    program = operations(jax.grad(functools.partial(loss, form="cpu")), kernel)
    assert ("scan" in program) == (parts == 1)
    conv_cpu.convolution_on_cpu.clear_cache()


@pytest.mark.parametrize(
    "kernel, options",
    [
        ((3, 3, 1, 8), {"groups": 4}),  # two features a channel
        ((3, 3, 2, 4), {"groups": 2}),
        ((3, 3, 1, 4), {"groups": 4, "dilation": 2}),
        ((3, 3, 4, 4), {"stride": 2, "padding": 2}),  # 5 x 5 positions
    ],
)
def test_others_are_xlas(kernel, options):
    x, w = jnp.ones((2, 8, 8, 4)), jnp.ones(kernel)
    form = functools.partial(nn.functional.conv, **options)
    assert "conv_general_dilated" in operations(form, x, w)
    with pytest.raises(ValueError, match="implementation is 'cpu'"):
        form(x, w, implementation="cpu")


def test_half_precision_is_not_rounded_at_every_term():
    x, kernel = jnp.ones((1, 9, 9, 4), jnp.bfloat16), jnp.ones((3, 3, 1, 4), jnp.bfloat16)
    form = functools.partial(nn.functional.conv, groups=4)
    assert "conv_general_dilated" in operations(form, x, kernel)
