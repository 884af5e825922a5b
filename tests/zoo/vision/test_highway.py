"""Highway layers at the limits of their gates, and gradients through 50 of them."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxdl
from jaxdl import nn, tree
from jaxdl.zoo.vision.highway import highway, highway_cnn, highway_conv, highway_dense, highway_mlp
from tests.nn.filled import filled, normal


@pytest.mark.row("G09")
@pytest.mark.parametrize(
    "layer, x",
    [(highway_dense(6), normal(0, 3, 6)), (highway_conv(4), normal(0, 1, 5, 5, 4))],
    ids=["dense", "conv"],
)
def test_the_gate_goes_from_identity_to_the_plain_layer(layer, x):
    params, _ = filled(layer, x)
    gate = jax.tree.map(np.zeros_like, params["gate"])
    run = jax.jit(lambda params: layer.apply(params, {}, x)[0])
    plain = np.asarray(layer.children["plain"].apply(params["plain"], {}, x)[0])
    shares = {-1e3: 0.0, 1e3: 1.0, np.log(3.0): 0.75}
    for bias, share in shares.items():
        y = run(params | {"gate": gate | {"bias": np.full_like(gate["bias"], bias)}})
        np.testing.assert_allclose(y, share * plain + (1 - share) * x, rtol=1e-5, atol=1e-6)


@given(st.integers(0, 2**31))
def test_every_output_is_between_the_input_and_the_plain_layer(seed):
    params, x = SHARED[0], np.random.default_rng(seed).normal(size=(3, 6)).astype(np.float32)
    y, plain = between(params, x)
    low, high = np.minimum(x, plain), np.maximum(x, plain)
    assert np.all(y >= low - 1e-5) and np.all(y <= high + 1e-5)


LAYER = highway_dense(6)
SHARED = filled(LAYER, normal(0, 3, 6))


@jax.jit
def between(params, x):
    y, seen = jaxdl.capture(LAYER, params, {}, x, paths={"plain"})
    return y, seen["plain"]


@pytest.mark.row("G09", "G14")
def test_gradients_reach_the_first_of_50_layers():
    """Through plain layers of the same weights they vanish."""
    x = np.asarray(normal(0, 4, 8))
    layer = highway_dense(8, activation=jax.numpy.tanh, gate_bias=-3.0)

    def first_over_last(layer):
        model = nn.scan_layers(layer, 50)
        params, _ = filled(model, x, scale=0.25)
        if "gate" in params:
            params["gate"]["bias"] = np.full((50, 8), -3, np.float32)

        def loss(params):
            return jax.numpy.square(model.apply(params, {}, x)[0]).sum()

        kernel = jax.jit(jax.grad(loss))(params)
        kernel = np.asarray(kernel.get("plain", kernel)["dense"]["kernel"], np.float64)
        return np.linalg.norm(kernel[0]) / np.linalg.norm(kernel[-1])

    assert first_over_last(layer) > 0.1
    assert first_over_last(layer.children["plain"]) < 1e-4


def test_initial_gates_are_nearly_closed_and_sizes_are_exact():
    x = jax.ShapeDtypeStruct((1, 28, 28, 1), np.float32)
    model = highway_mlp(4)
    shapes, _ = jax.eval_shape(model.init, jax.random.key(0), x)
    # The first layer, three of two matrices 50x50 with biases, and the output.
    assert tree.count(shapes) == 785 * 50 + 3 * 2 * 51 * 50 + 51 * 10
    assert jaxdl.depth(model, x) == 5
    params, _ = LAYER.init(jax.random.key(0), normal(0, 1, 6))
    np.testing.assert_array_equal(params["gate"]["bias"], np.full(6, -2))
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    cnn = highway_cnn()
    params, _ = jax.eval_shape(cnn.init, jax.random.key(0), images)
    widths = (3, 16, 32, 48)
    convs = [9 * a * b + b for a, b in zip(widths, widths[1:], strict=False)]
    convs += [4 * (9 * a * a + a) for a in widths[1:]]
    assert tree.count(params) == sum(convs) + 490 == 148_858


def test_layers_that_change_the_shape():
    with pytest.raises(ValueError, match="expected equal shapes. Change the width"):
        jax.eval_shape(highway(nn.dense(3), nn.dense(4)).init, jax.random.key(0), normal(0, 1, 4))
    with pytest.raises(ValueError, match="depth is 0"):
        highway_mlp(0)
