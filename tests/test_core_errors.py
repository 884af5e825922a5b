"""What the core refuses, and what it says then."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdl
from jaxdl import nn

X = jnp.linspace(-1.0, 1.0, 8).reshape(2, 4)


def test_a_misspelt_child_is_named_with_the_likely_one(key):
    model = jaxdl.compose("net", dict(hidden=nn.dense(2)), lambda call, x: call("hiden", x))
    with pytest.raises(ValueError, match="no child 'hiden' in net; did you mean 'hidden'?"):
        jaxdl.init(model, key, X)


def test_an_unused_child_is_an_error(key):
    children = dict(a=nn.dense(2), b=nn.dense(2))
    model = jaxdl.compose("net", children, lambda call, x: call("a", x))
    with pytest.raises(ValueError, match="net: forward never calls 'b'"):
        jaxdl.init(model, key, X)


@pytest.mark.parametrize("name", ["", "a/b", "a#1"])
def test_names_that_would_not_be_paths(name):
    with pytest.raises(ValueError, match=f"net: child name '{name}' is empty or holds"):
        jaxdl.compose("net", {name: nn.dense(2)}, lambda call, x: call(name, x))


def test_parameters_of_another_model(key):
    children = dict(hidden=nn.dense(3), logits=nn.dense(2))
    model = jaxdl.compose("mlp", children, lambda call, x: call("logits", call("hidden", x)))
    params, state = jaxdl.init(model, key, X)
    with pytest.raises(ValueError, match="child 'hidden' .dense. found no parameter.*'kernel'"):
        model.apply({"logits": params["logits"]}, state, X)
    with pytest.raises(ValueError, match="params hold 'logit'; did you mean 'logits'"):
        model.apply({"logit": params["logits"]}, state, X)
    with pytest.raises(ValueError, match="state hold 'dense_0'; children: hidden, logits"):
        model.apply(params, {"dense_0": {}}, X)


def test_a_model_is_built_outside_of_jit():
    with pytest.raises(ValueError, match="dense was built inside a function that jax.jit traces"):
        jax.jit(lambda x: nn.dense(3).apply({"kernel": x, "bias": x[0]}, {}, x)[0])(jnp.eye(3))


@pytest.mark.parametrize(
    "key", [0, None, "seed", np.int64(0), np.zeros(2), np.zeros((3, 2), np.uint32)]
)
def test_init_wants_a_key(key):
    with pytest.raises(ValueError, match=r"init: key is .*jax.random.key\(seed\)"):
        jaxdl.init(nn.dense(3), key, X)


def test_what_is_no_layer():
    with pytest.raises(ValueError, match="a layer is a Module or a function of arrays; got 3"):
        nn.serial(nn.dense(3), 3)


def test_dropout_in_train_mode_needs_a_key(key):
    model = nn.serial(nn.dense(3), nn.residual(nn.dropout(0.5)))
    params, state = jaxdl.init(model, key, X)
    assert model.apply(params, state, X)[0].shape == (2, 3)
    with pytest.raises(ValueError, match="dropout.*key"):
        model.apply(params, state, X, train=True)
    assert model.apply(params, state, X, train=True, key=key)[0].shape == (2, 3)
