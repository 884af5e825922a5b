"""Backpropagation by hand against `jax.grad`. Lecture rows D09-D11, S03-S06, S25."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import nn
from tests.nn.filled import filled


def assert_close(actual, expected, rtol=1e-13):
    """To the last digits of double precision; chex's own default is 1e-6."""
    chex.assert_trees_all_close(actual, expected, rtol=rtol)


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


TWO_LAYERS = nn.serial(nn.dense(4), jnp.tanh, nn.dense(3), jax.nn.sigmoid)


@jax.jit
@jax.grad
def slope_of_two_layers(params, x, y):
    return jnp.sum((TWO_LAYERS.apply(params, {}, x)[0] - y) ** 2) / 2


@pytest.mark.row("A09", "D09")
@pytest.mark.parametrize("seed", range(3))
def test_errors_sent_back_layer_by_layer_are_the_gradient(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(5, 2)), rng.uniform(size=(5, 3))
    params = jax.device_get(filled(TWO_LAYERS, x, seed=seed)[0])
    w1, b1 = params["dense_0"]["kernel"], params["dense_0"]["bias"]
    w2, b2 = params["dense_1"]["kernel"], params["dense_1"]["bias"]
    a1 = np.tanh(x @ w1 + b1)
    a2 = 1 / (1 + np.exp(-(a1 @ w2 + b2)))
    delta2 = (a2 - y) * a2 * (1 - a2)
    delta1 = (delta2 @ w2.T) * (1 - a1**2)
    by_hand = {
        "dense_0": {"kernel": x.T @ delta1, "bias": delta1.sum(0)},
        "dense_1": {"kernel": a1.T @ delta2, "bias": delta2.sum(0)},
    }
    assert_close(slope_of_two_layers(params, x, y), by_hand, rtol=1e-10)


@pytest.mark.row("D10", "S25")
@pytest.mark.parametrize(
    "f, derivative",
    [
        (lambda x: 1 / x, lambda x: -1 / x**2),
        (lambda x: 2.5 + x, lambda x: 1.0),
        (jnp.exp, np.exp),
        (lambda x: -3.0 * x, lambda x: -3.0),
    ],
    ids=["1/x", "c+x", "exp", "ax"],
)
def test_the_local_rules_of_one_input(f, derivative):
    for x in (0.37, -1.53, 2.0):
        assert_close(jax.grad(f)(x), np.asarray(derivative(x)))


@pytest.mark.row("D10", "S25")
def test_the_local_rules_of_two_inputs():
    assert jax.grad(lambda x, z: x + z, (0, 1))(3.0, -4.0) == (1.0, 1.0)
    assert jax.grad(lambda x, z: x * z, (0, 1))(3.0, -4.0) == (-4.0, 3.0)


@pytest.mark.row("S03")
def test_the_sigmoid_circuit():
    """The slide ends in three products, so there is a sixth derivative, of x2 = 1."""
    f = lambda w, x: 1 / (1 + jnp.exp(-(w @ x)))
    w, x = np.array([2.0, -3.0, -3.0]), np.array([-1.0, -2.0, 1.0])
    assert w @ x == 1.0
    value, (dw, dx) = jax.jit(jax.value_and_grad(f, (0, 1)))(w, x)
    assert_close(value, 0.7310585786300049)
    slope = 0.19661193324148185
    assert_close(dw, np.array([-slope, -2 * slope, slope]))
    assert_close(dx, np.array([2 * slope, -3 * slope, -3 * slope]))


# The 2-2-2 net of the second deck: no biases, half the squared error, learning rate 1.
X, Y = np.array([0.5, 0.3]), np.array([0.23, -0.07])
W1, W2 = np.array([[0.20, -0.40], [0.50, 0.60]]), np.array([[0.10, -0.50], [-0.30, 0.80]])


def forward(w1, w2):
    hidden = jax.nn.sigmoid(nn.functional.dense(jnp.asarray(X), w1))
    return hidden, jax.nn.sigmoid(nn.functional.dense(hidden, w2))


@jax.jit
def energy(w1, w2):
    return jnp.sum((forward(w1, w2)[1] - Y) ** 2) / 2


@functools.cache
def gradients():
    return jax.device_get(jax.jit(jax.grad(energy, (0, 1)))(W1, W2))


@pytest.mark.row("S04", "C05")
def test_forward_pass_of_the_small_net():
    hidden, output = forward(W1, W2)
    assert_close(hidden, np.array([0.5621765008857981, 0.4950001666600003]))
    assert_close(output, np.array([0.47694575860699684, 0.5286964002912302]))
    assert_close(energy(W1, W2), 0.2097097937078311)


@pytest.mark.row("S05", "D11")
def test_output_layer_of_the_small_net():
    delta = np.array(
        [[0.03463298928683772, 0.08386609953820857], [0.030494578556568334, 0.07384466121071578]]
    )
    assert_close(gradients()[1], delta)
    stepped = np.array(
        [[0.06536701071316228, -0.5838660995382086], [-0.33049457855656833, 0.7261553387892843]]
    )
    assert_close(W2 - gradients()[1], stepped)


@pytest.mark.row("S06", "D11")
def test_hidden_layer_of_the_small_net_and_the_decks_wrong_rule():
    """Misprint: the deck sends back dE/dw5, which holds h1, where w5 dE/dIn is meant.

    Its rule turns the sign of two of the four derivatives.
    """
    true = np.array(
        [
            [-0.00842148046150221, 0.012606653078458003],
            [-0.005052888276901326, 0.007563991847074802],
        ]
    )
    g1, g2 = gradients()
    assert_close(g1, true)
    numeric = np.zeros_like(W1)
    for at in np.ndindex(2, 2):
        bump = np.zeros_like(W1)
        bump[at] = 1e-6
        numeric[at] = (energy(W1 + bump, W2) - energy(W1 - bump, W2)) / 2e-6
    assert_close(g1, numeric, rtol=1e-7)

    stepped = np.array(
        [[0.20842148046150222, -0.412606653078458], [0.5050528882769013, 0.5924360081529252]]
    )
    assert_close(W1 - g1, stepped)

    hidden = np.asarray(forward(W1, W2)[0])
    sent_back = g2.sum(1)  # (delta5 + delta6, delta7 + delta8)
    decks = X[:, None] * (sent_back * hidden * (1 - hidden))
    printed = np.array(
        [[0.014583332266596982, 0.013041100817357862], [0.008749999359958188, 0.007824660490414716]]
    )
    assert_close(decks, printed)
    assert np.sign(decks[:, 0]).tolist() == [1, 1] and np.sign(true[:, 0]).tolist() == [-1, -1]

    assert_close(energy(W1 - g1, W2 - g2), 0.19503259609013654)
    assert_close(energy(W1 - decks, W2 - g2), 0.19533592188005747)
