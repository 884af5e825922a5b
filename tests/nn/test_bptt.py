import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdl
from jaxdl import nn
from jaxdl.nn.recurrent import bptt
from tests.nn import numpy_cells as cells
from tests.nn.filled import filled, normal

X = np.asarray(normal(0, 5, 3))
GOALS = normal(1, 5, 4)
CELLS = {
    "elman": nn.elman(4),
    "lstm": nn.lstm(4, learn_initial_carry=True),
    "gru": nn.gru(4),
    "jordan": nn.jordan(3, 4),
}
each_cell = pytest.mark.parametrize("name", CELLS)


def error(y, t):
    return 0.5 * jnp.sum((y - GOALS[t].astype(y.dtype)) ** 2)


def total(cell, params, x):
    return sum(error(y, t) for t, y in enumerate(nn.unroll(cell, params, x[None])[1][0]))


@pytest.mark.row("D12")
@each_cell
def test_the_sum_of_jacobian_products_is_the_gradient_through_the_scan(name):
    """The deck prints ds_3 / dW in each term where ds_k / dW is meant."""
    cell = CELLS[name]
    with jax.enable_x64(True):
        x = X.astype(np.float64)
        params, _ = filled(cell, x[None])
        explicit = lambda p: bptt.explicit_gradient(cell, p, x, error)
        explicit = (explicit if name == "elman" else jax.jit(explicit))(params)
        through_scan = jax.jit(jax.grad(lambda p: total(cell, p, x)))(params)
        chex.assert_trees_all_close(explicit, through_scan, atol=1e-12, rtol=1e-10)


@pytest.mark.row("D12")
@pytest.mark.parametrize("truncation", [1, 3])
@pytest.mark.parametrize("name", ["elman", "lstm"])
def test_truncation_omits_earlier_steps(name, truncation):
    cell = CELLS[name]
    params, _ = filled(cell, X[None])

    @jax.jit
    @jax.grad
    def truncated(params):
        """Each E_t over the `truncation` steps before it, from the carry of the whole run."""
        initial = cell.initial_carry(params, X[None])
        carries, loss = [initial], 0.0
        for t in range(4):
            carries.append(cell.step(params, carries[-1], X[None, t])[0])
        for t in range(5):
            first = max(0, t + 1 - truncation)
            carry = jax.lax.stop_gradient(carries[first]) if t + 1 >= truncation else initial
            for k in range(first, t + 1):
                carry, y = cell.step(params, carry, X[None, k])
            loss += error(y[0], t)
        return loss

    explicit = lambda p: bptt.explicit_gradient(cell, p, X, error, truncation=truncation)
    chex.assert_trees_all_close(jax.jit(explicit)(params), truncated(params), atol=1e-5)


@pytest.mark.row("D14")
@each_cell
def test_sensitivity_is_the_gradient_by_each_state(name):
    cell = CELLS[name]
    params, _ = filled(cell, X[None])
    norms, states = jax.jit(
        lambda p: (bptt.sensitivity(cell, p, X, error), bptt.states(cell, p, X))
    )(params)
    assert not np.any(np.triu(norms, 1))
    if name == "elman":
        eager = bptt.sensitivity(cell, params, X, error)
        chex.assert_trees_all_close(eager, norms, rtol=1e-4)

    def later(s, params, k):
        """Returns E_k, ..., E_5 as functions of state k."""
        parts = jnp.split(s[None], np.cumsum(list(cell.carry_sizes.values()))[:-1], axis=1)
        carry = parts[0] if len(parts) == 1 else tuple(parts)
        errors = [error(parts[0][0], k)]
        for t in range(k + 1, 5):
            carry, y = cell.step(params, carry, X[None, t])
            errors.append(error(y[0], t))
        return jnp.stack(errors)

    slopes = jax.jit(lambda s, p: [jax.jacrev(later)(s[k + 1], p, k) for k in (1, 2)])
    for k, slope in zip((1, 2), slopes(states, params), strict=True):
        expected = np.linalg.norm(slope, axis=-1)
        chex.assert_trees_all_close(norms[k:, k], expected, rtol=1e-4)


@pytest.mark.row("D14")
def test_the_jacobians_norm_is_bounded_by_one_only_without_the_weights():
    """The lecture's bound of 1 is that of diag(1 - s^2), without the recurrent weights W."""
    cell = nn.elman(5)
    draw = np.random.default_rng(0).normal
    params = {
        "kernel": jnp.asarray(draw(size=(3, 5)), jnp.float32) * 0.1,
        "recurrent_kernel": jnp.asarray(3 * draw(size=(5, 5)), jnp.float32),
        "bias": jnp.asarray(np.zeros(5), jnp.float32),
    }
    x = np.float32(5 * draw(size=(4, 3)))
    x[0] = 0  # the state stays 0, where the slope of tanh is 1
    jacobians = np.asarray(bptt.step_jacobians(cell, params, x))
    after = np.asarray(bptt.states(cell, params, x))[1:]
    squash = (1 - after**2)[:, :, None] * np.eye(5, dtype=np.float32)
    expected = squash @ np.asarray(params["recurrent_kernel"]).T
    chex.assert_trees_all_close(jacobians, expected, atol=1e-5)
    norm = lambda a: np.linalg.norm(a, 2, axis=(-2, -1))
    assert norm(squash)[0] == 1 and np.all(norm(squash)[1:] < 1)
    assert norm(jacobians)[0] > 5


@pytest.mark.row("D13", "J17")
@pytest.mark.parametrize("name, low, high", [("elman", 0, 1e-40), ("lstm", 0.1, 10)])
def test_gradient_by_the_state_400_steps_earlier(name, low, high):
    """It vanishes for Elman networks, not for an LSTM with forget gates near 1 - 1/400.

    NumPy computes it by the complex step: a tiny imaginary part of the initial carry.
    """
    tiny = 1e-30j * np.eye(4)
    cell, step, start = {
        "elman": (nn.elman(4), cells.elman, tiny),
        "lstm": (nn.lstm(4), cells.lstm, (0 * tiny, tiny)),
    }[name]
    x = np.random.default_rng(0).normal(size=(1, 400, 3))
    with jax.enable_x64(True):
        params = jax.tree.map(np.asarray, filled(cell, x)[0])
        if name == "lstm":
            params["bias"] = np.log(400) * np.repeat([-1.0, 1.0, 0.0, 0.0], 4)
        last = lambda start, p: jnp.sum(nn.unroll(cell, p, x, carry=start)[1][0, -1])
        slopes = jax.jit(jax.grad(last))(cell.initial_carry(params, x), params)
    gradient = np.asarray(jax.tree.leaves(slopes)[-1][0])  # by h, or by c
    y = cells.over_time(step, lambda params, x: start)(params, {}, np.repeat(x, 4, 0))
    np.testing.assert_allclose(gradient, y[:, -1].sum(1).imag / 1e-30, rtol=1e-8)
    assert low < np.linalg.norm(gradient) < high


@pytest.mark.row("D14")
def test_gradients_vanish_or_explode_with_the_largest_singular_value():
    cell = nn.elman(4, activation=lambda a: a, use_bias=False)
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    x = np.ones((20, 3), np.float32)
    norms_of = jax.jit(lambda p: bptt.sensitivity(cell, p, x, lambda y, t: jnp.sum(y)))
    for size in (0.5, 2.0):
        kernels = {"kernel": np.eye(3, 4), "recurrent_kernel": size * rotation}
        norms = norms_of(jax.tree.map(np.float32, kernels))
        ratio = float(norms[-1, 0] / norms[-1, -1])
        assert ratio == pytest.approx(size**19, rel=1e-3)
        assert (ratio > 1) == (size > 1)


@pytest.mark.row("D16")
def test_loss_surface_evaluates_each_point():
    params = {"a": np.float32([1, 2]), "b": np.float32(3)}
    loss = lambda p: jnp.sum(p["a"] ** 2) * p["b"]
    u = {"a": np.float32([1, 0]), "b": np.float32(0)}
    v = {"a": np.float32([0, 0]), "b": np.float32(1)}
    surface = bptt.loss_surface(loss, params, (u, v), ([-1.0, 0.0, 2.0], [0.0, 1.0]))
    expected = [[((1 + a) ** 2 + 4) * (3 + b) for b in (0, 1)] for a in (-1, 0, 2)]
    chex.assert_trees_all_close(surface, np.float32(expected))


@pytest.mark.row("D13")
@pytest.mark.parametrize("activation, vanishes", [(jax.nn.sigmoid, True), (jax.nn.relu, False)])
def test_gradients_of_nine_sigmoid_layers_vanish_near_the_input(activation, vanishes):
    """sigma' <= 1/4, so eight sigmoids scale by at most 0.25^8 = 1.5e-5, times the weights."""
    layers = [part for _ in range(9) for part in (nn.dense(32), activation)]
    model = jaxdl.serial(*layers, nn.dense(10))
    x, labels = normal(0, 64, 20), np.arange(64, dtype=np.int32) % 10
    params, state = filled(model, x, scale=1)
    for part in params.values():  # He's initial values
        part["kernel"] *= np.float32(np.sqrt(2 / part["kernel"].shape[0]))
        part["bias"] = np.zeros_like(part["bias"])
    loss = lambda p: jnp.mean(jaxdl.losses.cross_entropy(model.apply(p, state, x)[0], labels))
    gradient = jax.jit(jax.grad(loss))(params)
    norms = bptt.gradient_norms(gradient)
    assert sorted(norms) == [f"dense_{i}" for i in range(10)]
    entries = np.concatenate([np.ravel(leaf) for leaf in gradient["dense_9"].values()])
    assert float(norms["dense_9"]) == pytest.approx(np.sqrt(np.sum(entries**2)), rel=1e-5)
    ratio = float(norms["dense_0"] / norms["dense_8"])
    assert (ratio < 1e-3) if vanishes else (0.05 < ratio < 20)


@pytest.mark.row("D13")
def test_the_slope_of_a_sigmoid_is_at_most_a_quarter():
    slopes = jax.vmap(jax.grad(jax.nn.sigmoid))(np.linspace(-5, 5, 101, dtype=np.float32))
    assert float(slopes.max()) == 0.25 and 0.25**8 == pytest.approx(1.526e-5, rel=1e-3)


def test_bad_input():
    cell = CELLS["elman"]
    params, _ = filled(cell, X[None])
    with pytest.raises(ValueError, match="expected one sequence"):
        bptt.states(cell, params, X[None])
    with pytest.raises(ValueError, match="truncation=0"):
        bptt.explicit_gradient(cell, params, X, error, truncation=0)
