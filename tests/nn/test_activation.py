"""The activations of the lectures, as `jax.nn` has them, and the one that it lacks."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxdl
from jaxdl import nn

Z = jnp.array([-7.0, -2.0, -0.5, -1e-3, 1e-3, 0.5, 2.0, 4.0])


def slope(f, z):
    return jax.vmap(jax.grad(f))(z)


@pytest.mark.row("B01")
def test_sigmoid():
    with jax.enable_x64(True):
        z = jnp.array([4.0, -2.0, 0.0], jnp.float64)
        f = jax.nn.sigmoid(z)
        expected = np.array([0.9820137900379085, 0.11920292202211755, 0.5])
        chex.assert_trees_all_close(f, expected, rtol=1e-15)
        chex.assert_trees_all_close(slope(jax.nn.sigmoid, z), f * (1 - f), rtol=1e-14)
        steepest = jnp.max(slope(jax.nn.sigmoid, jnp.linspace(-4, 4, 801)))
        assert float(steepest) == pytest.approx(0.25, abs=1e-15)


@pytest.mark.row("B02")
def test_tanh_is_a_stretched_sigmoid():
    with jax.enable_x64(True):
        z = jnp.linspace(-5, 5, 101)
        chex.assert_trees_all_close(2 / (1 + jnp.exp(-2 * z)) - 1, jnp.tanh(z), atol=5e-16, rtol=0)
        chex.assert_trees_all_close(slope(jnp.tanh, z), 1 - jnp.tanh(z) ** 2, atol=1e-15)


@pytest.mark.row("B03")
def test_relu_and_the_three_derivatives_at_0():
    """The deck has f'(0) = 1; this library follows jax.nn.relu, as PyTorch does: 0."""
    chex.assert_trees_all_equal(jax.nn.relu(Z), jnp.where(Z > 0, Z, 0))
    expected = jnp.where(Z > 0, 1.0, 0.0)
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
    largest = lambda alpha: jnp.maximum(jnp.float32(alpha) * Z, Z)
    chex.assert_trees_all_close(jax.nn.leaky_relu(Z, alpha), largest(alpha), rtol=1e-6)
    chex.assert_trees_all_close(jax.nn.leaky_relu(Z, 1 / alpha), jnp.where(Z > 0, Z, Z / alpha))
    flipped = jnp.where(Z > 0, Z / alpha, Z)
    chex.assert_trees_all_close(largest(1 / alpha), flipped, rtol=1e-6)


@pytest.mark.row("B05")
@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_elu(alpha):
    elu = lambda z: jax.nn.elu(z, alpha)
    below = np.float32(alpha) * (np.exp(np.float64(Z)) - 1)
    expected = np.where(Z > 0, Z, below).astype(np.float32)
    chex.assert_trees_all_close(elu(Z), expected, rtol=1e-5)
    assert elu(0.0) == 0
    chex.assert_trees_all_close(slope(elu, Z[:4]), jnp.float32(alpha) * jnp.exp(Z[:4]), rtol=1e-4)
    edge = jnp.array([-1e-6, 1e-6])
    assert jnp.ptp(elu(edge)) < 3e-6  # continuous at 0


@pytest.mark.row("B06")
def test_softmax_of_the_deck():
    y = jax.nn.softmax(jnp.array([3.0, 1.0, -3.0]))
    chex.assert_trees_all_close(y, jnp.array([0.87887824, 0.11894324, 0.00217852]), rtol=1e-5)


@pytest.mark.row("B06")
@given(st.lists(st.floats(-20, 20, width=32), min_size=2, max_size=2), st.floats(-50, 50, width=32))
def test_softmax_is_a_distribution_and_shift_invariant(scores, shift):
    s = jnp.array([*scores, 0.0])
    y = jax.nn.softmax(s)
    assert np.all(y > 0) and np.all(y <= 1) and np.sum(y) == pytest.approx(1, abs=1e-6)
    chex.assert_trees_all_close(jax.nn.softmax(s + jnp.float32(shift)), y, rtol=1e-4)


@pytest.mark.row("B06")
def test_softmax_does_not_overflow():
    large = jnp.array([1e4, 1e4 - 1, -1e4])
    assert np.isinf(jnp.exp(large[0]))
    chex.assert_trees_all_close(
        jax.nn.softmax(large), jax.nn.softmax(jnp.array([1.0, 0.0, -2e4])), rtol=1e-6
    )
    chex.assert_tree_all_finite(jax.jacobian(jax.nn.softmax)(large))


@pytest.mark.row("B07")
def test_the_linear_activation_is_the_identity():
    chex.assert_trees_all_equal(jax.nn.identity(Z), Z)
    chex.assert_trees_all_equal(slope(jax.nn.identity, Z), jnp.ones_like(Z))


@pytest.mark.row("B08")
def test_a_stack_of_linear_layers_is_one_linear_layer(key):
    model = nn.serial(nn.dense(7), jax.nn.identity, nn.dense(6), nn.dense(3))
    x = jax.random.normal(key, (5, 4))
    params, state = jaxdl.init(model, jax.random.key(1), x)
    params = jax.tree.map(lambda p: p + 0.1, params)
    kernel, bias = jnp.eye(4), jnp.zeros(4)
    for name in ("dense_0", "dense_1", "dense_2"):
        kernel = kernel @ params[name]["kernel"]
        bias = bias @ params[name]["kernel"] + params[name]["bias"]
    y, _ = model.apply(params, state, x)
    chex.assert_trees_all_close(y, nn.affine(x, kernel, bias), rtol=1e-4, atol=1e-5)
    curved, _ = nn.serial(nn.dense(7), jax.nn.relu, nn.dense(6), nn.dense(3)).apply(
        params, state, x
    )
    assert not np.allclose(curved, y, atol=0.1)


@pytest.mark.row("B09")
def test_at_a_fixed_input_a_relu_net_is_a_thinner_linear_net(key):
    """f(x) = A(x) x + c(x): A is the jacobian, the product over the units that are on.

    The deck says that ReLU solves "gradient descent's problem"; gradients that vanish are meant.
    """
    model = nn.serial(nn.dense(8), jax.nn.relu, nn.dense(8), jax.nn.relu, nn.dense(3))
    xs = jax.random.normal(key, (20, 4))
    params, state = jaxdl.init(model, jax.random.key(1), xs)
    params = jax.tree.map(lambda p: p + 0.1, params)
    f = lambda x: model.apply(params, state, x)[0]

    def thinner(x):
        a, c, h = jnp.eye(4), jnp.zeros(4), x
        for name in params:
            kernel, bias = params[name]["kernel"], params[name]["bias"]
            a, c, h = a @ kernel, c @ kernel + bias, h @ kernel + bias
            if name != "dense_2":
                on = (h > 0).astype(h.dtype)
                a, c, h = a * on, c * on, h * on
        return a.T, c

    a, c = jax.vmap(thinner)(xs)
    chex.assert_trees_all_close(jax.vmap(jax.jacobian(f))(xs), a, rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(f(xs), jnp.einsum("nfd,nd->nf", a, xs) + c, rtol=1e-5, atol=1e-6)
    assert len(np.unique(np.round(a, 4), axis=0)) > 1  # another input, another linear net


@pytest.mark.row("B10")
def test_the_threshold_unit_passes_nothing_or_all(variant):
    step = variant(nn.step)
    chex.assert_trees_all_equal(step(Z), jnp.where(Z > 0, 1.0, 0.0))
    assert step(jnp.zeros(())) == 1 and step(jnp.zeros((), jnp.bfloat16)).dtype == jnp.bfloat16
    chex.assert_trees_all_equal(slope(nn.step, Z), jnp.zeros_like(Z))


@pytest.mark.row("B10")
def test_a_sigmoid_gate_nearly_closes_and_opens_at_10():
    gate = jax.nn.sigmoid(jnp.array([-10.0, 10.0]))
    chex.assert_trees_all_close(gate, jnp.array([4.5398e-5, 0.9999546]), rtol=1e-5)
    memory = jnp.array([3.0, 7.0])
    chex.assert_trees_all_close(gate * memory, jnp.array([0.0, 7.0]), atol=1e-3)
