"""Neurons, layers and what they can decide. Lecture rows A01-A21."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdl
from jaxdl import losses, nn, train
from jaxdl.zoo.classic import neuron

CORNERS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
XOR = np.array([0, 1, 1, 0], np.int32)


def mlp():
    return nn.serial(nn.dense(5), jax.nn.sigmoid, nn.dense(4), jax.nn.sigmoid, nn.dense(3))


@pytest.mark.row("A02")
def test_a_network_is_its_layers_nested(variant, key):
    model, x = mlp(), np.random.default_rng(1).normal(size=(6, 2)).astype(np.float32)
    params, state = jaxdl.init(model, key, x)
    w = [(np.asarray(p["kernel"]), np.asarray(p["bias"])) for p in params.values()]
    sigma = lambda z: 1 / (1 + np.exp(-z))
    nested = sigma(sigma(x @ w[0][0] + w[0][1]) @ w[1][0] + w[1][1]) @ w[2][0] + w[2][1]
    apply = variant(lambda x: model.apply(params, state, x)[0])
    chex.assert_trees_all_close(apply(x), nested, atol=1e-6)
    loop = np.stack([np.asarray(apply(row[None]))[0] for row in x])
    rows = jax.jit(jax.vmap(lambda row: apply(row[None])[0]))(x)
    chex.assert_trees_all_close(rows, loop, atol=1e-6)


@pytest.mark.row("A04")
def test_parameters_pick_one_function_of_the_set():
    model, x = mlp(), np.ones((1, 2), np.float32)
    thetas = [jaxdl.init(model, jax.random.key(seed), x)[0] for seed in (0, 1)]
    chex.assert_trees_all_equal_shapes(*thetas)
    apply = jax.jit(model.apply)
    outputs = [apply(theta, {}, x)[0] for theta in thetas]
    assert not np.allclose(*outputs)


@pytest.mark.row("A08")
def test_no_line_parts_xor():
    """Of all weights and thresholds on a grid, the best has three corners of four right."""
    w1, w2, b = (grid.ravel() for grid in np.meshgrid(*3 * [np.linspace(-2, 2, 17)]))
    units = neuron.Unit(np.stack([w1, w2]).astype(np.float32), b.astype(np.float32))
    out = np.asarray(units(CORNERS)) > 0
    right = lambda y: (out == np.array(y)[:, None]).mean(0).max()
    assert right([0, 0, 0, 1]) == right([0, 1, 1, 1]) == 1.0
    assert right(XOR) == 0.75


def trained_on_xor(model, steps=800):
    optimizer = optax.sgd(1.0, momentum=0.9)
    state = train.init_state(model, optimizer, jax.random.key(3), CORNERS)
    step = train.make_train_step(model, losses.cross_entropy, optimizer)
    advance = lambda state, _: (step(state, (CORNERS, XOR))[0], None)

    @jax.jit
    def run(state):
        state, _ = jax.lax.scan(advance, state, length=steps)
        logits, _ = model.apply(state.params, {}, CORNERS)
        return logits, losses.cross_entropy(logits, XOR)

    logits, values = map(np.asarray, run(state))
    return np.mean(logits.argmax(-1) == XOR), values.mean()


@pytest.mark.row("A08", "A09")
def test_xor_needs_a_hidden_layer():
    accuracy, loss = trained_on_xor(nn.dense(2))
    assert accuracy <= 0.75 and loss >= 0.69
    accuracy, loss = trained_on_xor(nn.serial(nn.dense(8), jnp.tanh, nn.dense(2)))
    assert accuracy == 1.0 and loss < 1e-2


@pytest.mark.row("A12")
@pytest.mark.parametrize("d, h, k", [(4, 3, 2), (784, 30, 10)])
def test_a_two_layer_net_with_softmax(d, h, k, key):
    model = nn.serial(nn.dense(h), jax.nn.relu, nn.dense(k), jax.nn.softmax)
    x = np.random.default_rng(1).normal(size=(5, d)).astype(np.float32)
    params, state = jaxdl.init(model, key, x)
    assert jaxdl.tree.count(params) == d * h + h + h * k + k
    y = np.asarray(jax.jit(model.apply)(params, state, x)[0])
    assert np.all(y >= 0)
    np.testing.assert_allclose(y.sum(-1), 1, atol=1e-6)


@pytest.mark.row("A18")
def test_the_three_steps_of_deep_learning():
    x = np.linspace(-1, 1, 40, dtype=np.float32)[:, None]
    y = np.sin(3 * x)
    model = nn.serial(nn.dense(20), jnp.tanh, nn.dense(1))  # 1: a set of functions
    goodness = losses.squared_error  # 2: the goodness of a function
    optimizer = optax.sgd(0.1, momentum=0.9)  # 3: pick the best
    state, history = train.fit(
        model, (x, y), loss=goodness, optimizer=optimizer, batch_size=40, epochs=300, verbose=0
    )
    best = train.predictor(model, state)
    assert np.mean((best(x) - y) ** 2) < 0.01 < history["loss"][0]
    first = train.init_state(model, optimizer, jax.random.key(0), x).params
    w = [
        np.asarray(a, np.float64) for part in first.values() for a in (part["kernel"], part["bias"])
    ]
    before = np.tanh(x @ w[0] + w[1]) @ w[2] + w[3]
    assert history["loss"][0] == pytest.approx(np.mean((before - y) ** 2), rel=1e-5)


@pytest.mark.row("A19")
def test_linear_regression_by_descent_is_least_squares(key):
    with jax.enable_x64(True):
        height = np.linspace(-1.0, 1.0, 30)[:, None]
        weight = 3 * height + 0.5 + 0.1 * np.sin(20 * height)
        model = nn.dense(1)
        params, _ = jaxdl.init(model, key, height)
        error = lambda p: jnp.mean((model.apply(p, {}, height)[0] - weight) ** 2)
        descend = lambda p, _: (jax.tree.map(lambda a, g: a - 0.3 * g, p, jax.grad(error)(p)), None)
        params, _ = jax.device_get(jax.lax.scan(descend, params, length=500))
        design = np.concatenate([height, np.ones_like(height)], 1)
        slope, intercept = np.linalg.lstsq(design, weight, rcond=None)[0][:, 0]
        chex.assert_trees_all_close(params["kernel"][0, 0], slope, atol=1e-6)
        chex.assert_trees_all_close(params["bias"][0], intercept, atol=1e-6)


@pytest.mark.row("A20", "V01")
@pytest.mark.parametrize("inputs, count", [(784, 648_010), (256, 384_010)])
def test_the_digit_classifiers_parameters(inputs, count):
    model = nn.serial(*(nn.dense(500), jax.nn.sigmoid, nn.dense(500), jax.nn.sigmoid), nn.dense(10))
    table = jaxdl.summary(model, jax.ShapeDtypeStruct((1, inputs), jnp.float32))
    assert table.params == count


@pytest.mark.row("A21")
def test_eight_layers_of_a_thousand_have_seven_million_links_between_them():
    eight = nn.serial(*(layer for _ in range(8) for layer in (nn.dense(1000), jax.nn.sigmoid)))
    table = jaxdl.summary(eight, jax.ShapeDtypeStruct((1, 40), jnp.float32))
    assert table.params - (40 * 1000 + 1000) == 7_007_000
