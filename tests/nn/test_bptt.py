import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdl
from jaxdl import nn
from jaxdl.nn import bptt
from tests.nn.filled import filled

X = jax.random.normal(jax.random.key(0), (5, 3))
GOALS = jax.random.normal(jax.random.key(1), (5, 4))
CELLS = {
    "elman": nn.elman(4),
    "lstm": nn.lstm(4, learn_initial=True),
    "gru": nn.gru(4),
    "jordan": nn.jordan(3, 4),
}
each_cell = pytest.mark.parametrize("name", CELLS)


def error(y, t):
    return 0.5 * jnp.sum((y - GOALS[t].astype(y.dtype)) ** 2)


def total(cell, params, x):
    return sum(error(y, t) for t, y in enumerate(nn.recurrence(cell, params, x[None])[1][0]))


@pytest.mark.row("D12")
@each_cell
def test_the_sum_of_jacobian_products_is_the_gradient_through_the_scan(name):
    """W6: the deck repeats ds_3 / dW in each term; ds_k / dW is meant."""
    cell = CELLS[name]
    with jax.enable_x64(True):
        x = X.astype(jnp.float64)
        params, _ = filled(cell, x[None])
        explicit = jax.jit(lambda p: bptt.explicit_gradient(cell, p, x, error))(params)
        through_scan = jax.jit(jax.grad(lambda p: total(cell, p, x)))(params)
        chex.assert_trees_all_close(explicit, through_scan, atol=1e-12, rtol=1e-10)


@pytest.mark.row("D12")
@pytest.mark.parametrize("back", [1, 3])
@pytest.mark.parametrize("name", ["elman", "lstm"])
def test_truncation_leaves_out_what_is_further_back(name, back):
    cell = CELLS[name]
    params, _ = filled(cell, X[None])

    @jax.jit
    @jax.grad
    def truncated(params):
        """Each E_t over the `back` steps before it, from where the whole run had come by then."""
        loss = 0.0
        for t in range(5):
            first = max(0, t + 1 - back)
            carry = cell.start(params, X[None])
            if first:
                carry, _ = nn.recurrence(cell, params, X[None, :first])
            if t + 1 >= back:
                carry = jax.lax.stop_gradient(carry)
            _, y = nn.recurrence(cell, params, X[None, first : t + 1], carry=carry)
            loss += error(y[0, -1], t)
        return loss

    found = jax.jit(lambda p: bptt.explicit_gradient(cell, p, X, error, back=back))(params)
    chex.assert_trees_all_close(found, truncated(params), atol=1e-5)


@each_cell
def test_sensitivity_is_the_gradient_by_each_state(name):
    cell = CELLS[name]
    params, _ = filled(cell, X[None])
    norms = bptt.sensitivity(cell, params, X, error)
    assert not np.any(np.triu(norms, 1))
    states = bptt.states(cell, params, X)

    def later(s, k, t):
        """E_t from state k on."""
        parts = jnp.split(s[None], np.cumsum(list(cell.carry.values()))[:-1], axis=1)
        carry = parts[0] if len(parts) == 1 else tuple(parts)
        if t == k:
            return error(s[: next(iter(cell.carry.values()))], t)
        return error(nn.recurrence(cell, params, X[None, k + 1 : t + 1], carry=carry)[1][0, -1], t)

    for t, k in ((4, 1), (2, 2), (3, 2)):
        expected = jnp.linalg.norm(jax.grad(later)(states[k + 1], k, t))
        assert float(norms[t, k]) == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.row("D14")
def test_the_decks_bound_of_one_holds_without_the_weights_only():
    """ "2-norm of the Jacobian has an upper bound of 1": true of diag(1 - s^2), false with W."""
    cell = nn.elman(5)
    draw = np.random.default_rng(0).normal
    params = {
        "kernel": jnp.asarray(draw(size=(3, 5)), jnp.float32) * 0.1,
        "recurrent_kernel": jnp.asarray(3 * draw(size=(5, 5)), jnp.float32),
        "bias": jnp.zeros(5),
    }
    x = jnp.zeros((4, 3))
    jacobians = bptt.step_jacobians(cell, params, x)
    after = bptt.states(cell, params, x)[1:]
    squash = jax.vmap(jnp.diag)(1 - after**2)
    chex.assert_trees_all_close(jacobians, squash @ params["recurrent_kernel"].T, atol=1e-5)
    norm = lambda a: np.linalg.norm(a, 2, axis=(-2, -1))
    assert np.all(norm(squash) <= 1)
    assert np.all(norm(jacobians) > 5)


@pytest.mark.row("D14", "J16")
@pytest.mark.parametrize("size, growing", [(0.5, False), (2.0, True)])
def test_gradients_vanish_or_explode_with_the_largest_singular_value(size, growing):
    cell = nn.elman(4, activation=lambda a: a, use_bias=False)
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    params = {
        "kernel": jnp.eye(3, 4),
        "recurrent_kernel": jnp.asarray(size * rotation, jnp.float32),
    }
    norms = bptt.sensitivity(cell, params, jnp.ones((20, 3)), lambda y, t: jnp.sum(y))
    ratio = float(norms[-1, 0] / norms[-1, -1])
    assert ratio == pytest.approx(size**19, rel=1e-3)
    assert (ratio > 1) is growing


@pytest.mark.row("D16")
def test_a_loss_surface_is_the_loss_at_each_point():
    params = {"a": jnp.array([1.0, 2.0]), "b": jnp.array(3.0)}
    loss = lambda p: jnp.sum(p["a"] ** 2) * p["b"]
    u = {"a": jnp.array([1.0, 0.0]), "b": jnp.array(0.0)}
    v = {"a": jnp.array([0.0, 0.0]), "b": jnp.array(1.0)}
    surface = bptt.loss_surface(loss, params, (u, v), ([-1.0, 0.0, 2.0], [0.0, 1.0]))
    expected = [[((1 + a) ** 2 + 4) * (3 + b) for b in (0, 1)] for a in (-1, 0, 2)]
    chex.assert_trees_all_close(surface, jnp.array(expected))


@pytest.mark.row("D13")
@pytest.mark.parametrize("activation, vanishes", [(jax.nn.sigmoid, True), (jax.nn.relu, False)])
def test_nine_sigmoid_layers_learn_little_near_the_input(activation, vanishes):
    """sigma' <= 1/4: eight sigmoids between leave 0.25^8 = 1.5e-5 at most, times the weights."""
    layers = [
        part for _ in range(9) for part in (nn.dense(32, kernel_init="he_normal"), activation)
    ]
    model = jaxdl.serial(*layers, nn.dense(10))
    x = jax.random.normal(jax.random.key(0), (64, 20))
    params, state = jaxdl.init(model, jax.random.key(1), x)
    labels = jnp.arange(64) % 10
    loss = lambda p: jnp.mean(jaxdl.losses.cross_entropy(model.apply(p, state, x)[0], labels))
    norms = bptt.gradient_norms(jax.grad(loss)(params))
    assert sorted(norms) == [f"dense_{i}" for i in range(10)]
    ratio = float(norms["dense_0"] / norms["dense_8"])
    assert (ratio < 1e-3) if vanishes else (0.05 < ratio < 20)


@pytest.mark.row("D13")
def test_the_slope_of_a_sigmoid_is_a_quarter_at_most():
    slopes = jax.vmap(jax.grad(jax.nn.sigmoid))(jnp.linspace(-5, 5, 101))
    assert float(slopes.max()) == 0.25 and 0.25**8 == pytest.approx(1.526e-5, rel=1e-3)


def test_bad_input():
    cell = CELLS["elman"]
    params, _ = filled(cell, X[None])
    with pytest.raises(ValueError, match="expected one sequence"):
        bptt.states(cell, params, X[None])
    with pytest.raises(ValueError, match="back is 0"):
        bptt.explicit_gradient(cell, params, X, error, back=0)
