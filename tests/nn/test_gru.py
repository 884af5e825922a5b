import chex
import jax
import numpy as np
import pytest

import jaxdl
from jaxdl import nn
from tests.nn import numpy_cells as cells
from tests.nn.filled import filled, normal

X = np.asarray(normal(0, 2, 5, 3))


@pytest.mark.row("J14")
def test_parameter_counts():
    count = lambda cell: jaxdl.tree.count(filled(cell, X)[0])
    assert count(nn.gru(4, reset="before")) == 3 * 4 * (4 + 3) == 84
    assert count(nn.gru(4, reset="before", use_bias=True)) == 84 + 12
    assert count(nn.gru(4)) == 84 + 12 + 4
    assert count(nn.gru(4, use_bias=False)) == 84


@pytest.mark.row("J14")
@pytest.mark.parametrize("reset, step", [("after", cells.gru_after), ("before", cells.gru_before)])
def test_where_the_reset_gate_acts(reset, step):
    """Before the recurrent product in the lecture, after it in cuDNN, torch and Flax."""
    params = jax.tree.map(np.asarray, filled(nn.gru(4, reset=reset, use_bias=True), X)[0])
    h = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
    result = nn.gru_step(params, h, X[:, 0], reset=reset)
    chex.assert_trees_all_close(result, step(params, h, X[:, 0]), atol=1e-6)


@pytest.mark.row("J14")
def test_the_two_resets_differ_unless_the_reset_gate_is_open():
    """With r = 1 they differ only in the sign of the update gate's pre-activation."""
    params, _ = filled(nn.gru(4, use_bias=False), X)
    h = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
    after = nn.gru_step(params, h, X[:, 0])[1]
    assert not np.allclose(after, nn.gru_step(params, h, X[:, 0], reset="before")[1], atol=1e-2)
    bias = np.repeat(np.float32([1e4, 0, 0]), 4)  # r = 1
    turned = jax.tree.map(lambda a: a * np.repeat(np.float32([1, -1, 1]), 4), params)
    chex.assert_trees_all_close(
        nn.gru_step(params | {"bias": bias}, h, X[:, 0])[1],
        nn.gru_step(turned | {"bias": bias}, h, X[:, 0], reset="before")[1],
        atol=1e-6,
    )


@pytest.mark.row("J14")
@pytest.mark.parametrize("reset, closed", [("after", 1e4), ("before", -1e4)])
def test_a_closed_update_gate_keeps_the_state(reset, closed):
    params, _ = filled(nn.gru(4, reset=reset, use_bias=True), X)
    params["bias"] = np.repeat(np.float32([0, closed, 0]), 4)
    h = np.full((2, 4), 0.7, np.float32)
    chex.assert_trees_all_equal(nn.gru_step(params, h, X[:, 0], reset=reset)[1], h)


def test_reset_must_be_known():
    with pytest.raises(ValueError, match="reset='inside', expected 'after' or 'before'"):
        nn.gru(4, reset="inside")
