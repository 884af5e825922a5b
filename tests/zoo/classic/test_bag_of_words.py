"""Patches, clusters and bags against their definitions; what end to end means."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdl
from jaxdl import nn
from jaxdl.losses import cross_entropy
from jaxdl.zoo.classic.bag_of_words import Codebook, bag, k_means, patches
from tests.nn.filled import filled, normal


@pytest.mark.row("A17")
def test_patches_are_cut_out_and_normalized():
    x = np.random.default_rng(0).normal(size=(2, 6, 5, 3)).astype(np.float32)
    found = np.asarray(jax.jit(patches, static_argnums=(1, 2))(x, 3, 2))
    assert found.shape == (2, 2, 2, 27)
    one = x[1, 2:5, 0:3].transpose(2, 0, 1).ravel()  # channel by channel
    one = one - one.mean()
    np.testing.assert_allclose(found[1, 1, 0], one / np.linalg.norm(one), rtol=1e-4, atol=1e-6)
    assert not np.any(patches(np.ones((1, 4, 4, 1), np.float32), 3, 1))


def test_k_means_finds_clusters_that_are_apart():
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    x = (centres[np.arange(90) % 3] + rng.normal(size=(90, 2))).astype(np.float32)
    cluster = jax.jit(lambda key, x: k_means(key, x, 3))
    best = min(
        (np.asarray(cluster(jax.random.key(seed), x)) for seed in range(5)),
        key=lambda found: ((x[:, None] - found[None]) ** 2).sum(-1).min(1).sum(),
    )
    means = np.stack([x[i::3].mean(0) for i in range(3)])
    order = np.argmin(((means[:, None] - best[None]) ** 2).sum(-1), 1)
    np.testing.assert_allclose(best[order], means, atol=1e-4)


def test_a_round_never_raises_the_distance():
    x = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    total = lambda c: ((x[:, None] - np.asarray(c)[None]) ** 2).sum(-1).min(1).sum()
    centres = jax.jit(lambda key, x: [k_means(key, x, 7, rounds=r) for r in range(8)])
    with jax.debug_key_reuse(False):  # the same first centres for each
        falls = [total(c) for c in centres(jax.random.key(0), x)]
    assert all(b <= a + 1e-3 for a, b in zip(falls, falls[1:], strict=False))


@pytest.mark.row("A17")
def test_a_bag_counts_words_by_quarters():
    words = jnp.asarray(np.eye(4, dtype=np.float32))
    x = np.zeros((1, 4, 4, 1), np.float32)
    x[0, 0, 0] = x[0, 3, 3] = 1
    found = np.asarray(bag(Codebook(words, 2, 2), jnp.asarray(x)))
    assert found.shape == (1, 16)
    np.testing.assert_allclose(found.reshape(4, 4).sum(1), 1.0)
    assert found[0, 0] == 1.0 and found[0, 15] == 1.0  # the upper left pixel, the lower right one


def nearest_by_loops(patches, words):
    return [int(np.argmin([np.sum((p - w) ** 2) for w in words])) for p in patches]


@pytest.mark.row("A17")
def test_a_bag_is_the_histogram_of_the_nearest_words():
    """All patches of a quarter one by one, against a histogram of their nearest words."""
    rng = np.random.default_rng(0)
    words, x = rng.normal(size=(5, 9)), rng.normal(size=(2, 8, 7, 1)).astype(np.float32)
    found = np.asarray(bag(Codebook(jnp.asarray(words, jnp.float32), 3, 1), x)).reshape(2, 4, 5)
    cut = {}
    for i, r, c in np.ndindex(2, 6, 5):
        patch = x[i, r : r + 3, c : c + 3, 0].ravel().astype(np.float64)
        patch -= patch.mean()
        cut.setdefault((i, 2 * (r >= 3) + (c >= 2)), []).append(patch / np.linalg.norm(patch))
    for (i, quarter), parts in cut.items():
        counts = np.bincount(nearest_by_loops(parts, words), minlength=5)
        np.testing.assert_allclose(found[i, quarter], counts / len(parts), atol=1e-6)


@pytest.mark.row("A17")
def test_the_best_of_some_starts_is_the_best_of_all_partitions():
    """k-means of eight points in two clusters, against all 127 ways to part them."""
    x = np.random.default_rng(1).normal(size=(8, 2)).astype(np.float32)
    cost = lambda part: sum(((x[part == k] - x[part == k].mean(0)) ** 2).sum() for k in (0, 1))
    parts = [np.array([n >> i & 1 for i in range(8)]) for n in range(1, 128)]
    best = min(parts, key=cost)
    keys = jax.random.split(jax.random.key(0), 64)
    centres = np.asarray(jax.jit(jax.vmap(lambda key: k_means(key, x, 2)))(keys))
    totals = ((x[:, None] - centres[:, None]) ** 2).sum(-1).min(-1).sum(-1)
    assert totals.min() == pytest.approx(cost(best), rel=1e-5)
    means = np.stack([x[best == k].mean(0) for k in (0, 1)])
    found = centres[totals.argmin()]
    np.testing.assert_allclose(
        found[found[:, 0].argsort()], means[means[:, 0].argsort()], rtol=1e-4
    )


@pytest.mark.row("A16")
def test_end_to_end_the_error_reaches_the_first_layer_and_stage_by_stage_it_does_not():
    """The slope by the first kernel, by differences; of the words, which are counted, it is 0."""
    with jax.enable_x64(True):
        x, y = np.asarray(normal(0, 3, 6, 6, 1), np.float64), np.array([0, 1, 2])
        layers = nn.conv(2), jnp.tanh, nn.max_pool(2), nn.conv(3), jnp.tanh, nn.flatten()
        model = jaxdl.serial(*layers, nn.dense(3))
        params, _ = filled(model, x)
        first = np.asarray(params["conv_0"]["kernel"])
        head = np.asarray(normal(1, 16, 3), np.float64)

        @jax.jit
        def losses_of(kernel, words):
            learned = model.apply(params | {"conv_0": params["conv_0"] | {"kernel": kernel}}, {}, x)
            made = bag(Codebook(words, 3, 1), x) @ head
            return cross_entropy(learned[0], y).sum(), cross_entropy(made, y).sum()

        words = np.asarray(normal(2, 4, 9), np.float64)
        slope = jax.jit(jax.grad(lambda k: losses_of(k, words)[0]))(first)
        for place in [(0, 0, 0, 0), (1, 2, 0, 1), (2, 1, 0, 0)]:
            step = np.zeros_like(first)
            step[place] = 1e-6
            rise = losses_of(first + step, words)[0] - losses_of(first - step, words)[0]
            assert slope[place] == pytest.approx(float(rise) / 2e-6, rel=1e-5)
        assert np.abs(slope).min() > 1e-6
        assert not np.any(jax.jit(jax.grad(lambda w: losses_of(first, w)[1]))(words))


def test_bad_input():
    with pytest.raises(ValueError, match="3 or more a side"):
        patches(np.ones((1, 2, 5, 1), np.float32), 3, 1)
    with pytest.raises(ValueError, match="N of 7 or more"):
        k_means(jax.random.key(0), np.ones((3, 2), np.float32), 7)
    with pytest.raises(ValueError, match="1 x 4 patches .*2 or more a side"):
        bag(Codebook(jnp.ones((2, 9)), 3, 1), jnp.ones((1, 3, 6, 1)))
