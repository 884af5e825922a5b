"""The derivative as a limit, the direction of descent, and where descent ends."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdl
from jaxdl import data, losses, metrics, nn, optim


def network_loss():
    """A small network's mean loss as a function of one flat float64 vector, and that vector."""
    model = nn.serial(nn.dense(5), jnp.tanh, nn.dense(3))
    x = jax.random.normal(jax.random.key(0), (6, 4), jnp.float64)
    y = jnp.array([0, 1, 2, 2, 1, 0])
    params, state = jaxdl.init(model, jax.random.key(1), x)
    flat, unravel = jax.flatten_util.ravel_pytree(params)

    def loss(flat):
        return losses.reduce(losses.cross_entropy(model.apply(unravel(flat), state, x)[0], y))

    return jax.jit(loss), flat


@pytest.mark.row("D01", "D15")
def test_the_quotient_of_differences_goes_to_the_gradient():
    """(f(w + h) - f(w)) / h has an error of order h; the central one of order h^2."""
    with jax.enable_x64(True):
        loss, w = network_loss()
        gradient = jax.grad(loss)(w)
        steps = jnp.eye(w.size, dtype=w.dtype)
        moved = jax.jit(jax.vmap(loss))

        def one_sided(h):
            return (moved(w + h * steps) - loss(w)) / h

        def central(h):
            return (moved(w + h * steps) - moved(w - h * steps)) / (2 * h)

        scale = np.max(np.abs(gradient))
        chex.assert_trees_all_close(central(1e-5), gradient, rtol=1e-6, atol=1e-6 * scale)
        error = [np.max(np.abs(one_sided(h) - gradient)) for h in (1e-3, 1e-4)]
        assert error[0] / error[1] == pytest.approx(10, rel=0.05)


@pytest.mark.row("D02")
def test_the_first_order_error_falls_with_the_square_of_the_step():
    with jax.enable_x64(True):
        loss, w = network_loss()
        gradient = jax.grad(loss)(w)
        direction = jax.random.normal(jax.random.key(2), w.shape, w.dtype)

        def error(size):
            return abs(loss(w + size * direction) - loss(w) - size * gradient @ direction)

        assert error(1e-3) / error(1e-4) == pytest.approx(100, rel=0.05)


@pytest.mark.row("D02")
def test_no_direction_falls_as_steeply_as_minus_the_gradient():
    """f(w + d) - f(w) is about |d| |grad f| cos(theta), least at theta = pi."""
    with jax.enable_x64(True):
        loss, w = network_loss()
        gradient = jax.grad(loss)(w)
        size = 1e-4
        directions = jax.random.normal(jax.random.key(3), (500, w.size), w.dtype)
        directions /= jnp.linalg.norm(directions, axis=1, keepdims=True)
        change = jax.jit(jax.vmap(lambda d: loss(w + size * d) - loss(w)))
        length = jnp.linalg.norm(gradient)
        steepest = change(-gradient[None] / length)[0]
        assert np.all(change(directions) > steepest)
        assert float(steepest) == pytest.approx(-size * float(length), rel=1e-3)


@pytest.mark.row("D04")
def test_descent_from_different_starts_ends_in_different_minima():
    """Himmelblau's function has four, all of value 0."""

    def surface(w):
        a, b = w
        return (a**2 + b - 11) ** 2 + (a + b**2 - 7) ** 2

    tx = optim.sgd(0.01)

    def descend(w):
        def step(w, _):
            updates, _ = tx.update(jax.grad(surface)(w), optax.EmptyState())
            return w + updates, None

        return jax.lax.scan(step, w, length=500)[0]

    starts = jax.random.uniform(jax.random.key(0), (64, 2), minval=-4, maxval=4)
    ends = jax.jit(jax.vmap(descend))(starts)
    minima = np.unique(np.round(ends, 2), axis=0)
    assert 2 <= len(minima) <= 4
    curvature = jax.vmap(lambda w: jnp.linalg.eigvalsh(jax.hessian(surface)(w)))(ends)
    assert np.all(curvature > 0) and np.all(jax.vmap(surface)(ends) < 1e-6)


@pytest.mark.row("D04")
def test_the_minima_of_a_network_perform_alike():
    """Six seeds end in six places, and within one percent of each other on held-out digits."""
    digits = data.digits()
    (x, y), (test_x, test_y) = digits.train, digits.test
    x, y = jnp.asarray(x), jnp.asarray(y)
    model = nn.serial(nn.flatten(), nn.dense(64), jax.nn.relu, nn.dense(10))
    tx = optim.momentum(0.1)

    def run(key):
        params, state = model.init(key, x[:1])

        def loss(params, rows):
            return losses.reduce(
                losses.cross_entropy(model.apply(params, state, x[rows])[0], y[rows])
            )

        def step(carry, rows):
            params, opt = carry
            updates, opt = tx.update(jax.grad(loss)(params, rows), opt)
            return (optax.apply_updates(params, updates), opt), None

        rows = jax.random.randint(jax.random.fold_in(key, 1), (500, 100), 0, len(x))
        (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), rows)
        output, _ = model.apply(params, state, jnp.asarray(test_x))
        return params, jnp.mean(metrics.accuracy(output, jnp.asarray(test_y)))

    params, accuracy = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), 6))
    kernels = params["dense_0"]["kernel"].reshape(6, -1)
    apart = np.linalg.norm(kernels[:, None] - kernels[None], axis=-1)[np.triu_indices(6, 1)]
    assert np.min(apart) > np.min(np.linalg.norm(kernels, axis=-1))
    assert np.min(accuracy) > 0.94 and np.ptp(accuracy) <= 0.02
