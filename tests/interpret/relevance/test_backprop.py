import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import interpret
from tests.interpret.networks import array, double, run

METHODS = ["guided_backprop", "deconvnet", "beta_smooth"]


def relu_by_maximum(x):
    return jnp.maximum(x, 0)


@pytest.mark.parametrize("relu", [jax.nn.relu, relu_by_maximum])
def test_two_layers_by_hand(relu):
    """One ReLU used twice, by itself and by jnp.maximum."""
    with double():
        w, v, u, x = array(0, 4, 6), array(1, 6, 5), array(2, 5, 2), array(3, 3, 4)
        f = lambda x: relu(relu(x @ w) @ v) @ u
        g = np.broadcast_to(u[:, 1], (3, 5))
        b = np.maximum(x @ w, 0) @ v

        def by(slope):
            return slope(x @ w, slope(b, g) @ v.T) @ w.T

        expected = {
            "guided_backprop": by(lambda z, g: np.where((z > 0) & (g > 0), g, 0)),
            "deconvnet": by(lambda z, g: np.maximum(g, 0)),
            "beta_smooth": by(lambda z, g: g / (1 + np.exp(-10 * z))),
        }
        with jax.numpy_dtype_promotion("standard"):
            for name in METHODS:
                found = run(getattr(interpret, name), f, x, target=1)
                np.testing.assert_allclose(found, expected[name], atol=1e-10)


@pytest.mark.row("B09")
@pytest.mark.parametrize("name", METHODS)
def test_without_a_relu_it_is_the_gradient(name):
    with double():
        w, v, x = array(0, 4, 6), array(1, 6, 2), array(3, 3, 4)
        f = lambda x: jnp.tanh(x @ w) @ v
        slope = (1 - np.tanh(x @ w) ** 2) * v[:, 0] @ w.T
        np.testing.assert_allclose(getattr(interpret, name)(f, x, target=0), slope, atol=1e-12)


def test_with_positive_weights_alone_guided_backprop_is_the_gradient():
    with double():
        w, v, x = np.abs(array(0, 4, 6)), np.abs(array(1, 6, 2)), array(3, 5, 4)
        f = lambda x: jax.nn.relu(x @ w) @ v
        slope = (x @ w > 0) * v[:, 0] @ w.T
        found = run(interpret.guided_backprop, f, x, target=0, chunk=2)
        np.testing.assert_allclose(found, slope, atol=1e-12)
        sharp = run(interpret.beta_smooth, f, x, beta=1e9, target=0)
        np.testing.assert_allclose(sharp, slope, atol=1e-12)


def test_inside_a_loop():
    with double():
        w, x = array(0, 4, 4), array(1, 3, 4)

        def f(x):
            y, _ = jax.lax.scan(lambda y, _: (jax.nn.relu(y @ w), None), x, length=3)
            return y

        g = lambda x: jax.nn.relu(jax.nn.relu(jax.nn.relu(x @ w) @ w) @ w)
        found = [run(interpret.guided_backprop, h, x, target=1) for h in (f, g)]
        np.testing.assert_allclose(*found, atol=1e-12)


def test_beta_is_above_zero():
    with pytest.raises(ValueError, match="beta is 0"):
        interpret.beta_smooth(lambda x: x, jnp.ones((2, 3)), beta=0, target=0)
