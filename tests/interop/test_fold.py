"""Folding of batch normalization: what is folded, what is not, and the same outputs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxdl
from jaxdl import interop, nn, tree
from jaxdl.zoo.vision import resnet
from tests.nn.filled import filled, normal

X = np.asarray(normal(0, 2, 6, 6, 4))
NETWORK = jaxdl.serial(
    conv1=nn.conv(4, groups=2, use_bias=False),
    norm1=nn.batch_norm(),
    block=resnet.bottleneck(2, 2, True),
    conv2=nn.conv_transpose(3, 2, stride=2),
    norm2=nn.batch_norm(use_scale=False, eps=0.1),
    flatten=nn.flatten(),
    logits=nn.dense(5),
    norm3=nn.batch_norm(use_bias=False),
)
apply = jax.jit(NETWORK.apply)


@functools.cache
def folded_apply():
    model, *_ = interop.fold_batch_norm(NETWORK, *filled(NETWORK, X), inputs=X)
    return model, jax.jit(model.apply)


@given(seed=st.integers(0, 2**32 - 1))
def test_outputs_are_those_of_the_network_with_norms(seed):
    params, state = filled(NETWORK, X, seed=seed)
    rng = np.random.default_rng(seed)
    state = jax.tree.map(lambda a: jnp.asarray(rng.uniform(0.2, 3, a.shape), a.dtype), state)
    expected = apply(params, state, X)[0]
    _, *values = interop.fold_batch_norm(NETWORK, params, state, inputs=X)
    y = folded_apply()[1](*values, X)[0]
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    assert values[1] == {} and "norm1" not in values[0]
    shapes = jax.eval_shape(folded_apply()[0].init, jax.random.key(0), X)
    assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, tuple(values))


def kinds(model):
    model, _, state = interop.fold_batch_norm(model, *filled(model, X), inputs=X)
    assert not tree.flatten(state) or "batch_norm" in repr(model)
    return repr(model).count("batch_norm")


def test_other_norms_are_left_alone():
    def skips(call, x):
        y = call("conv", x)
        return call("norm", y) + y

    def shares(call, x):
        return call("norm", call("conv", call("norm", call("conv", x))))

    def returns(call, x):
        y = call("conv", x)
        return call("norm", y), y

    parts = {"conv": nn.conv(4), "norm": nn.batch_norm()}
    remaining = {
        "norm before conv": (jaxdl.serial(norm=parts["norm"], conv=parts["conv"]), 1),
        "relu between": (jaxdl.serial(conv=nn.conv(4), relu=jax.nn.relu, norm=nn.batch_norm()), 1),
        "another use": (jaxdl.compose("net", parts, skips), 1),
        "another output": (jaxdl.compose("net", parts, returns), 1),
        "shared": (jaxdl.compose("net", parts, shares), 1),
        "frozen": (jaxdl.serial(inner=jaxdl.frozen(jaxdl.serial(**parts))), 1),
        "layer norm": (jaxdl.serial(conv=nn.conv(4), norm=nn.layer_norm()), 0),
        "one of two": (
            jaxdl.serial(conv=nn.conv(4), norm=nn.batch_norm(), again=nn.batch_norm()),
            1,
        ),
        "a layer": (nn.batch_norm(), 1),
    }
    for name, (model, count) in remaining.items():
        assert kinds(model) == count, name


def test_a_folded_network_takes_lengths_as_before():
    model = jaxdl.serial(dense=nn.dense(3), norm=nn.batch_norm(), rnn=nn.rnn(nn.gru(2)))
    x = X[:, 0]
    folded, *values = interop.fold_batch_norm(model, *filled(model, x), inputs=x)
    assert folded.takes_lengths and "norm" not in values[0]


def test_bad_input():
    with pytest.raises(ValueError, match="fold_batch_norm: "):
        interop.fold_batch_norm(3, {}, {})
    with pytest.raises(ValueError, match="conv1.* has no parameter or state 'kernel'"):
        interop.fold_batch_norm(NETWORK, {}, {}, inputs=X)
