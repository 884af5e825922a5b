"""CTC with a blank that is not symbol 0."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import decode, losses

PATHS = np.array(list(itertools.product(range(3), repeat=4)))


@pytest.mark.row("K05")
@pytest.mark.parametrize("blank", [0, 1, 2])
def test_greedy_decoding_collapses_every_path(blank):
    actual = jax.jit(lambda x: decode.ctc_greedy(x, blank=blank))(9 * np.eye(3, dtype="f")[PATHS])
    for path, tokens, length in zip(PATHS.tolist(), *map(np.asarray, actual[:2]), strict=True):
        assert tokens[:length].tolist() == decode.collapse(path, blank)
        assert np.all(tokens[length:] == blank)


@pytest.mark.row("K05")
def test_the_loss_follows_the_symbols_when_they_are_renumbered():
    logits = np.random.default_rng(0).normal(size=(2, 5, 4)).astype("f")
    labels, frames, counts = np.array([[1, 2], [3, 0]]), jnp.array([5, 3]), jnp.array([2, 1])
    new = np.array([2, 3, 0, 1])  # symbol k becomes new[k], which is its own inverse

    def values(logits, labels, blank):
        f = lambda x, y: losses.ctc(x, y, frames, counts, blank=blank)
        return jax.jit(f)(logits, jnp.asarray(labels, jnp.int32))

    expected = values(logits, labels, 0)
    actual = values(logits[..., new], new[labels], 2)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)
