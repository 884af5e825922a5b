import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxdl
from jaxdl import nn, tree

NAMES = st.text("abc_0", min_size=1, max_size=3)
TREES = st.recursive(
    st.integers(0, 9), lambda child: st.dictionaries(NAMES, child, min_size=1, max_size=3)
)


@given(st.dictionaries(NAMES, TREES, max_size=3))
def test_flatten_and_unflatten_are_inverse(nested):
    assert tree.unflatten(tree.flatten(nested)) == nested


def test_unflatten_refuses_a_leaf_that_is_a_folder():
    for paths in ({"a": 1, "a/b": 2}, {"a/b": 2, "a": 1}):
        with pytest.raises(ValueError, match="leaf"):
            tree.unflatten(paths)


def test_count_and_cast():
    leaves = {"a": jnp.ones((2, 3)), "b": {"n": jnp.arange(4)}}
    assert tree.count(leaves) == 10
    half = tree.cast(leaves, jnp.bfloat16)
    assert half["a"].dtype == jnp.bfloat16 and half["b"]["n"].dtype == jnp.int32


def test_the_table_of_a_small_net():
    model = nn.serial(nn.dense(3), jax.nn.relu, nn.dense(2))
    expected = """\
path     kind   output         parameters  FLOPs
-------  -----  -------------  ----------  -----
dense_0  dense  float32[5, 3]          15    120
relu_0   relu   float32[5, 3]           0      0
dense_1  dense  float32[5, 2]           8     60
-------  -----  -------------  ----------  -----
total                                  23    180"""
    assert str(jaxdl.summary(model, jnp.ones((5, 4)))) == expected


@pytest.mark.parametrize(
    "layer, shape, flops",
    [
        (nn.conv(6, 3), (2, 8, 8, 4), 2 * (2 * 8 * 8 * 6) * 9 * 4),
        (nn.conv(6, 3, stride=2), (2, 8, 8, 4), 2 * (2 * 4 * 4 * 6) * 9 * 4),
        (nn.conv(6, 3, groups=2), (2, 8, 8, 4), 2 * (2 * 8 * 8 * 6) * 9 * 2),
        (nn.conv(6, 3, padding="VALID"), (2, 8, 4), 2 * (2 * 6 * 6) * 3 * 4),
    ],
    ids=["same", "stride", "groups", "1-d"],
)
def test_flops_of_convolutions_by_hand(layer, shape, flops):
    assert jaxdl.summary(layer, jnp.ones(shape)).flops == flops


def test_flops_agree_with_the_compilers_count():
    model = nn.serial(nn.dense(64, use_bias=False), nn.dense(32, use_bias=False))
    x = jnp.ones((16, 128))
    params, state = jaxdl.init(model, jax.random.key(0), x)
    lowered = jax.jit(lambda p, x: model.apply(p, state, x)[0]).lower(params, x)
    counted = jaxdl.summary(model, x).flops
    assert counted == 2 * 16 * (128 * 64 + 64 * 32)
    np.testing.assert_allclose(lowered.cost_analysis()["flops"], counted, rtol=0.01)


def test_a_stack_counts_every_copy():
    model = nn.serial(nn.stack(nn.serial(nn.dense(4), jnp.tanh), 3))
    table = jaxdl.summary(model, jnp.ones((2, 4)))
    rows = {row.path: row for row in table.rows}
    assert table.params == rows["stack_0"].params == 60
    assert rows["stack_0/1/dense_0"].params == 20
    assert table.flops == 3 * rows["stack_0/2"].flops == 3 * 2 * 2 * 16


def test_a_shared_child_has_flops_twice_and_parameters_once():
    twice = jaxdl.compose("twice", {"a": nn.dense(4)}, lambda call, x: call("a", call("a", x)))
    table = jaxdl.summary(twice, jnp.ones((2, 4)))
    assert [(row.path, row.params, row.flops) for row in table.rows] == [
        ("a", 20, 64),
        ("a#1", 0, 64),
    ]
    assert (table.params, table.flops) == (20, 128)


def test_nothing_is_allocated():
    huge = nn.serial(nn.dense(10**6), nn.dense(10**6))
    table = jaxdl.summary(huge, jax.ShapeDtypeStruct((1, 10**6), jnp.float32))
    assert table.params == 2 * (10**12 + 10**6)


def test_statistics_are_no_parameters():
    table = jaxdl.summary(nn.serial(nn.batch_norm()), jnp.ones((2, 5)))
    assert table.params == 10
    chex.assert_trees_all_equal(table.rows[0].shape, "float32[2, 5]")
