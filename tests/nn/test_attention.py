import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import nn
from tests.nn.filled import filled, normal

Q, K = normal(0, 2, 3, 4), normal(1, 2, 5, 4)
LENGTHS = np.array([5, 2], np.int32)
to_numpy = functools.partial(jax.tree.map, np.asarray)


@pytest.mark.row("L01")
def test_by_hand(variant):
    """Scores ln 3 and 0 give weights 3/4 and 1/4."""
    scores, values = jnp.asarray(np.float32([[np.log(3), 0]])), np.float32([[4, 0], [0, 8]])
    context, weights = variant(nn.functional.attend)(scores, values)
    chex.assert_trees_all_close(weights, np.float32([[0.75, 0.25]]), atol=1e-6)
    chex.assert_trees_all_close(context, np.float32([[3, 2]]), atol=1e-6)


@pytest.mark.row("L01")
@pytest.mark.parametrize("layer", [nn.dot_attention(), nn.additive_attention(6)])
def test_weights_sum_to_one_over_the_keys_that_are_seen(layer):
    params, state = filled(layer, Q, K)
    (context, weights), _ = to_numpy(layer.apply(params, state, Q, K, LENGTHS))
    chex.assert_trees_all_close(weights.sum(-1), np.ones((2, 3), np.float32), atol=1e-6)
    assert not np.any(weights[1, :, 2:])
    (alone, _), _ = layer.apply(params, state, np.asarray(Q)[1:], np.asarray(K)[1:, :2])
    chex.assert_trees_all_close(context[1:], alone, atol=1e-6)


@pytest.mark.parametrize("layer", [nn.dot_attention(), nn.additive_attention(6)])
def test_whatever_stands_in_the_padding_changes_neither_values_nor_gradients(layer):
    params, state = filled(layer, Q, K)

    def f(params, q, k):
        (context, _), _ = layer.apply(params, state, q, k, LENGTHS)
        return jnp.sum(jnp.sin(context)), context

    run = jax.jit(jax.grad(f, (0, 1, 2), has_aux=True))
    spoilt = np.array(K)
    spoilt[1, 2:] = np.nan
    chex.assert_trees_all_equal(run(params, Q, K), run(params, Q, spoilt))


def test_additive_scores_by_a_loop():
    w, b = np.float32([0.5, -1, 2, 0.1]), np.float32([0.1, 0.2, 0.3, 0.4])
    scores = nn.functional.additive_scores(Q, K, w, b)
    rows = zip(*to_numpy((Q, K)), strict=True)
    loop = np.array([[[np.tanh(q + k + b) @ w for k in ks] for q in qs] for qs, ks in rows])
    chex.assert_trees_all_close(scores, loop, atol=1e-5)


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_scale_multiplies_the_products(scale):
    products = np.einsum("nqf,nkf->nqk", Q, K)
    chex.assert_trees_all_close(
        nn.functional.dot_scores(Q, K, scale=scale), scale * products, atol=1e-6
    )


@pytest.mark.parametrize("layer", [nn.dot_attention(), nn.additive_attention(6)])
def test_who_sees_nothing_gets_nothing_and_finite_gradients(layer):
    params, state = filled(layer, Q, K)

    def f(params, q, k):
        (context, _), _ = layer.apply(params, state, q, k, np.array([5, 0], np.int32))
        return jnp.sum(jnp.sin(context)), context

    with jax.debug_nans(True):  # nor is there a NaN inside
        gradients, context = to_numpy(jax.jit(jax.grad(f, (0, 1, 2), has_aux=True))(params, Q, K))
        for row in (0, 1):
            layer.apply(params, state, Q[row:][:1], K[row:][:1], np.array([0], np.int32))
    chex.assert_tree_all_finite(gradients)
    assert not np.any(context[1]) and not np.any(gradients[2][1])


def test_halves_are_summed_in_float32():
    (context, weights), _ = nn.dot_attention().apply(
        {}, {}, *(jnp.asarray(np.asarray(a), jnp.bfloat16) for a in (Q, K))
    )
    assert context.dtype == weights.dtype == jnp.bfloat16
    chex.assert_trees_all_close(
        np.asarray(context, np.float32), nn.dot_attention().apply({}, {}, Q, K)[0][0], atol=0.05
    )


def test_products_beyond_float16_do_not_overflow():
    far = jnp.asarray(np.full((1, 1, 512), 20, np.float16))  # q . k = 204,800
    (context, _), _ = nn.dot_attention().apply({}, {}, far, far)
    chex.assert_trees_all_equal(context, far)


def test_bad_input():
    with pytest.raises(ValueError, match="features is 0"):
        nn.additive_attention(0)
    with pytest.raises(ValueError, match="additive_attention: input is int32"):
        nn.additive_attention(2).init(jax.random.key(0), np.ones((2, 3, 4), np.int32), K)
    with pytest.raises(ValueError, match=r"queries \(2, 4\), keys .* of one N"):
        nn.dot_attention().apply({}, {}, np.asarray(Q)[:, 0], K)
    with pytest.raises(ValueError, match=r"lengths \(2, 1\); expected"):
        nn.dot_attention().apply({}, {}, Q, K, LENGTHS[:, None])
