"""The decks' worked examples of recurrent networks, step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import rough_surface
from jaxdl import losses, nn


@pytest.mark.row("S12", "J03")
@pytest.mark.parametrize(
    "activation, x, expected",
    [
        (lambda a: a, [(1, 1), (1, 1), (2, 2)], [4, 12, 32]),
        (lambda a: a, [(2, 2), (1, 1), (1, 1)], [8, 20, 44]),
        (jax.nn.relu, [(2, 2), (-1, -1), (1, 1)], [8, 12, 28]),
        (lambda a: a, [(2, 2), (-1, -1), (1, 1)], [8, 12, 28]),
    ],
)
def test_all_weights_are_one_and_the_order_counts(activation, x, expected):
    """The ReLU "try it" gives the linear network's numbers: no pre-activation is below 0."""
    cell = nn.elman(2, activation=activation, use_bias=False)
    one = np.ones((2, 2), np.float32)
    params = {"kernel": one, "recurrent_kernel": one}
    x = np.array([x], np.float32)
    for implementation in ("scan", "fused"):
        _, hidden = nn.unroll(cell, params, x, implementation=implementation)
        y = np.asarray(hidden) @ one
        columns = np.repeat(np.array(expected)[:, None], 2, 1)
        np.testing.assert_array_equal(y[0], columns, implementation)


MEMORY_CELL = nn.lstm(1, activation=lambda a: a)


@jax.jit
def memory_step(params, carry, x):
    return MEMORY_CELL.step(params, carry, x)


def hard(rows, x):
    """The decks' memory cell: x2 = 1 adds x1, x2 = -1 forgets, x3 = 1 lets out."""
    with jax.enable_x64(True):
        params = {
            "kernel": np.float64(rows["kernel"]),
            "recurrent_kernel": np.zeros((1, 4)),
            "bias": np.float64(rows["bias"]),
        }
        x = np.float64(x)
        (h, c), memory = MEMORY_CELL.initial_carry(params, x[None]), []
        outputs = []
        for step in x:
            (h, c), y = memory_step(params, (h, c), step[None])
            memory.append(float(c[0, 0]))
            outputs.append(float(y[0, 0]))
    return memory, outputs


@pytest.mark.row("S13", "J08")
def test_nine_steps_of_a_memory_cell():
    """The printed memory row is the value before each step; the outputs are right."""
    x1, x2 = [1, 3, 2, 4, 2, 1, 3, 6, 1], [0, 1, 0, 1, 0, 0, -1, 1, 0]
    x3 = [0, 0, 0, 0, 0, 1, 0, 0, 1]
    s = 1000.0  # gates that are 0 or 1 in double precision
    weights = {  # columns i, f, g, o; rows x1, x2, x3
        "kernel": [[0, 0, 1, 0], [s, s, 0, 0], [0, 0, 0, s]],
        "bias": [-s / 2, s / 2, 0, -s / 2],
    }
    memory, outputs = hard(weights, np.stack([x1, x2, x3], 1))
    assert memory == pytest.approx([0, 3, 3, 7, 7, 7, 0, 6, 6])
    assert [0, *memory[:-1]] == pytest.approx([0, 0, 3, 3, 7, 7, 7, 0, 6])  # as printed
    assert outputs == pytest.approx([0, 0, 0, 0, 0, 7, 0, 0, 6])


@pytest.mark.row("S14", "J08")
def test_five_steps_with_the_decks_weights():
    """z = x1, z_i = 100 x2 - 10, z_f = 100 x2 + 10, z_o = 100 x3 - 10; g and h the identity.

    The deck rounds the gates to 0 and 1; in later copies the labels of the rows are shifted.
    """
    x = np.array([[3, 4, 2, 1, 3], [1, 1, 0, 0, -1], [0, 0, 0, 1, 0]], np.float64).T
    weights = {
        "kernel": [[0, 0, 1, 0], [100, 100, 0, 0], [0, 0, 0, 100]],
        "bias": [-10, 10, 0, -10],
    }
    memory, outputs = hard(weights, x)
    np.testing.assert_allclose(
        memory, [3.0, 7.0, 6.999773010656488, 6.999500633749107, 0], rtol=1e-12, atol=1e-37
    )
    assert memory[-1] == pytest.approx(5.7e-39, rel=0.02)
    assert outputs[3] == pytest.approx(6.999500633749107, rel=1e-4)
    np.testing.assert_allclose(outputs[:3], [1.36e-4, 3.18e-4, 3.18e-4], rtol=5e-3)
    assert [round(y) for y in outputs] == [0, 0, 0, 7, 0]


@pytest.mark.row("J16")
@pytest.mark.parametrize(
    "forget, weight, expected",
    [(1e4, 0.0, 1.0), (0.0, 0.0, 0.5**20), (0.0, 6.0, 0.5 * 2.0**19)],
)
def test_what_is_remembered_stays_while_the_gate_is_open(forget, weight, expected):
    """dc_T / dc_0 is f^T without feedback; with a weight u from h to the candidate it explodes.

    At c = 0 and gates of 1/2, c_{t+1} = (f + i o u) c_t from the second step on.
    """
    i = -1e4 if weight == 0 else 0.0
    bias, kernel = np.array([i, forget, 0, 0], np.float32), np.zeros((1, 4), np.float32)
    params = {
        "kernel": kernel,
        "recurrent_kernel": kernel + np.float32([0, 0, weight, 0]),
        "bias": bias,
    }
    slope = slope_of_memory(np.zeros((1, 1), np.float32), params)
    assert float(slope[0, 0]) == pytest.approx(expected, rel=1e-5)


GATED_CELL = nn.lstm(1)


@jax.jit
@jax.grad
def slope_of_memory(c, params):
    """dc_20 / dc_0 of a cell whose input is 1 at every step."""
    x, carry = np.ones((1, 20, 1), np.float32), (jnp.zeros_like(c), c)
    (_, c), _ = nn.unroll(GATED_CELL, params, x, carry=carry)
    return c[0, 0]


LINEAR_CELL = nn.elman(1, activation=lambda a: a, use_bias=False)


@jax.jit
@jax.value_and_grad
def last_of_a_thousand(w):
    params = {"kernel": np.ones((1, 1)), "recurrent_kernel": w.reshape(1, 1)}
    x = np.zeros((1, 1000, 1))
    x[0, 0, 0] = 1
    return nn.unroll(LINEAR_CELL, params, x)[1][0, -1, 0]


@pytest.mark.row("S21")
@pytest.mark.parametrize(
    "w, y, slope",
    [
        (1.0, 1.0, 999.0),
        (1.01, 20751.63924536005946974364, 2.0525631e7),
        (0.99, 4.360732e-5, 0.0440037508),
        (0.01, 0.0, 0.0),  # 1e-1998: nothing that a double holds
    ],
)
def test_a_thousand_steps_of_one_weight(w, y, slope):
    """The deck's 20000 for 1.01 is 20751.6 after 1,000 steps, which multiply 999 times."""
    with jax.enable_x64(True):
        actual = last_of_a_thousand(np.float64(w))
        assert float(actual[0]) == pytest.approx(y, rel=1e-6, abs=1e-300)
        assert float(actual[1]) == pytest.approx(slope, rel=1e-6, abs=1e-300)


@pytest.mark.row("D16")
def test_clipping_bounds_each_step_from_the_edge_of_the_cliff():
    """Plain descent is thrown over the wall at once from some starts, and not from most."""
    config = rough_surface.Config(updates=20)
    starts = rough_surface.starts_above_wall(41)
    assert (jax.vmap(rough_surface.loss)(starts) < 0.1).all()
    counts = rough_surface.count_ends(config, starts)
    assert counts["plain"]["starts"] == counts["clipped"]["starts"] == len(starts) > 50
    assert 0 < counts["plain"]["has_a_step_above_1"] < len(starts) / 2
    assert counts["clipped"]["has_a_step_above_1"] == 0


@pytest.mark.row("C08", "K09")
def test_the_loss_of_a_sequence_is_the_positive_sum_over_its_steps():
    """Printed as -sum E_t; E_t is a cross-entropy already, so the sign is +."""
    logits = np.random.default_rng(0).normal(size=(1, 4, 3)).astype(np.float32)
    labels = np.array([[0, 2, 1, 1]])
    by_step = jax.jit(losses.cross_entropy)(logits, labels)
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    probabilities = shares[0, np.arange(4), labels[0]]
    whole = losses.reduce(by_step, how="sum")
    assert float(whole) == pytest.approx(float(-np.log(np.prod(probabilities))), rel=1e-5)
    assert float(whole) > 0
