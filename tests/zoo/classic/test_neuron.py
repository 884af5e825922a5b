"""Rules of single units against what they should find."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdl.zoo.classic import neuron

CORNERS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
AND, OR, XOR = np.array([[0, 0, 0, 1], [0, 1, 1, 1], [0, 1, 1, 0]], np.int32)
perceptron_step = jax.jit(neuron.perceptron_step)


@pytest.mark.row("A06")
def test_gates_by_hand():
    gate = lambda weights, threshold: neuron.mcculloch_pitts(CORNERS, jnp.array(weights), threshold)
    np.testing.assert_array_equal(gate([1.0, 1.0], 2), AND)
    np.testing.assert_array_equal(gate([1.0, 1.0], 1), OR)
    np.testing.assert_array_equal(gate([-1.0, 0.0], 0), [1, 1, 0, 0])  # NOT of the first


def right(unit, y):
    return np.mean((np.asarray(unit(CORNERS)) > 0) == (y > 0))


@pytest.mark.row("A05")
def test_the_perceptron_rule_learns_and_or_but_not_xor():
    assert right(neuron.perceptron(CORNERS, AND), AND) == 1.0
    assert right(neuron.perceptron(CORNERS, OR), OR) == 1.0
    assert right(neuron.perceptron(CORNERS, XOR), XOR) <= 0.75


@pytest.mark.row("A05")
@given(st.integers(0, 10**6))
def test_it_is_rosenblatts_loop_and_makes_no_more_mistakes_than_novikoff_allows(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(90, 3)).astype(np.float32)
    w, b = rng.normal(size=3), rng.normal()
    margin = np.abs(x @ w + b) / np.sqrt(w @ w + b * b)
    x = x[margin > 0.1][:25]  # always as many, for one compilation
    assert len(x) == 25
    y = (x @ w + b > 0).astype(np.int32)
    unit = neuron.Unit(np.zeros(3, np.float32), np.float32(0))
    by_hand, mistakes = np.zeros(4, np.float32), 0
    for row, target in zip(x, y, strict=True):
        unit = perceptron_step(unit, row, target)
        wide = np.append(row, 1).astype(np.float32)
        wrong = target - int(by_hand @ wide > 0)
        by_hand, mistakes = by_hand + np.float32(wrong) * wide, mistakes + abs(wrong)
    chex.assert_trees_all_close(unit, neuron.perceptron(x, y, epochs=1), atol=1e-5)
    np.testing.assert_allclose(np.append(unit.weights, unit.bias), by_hand, atol=1e-5)
    radius = (x**2).sum(1).max(initial=0) + 1
    assert mistakes <= radius / 0.1**2


@pytest.mark.row("A07")
def test_least_mean_squares_converge_to_least_squares():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(40, 3))
        y = x @ np.array([1.0, -2.0, 0.5]) + 0.3 + 0.1 * rng.normal(size=40)
        exact, *_ = np.linalg.lstsq(np.c_[x, np.ones(40)], y, rcond=None)
        errors = []
        for rate, epochs in ((0.02, 200), (0.001, 4000)):
            unit = neuron.adaline(x, y, epochs=epochs, rate=rate)
            errors.append(np.abs(np.append(unit.weights, unit.bias) - exact).max())
        assert errors[1] < 2e-3 and errors[1] < errors[0] / 5
        clean = neuron.adaline(x, x @ np.ones(3) + 1, epochs=500, rate=0.02)  # no noise, no error
        np.testing.assert_allclose(np.append(clean.weights, clean.bias), 1, atol=1e-9)


@pytest.mark.row("A07")
def test_lms_is_descent_on_half_the_squared_error():
    unit = neuron.Unit(jnp.array([1.0, -1.0]), jnp.array(0.5))
    x, y = jnp.array([2.0, 3.0]), jnp.array(4.0)
    slope = jax.grad(lambda u: (y - u(x)) ** 2 / 2)(unit)
    expected = jax.tree.map(lambda w, g: w - 0.1 * g, unit, slope)
    chex.assert_trees_all_close(neuron.adaline_step(unit, x, y, 0.1), expected, rtol=1e-6)


def test_bad_input():
    with pytest.raises(ValueError, match="y has the values .*expected 0 and 1 only"):
        neuron.perceptron(CORNERS, np.array([-1, 1, 1, -1]))
    with pytest.raises(ValueError, match=r"x is \(4, 2\) and y \(3,\)"):
        neuron.adaline(CORNERS, np.ones(3, np.float32))
