"""The machine against the solution of its dual, and features against their kernel."""

import jax
import numpy as np
import pytest
from scipy import optimize

from jaxdl.zoo.classic.svm import rbf_features, svm


def two_moons(n, seed=0, noise=0.1):
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, np.pi, n)
    y = (np.arange(n) % 2).astype(np.int32)
    x = np.stack([np.cos(angle) + y, np.sin(angle) * (1 - 2 * y) + 0.3 * y], 1)
    return (x + noise * rng.normal(size=x.shape)).astype(np.float32), y


def by_the_dual(x, y, cost):
    """max sum a - |sum a y x|^2 / 2 over 0 <= a <= cost, sum a y = 0, by scipy."""
    s = 2.0 * y - 1
    gram = (x * s[:, None]) @ (x * s[:, None]).T
    found = optimize.minimize(
        lambda a: a @ gram @ a / 2 - a.sum(),
        np.full(len(y), cost / 2),
        jac=lambda a: gram @ a - 1,
        bounds=[(0, cost)] * len(y),
        constraints={"type": "eq", "fun": lambda a: a @ s, "jac": lambda a: s},
        options={"maxiter": 500, "ftol": 1e-12},
    )
    return (found.x * s) @ x


@pytest.mark.row("A10")
def test_the_linear_machine_is_that_of_the_dual():
    rng = np.random.default_rng(1)
    y = (np.arange(40) % 2).astype(np.int32)
    x = (rng.normal(size=(40, 2)) + 3.0 * y[:, None]).astype(np.float32)
    machine = svm(x, y, cost=1.0, steps=5000)
    expected = by_the_dual(x.astype(np.float64), y, 1.0)
    np.testing.assert_allclose(machine.weights, expected, rtol=0.02, atol=0.01)


@pytest.mark.row("A10")
def test_random_features_bend_the_boundary_around_the_moons():
    x, y = two_moons(400)
    test_x, test_y = two_moons(400, seed=1)
    phi = rbf_features(jax.random.key(0), 2, 300, gamma=2.0)
    score = lambda machine: float(np.mean((np.asarray(machine(test_x)) > 0) == test_y))
    assert score(svm(x, y)) < 0.93
    assert score(svm(x, y, features=phi, cost=10.0)) > 0.98


@pytest.mark.row("A10")
def test_products_of_features_are_the_kernel():
    x = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    phi = rbf_features(jax.random.key(0), 3, 20_000, gamma=0.7)(x)
    kernel = np.exp(-0.7 * ((x[:, None] - x[None]) ** 2).sum(-1))
    np.testing.assert_allclose(phi @ phi.T, kernel, atol=0.04)


def test_bad_input():
    with pytest.raises(ValueError, match="gamma is 0"):
        rbf_features(jax.random.key(0), 2, 10, gamma=0)
    with pytest.raises(ValueError, match="expected 0 and 1 only"):
        svm(np.ones((2, 2), np.float32), np.array([1, 2]))
    with pytest.raises(ValueError, match=r"expected \(N, D\) and \(N,\)"):
        svm(np.ones((2, 2), np.float32), np.array([1]))
