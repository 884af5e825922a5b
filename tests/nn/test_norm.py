import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdl import nn
from jaxdl.nn.norm import batch_moments
from tests.nn.filled import normal

BATCH_NORM = nn.batch_norm(eps=1e-8)


def images(seed=0, shape=(4, 3, 3, 6)):
    return np.float32(2 + 3 * np.asarray(normal(seed, *shape)))


@functools.cache
def compiled(layer):
    return jax.jit(layer.apply, static_argnames="train")


def run(layer, x, **options):
    params, state = layer.init(jax.random.key(0), x)
    return compiled(layer)(params, state, x, **options)


def test_moments_are_numpys_and_keep_the_axes(variant):
    x = images()
    mean, var = variant(lambda x: nn.functional.moments(x, (0, 2)))(jnp.asarray(x))
    chex.assert_trees_all_close(mean, np.mean(x, (0, 2), keepdims=True), rtol=1e-5)
    chex.assert_trees_all_close(var, np.var(x, (0, 2), keepdims=True), rtol=1e-5)


def test_the_variance_survives_a_distant_mean():
    """By E[x^2] - E[x]^2 in float32 it would be off by more than itself."""
    x = np.float32(1e4 + np.random.default_rng(1).normal(size=(4096, 3)))
    _, var = jax.jit(lambda x: nn.functional.moments(x, 0))(x)
    chex.assert_trees_all_close(var[0], np.var(np.float64(x), 0).astype(np.float32), rtol=1e-4)
    short = np.mean(x**2, 0) - np.mean(x, 0) ** 2
    assert np.any(abs(short - 1) > 0.1)
    y, _ = run(BATCH_NORM, x, train=True)
    chex.assert_trees_all_close(np.std(y, 0), np.ones(3, np.float32), atol=1e-3)


@pytest.mark.parametrize("rows", [1, 7, 16, 24])
def test_one_pass_over_images_is_as_exact_as_two(rows):
    """Also where the mean is far away, or the rows of the shift are."""
    x = np.random.default_rng(2).normal(size=(8, rows, 5, 3))
    outlier, every = x.copy(), 12 if rows == 24 else rows  # rows between those of the shift
    outlier[:, every // 2 :: every] += 1e5
    for y, tolerance in ((x, 1e-5), (x + 1e4, 1e-5), (outlier, 5e-5)):
        y = np.float32(y)
        mean, var = jax.jit(batch_moments)(y)
        exact = np.float64(y)
        # By standard deviations, the unit that the normalization divides by.
        error = (mean - exact.mean((0, 1, 2))) / exact.std((0, 1, 2))
        chex.assert_trees_all_close(error, np.zeros_like(error), atol=tolerance)
        chex.assert_trees_all_close(var, exact.var((0, 1, 2), keepdims=True), rtol=tolerance)


def test_one_pass_has_the_derivatives_of_the_variance():
    """Of second order too, and for a constant channel, whose variance is the clamped one."""
    x = np.array(images(3, (2, 2, 2, 2)))
    x[..., 0] = 0.1

    def gradient(f):
        # The square: a gradient that depends on the variance itself.
        return jax.grad(lambda x: jnp.sum(f(x) ** 2 + f(x)))

    ours = gradient(lambda x: batch_moments(x)[1])
    theirs = gradient(lambda x: jnp.var(x, (0, 1, 2)))
    chex.assert_trees_all_close(jax.jit(ours)(x), jax.jit(theirs)(x), atol=1e-5, rtol=1e-5)
    second = [jax.jit(jax.jacobian(f))(x) for f in (ours, theirs)]
    chex.assert_trees_all_close(*second, atol=1e-5, rtol=1e-5)


def test_both_forms_of_the_statistics_normalize_alike(monkeypatch):
    """A GPU uses the one pass."""
    x = images(4, (3, 5, 4, 2))

    def normalized(backend):
        monkeypatch.setattr(jax, "default_backend", lambda: backend)
        params, state = BATCH_NORM.init(jax.random.key(0), x)
        return BATCH_NORM.apply(params, state, x, train=True)

    one, two = normalized("gpu"), normalized("cpu")
    chex.assert_trees_all_close(one, two, atol=1e-5, rtol=1e-5)
    # Rounding differs: otherwise this test compares a form with itself.
    assert np.any(np.asarray(one[0]) != np.asarray(two[0]))


@pytest.mark.row("D20")
@given(st.integers(0, 100), st.sampled_from([(6, 4), (3, 2, 4), (2, 3, 3, 4)]))
def test_batch_norm_makes_mean_0_and_variance_1(seed, shape):
    y, _ = run(BATCH_NORM, images(seed, shape), train=True)
    y = np.asarray(y)
    axes = tuple(range(len(shape) - 1))
    chex.assert_trees_all_close(np.mean(y, axes), np.zeros(4, np.float32), atol=1e-5)
    chex.assert_trees_all_close(np.var(y, axes), np.ones(4, np.float32), atol=1e-4)


@pytest.mark.row("D20")
def test_running_statistics_follow_the_batches_and_serve_the_test_mode():
    layer = nn.batch_norm(momentum=0.75)
    batches = [images(seed, (8, 2)) for seed in range(3)]
    params, state = layer.init(jax.random.key(0), batches[0])
    mean, var = np.zeros(2), np.ones(2)
    for x in batches:
        _, state = layer.apply(params, state, x, train=True)
        mean = 0.75 * mean + 0.25 * np.mean(x, 0)
        var = 0.75 * var + 0.25 * np.var(x, 0)
    chex.assert_trees_all_close(
        state, {"mean": np.float32(mean), "var": np.float32(var)}, rtol=1e-5, atol=1e-5
    )
    y, same = layer.apply(params, state, batches[0])
    expected = (batches[0] - mean) / np.sqrt(var + 1e-5)
    chex.assert_trees_all_close(y, np.float32(expected), rtol=1e-4, atol=1e-5)
    chex.assert_trees_all_equal(same, state)


@pytest.mark.row("D20")
def test_no_gradient_runs_through_the_running_statistics():
    layer, x = nn.batch_norm(momentum=0.5), images(0, (8, 2))
    params, state = layer.init(jax.random.key(0), x)

    def statistics(x):
        return sum(map(jnp.sum, layer.apply(params, state, x, train=True)[1].values()))

    chex.assert_trees_all_equal(jax.jit(jax.grad(statistics))(x), np.zeros_like(x))


@pytest.mark.parametrize(
    "layer, axes",
    [(nn.layer_norm(), -1), (nn.group_norm(1), (1, 2, 3)), (nn.instance_norm(), (1, 2))],
    ids=["layer", "group", "instance"],
)
def test_each_example_to_mean_0_and_variance_1(layer, axes):
    y = np.asarray(run(layer, images())[0])
    chex.assert_trees_all_close(np.mean(y, axes), np.zeros_like(np.mean(y, axes)), atol=1e-5)
    chex.assert_trees_all_close(np.var(y, axes), np.ones_like(np.var(y, axes)), atol=1e-4)


def test_a_group_for_each_channel_is_instance_norm():
    chex.assert_trees_all_close(
        run(nn.group_norm(6), images()), run(nn.instance_norm(), images()), atol=1e-5
    )


def test_two_axes_of_a_group_norm_are_the_groups_of_one_position():
    x = images(0, (4, 6))
    y, _ = run(nn.group_norm(1), x)
    chex.assert_trees_all_close(y, run(nn.layer_norm(), x)[0], atol=1e-5)


def test_a_layer_forgets_scale_and_shift_of_its_input():
    layer, x = nn.layer_norm(), images()
    chex.assert_trees_all_close(run(layer, x)[0], run(layer, 5 * x - 3)[0], atol=1e-4)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("layer", [nn.batch_norm(momentum=0.5), nn.layer_norm()])
def test_half_precision_adds_up_in_float32(layer, dtype):
    """In float16 the sum of 4096 values near 100 is infinite; in bfloat16 it stops growing."""
    x = (100 + np.asarray(normal(0, 4096, 8))).astype(dtype)
    params, state = layer.init(jax.random.key(0), x)
    y, state = compiled(layer)(params, state, x, train=True)
    wide, wide_state = run(layer, x.astype(np.float32), train=True)
    assert y.dtype == dtype and params["scale"].dtype == dtype
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(state))
    chex.assert_trees_all_close(np.asarray(y, np.float32), wide, atol=0.02)
    chex.assert_trees_all_close(state, wide_state, rtol=1e-5)


@pytest.mark.parametrize("factory", [nn.batch_norm, nn.layer_norm, nn.instance_norm, nn.group_norm])
def test_scale_and_bias_are_options(factory):
    groups = {"groups": 2} if factory is nn.group_norm else {}
    trees = [
        factory(use_scale=s, use_bias=b, **groups).init(jax.random.key(0), images())[0]
        for s in (True, False)
        for b in (True, False)
    ]
    assert [sorted(tree) for tree in trees] == [["bias", "scale"], ["scale"], ["bias"], []]
    ones = np.ones(6, np.float32)
    chex.assert_trees_all_equal(trees[0], {"scale": ones, "bias": 0 * ones})
    y, _ = run(factory(use_scale=False, use_bias=False, **groups), images())
    chex.assert_trees_all_close(y, run(factory(**groups), images())[0])


def test_bad_settings_and_batches():
    with pytest.raises(ValueError, match="batch_norm: momentum is 1.5"):
        nn.batch_norm(momentum=1.5)
    with pytest.raises(ValueError, match="layer_norm: eps is 0"):
        nn.layer_norm(eps=0)
    with pytest.raises(ValueError, match="group_norm: groups is 0"):
        nn.group_norm(0)
    layer, x = nn.batch_norm(), np.ones((1, 3), np.float32)
    params, state = layer.init(jax.random.key(0), x)
    with pytest.raises(ValueError, match="1 values for each channel.*larger batch"):
        layer.apply(params, state, x, train=True)
    with pytest.raises(KeyError, match="scale"):
        layer.apply({}, state, x)
