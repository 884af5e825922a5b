"""Quantization: rounding errors, and products of integers against integers of NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxdl
from jaxdl import compress, nn, serial
from tests.nn.filled import filled, normal

MODEL = serial(
    conv=nn.conv(4, 3, stride=2, padding=1),
    norm=nn.batch_norm(),
    relu=jax.nn.relu,
    depthwise=nn.conv(8, 3, groups=4),
    flatten=nn.flatten(),
    logits=nn.dense(3),
)
X = normal(0, 6, 6, 6, 2)
PARAMS, STATE = filled(MODEL, X)
STATE = jax.tree.map(np.ones_like, STATE)
quantize = jax.jit(compress.quantize)


@pytest.mark.row("G13")
@given(st.integers(0, 2**31), st.sampled_from([1e-6, 1.0, 1e6]))
def test_the_error_is_at_most_half_a_step(seed, scale):
    draw = np.random.default_rng(seed).normal
    params = jax.tree.map(lambda w: (scale * draw(size=w.shape)).astype(w.dtype), PARAMS)
    params["conv"]["kernel"][..., 0] = 0
    quantized = quantize(params)
    for name in ("conv", "depthwise", "logits"):
        w, q = params[name]["kernel"], quantized[name]["kernel"]
        values, steps = np.asarray(q.values), np.asarray(q.scale, np.float64)
        assert values.dtype == np.int8 and values.min() >= -127
        assert np.all(np.abs(w - steps * values) <= steps * (0.5 + 1e-4))
        largest = np.abs(values.astype(int)).max(tuple(range(w.ndim - 1)))
        np.testing.assert_array_equal(largest[name == "conv" :], 127)
        assert name != "conv" or largest[0] == 0
        np.testing.assert_array_equal(quantized[name]["bias"], params[name]["bias"])


def test_a_nan_stays_nan():
    """int8 has no NaN: the scale has it, of a channel of weights and of a batch of inputs."""
    kernel = np.arange(6, dtype=np.float32).reshape(3, 2)
    kernel[1, 0] = np.nan
    weights = compress.dequantize(quantize({"kernel": kernel}))["kernel"]
    assert np.isnan(weights[:, 0]).all() and np.isfinite(weights[:, 1]).all()
    model, params = nn.dense(2, use_bias=False), quantize({"kernel": np.ones((3, 2), np.float32)})
    x = np.ones((1, 3), np.float32)
    scales = compress.calibrate(model, params, {}, x)
    integers = jax.jit(compress.integer_model(model, scales).apply)
    np.testing.assert_allclose(integers(params, {}, x)[0], 3, rtol=1e-2)
    assert np.isnan(integers(params, {}, np.where([True, False, False], np.nan, x))[0]).all()


@pytest.mark.row("G13")
def test_bytes():
    kernels = sum(w.size for w in jax.tree.leaves(PARAMS) if w.ndim > 1)
    rest = jaxdl.tree.count(PARAMS) - kernels
    assert compress.nbytes(PARAMS) == 4 * (kernels + rest)
    assert compress.nbytes(quantize(PARAMS)) == kernels + 4 * (rest + 4 + 8 + 3)


def to_int8(x, scale):
    return np.clip(np.round(np.asarray(x) / scale), -127, 127).astype(np.int64)


@pytest.mark.row("G13")
def test_products_are_of_integers():
    """The convolution of integers in float64 is exact, and the sum of 8-bit products is int32."""
    quantized = quantize(PARAMS)
    scales = np.asarray(compress.calibrate(MODEL, quantized, STATE, X))
    model = compress.integer_model(MODEL, jnp.asarray(scales))
    run = jax.jit(model.apply)
    assert str(jax.make_jaxpr(model.apply)(quantized, STATE, X)).count("type=int32") == 3
    logits = run(quantized, STATE, X)[0]

    def layer(x, name, scale, product):
        q = quantized[name]["kernel"]
        total = product(to_int8(x, scale), np.asarray(q.values, np.int64))
        return total * scale * np.asarray(q.scale).ravel() + np.asarray(PARAMS[name]["bias"])

    def convolve(x, kernel, stride, groups):
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
        windows = windows[:, ::stride, ::stride]
        split = windows.reshape(*windows.shape[:3], groups, -1, 3, 3)
        kernel = kernel.reshape(3, 3, kernel.shape[2], groups, -1)
        return np.einsum("nhwgcij,ijcgf->nhwgf", split, kernel).reshape(*windows.shape[:3], -1)

    y = layer(X, "conv", scales[0], lambda x, k: convolve(x, k, 2, 1))
    norm = jax.tree.map(np.asarray, PARAMS["norm"])
    y = np.maximum((y - 1) / np.sqrt(1 + 1e-5) * norm["scale"] + norm["bias"], 0)
    y = layer(y, "depthwise", scales[1], lambda x, k: convolve(x, k, 1, 4)).reshape(6, -1)
    y = layer(y, "logits", scales[2], lambda x, k: x @ k)
    np.testing.assert_allclose(logits, y, rtol=1e-3, atol=2e-2)
    # The error against floating point is a few percent of the logits.
    exact, _ = jax.jit(MODEL.apply)(PARAMS, STATE, X)
    assert np.abs(logits - exact).max() < 0.05 * np.abs(exact).max()


@pytest.mark.row("G13")
def test_scales_are_of_the_largest_inputs_and_weights_are_converted_on_the_fly():
    quantized = quantize(PARAMS)
    scales = compress.calibrate(MODEL, quantized, STATE, X)
    converted = compress.dequantize(quantized)
    _, seen = jax.jit(lambda *a: jaxdl.capture(MODEL, *a))(converted, STATE, X)
    inputs = [X, seen["relu"], seen["flatten"]]
    np.testing.assert_allclose(scales, [np.abs(x).max() / 127 for x in inputs], rtol=1e-5)
    y, _ = jax.jit(compress.weight_only_model(MODEL).apply)(quantized, STATE, X)
    np.testing.assert_allclose(y, seen["logits"], rtol=1e-5, atol=1e-5)


def test_errors():
    quantized = quantize(PARAMS)
    with pytest.raises(ValueError, match="2 scales for 3 products"):
        jax.eval_shape(compress.integer_model(MODEL, jnp.ones(2)).apply, quantized, STATE, X)
    with pytest.raises(ValueError, match="expected evaluation only"):
        compress.integer_model(MODEL, jnp.ones(3)).apply(quantized, STATE, X, train=True)
    with pytest.raises(ValueError, match="multiplies none of the quantized weights"):
        compress.calibrate(MODEL, PARAMS, STATE, X)
    with pytest.raises(ValueError, match="selects w, int32; expected floating-point"):
        compress.quantize({"w": np.ones((2, 2), np.int32)})
