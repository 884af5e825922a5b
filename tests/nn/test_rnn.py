import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdl
from jaxdl import nn
from tests.nn.filled import filled, normal

X = np.asarray(normal(0, 2, 5, 3))
to_numpy = functools.partial(jax.tree.map, np.asarray)


@pytest.mark.row("J01")
def test_elman_counts_its_parameters():
    params, _ = jaxdl.init(nn.elman(4), jax.random.key(0), X)
    assert jaxdl.tree.count(params) == 4 * 3 + 4 * 4 + 4 == 32
    params, _ = jaxdl.init(nn.elman(4, learn_initial_carry=True), jax.random.key(0), X)
    assert jaxdl.tree.count(params) == 36 and params["initial_h"].shape == (4,)


@pytest.mark.row("J02")
def test_elman_without_bias_matches_the_lecture():
    """s_t = tanh(U x_t + W s_{t-1}), y_t = softmax(V s_t). The deck prints x_t for x_3."""
    model = jaxdl.serial(nn.elman(4, use_bias=False), nn.dense(5, use_bias=False), jax.nn.softmax)
    params, state = to_numpy(filled(model, X))
    y = np.asarray(jax.jit(model.apply)(params, state, X)[0])
    s = np.zeros((2, 4), np.float32)
    for t in range(5):
        s = np.tanh(
            X[:, t] @ params["elman_0"]["kernel"] + s @ params["elman_0"]["recurrent_kernel"]
        )
        shares = np.exp(s @ params["dense_0"]["kernel"])
        chex.assert_trees_all_close(y[:, t], shares / shares.sum(-1, keepdims=True), atol=1e-6)


@pytest.mark.row("A22")
@pytest.mark.parametrize("make", [nn.elman, nn.lateral, lambda h: nn.jordan(h, 2)])
def test_feedback_changes_the_output_for_constant_input(make):
    cell, constant = make(4), np.ones((1, 6, 3), np.float32)
    params, _ = to_numpy(filled(cell, constant))
    y = np.asarray(cell.apply(params, {}, constant)[0])
    assert np.all(np.any(np.abs(np.diff(y[:, :4], axis=1)) > 1e-5, axis=-1))
    still = params | {"recurrent_kernel": np.zeros_like(params["recurrent_kernel"])}
    y = np.asarray(cell.apply(still, {}, constant)[0])
    assert not np.any(np.diff(y, axis=1))


@pytest.mark.row("A22")
def test_feedback_source():
    """Elman: the hidden units. Lateral: the other hidden units. Jordan: the output."""
    for cell in (nn.elman(4), nn.lateral(4), nn.jordan(4, 2)):
        params, _ = to_numpy(filled(cell, X))
        u = params["recurrent_kernel"]
        if cell.kind == "lateral":
            u = u - np.diag(np.diag(u))
        fed_back, expected = np.zeros((2, len(u)), np.float32), []
        for t in range(X.shape[1]):
            fed_back = np.tanh(X[:, t] @ params["kernel"] + fed_back @ u + params["bias"])
            if cell.kind == "jordan":
                fed_back = np.tanh(fed_back @ params["output_kernel"] + params["output_bias"])
            expected.append(fed_back)
        y = np.asarray(cell.apply(params, {}, X)[0])
        np.testing.assert_allclose(y, np.stack(expected, 1), atol=1e-5, err_msg=cell.kind)


@pytest.mark.row("A22")
def test_a_lateral_unit_ignores_its_own_value():
    params, _ = filled(nn.lateral(4), X)
    step = lambda h: nn.lateral_step(params, h, X[:, 0])[1][0]
    own = np.asarray(jax.jit(jax.jacobian(step))(np.ones((2, 4), np.float32)))[:, 0]
    assert not np.any(np.diagonal(own))
    assert np.all(own[~np.eye(4, dtype=bool)] != 0)


@pytest.mark.row("A23", "J18")
def test_a_network_without_input_is_an_iterated_map():
    cell = nn.elman(3, use_bias=False)
    params, _ = to_numpy(filled(cell, X))
    start = np.float32([[0.3, -0.2, 0.9]])
    state = stepped = start
    for _ in range(7):
        state = np.tanh(state @ params["recurrent_kernel"])
        stepped, _ = cell.step(params, stepped, np.zeros((1, 3), np.float32))
    chex.assert_trees_all_close(stepped, state, atol=1e-6)
    final, _ = nn.unroll(cell, params, np.zeros((1, 7, 3), np.float32), carry=start)
    chex.assert_trees_all_close(final, state, atol=1e-6)


@pytest.mark.parametrize("step", [nn.elman_step, nn.lateral_step])
def test_step_functions_equal_the_cells_steps(step):
    cell = {nn.elman_step: nn.elman, nn.lateral_step: nn.lateral}[step](4, activation=jnp.sin)
    params, _ = filled(cell, X)
    h = np.ones((2, 4), np.float32)
    plain = step(params, h, X[:, 0], activation=jnp.sin)
    chex.assert_trees_all_equal(plain, cell.step(params, h, X[:, 0]))


def test_jordan_step_equals_the_cells_step():
    cell = nn.jordan(4, 2, output_activation=jax.nn.softmax)
    params, _ = filled(cell, X)
    y = np.ones((2, 2), np.float32)
    plain = nn.jordan_step(params, y, X[:, 0], output_activation=jax.nn.softmax)
    chex.assert_trees_all_equal(plain, cell.step(params, y, X[:, 0]))


@pytest.mark.parametrize("make", [nn.elman, nn.lateral, nn.lstm, nn.gru, nn.coupled_lstm])
def test_features_must_be_a_positive_integer(make):
    with pytest.raises(ValueError, match="features is 0; expected an integer of at least 1"):
        make(0)
