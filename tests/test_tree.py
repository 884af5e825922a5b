import chex
import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxdl
from jaxdl import nn, tree
from jaxdl.interop.flax import from_linen

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
    half = tree.cast(leaves | {"key": jax.random.key(0)}, jnp.bfloat16)
    assert half["a"].dtype == jnp.bfloat16 and half["b"]["n"].dtype == jnp.int32
    assert jnp.issubdtype(half["key"].dtype, jax.dtypes.prng_key)


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


@pytest.mark.parametrize(
    "around",
    [
        jax.vmap,
        jax.jit,
        jax.checkpoint,
        lambda f: lambda x: jax.lax.scan(lambda carry, row: (carry, f(row)), None, x)[1],
        lambda f: jax.vmap(jax.vmap(f)),
    ],
    ids=["vmap", "jit", "checkpoint", "scan", "vmap twice"],
)
def test_flops_of_a_child_inside_of_a_transformation(around):
    child = nn.dense(4, use_bias=False)
    model = jaxdl.compose("m", {"a": child}, lambda call, x: around(lambda x: call("a", x))(x))
    x = jnp.ones((5, 3, 2, 4))
    table = jaxdl.summary(nn.serial(model), x)
    assert [(row.path, row.flops) for row in table.rows] == [
        ("m_0/a", 2 * 5 * 3 * 2 * 4 * 4),
        ("m_0", 2 * 5 * 3 * 2 * 4 * 4),
    ]


def test_flops_agree_with_the_compilers_count():
    model = nn.serial(nn.dense(64, use_bias=False), nn.dense(32, use_bias=False))
    x = jnp.ones((16, 128))
    params, state = jaxdl.init(model, jax.random.key(0), x)
    lowered = jax.jit(lambda p, x: model.apply(p, state, x)[0]).lower(params, x)
    counted = jaxdl.summary(model, x).flops
    assert counted == 2 * 16 * (128 * 64 + 64 * 32)
    np.testing.assert_allclose(lowered.cost_analysis()["flops"], counted, rtol=0.01)


def test_a_stack_counts_every_copy():
    model = nn.serial(nn.scan_layers(nn.serial(nn.dense(4), jnp.tanh), 3))
    table = jaxdl.summary(model, jnp.ones((2, 4)))
    rows = {row.path: row for row in table.rows}
    assert table.params == rows["scan_layers_0"].params == 60
    assert rows["scan_layers_0/1/dense_0"].params == 20
    assert table.flops == 3 * rows["scan_layers_0/2"].flops == 3 * 2 * 2 * 16


def test_convolutions_in_a_stack():
    table = jaxdl.summary(nn.scan_layers(nn.conv(4, 3), 5), jnp.ones((2, 8, 8, 4)))
    assert [row.flops for row in table.rows] == 5 * [2 * (2 * 8 * 8 * 4) * 9 * 4]
    assert table.params == 5 * (9 * 4 * 4 + 4) == 5 * table.rows[0].params


def test_a_composite_may_be_called_stack():
    model = jaxdl.compose("stack", {"a": nn.dense(3)}, lambda call, x: call("a", x))
    assert jaxdl.summary(nn.serial(model), jnp.ones((1, 2))).rows[0].params == 9


def test_flops_of_a_flax_network_are_reported_for_the_whole_only():
    class Net(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.Dense(3)(x)

    model = nn.serial(nn.dense(4), from_linen(Net()))
    table = jaxdl.summary(model, jnp.ones((1, 2)))
    assert [(row.path, row.kind, row.params, row.flops) for row in table.rows] == [
        ("dense_0", "dense", 12, 16),
        ("linen_0/Dense_0", "", 15, None),
        ("linen_0", "linen", 15, 24),
    ]
    assert str(table).splitlines()[3] == "linen_0/Dense_0         float32[1, 3]          15"


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
