"""`tap`, `capture` and `intervene`: named intermediate values, read and replaced."""

import chex
import jax
import jax.numpy as jnp
import pytest

import jaxdl
from jaxdl import nn

X = jnp.linspace(-1.0, 1.0, 8).reshape(2, 4)


@pytest.fixture(scope="module")
def net():
    model = nn.serial(nn.dense(4), jax.nn.relu, nn.residual(nn.serial(nn.dense(4), jnp.tanh)))
    return model, *jaxdl.init(model, jax.random.key(0), X)


def test_capture_returns_every_value_in_order_of_computation(net, variant):
    model, params, state = net
    output, seen = variant(lambda x: jaxdl.capture(model, params, state, x))(X)
    paths = ["dense_0", "relu_0", "residual_0/block/dense_0", "residual_0/block/tanh_0"]
    assert set(seen) == {*paths, "residual_0/block", "residual_0"}
    hidden = nn.functional.dense(X, **params["dense_0"])
    inner = nn.functional.dense(jax.nn.relu(hidden), **params["residual_0"]["block"]["dense_0"])
    chex.assert_trees_all_close(seen["dense_0"], hidden, atol=1e-6)
    chex.assert_trees_all_close(seen["residual_0/block/tanh_0"], jnp.tanh(inner), atol=1e-6)
    chex.assert_trees_all_close(output, jax.nn.relu(hidden) + jnp.tanh(inner), atol=1e-6)
    _, eager = jaxdl.capture(model, params, state, X)
    assert list(eager) == [*paths, "residual_0/block", "residual_0"]


def test_capture_of_some(net):
    model, params, state = net
    output, seen = jaxdl.capture(model, params, state, X, paths={"relu_0"})
    assert list(seen) == ["relu_0"]
    chex.assert_trees_all_equal(output, model.apply(params, state, X)[0])
    assert list(jaxdl.capture(model, params, state, X, paths="residual_0/block")[1]) == [
        "residual_0/block"
    ]


def test_an_unknown_path_is_named_with_the_likely_one(net):
    model, params, state = net
    with pytest.raises(ValueError, match="no path 'relu_1' in the model; did you mean 'relu_0'"):
        jaxdl.capture(model, params, state, X, paths={"relu_1"})
    with pytest.raises(ValueError, match="no path 'dense_9'.*paths: dense_0, relu_0"):
        jaxdl.intervene(model, params, state, X, edits={"dense_9": jnp.zeros_like})


def test_capture_in_train_mode_hands_on_the_options():
    def apply(params, state, x, *, train=False, key=None, **_):
        return (jax.random.normal(key, x.shape) if train else x), state

    model = nn.serial(jaxdl.Module(lambda key, x: ({}, {}), apply, "noise"))
    output, seen = jaxdl.capture(model, {}, {}, X, train=True, key=jax.random.key(2))
    chex.assert_trees_all_equal(seen["noise_0"], output)
    chex.assert_trees_all_equal(
        output, model.apply({}, {}, X, train=True, key=jax.random.key(2))[0]
    )


def test_intervene_ablates_and_replaces(net, variant):
    model, params, state = net
    block = {"residual_0/block": jnp.zeros_like}
    ablated = variant(lambda x: jaxdl.intervene(model, params, state, x, edits=block))(X)
    chex.assert_trees_all_close(
        ablated, jax.nn.relu(nn.functional.dense(X, **params["dense_0"])), atol=1e-6
    )
    patch = jnp.full((2, 4), 0.5)
    patched = jaxdl.intervene(model, params, state, X, edits={"relu_0": patch})
    tail = model.children["residual_0"]
    chex.assert_trees_all_close(patched, tail.apply(params["residual_0"], {}, patch)[0], atol=1e-6)
    chex.assert_trees_all_equal(
        jaxdl.intervene(model, params, state, X, edits={}), model.apply(params, state, X)[0]
    )


def test_the_gradient_at_a_named_value_by_adding_zero(net):
    """As Grad-CAM needs it: d output / d activation = the gradient of an addition of zero."""
    model, params, state = net
    score = lambda delta: jaxdl.intervene(
        model, params, state, X, edits={"relu_0": lambda a: a + delta}
    ).sum()
    tail = lambda a: model.children["residual_0"].apply(params["residual_0"], {}, a)[0].sum()
    activation = jax.nn.relu(nn.functional.dense(X, **params["dense_0"]))
    expected = jax.grad(tail)(activation)
    chex.assert_trees_all_close(jax.grad(score)(jnp.zeros((2, 4))), expected, atol=1e-6)


def test_a_shared_child_is_tapped_once_for_each_use(key):
    model = jaxdl.compose(
        "twice", dict(layer=nn.serial(nn.dense(4))), lambda call, x: call("layer", call("layer", x))
    )
    params, state = jaxdl.init(model, key, X)
    _, seen = jaxdl.capture(model, params, state, X)
    assert list(seen) == ["layer/dense_0", "layer", "layer#1/dense_0", "layer#1"]
    kept = jaxdl.intervene(model, params, state, X, edits={"layer#1": lambda y: 0 * y + X})
    chex.assert_trees_all_close(kept, X)


def test_inside_a_stack(key):
    model = nn.scan_layers(nn.serial(nn.dense(4), jnp.tanh), 3)
    params, state = jaxdl.init(model, key, X)
    edits = {"1": jnp.zeros_like}  # all that follows sees zeros
    output = jaxdl.intervene(model, params, state, X, edits=edits)
    last = params["dense_0"]["bias"][2]
    chex.assert_trees_all_close(output, jnp.broadcast_to(jnp.tanh(last), X.shape), atol=1e-6)
    _, seen = jax.jit(lambda x: jaxdl.capture(model, params, state, x, paths={"0/tanh_0"}))(X)
    kernel, bias = params["dense_0"]["kernel"][0], params["dense_0"]["bias"][0]
    expected = {"0/tanh_0": jnp.tanh(nn.functional.dense(X, kernel, bias))}
    chex.assert_trees_all_close(seen, expected, atol=1e-6)


def test_values_that_are_trees():
    both = lambda x: {"double": 2 * x, "half": x / 2}
    model = nn.serial(split=both, merge=lambda pair: pair["double"] + pair["half"])
    output, seen = jaxdl.capture(model, {}, {}, X)
    chex.assert_trees_all_close(seen["split"], both(X))
    swap = lambda pair: {"double": pair["half"], "half": pair["half"]}
    swapped = jaxdl.intervene(model, {}, {}, X, edits={"split": swap})
    chex.assert_trees_all_close((output, swapped), (2.5 * X, X))
