import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxdl
from jaxdl import nn
from tests.nn.filled import normal


@pytest.mark.row("F16")
@given(st.lists(st.integers(0, 6), min_size=5, max_size=5), st.sampled_from([1, 2, 5]))
def test_lookup_is_the_product_of_one_hot_rows(ids, length):
    table, ids = normal(0, 7, 3), np.int32(ids[:length])
    product = np.eye(7, dtype=np.float32)[ids] @ np.asarray(table)
    chex.assert_trees_all_equal(nn.functional.embedding(ids, table), product)


@pytest.mark.row("F16")
def test_the_gradient_too_is_the_products():
    table, ids = normal(0, 7, 3), np.int32([[1, 5], [1, 1]])
    by_lookup = jax.jit(jax.grad(lambda t: jnp.sum(jnp.sin(nn.functional.embedding(ids, t)))))(
        table
    )
    rows = np.eye(7)[ids]
    by_product = np.tensordot(rows, np.cos(rows @ np.asarray(table)), ((0, 1), (0, 1)))
    chex.assert_trees_all_close(by_lookup, np.float32(by_product), atol=1e-6)


@pytest.mark.row("S24")
def test_the_one_of_n_rows_are_the_identity():
    ids, eye = np.arange(4, dtype=np.int32), np.eye(4, dtype=np.float32)
    chex.assert_trees_all_equal(jax.nn.one_hot(ids, 4), eye)
    chex.assert_trees_all_equal(nn.functional.embedding(ids, jnp.asarray(eye)), eye)


def test_an_id_out_of_range_is_nan_and_no_other_symbols_row(variant):
    table = jnp.asarray(np.ones((3, 2), np.float32))
    rows = variant(nn.functional.embedding)(np.int32([-1, 0, 3, 7]), table)
    assert np.isnan(rows)[:, 0].tolist() == [True, False, True, True]
    gradient = jax.jit(jax.grad(lambda t: jnp.sum(nn.functional.embedding(np.int32([-1, 0]), t))))(
        table
    )
    assert not np.any(np.asarray(gradient)[1:])


def test_table_by_initializer_and_dtype(key):
    layer = nn.embedding(4, 2, embedding_init="ones", dtype=jnp.bfloat16)
    params, state = jaxdl.init(layer, key, np.int32([0]))
    chex.assert_trees_all_equal(params, {"embedding": np.ones((4, 2), jnp.bfloat16)})
    assert state == {}
    params, _ = jaxdl.init(nn.embedding(2000, 50), key, np.int32([0]))
    assert np.std(np.asarray(params["embedding"])) == pytest.approx(1 / np.sqrt(50), rel=0.02)


def test_bad_sizes_and_ids(key):
    with pytest.raises(ValueError, match="embedding: num_embeddings is 0"):
        nn.embedding(0, 3)
    with pytest.raises(ValueError, match="embedding: features is 1.5"):
        nn.embedding(3, 1.5)
    with pytest.raises(ValueError, match="embedding: ids are float32"):
        nn.functional.embedding(np.ones(2, np.float32), np.ones((3, 2), np.float32))
