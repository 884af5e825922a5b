"""The activations of the lectures, as `jax.nn` has them, and the one that it lacks."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdl import nn
from tests.nn.filled import filled, normal

Z = np.float32([-7, -2, -0.5, -1e-3, 1e-3, 0.5, 2, 4])


def slope(f, z):
    return jax.jit(jax.vmap(jax.grad(f)))(z)


@pytest.mark.row("B01")
def test_sigmoid():
    with jax.enable_x64(True):
        z = np.array([4.0, -2.0, 0.0])
        f = np.asarray(jax.nn.sigmoid(z))
        expected = np.array([0.9820137900379085, 0.11920292202211755, 0.5])
        chex.assert_trees_all_close(f, expected, rtol=1e-15)
        chex.assert_trees_all_close(slope(jax.nn.sigmoid, z), f * (1 - f), rtol=1e-14)
        steepest = np.max(slope(jax.nn.sigmoid, np.linspace(-4, 4, 801)))
        assert float(steepest) == pytest.approx(0.25, abs=1e-15)


@pytest.mark.row("B02")
def test_tanh_is_a_stretched_sigmoid():
    with jax.enable_x64(True):
        z = np.linspace(-5, 5, 101)
        tanh = np.asarray(jnp.tanh(z))
        chex.assert_trees_all_close(2 * jax.nn.sigmoid(2 * z) - 1, tanh, atol=5e-16, rtol=0)
        chex.assert_trees_all_close(slope(jnp.tanh, z), 1 - tanh**2, atol=1e-15)


@pytest.mark.row("B03")
def test_relu_and_the_three_derivatives_at_0():
    """The deck has f'(0) = 1; this library follows jax.nn.relu, as PyTorch does: 0."""
    chex.assert_trees_all_equal(jax.nn.relu(Z), np.where(Z > 0, Z, 0))
    expected = np.float32(Z > 0)
    chex.assert_trees_all_equal(slope(jax.nn.relu, Z), expected)
    chex.assert_trees_all_equal(slope(lambda z: jnp.maximum(z, 0), Z), expected)
    deck = lambda z: jnp.where(z >= 0, z, 0.0)
    chex.assert_trees_all_equal(slope(deck, Z), expected)
    assert jax.grad(jax.nn.relu)(0.0) == 0
    assert jax.grad(lambda z: jnp.maximum(z, 0))(0.0) == 0.5
    assert jax.grad(deck)(0.0) == 1
    model = nn.serial(jax.nn.relu)
    assert jax.grad(lambda z: model.apply({}, {}, z)[0])(0.0) == 0


@pytest.mark.row("B04")
@given(st.floats(0.01, 0.99))
def test_leaky_relu_is_the_larger_of_z_and_alpha_z_for_alpha_below_1(alpha):
    largest = lambda alpha: np.maximum(np.float32(alpha) * Z, Z)
    chex.assert_trees_all_close(jax.nn.leaky_relu(Z, alpha), largest(alpha), rtol=1e-6)
    chex.assert_trees_all_close(jax.nn.leaky_relu(Z, 1 / alpha), np.where(Z > 0, Z, Z / alpha))
    flipped = np.where(Z > 0, Z / alpha, Z)
    chex.assert_trees_all_close(largest(1 / alpha), flipped, rtol=1e-6)


@pytest.mark.row("B05")
@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_elu(alpha):
    elu = lambda z: jax.nn.elu(z, alpha)
    below = np.float32(alpha) * (np.exp(np.float64(Z)) - 1)
    expected = np.where(Z > 0, Z, below).astype(np.float32)
    chex.assert_trees_all_close(elu(Z), expected, rtol=1e-5)
    assert elu(0.0) == 0
    chex.assert_trees_all_close(slope(elu, Z[:4]), np.float32(alpha) * np.exp(Z[:4]), rtol=1e-4)
    edge = np.float32([-1e-6, 1e-6])
    assert np.ptp(np.asarray(elu(edge))) < 3e-6  # continuous at 0


@pytest.mark.row("B06")
def test_softmax_of_the_deck():
    y = jax.nn.softmax(np.float32([3, 1, -3]))
    chex.assert_trees_all_close(y, np.float32([0.87887824, 0.11894324, 0.00217852]), rtol=1e-5)


@pytest.mark.row("B06")
@given(st.lists(st.floats(-20, 20, width=32), min_size=2, max_size=2), st.floats(-50, 50, width=32))
def test_softmax_is_a_distribution_and_shift_invariant(scores, shift):
    s = np.float32([*scores, 0])
    y = np.asarray(jax.nn.softmax(s))
    assert np.all(y > 0) and np.all(y <= 1) and np.sum(y) == pytest.approx(1, abs=1e-6)
    chex.assert_trees_all_close(jax.nn.softmax(s + np.float32(shift)), y, rtol=1e-4)


@pytest.mark.row("B06")
def test_softmax_does_not_overflow():
    large = np.float32([1e4, 1e4 - 1, -1e4])
    assert np.isinf(jnp.exp(large)[0])
    expected = np.exp(np.float32([0, -1, -np.inf]))
    chex.assert_trees_all_close(jax.nn.softmax(large), expected / expected.sum(), rtol=1e-6)
    chex.assert_tree_all_finite(jax.jit(jax.jacobian(jax.nn.softmax))(large))


@pytest.mark.row("B07")
def test_the_linear_activation_is_the_identity():
    chex.assert_trees_all_equal(jax.nn.identity(Z), Z)
    chex.assert_trees_all_equal(slope(jax.nn.identity, Z), np.ones_like(Z))


@pytest.mark.row("B08")
def test_a_stack_of_linear_layers_is_one_linear_layer():
    model = nn.serial(nn.dense(7), jax.nn.identity, nn.dense(6), nn.dense(3))
    x = normal(0, 5, 4)
    params, state = filled(model, x)
    params = jax.tree.map(np.asarray, params)
    kernel, bias = np.eye(4, dtype=np.float32), np.zeros(4, np.float32)
    for name in ("dense_0", "dense_1", "dense_2"):
        kernel = kernel @ params[name]["kernel"]
        bias = bias @ params[name]["kernel"] + params[name]["bias"]
    y, _ = model.apply(params, state, x)
    chex.assert_trees_all_close(y, nn.functional.dense(x, kernel, bias), rtol=1e-4, atol=1e-5)
    curved, _ = nn.serial(nn.dense(7), jax.nn.relu, nn.dense(6), nn.dense(3)).apply(
        params, state, x
    )
    assert not np.allclose(curved, y, atol=0.1)


@pytest.mark.row("B09")
def test_at_a_fixed_input_a_relu_net_is_a_thinner_linear_net():
    """f(x) = A(x) x + c(x): A is the jacobian, the product over the units that are on.

    The deck says that ReLU solves "gradient descent's problem"; gradients that vanish are meant.
    """
    model = nn.serial(nn.dense(8), jax.nn.relu, nn.dense(8), jax.nn.relu, nn.dense(3))
    xs = normal(0, 20, 4)
    params, state = filled(model, xs)
    f = lambda x: model.apply(params, state, x)[0]

    def thinner(x):
        a, c, h = np.eye(4), np.zeros(4), x
        for name in ("dense_0", "dense_1", "dense_2"):
            kernel, bias = np.asarray(params[name]["kernel"]), np.asarray(params[name]["bias"])
            a, c, h = a @ kernel, c @ kernel + bias, h @ kernel + bias
            if name != "dense_2":
                a, c, h = a * (h > 0), c * (h > 0), h * (h > 0)
        return a.T, c

    a, c = map(np.float32, map(np.stack, zip(*map(thinner, np.asarray(xs)), strict=True)))
    y, slopes = jax.jit(lambda xs: (f(xs), jax.vmap(jax.jacobian(f))(xs)))(xs)
    chex.assert_trees_all_close(slopes, a, rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(y, np.einsum("nfd,nd->nf", a, xs) + c, rtol=1e-5, atol=1e-6)
    assert len(np.unique(np.round(a, 4), axis=0)) > 1  # another input, another linear net


@pytest.mark.row("B10")
def test_the_threshold_unit_passes_nothing_or_all(variant):
    step = variant(nn.heaviside)
    chex.assert_trees_all_equal(step(Z), np.float32(Z > 0))
    assert step(np.float32(0)) == 1 and step(np.zeros((), jnp.bfloat16)).dtype == jnp.bfloat16
    chex.assert_trees_all_equal(slope(nn.heaviside, Z), np.zeros_like(Z))


@pytest.mark.row("B10")
def test_a_sigmoid_gate_nearly_closes_and_opens_at_10():
    gate = np.asarray(jax.nn.sigmoid(np.float32([-10, 10])))
    chex.assert_trees_all_close(gate, np.float32([4.5398e-5, 0.9999546]), rtol=1e-5)
    memory = np.float32([3, 7])
    chex.assert_trees_all_close(gate * memory, np.float32([0, 7]), atol=1e-3)


def test_the_threshold_unit_of_nan_is_0():
    assert np.asarray(nn.heaviside(np.float32([np.nan, 1]))).tolist() == [0, 1]
