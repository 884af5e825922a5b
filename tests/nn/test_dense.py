import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxdl
from jaxdl import nn
from tests.nn.filled import filled, normal


@pytest.mark.row("A01")
def test_one_unit_is_the_weighted_sum_plus_bias(variant):
    numbers = [[1, 2, -1]], [[0.5], [-1], [2]], [0.25]
    a, w, b = (jnp.asarray(np.float32(n)) for n in numbers)
    chex.assert_trees_all_close(
        variant(nn.functional.dense)(a, w, b), np.float32([[0.5 - 2 - 2 + 0.25]])
    )
    chex.assert_trees_all_close(variant(nn.functional.dense)(a, w), np.float32([[0.5 - 2 - 2]]))


@pytest.mark.row("A01")
def test_parameters_are_the_weights_and_the_bias(key):
    params, state = jaxdl.init(nn.dense(1), key, np.ones((1, 3), np.float32))
    assert jaxdl.tree.count(params) == 3 + 1 and state == {}
    params, _ = jaxdl.init(nn.dense(1, use_bias=False), key, np.ones((1, 3), np.float32))
    assert list(params) == ["kernel"]


@pytest.mark.row("A03")
@given(st.sampled_from([(4, 3, 2), (1, 4, 3), (3, 1, 4), (2, 4, 1)]), st.integers(0, 1000))
def test_the_batch_product_is_the_loop_over_examples(sizes, seed):
    n, d, f = sizes
    x, w, b = normal(seed, n, d), normal(seed + 1, d, f), normal(seed + 2, f)
    y, (x, w, b) = nn.functional.dense(x, w, b), map(np.asarray, (x, w, b))
    loop = np.array([[sum(x[i] * w[:, j]) + b[j] for j in range(f)] for i in range(n)])
    chex.assert_trees_all_close(y, loop, atol=1e-5)


def test_any_leading_axes_and_none():
    layer = nn.dense(5)
    params, state = filled(layer, np.ones((2, 3, 4), np.float32))
    assert layer.apply(params, state, np.ones((2, 3, 4), np.float32))[0].shape == (2, 3, 5)
    assert layer.apply(params, state, np.ones(4, np.float32))[0].shape == (5,)


@functools.cache
def with_gradients(affine, devices):
    """Values and gradients of an affine map, compiled where there are so many devices."""

    def of(x, w, b):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(jax, "device_count", lambda: devices)
            value, back = jax.vjp(affine, x, w, b)
        return value, back(jnp.cos(value))

    return jax.jit(of)


def product(x, w, b):
    return x @ w + b


@given(
    st.sampled_from(
        [
            ((), 3, 2),
            ((3,), 3, 2),
            ((2, 3), 1, 4),
            ((0, 2), 3, 2),
            ((2, 1, 3), 3, 1),
            ((1, 1), 4, 3),
        ]
    ),
    st.integers(0, 1000),
)
def test_over_several_axes_it_is_the_product_of_the_last(sizes, seed):
    """Values and gradients, where rows of several axes are joined and where they are not."""
    shape, d, f = sizes
    args = normal(seed, *shape, d), normal(seed + 1, d, f), normal(seed + 2, f)
    expected = with_gradients(product, 1)(*args)
    for devices in (1, 2):
        chex.assert_trees_all_close(
            with_gradients(nn.functional.dense, devices)(*args), expected, atol=1e-5
        )


def test_initializers_by_name_and_by_function(key):
    layer = nn.dense(
        4, kernel_init="ones", bias_init=lambda key, shape, dtype: jnp.full(shape, 2, dtype)
    )
    params, _ = jaxdl.init(layer, key, np.ones((1, 3), np.float32))
    chex.assert_trees_all_equal(
        params, {"kernel": np.ones((3, 4), np.float32), "bias": np.full(4, 2, np.float32)}
    )


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
        jaxdl.init(layer, key, np.ones((2, 4), np.uint8))
    params, state = jaxdl.init(layer, key, np.ones((2, 4), np.float32))
    with pytest.raises(ValueError, match=r"x is float32\[2, 5\] and the kernel float32\[4, 3\]"):
        layer.apply(params, state, np.ones((2, 5), np.float32))
    with pytest.raises(ValueError, match="x is bfloat16.*tree.cast"):
        layer.apply(params, state, np.ones((2, 4), jnp.bfloat16))
