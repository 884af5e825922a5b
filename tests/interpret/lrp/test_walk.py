"""Loops, conditions and products on the way back."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxdl import interpret
from tests.interpret.networks import array, double, run

W, X = array(0, 4, 2), array(1, 3, 4)


def test_guided_backprop_walks_the_branch_that_was_taken():
    with double():
        w, v = array(2, 4, 6), array(3, 6, 2)
        taken = lambda x: jax.nn.relu(x @ w) @ v
        f = lambda x: lax.cond(x.sum() < 1e9, taken, lambda x: x @ (w @ v), x)
        actual = run(interpret.guided_backprop, f, X, target=1)
        slope = (X @ w > 0) * np.maximum(v[:, 1], 0)
        np.testing.assert_allclose(actual, slope @ w.T, atol=1e-12)


def test_a_condition_has_relevance_though_one_branch_is_constant():
    with double():
        constant = lambda x: jnp.ones((3, 2))
        f = lambda x: lax.cond(x.sum() < 1e9, lambda x: x @ W, constant, x)
        actual = run(interpret.lrp, f, X, target=0)
        np.testing.assert_allclose(actual, X * W[:, 0], atol=1e-4)


def test_what_every_round_of_a_loop_reads_has_the_sum_of_its_relevance():
    with double():

        def f(x):
            add = lambda y, _: (y + x @ W, None)
            return lax.scan(add, jnp.zeros((3, 2)), length=4)[0]

        actual = run(interpret.lrp, f, X, target=0)
        np.testing.assert_allclose(actual, 4 * X * W[:, 0], atol=1e-4)


def test_a_loop_from_the_end_is_one_from_the_beginning_turned_round():
    with double():
        w = array(4, 2, 2)

        def f(x, reverse):
            step = lambda y, x: (jnp.tanh(y @ w + x @ W), None)
            return lax.scan(step, jnp.zeros((3, 2)), x.swapaxes(0, 1), reverse=reverse)[0]

        x = array(5, 3, 5, 4)
        of = lambda f, x: interpret.lrp(f, x, target=0)
        ahead = run(of, lambda x: f(x, False), x)
        back = run(of, lambda x: f(x, True), x[:, ::-1])
        np.testing.assert_allclose(back[:, ::-1], ahead, atol=1e-9)


def test_two_factors_have_half_each():
    with double():
        f = lambda x: (x[:, :2] * x[:, 2:]).sum(1)
        half = X[:, :2] * X[:, 2:] / 2
        actual = run(interpret.lrp, f, X)
        np.testing.assert_allclose(actual, np.concatenate([half, half], 1), atol=1e-4)
