"""FractalNet: its recursion, its joins, and the paths that drop-path leaves."""

import functools

import jax
import numpy as np
import pytest

import jaxdl
from jaxdl import tree
from jaxdl.zoo.vision import fractalnet as fractal
from jaxdl.zoo.vision.fractalnet import column_paths, drop_path, fractalnet, join
from tests.nn.filled import filled, normal

BLOCKS, COLUMNS = 2, 3


def expand(columns):
    """The recursion f_{C+1} = join(f_C o f_C, f_1) as a function of paths: `(longest, convs)`."""
    if columns == 1:
        return 1, 1
    longest, convs = expand(columns - 1)
    return max(2 * longest, 1), 2 * convs + 1


@pytest.mark.row("G07", "G14")
@pytest.mark.parametrize("columns", [1, 2, 3, 4])
def test_depth_and_convolutions_double_with_each_column(columns):
    x = jax.ShapeDtypeStruct((1, 4, 4, 2), np.float32)
    model = fractalnet((2,), columns, num_classes=3)
    params, _ = jax.eval_shape(model.init, jax.random.key(0), x)
    longest, convs = expand(columns)
    assert (longest, convs) == (2 ** (columns - 1), 2**columns - 1)
    assert len(params["block1"]) == convs
    assert jaxdl.depth(model, x) == longest + 1


def test_the_network_of_20_layers_has_the_parameters_of_its_table():
    x = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    model = fractalnet()
    params, _ = jax.eval_shape(model.init, jax.random.key(0), x)
    widths = (3, 64, 128, 256, 512, 512)
    # Three convolutions of a block read the block's input; each has a norm of two vectors.
    blocks = [9 * (3 * a + 4 * b) * b + 14 * b for a, b in zip(widths, widths[1:], strict=False)]
    assert tree.count(params) == sum(blocks) + 5130 == 33_724_618


@functools.cache
def small():
    """A network of one block, and its logits and intermediate values from given paths."""
    model, x = fractalnet((3,), COLUMNS, num_classes=4), normal(0, 2, 4, 4, 3)
    params, state = filled(model, x)
    state = jax.tree.map(np.ones_like, state)

    @jax.jit
    def run(paths):
        seen = {}

        def tap(path, value):
            seen[path] = paths if path == "paths" else value
            return seen[path]

        return model.apply(params, state, x, tap=tap)[0], seen

    return model, params, state, x, run


@pytest.mark.row("G07")
@pytest.mark.parametrize("column", [1, 2, 3])
def test_a_single_column_is_a_plain_network(column):
    model, params, state, x, run = small()
    y = x
    for i in range(1, 2 ** (column - 1) + 1):
        name = f"column{column}_{i}"
        layer = model.children["block1"].children[name]
        y, _ = layer.apply(params["block1"][name], state["block1"][name], y)
    y = np.asarray(y).reshape(2, 2, 2, 2, 2, 3).max((2, 4))
    logits = y.mean((1, 2)) @ params["logits"]["kernel"] + params["logits"]["bias"]
    alone, _ = run(column_paths(1, COLUMNS, column))
    np.testing.assert_allclose(alone, logits, rtol=1e-4, atol=1e-5)


@pytest.mark.row("G07")
def test_a_block_of_three_columns_is_its_recursion():
    """join(f_2(f_2(x)), c), with the joins at the end of f_2 and of f_3 merged to one of three."""
    model, params, state, _, run = small()
    block, params, state = model.children["block1"], params["block1"], state["block1"]
    _, seen = run(fractal.column_ends(COLUMNS)[None])
    seen = {path.removeprefix("block1/"): value for path, value in seen.items()}

    def layer(name, x):
        return block.children[name].apply(params[name], state[name], x)[0]

    middle = (seen["column3_2"] + seen["column2_1"]) / 2
    np.testing.assert_allclose(layer("column2_2", middle), seen["column2_2"], rtol=1e-5)
    np.testing.assert_allclose(layer("column3_3", middle), seen["column3_3"], rtol=1e-5)
    ends = [seen[name] for name in ("column1_1", "column2_2", "column3_4")]
    np.testing.assert_allclose(seen["block1"], sum(ends) / 3, rtol=1e-5, atol=1e-6)


def test_a_join_averages_the_survivors():
    values = [np.float32([1, 2]), np.float32([3, 8]), np.float32([np.inf, np.nan])]
    average = jax.jit(join)
    np.testing.assert_allclose(average(values, np.array([True, True, False])), [2, 5])
    np.testing.assert_allclose(average(values, np.array([False, True, False])), [3, 8])


@functools.cache
def drawn(rate, global_rate):
    layer = drop_path(BLOCKS, COLUMNS, rate, global_rate)
    draw = jax.vmap(lambda key: layer.apply({}, {}, 0, train=True, key=key)[0])
    return np.asarray(jax.jit(lambda key: draw(jax.random.split(key, 4000)))(jax.random.key(0)))


@pytest.mark.row("G07")
def test_local_drop_path_keeps_each_input_of_a_join_with_its_probability():
    """Of n inputs each survives with 1 - p + p^n / n: if all fall, one is kept at random."""
    paths, p = drawn(0.4, 0.0), 0.4
    ends = fractal.column_ends(COLUMNS)
    assert np.all(paths.any(-1)) and not np.any(paths & ~ends)
    for t, ending in enumerate(ends):
        n = ending.sum()
        kept = paths[:, :, t, ending]
        np.testing.assert_allclose(kept.mean((0, 1)), 1 - p + p**n / n, atol=0.03)
        weights = kept / kept.sum(-1, keepdims=True)  # the join is unbiased
        np.testing.assert_allclose(weights.mean((0, 1)), 1 / n, atol=0.03)
        if n > 1:  # joins drop independently
            first, second = kept[:, 0, 0], kept[:, 1, 0]
            assert abs(np.mean(first & second) - first.mean() * second.mean()) < 0.03


@pytest.mark.row("G07")
def test_global_drop_path_keeps_one_column_in_all_blocks():
    paths = drawn(0.4, 1.0)
    single = [column_paths(BLOCKS, COLUMNS, c) for c in (1, 2, 3)]
    share = [np.mean((paths == one).all((1, 2, 3))) for one in single]
    np.testing.assert_allclose(share, 1 / 3, atol=0.03)
    assert sum(share) == pytest.approx(1)


def test_without_training_all_paths_are_alive_and_bad_arguments_raise():
    every = np.tile(fractal.column_ends(COLUMNS), (BLOCKS, 1, 1))
    paths, _ = drop_path(BLOCKS, COLUMNS, 0.4, 0.5).apply({}, {}, 0)
    np.testing.assert_array_equal(paths, every)
    with pytest.raises(ValueError, match="no key with train=True"):
        drop_path(1, 2, 0.1, 0.5).apply({}, {}, 0, train=True)
    with pytest.raises(ValueError, match="rate is 1.5; expected a probability"):
        fractalnet(drop_rate=1.5)
    with pytest.raises(ValueError, match=r"column is 4; expected one of 1 \.\. 3"):
        column_paths(1, 3, 4)
