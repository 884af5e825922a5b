"""Pruning against sorting in NumPy, and pruned weights in training."""

import chex
import jax
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdl import compress, nn, serial
from tests.nn.filled import filled, normal

MODEL = serial(conv=nn.conv(4, 3), norm=nn.batch_norm(), mean=nn.global_avg_pool(), d=nn.dense(3))
PARAMS = jax.tree.map(np.asarray, filled(MODEL, normal(0, 1, 5, 5, 2))[0])
KERNELS = ("conv", "d")
prune = jax.jit(compress.prune, static_argnames=("fraction", "scope"))


@pytest.mark.row("G13")
@given(st.sampled_from([0.0, 0.29]), st.integers(0, 2**31))
def test_the_smallest_weights_of_the_network_are_removed(fraction, seed):
    draw = np.random.default_rng(seed).normal
    params = jax.tree.map(lambda w: draw(size=w.shape).astype(w.dtype), PARAMS)
    pruned, masks = prune(params, fraction)
    weights = np.concatenate([params[name]["kernel"].ravel() for name in KERNELS])
    keep = np.concatenate([np.asarray(masks[name]["kernel"]).ravel() for name in KERNELS])
    assert np.sum(~keep) == round(fraction * len(weights))
    assert np.abs(weights[~keep]).max(initial=0) <= np.abs(weights[keep]).min()
    expected = jax.tree.map(lambda w, mask: np.where(mask, w, np.float32(0)), params, masks)
    chex.assert_trees_all_equal(pruned, expected)
    for bias in ("conv", "norm", "d"):
        assert np.all(masks[bias]["bias"])


@pytest.mark.row("G13")
def test_each_layer_loses_the_same_share():
    _, masks = prune(PARAMS, 0.5, scope="layer")
    for name in KERNELS:
        assert np.mean(masks[name]["kernel"]) == 0.5
        size, keep = np.abs(PARAMS[name]["kernel"]), np.asarray(masks[name]["kernel"])
        np.testing.assert_array_equal(keep, size > np.sort(size.ravel())[keep.size // 2 - 1])


@pytest.mark.row("G13")
def test_filters_of_small_norm_are_removed_whole():
    pruned, masks = jax.jit(lambda params: compress.prune_filters(params, 0.5))(PARAMS)
    norms = np.abs(PARAMS["conv"]["kernel"]).sum((0, 1, 2))
    keep = np.isin(np.arange(4), np.argsort(norms)[2:])
    np.testing.assert_array_equal(masks["conv"]["bias"], keep)
    np.testing.assert_array_equal(pruned["conv"]["kernel"], PARAMS["conv"]["kernel"] * keep)
    chex.assert_trees_all_equal(pruned["d"], PARAMS["d"])


@pytest.mark.row("G13")
def test_pruned_weights_stay_0_and_the_others_train_as_before():
    _, masks = prune(PARAMS, 0.5)
    inner = optax.sgd(0.1, momentum=0.9)
    optimizer = optax.chain(inner, compress.keep_pruned(masks))
    gradient = jax.tree.map(np.ones_like, PARAMS)

    @jax.jit
    def steps(params):
        free, state, free_state = params, optimizer.init(params), inner.init(params)
        for _ in range(2):
            updates, state = optimizer.update(gradient, state, params)
            params = optax.apply_updates(params, updates)
            updates, free_state = inner.update(gradient, free_state, free)
            free = optax.apply_updates(free, updates)
        return params, free

    params, free = steps(PARAMS)  # not pruned before: the first step removes the weights
    expected = jax.tree.map(lambda w, mask: np.where(mask, w, np.float32(0)), free, masks)
    chex.assert_trees_all_close(params, expected, rtol=1e-6)


def test_what_cannot_be_pruned():
    for share in (1.0, -0.1, "half"):
        with pytest.raises(ValueError, match=r"expected a share in \[0, 1\)"):
            compress.prune(PARAMS, share)
    with pytest.raises(ValueError, match="scope is 'network'; expected 'global' or 'layer'"):
        compress.prune(PARAMS, 0.5, scope="network")
    with pytest.raises(ValueError, match="where selects none of conv/bias, conv/kernel"):
        compress.prune(PARAMS, 0.5, where=lambda path, array: False)
    masks = jax.tree.map(lambda w: np.ones(w.shape, bool), PARAMS)
    with pytest.raises(ValueError, match=r"mask d/kernel has shape none; expected \(4, 3\)"):
        compress.keep_pruned(masks | {"d": {"bias": masks["d"]["bias"]}}).init(PARAMS)
    with pytest.raises(ValueError, match="no parameters; expected update"):
        compress.keep_pruned(masks).update(PARAMS, None)
