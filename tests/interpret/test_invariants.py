"""What holds of every method: how it moves with its inputs, and what it leaves alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import interpret
from jaxdl.interpret.lrp import rules
from tests.interpret.networks import array, double, draw, network, run

METHODS = {
    "saliency": interpret.saliency,
    "input x gradient": interpret.input_x_gradient,
    "integrated gradients": lambda f, x, **o: interpret.integrated_gradients(f, x, steps=6, **o),
    "guided backprop": interpret.guided_backprop,
    "LRP": interpret.lrp,
    "z+": lambda f, x, **o: interpret.lrp(f, x, composite="z_plus", **o),
    "DeepLIFT": interpret.deep_lift,
    "ablation": interpret.ablation,
    "Shapley": interpret.shapley_values,
}
EACH = pytest.mark.parametrize("name", METHODS)


@EACH
def test_a_permuted_batch_has_permuted_explanations_of_the_same_type(name):
    method, order = METHODS[name], np.array([2, 0, 1])
    explain = jax.jit(lambda w, v, x: method(lambda x: jax.nn.relu(x @ w) @ v, x, target=1))
    for dtype in (np.float32, np.float64):
        with double():
            w, v, x = (a.astype(dtype) for a in (array(0, 5, 6), array(1, 6, 3), array(2, 3, 5)))
            actual, moved = (np.asarray(explain(w, v, rows)) for rows in (x, x[order]))
            assert actual.dtype == dtype and actual.shape == x.shape
            np.testing.assert_allclose(moved, actual[order], rtol=1e-5, atol=1e-6)


@EACH
def test_permuted_features_have_permuted_explanations(name):
    with double():
        method, order = METHODS[name], np.array([3, 1, 4, 0, 2])
        f, x = network(0, activation=jax.nn.relu), array(2, 2, 5)
        back = np.argsort(order)
        g = lambda x: f(x[:, back])
        explain = jax.jit(lambda x: (method(g, x[:, order], target=0), method(f, x, target=0)))
        actual, plain = explain(x)
        np.testing.assert_allclose(actual, np.asarray(plain)[:, order], atol=1e-9)


@EACH
def test_nothing_is_changed_and_the_same_call_gives_the_same(name):
    with double():
        method, x, w, v = METHODS[name], draw(2, 2, 5), draw(0, 5, 6), draw(1, 6, 3)
        f = lambda x: jax.nn.relu(x @ w) @ v
        before = [np.array(a) for a in (w, v, x, f(x))]
        first, second = (np.asarray(method(f, x, target=2)) for _ in range(2))
        np.testing.assert_array_equal(first, second)
        for old, new in zip(before, (w, v, x, f(x)), strict=True):
            np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("name", ["saliency", "LRP", "z+", "DeepLIFT", "guided backprop"])
def test_a_shifted_image_has_a_shifted_explanation(name):
    """Of a network that is the same everywhere: circular convolution and a mean."""
    with double():
        w, v, x = array(0, 3, 3, 1, 4), array(1, 4, 2), array(2, 2, 6, 6, 1)

        def f(x):
            around = jnp.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)], mode="wrap")
            numbers = ("NHWC", "HWIO", "NHWC")
            y = jax.lax.conv_general_dilated(around, w, (1, 1), "VALID", dimension_numbers=numbers)
            return jax.nn.relu(y).mean((1, 2)) @ v

        explain = jax.jit(lambda x: METHODS[name](f, x, target=0))
        actual, shifted = (np.asarray(explain(a)) for a in (x, np.roll(x, (2, 1), (1, 2))))
        np.testing.assert_allclose(shifted, np.roll(actual, (2, 1), (1, 2)), atol=1e-9)


@pytest.mark.parametrize("name", ["LRP", "z+", "DeepLIFT"])
def test_writing_the_same_network_otherwise(name):
    """jit, checkpoint, reshapes there and back, einsum for @, and ReLU written otherwise."""
    with double():
        w, v, x = array(0, 5, 6), array(1, 6, 3), array(2, 2, 5)
        plain = lambda x: jax.nn.relu(x @ w) @ v

        @jax.checkpoint
        def layer(x):
            y = jnp.einsum("oi,ni->on", w.T, x).T.reshape(-1, 2, 3)
            return jnp.where(y > 0, y, 0.0).reshape(-1, 6)

        other = jax.jit(lambda x: jnp.dot(layer(x), v))
        method = METHODS[name]
        actual = jax.jit(lambda x: [method(f, x, target=1) for f in (plain, other)])(x)
        np.testing.assert_allclose(*actual, atol=1e-9)


def test_flat_is_w_square_where_all_weights_are_one():
    with double():
        x = array(0, 3, 5)
        f = lambda x: x @ np.ones((5, 2))
        actual = [
            run(interpret.lrp, f, x, target=0, composite=lambda layer, r=r: r)
            for r in (rules.flat(), rules.w_square())
        ]
        np.testing.assert_allclose(*actual, atol=1e-12)


@pytest.mark.parametrize("name", ["integrated gradients", "DeepLIFT", "Shapley", "ablation"])
def test_a_shift_of_input_and_baseline_changes_nothing(name):
    """Kindermans et al. 2019: with the baseline moved too."""
    with double():
        f, x, shift = network(3), array(2, 2, 5), 0.7
        method = METHODS[name]
        moved_f = lambda x: f(x - shift)
        actual, moved = jax.jit(
            lambda x: (
                method(f, x, target=0),
                method(moved_f, x + shift, target=0, baseline=shift),
            )
        )(x)
        np.testing.assert_allclose(moved, actual, atol=1e-9)
