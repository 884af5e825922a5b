"""Worked numbers of the slides that need no file of their own. Rows S01, S02, S21, C08, C14."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import losses, nn


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


# The decks multiply W x, our layers x W: the tables below are the decks', and are transposed.
LAYERS = [
    ([[1.0, -2.0], [-1.0, 1.0]], [1.0, 0.0]),
    ([[2.0, -1.0], [-2.0, -1.0]], [0.0, 0.0]),
    ([[3.0, -1.0], [-1.0, 4.0]], [-2.0, 2.0]),
]


def outputs(x):
    values = []
    for weights, bias in LAYERS:
        x = jax.nn.sigmoid(nn.functional.dense(x, jnp.array(weights).T, jnp.array(bias)))
        values.append(x)
    return values


@pytest.mark.row("S01", "B01")
def test_one_layer():
    weights, bias = LAYERS[0]
    z = nn.functional.dense(jnp.array([1.0, -1.0]), jnp.array(weights).T, jnp.array(bias))
    chex.assert_trees_all_equal(z, jnp.array([4.0, -2.0]))
    expected = np.array([0.9820137900379085, 0.11920292202211755])
    chex.assert_trees_all_close(jax.nn.sigmoid(z), expected, rtol=1e-14)
    assert [f"{value:.2f}" for value in expected] == ["0.98", "0.12"]  # as printed


@pytest.mark.row("S02", "A04")
@pytest.mark.parametrize(
    "x, expected, printed",
    [
        (
            [1.0, -1.0],
            [
                [0.9820137900379085, 0.11920292202211755],
                [0.8635183126781821, 0.11073744383822466],
                [0.6177047777553412, 0.8291239841574399],
            ],
            ["0.62", "0.83"],
        ),
        (
            [0.0, 0.0],
            [
                [0.7310585786300049, 0.5],
                [0.7235454949773021, 0.12323810518482516],
                [0.5118473769870672, 0.8543839009877142],
            ],
            ["0.51", "0.85"],
        ),
    ],
)
def test_three_layers(x, expected, printed):
    values = outputs(jnp.array(x))
    chex.assert_trees_all_close(values, [np.array(layer) for layer in expected], rtol=1e-14)
    assert [f"{value:.2f}" for value in values[-1]] == printed


@pytest.mark.row("S21")
@pytest.mark.parametrize(
    "w, y, slope",
    [
        (1.0, 1.0, 999.0),
        (1.01, 20751.63924536005946974, 2.0525631e7),
        (0.99, 4.360732e-5, 0.0440037508),
        (0.01, 0.0, 0.0),
    ],
)
def test_a_weight_used_a_thousand_times(w, y, slope):
    """The last of 1,000 states, the first being the input 1, has passed the weight 999 times."""

    def last(w):
        return jax.lax.fori_loop(0, 999, lambda _, state: w * state, jnp.ones(()))

    value, derivative = jax.jvp(last, (w,), (1.0,))
    np.testing.assert_allclose(value, y, rtol=1e-6)
    np.testing.assert_allclose(derivative, slope, rtol=1e-6)
    np.testing.assert_allclose(value, w**999, rtol=1e-12)
    np.testing.assert_allclose(derivative, 999 * w**998, rtol=1e-12)


@pytest.mark.row("C08")
def test_the_loss_of_a_sequence_is_the_sum_over_its_steps(key):
    """Misprint: the deck writes E = -sum_t E_t, though each E_t is a cross-entropy already."""
    logits = jax.random.normal(key, (2, 7, 4))
    labels = jnp.arange(14).reshape(2, 7) % 4
    per_step = losses.cross_entropy(logits, labels)
    assert per_step.shape == (2, 7) and jnp.all(per_step > 0)
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    by_hand = [sum(-np.log(p[n, t, labels[n, t]]) for t in range(7)) for n in range(2)]
    chex.assert_trees_all_close(per_step.sum(-1), np.array(by_hand), rtol=1e-12)


@pytest.mark.row("C14", "Q04")
def test_the_penalty_on_the_image_bounds_the_maximization():
    """max_I w.I - lambda ||I||^2 is reached at w / (2 lambda), where it is ||w||^2 / (4 lambda)."""
    w, decay = jnp.array([1.0, -2.0, 0.5]), 0.25
    objective = lambda image: w @ image - decay * image @ image
    best = w / (2 * decay)
    chex.assert_trees_all_close(jax.grad(objective)(best), jnp.zeros(3), atol=1e-15)
    chex.assert_trees_all_close(objective(best), w @ w / (4 * decay), atol=1e-15)
    assert objective(1.1 * best) < objective(best)
