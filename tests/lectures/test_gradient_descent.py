"""The derivative as a limit, the direction of descent, and where descent ends."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdl import data, losses, metrics, nn, optim
from tests.nn.filled import filled


@functools.cache
def network_loss():
    """A small network's mean losses at rows of flat float64 vectors, a vector, its gradient."""
    model = nn.serial(nn.dense(5), jnp.tanh, nn.dense(3))
    x = np.random.default_rng(0).normal(size=(6, 4))
    y = np.array([0, 1, 2, 2, 1, 0])
    params, state = filled(model, x)
    flat, unravel = jax.flatten_util.ravel_pytree(params)

    def loss(flat):
        return losses.reduce(losses.cross_entropy(model.apply(unravel(flat), state, x)[0], y))

    value, gradient = jax.jit(jax.value_and_grad(loss))(flat)
    compiled = jax.jit(jax.vmap(loss))
    flat, gradient = np.asarray(flat), np.asarray(gradient)
    # Always 500 rows, for one compilation.
    at = lambda rows: np.asarray(compiled(np.resize(rows, (500, flat.size))))[: len(rows)]
    assert at(flat[None])[0] == pytest.approx(float(value), rel=1e-12)
    return at, flat, gradient


@pytest.mark.row("D01", "D15")
def test_the_quotient_of_differences_goes_to_the_gradient():
    """(f(w + h) - f(w)) / h has an error of order h; the central one of order h^2."""
    with jax.enable_x64(True):
        moved, w, gradient = network_loss()
        steps = np.eye(w.size)

        def one_sided(h):
            return (moved(w + h * steps) - moved(w[None])) / h

        def central(h):
            return (moved(w + h * steps) - moved(w - h * steps)) / (2 * h)

        scale = np.max(np.abs(gradient))
        chex.assert_trees_all_close(central(1e-5), gradient, rtol=1e-6, atol=1e-6 * scale)
        error = [np.max(np.abs(one_sided(h) - gradient)) for h in (1e-3, 1e-4)]
        assert error[0] / error[1] == pytest.approx(10, rel=0.05)


@pytest.mark.row("D02")
def test_the_first_order_error_falls_with_the_square_of_the_step():
    with jax.enable_x64(True):
        loss, w, gradient = network_loss()
        direction = np.random.default_rng(2).normal(size=w.shape)

        def error(size):
            there, here = loss(np.stack([w + size * direction, w]))
            return abs(there - here - size * gradient @ direction)

        assert error(1e-3) / error(1e-4) == pytest.approx(100, rel=0.05)


@pytest.mark.row("D02")
def test_no_direction_falls_as_steeply_as_minus_the_gradient():
    """f(w + d) - f(w) is about |d| |grad f| cos(theta), least at theta = pi."""
    with jax.enable_x64(True):
        loss, w, gradient = network_loss()
        size = 1e-4
        directions = np.random.default_rng(3).normal(size=(500, w.size))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        change = lambda d: loss(w + size * d) - loss(w[None])
        length = np.linalg.norm(gradient)
        steepest = change(-gradient[None] / length)[0]
        assert np.all(change(directions) > steepest)
        assert steepest == pytest.approx(-size * length, rel=1e-3)


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

    @jax.jit
    @jax.vmap
    def run(start):
        end = descend(start)
        return end, surface(end), jax.hessian(surface)(end)

    starts = np.random.default_rng(0).uniform(-4, 4, (64, 2)).astype(np.float32)
    ends, values, hessians = map(np.asarray, run(starts))
    minima = np.unique(np.round(ends, 2), axis=0)
    assert 2 <= len(minima) <= 4
    assert np.all(np.linalg.eigvalsh(hessians) > 0) and np.all(values < 1e-6)


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
    kernels = np.asarray(params["dense_0"]["kernel"]).reshape(6, -1)
    apart = np.linalg.norm(kernels[:, None] - kernels[None], axis=-1)[np.triu_indices(6, 1)]
    assert np.min(apart) > np.min(np.linalg.norm(kernels, axis=-1))
    assert np.min(accuracy) > 0.94 and np.ptp(accuracy) <= 0.02
