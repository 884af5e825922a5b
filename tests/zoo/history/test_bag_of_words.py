"""Patches, clusters and bags against their definitions, and against a small CNN."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdl
from jaxdl import data, nn, train
from jaxdl.zoo.history.bag_of_words import Codebook, bag, codebook, k_means, patches


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


def test_a_bag_counts_words_by_quarters():
    words = jnp.asarray(np.eye(4, dtype=np.float32))
    x = np.zeros((1, 4, 4, 1), np.float32)
    x[0, 0, 0] = x[0, 3, 3] = 1
    found = np.asarray(bag(Codebook(words, 2, 2), jnp.asarray(x)))
    assert found.shape == (1, 16)
    np.testing.assert_allclose(found.reshape(4, 4).sum(1), 1.0)
    assert found[0, 0] == 1.0 and found[0, 15] == 1.0  # the upper left pixel, the lower right one


@pytest.mark.row("A16", "A17")
@pytest.mark.slow
def test_made_by_hand_it_is_better_than_pixels_and_worse_than_end_to_end():
    """Stages made one by one, and a linear classifier, beside a CNN that learns all of them."""
    digits = data.digits()
    few = slice(0, 300)
    x, y = digits.train.x[few], digits.train.y[few]
    book = codebook(jax.random.key(0), x, 60, size=3)
    bags = {"x": np.asarray(bag(book, x)), "t": np.asarray(bag(book, digits.test.x))}

    def accuracy(model, x, y, t):
        state, _ = train.fit(
            model,
            (x, y),
            loss="cross_entropy",
            optimizer=optax.adam(0.01),
            batch_size=50,
            epochs=60,
            verbose=0,
        )
        return train.evaluate(model, state, (t, digits.test.y))["accuracy"]

    linear = lambda: jaxdl.serial(nn.flatten(), nn.dense(10))
    by_hand = accuracy(linear(), bags["x"], y, bags["t"])
    cnn = jaxdl.serial(
        nn.conv(16),
        jax.nn.relu,
        nn.max_pool(2),
        nn.conv(32),
        jax.nn.relu,
        nn.max_pool(2),
        nn.flatten(),
        nn.dense(10),
    )
    end_to_end = accuracy(cnn, x, y, digits.test.x)
    assert 0.75 < by_hand < end_to_end


def test_bad_input():
    with pytest.raises(ValueError, match="3 or more a side"):
        patches(np.ones((1, 2, 5, 1), np.float32), 3, 1)
    with pytest.raises(ValueError, match="N of 7 or more"):
        k_means(jax.random.key(0), np.ones((3, 2), np.float32), 7)
