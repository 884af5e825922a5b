import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxdl
from jaxdl import nn


@pytest.mark.row("F16")
@given(st.lists(st.integers(0, 6), min_size=1, max_size=5))
def test_lookup_is_the_product_of_one_hot_rows(ids):
    table = jax.random.normal(jax.random.key(0), (7, 3))
    product = jax.nn.one_hot(jnp.array(ids), 7) @ table
    chex.assert_trees_all_equal(nn.lookup(jnp.array(ids), table), product)


@pytest.mark.row("F16")
def test_the_gradient_too_is_the_products():
    table, ids = jax.random.normal(jax.random.key(0), (7, 3)), jnp.array([[1, 5], [1, 1]])
    by_lookup = jax.grad(lambda t: jnp.sum(jnp.sin(nn.lookup(ids, t))))(table)
    by_product = jax.grad(lambda t: jnp.sum(jnp.sin(jax.nn.one_hot(ids, 7) @ t)))(table)
    chex.assert_trees_all_close(by_lookup, by_product, atol=1e-6)


@pytest.mark.row("S24")
def test_the_one_of_n_rows_are_the_identity():
    chex.assert_trees_all_equal(jax.nn.one_hot(jnp.arange(4), 4), jnp.eye(4))
    chex.assert_trees_all_equal(nn.lookup(jnp.arange(4), jnp.eye(4)), jnp.eye(4))


def test_an_id_out_of_range_is_nan_and_no_other_symbols_row(variant):
    rows = variant(nn.lookup)(jnp.array([-1, 0, 3, 7]), jnp.ones((3, 2)))
    chex.assert_trees_all_equal(jnp.isnan(rows[:, 0]), jnp.array([True, False, True, True]))
    gradient = jax.grad(lambda t: jnp.sum(nn.lookup(jnp.array([-1, 0]), t)))(jnp.ones((3, 2)))
    chex.assert_trees_all_equal(gradient[1:], jnp.zeros((2, 2)))


def test_table_by_initializer_and_dtype(key):
    layer = nn.embedding(4, 2, embedding_init="ones", dtype=jnp.bfloat16)
    params, state = jaxdl.init(layer, key, jnp.array([0]))
    chex.assert_trees_all_equal(params, {"embedding": jnp.ones((4, 2), jnp.bfloat16)})
    assert state == {}
    params, _ = jaxdl.init(nn.embedding(2000, 50), key, jnp.array([0]))
    assert np.std(params["embedding"]) == pytest.approx(1 / np.sqrt(50), rel=0.02)


def test_bad_sizes_and_ids(key):
    with pytest.raises(ValueError, match="embedding: num_embeddings is 0"):
        nn.embedding(0, 3)
    with pytest.raises(ValueError, match="embedding: features is 1.5"):
        nn.embedding(3, 1.5)
    with pytest.raises(ValueError, match="embedding: ids are float32"):
        nn.lookup(jnp.ones(2), jnp.ones((3, 2)))
