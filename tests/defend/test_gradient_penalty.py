"""Double backpropagation: closed forms on linear models."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdl
from jaxdl import defend, losses, nn, train

X = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
STRENGTH = 0.7


@pytest.mark.row("R05")
def test_a_step_on_a_linear_regression():
    # l = r^2 / 2 for r = w x - y; dl/dx = r w; so the loss is r^2 (1/2 + s ||w||^2).
    model = jaxdl.serial(nn.dense(1, use_bias=False), lambda y: y[:, 0])
    y = np.float32([0.5, -1.0, 2.0, 0.0, 1.0])
    optimizer = optax.sgd(0.1)
    state = train.init_state(model, optimizer, jax.random.key(0), X)
    w = np.asarray(state.params["dense_0"]["kernel"])[:, 0].astype(np.float64)
    loss = defend.gradient_penalty_loss(STRENGTH, loss=losses.half_squared_error)
    new, metrics = jax.jit(train.make_train_step(model, loss, optimizer))(state, (X, y))
    r = X @ w - y
    np.testing.assert_allclose(
        metrics["loss"].value, np.mean(r**2 * (0.5 + STRENGTH * w @ w)), rtol=1e-5
    )
    slope = (r * (1 + 2 * STRENGTH * w @ w)) @ X + 2 * STRENGTH * (r @ r) * w
    moved = np.asarray(new.params["dense_0"]["kernel"])[:, 0]
    np.testing.assert_allclose(moved, w - 0.1 * slope / len(X), rtol=1e-4, atol=1e-6)


def test_the_norm_of_a_logistic_regression():
    w, labels = np.float32([1.0, -2.0, 0.5]), np.array([0, 1, 1, 0, 1])
    loss = defend.gradient_penalty_loss(STRENGTH, loss="binary_cross_entropy")

    def apply(params, state, x, *, train=False, key=None):
        return x @ params, state

    _, values, _ = loss.compute(apply, w, {}, X, labels, jax.random.key(0))
    p = 1 / (1 + np.exp(-X.astype(np.float64) @ w))
    plain = -np.log(np.where(labels == 1, p, 1 - p))
    np.testing.assert_allclose(values, plain + STRENGTH * (p - labels) ** 2 * (w @ w), rtol=1e-5)


def test_a_loss_for_each_step_is_refused():
    def apply(params, state, x, *, train=False, key=None):
        return x[..., None] * params, state

    loss = defend.gradient_penalty_loss(1.0)
    with pytest.raises(ValueError, match=r"the loss returns \(5, 3\); expected \(N,\)"):
        loss.compute(apply, jnp.ones(2), {}, X, np.zeros((5, 3), int), jax.random.key(0))
