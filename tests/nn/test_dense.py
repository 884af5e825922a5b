import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxdl
from jaxdl import nn


@pytest.mark.row("A01")
def test_one_unit_is_the_weighted_sum_plus_bias(variant):
    a, w, b = jnp.array([[1.0, 2.0, -1.0]]), jnp.array([[0.5], [-1.0], [2.0]]), jnp.array([0.25])
    chex.assert_trees_all_close(variant(nn.affine)(a, w, b), jnp.array([[0.5 - 2 - 2 + 0.25]]))
    chex.assert_trees_all_close(variant(nn.affine)(a, w), jnp.array([[0.5 - 2 - 2]]))


@pytest.mark.row("A01")
def test_parameters_are_the_weights_and_the_bias(key):
    params, state = jaxdl.init(nn.dense(1), key, jnp.ones((1, 3)))
    assert jaxdl.tree.count(params) == 3 + 1 and state == {}
    params, _ = jaxdl.init(nn.dense(1, use_bias=False), key, jnp.ones((1, 3)))
    assert list(params) == ["kernel"]


@pytest.mark.row("A03")
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
def test_the_batch_product_is_the_loop_over_examples(n, d, f):
    keys = jax.random.split(jax.random.key(n * 100 + d * 10 + f), 3)
    x, w, b = (jax.random.normal(k, s) for k, s in zip(keys, [(n, d), (d, f), (f,)], strict=True))
    loop = np.array([[sum(x[i] * w[:, j]) + b[j] for j in range(f)] for i in range(n)])
    chex.assert_trees_all_close(nn.affine(x, w, b), loop, atol=1e-5)


def test_any_leading_axes_and_none(key):
    layer = nn.dense(5)
    params, state = jaxdl.init(layer, key, jnp.ones((2, 3, 4)))
    assert layer.apply(params, state, jnp.ones((2, 3, 4)))[0].shape == (2, 3, 5)
    assert layer.apply(params, state, jnp.ones(4))[0].shape == (5,)


@given(st.lists(st.integers(0, 3), max_size=3), st.integers(1, 4), st.integers(1, 4))
def test_over_several_axes_it_is_the_product_of_the_last(shape, d, f):
    """Values and gradients, where rows of several axes are joined and where they are not."""
    x = jax.random.normal(jax.random.key(1), (*shape, d))
    w, b = jax.random.normal(jax.random.key(2), (d, f)), jnp.arange(f, dtype=jnp.float32)

    def of(affine):
        value, back = jax.vjp(affine, x, w, b)
        return value, back(jnp.cos(value))

    expected = of(lambda x, w, b: x @ w + b)
    for devices in (1, 2):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(jax, "device_count", lambda n=devices: n)
            chex.assert_trees_all_close(of(nn.affine), expected, atol=1e-5)


def test_initializers_by_name_and_by_function(key):
    layer = nn.dense(
        4, kernel_init="ones", bias_init=lambda key, shape, dtype: jnp.full(shape, 2, dtype)
    )
    params, _ = jaxdl.init(layer, key, jnp.ones((1, 3)))
    chex.assert_trees_all_equal(params, {"kernel": jnp.ones((3, 4)), "bias": jnp.full(4, 2.0)})


@pytest.mark.parametrize("features", [0, -1, 2.0, True, None])
def test_features_must_be_a_positive_integer(features):
    with pytest.raises(ValueError, match="dense: features is .*integer of at least 1"):
        nn.dense(features)


def test_unknown_initializer_names_the_likely_one():
    with pytest.raises(ValueError, match="did you mean 'he_normal'"):
        nn.dense(3, kernel_init="he_norml")


def test_bad_input(key):
    layer = nn.dense(3)
    with pytest.raises(ValueError, match="dense: input is uint8.*astype"):
        jaxdl.init(layer, key, jnp.ones((2, 4), jnp.uint8))
    params, state = jaxdl.init(layer, key, jnp.ones((2, 4)))
    with pytest.raises(ValueError, match=r"x is float32\[2, 5\] and the kernel float32\[4, 3\]"):
        layer.apply(params, state, jnp.ones((2, 5)))
    with pytest.raises(ValueError, match="x is bfloat16.*tree.cast"):
        layer.apply(params, state, jnp.ones((2, 4), jnp.bfloat16))
