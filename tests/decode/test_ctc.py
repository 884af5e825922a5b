import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdl import decode, losses

LENGTHS = jnp.array([4, 2, 0])
LOGITS = jax.random.normal(jax.random.key(0), (3, 4, 3)) * 2


def by_brute_force(logits, length, blank=0):
    """The probability of every sequence, over all paths."""
    logp = np.asarray(jax.nn.log_softmax(logits))
    found = {}
    for path in itertools.product(range(logp.shape[1]), repeat=int(length)):
        sequence = tuple(decode.collapse(path, blank))
        p = np.exp(sum(logp[t, symbol] for t, symbol in enumerate(path)))
        found[sequence] = found.get(sequence, 0.0) + p
    return found


@pytest.mark.row("K05")
def test_a_blank_between_keeps_both():
    """The deck's example: without a blank one cannot write the same word twice."""
    assert "".join(decode.collapse("好φ棒φφ", "φ")) == "好棒"
    assert "".join(decode.collapse("好φ棒φ棒", "φ")) == "好棒棒"
    assert decode.collapse([1, 1, 2], 0) == [1, 2]
    assert decode.collapse([], 0) == []


@pytest.mark.row("K05")
@pytest.mark.parametrize("blank", [0, 2])
def test_a_wide_beam_finds_every_sequence_and_its_probability(blank):
    found = jax.jit(lambda x, n: decode.ctc_beam(x, n, width=50, blank=blank))(LOGITS, LENGTHS)
    for n, length in enumerate(LENGTHS.tolist()):
        expected = by_brute_force(LOGITS[n], length, blank)
        some = np.isfinite(found.scores[n])
        rows = [found.tokens[n, w, : found.lengths[n, w]].tolist() for w in np.flatnonzero(some)]
        got = dict(zip(map(tuple, rows), np.exp(found.scores[n][some]).tolist(), strict=True))
        assert len(got) == len(rows)
        assert got == pytest.approx(expected, abs=1e-6)
        assert np.all(np.diff(found.scores[n][some]) <= 1e-6)


@pytest.mark.row("K05")
def test_the_loss_is_minus_the_logarithm_of_the_sum_over_paths():
    labels, counts = jnp.array([[1, 2], [2, 0], [0, 0]]), jnp.array([2, 1, 0])
    values = losses.ctc(LOGITS, labels, LENGTHS, counts)
    for n in range(3):
        sequence = tuple(labels[n, : counts[n]].tolist())
        expected = -np.log(by_brute_force(LOGITS[n], LENGTHS[n])[sequence])
        assert values[n] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("labels, counts", [([[1, 1], [1, 2]], [2, 2]), ([[1, 2], [0, 0]], [2, 0])])
def test_gradients_stay_finite_where_there_is_no_path(labels, counts):
    f = lambda x: jnp.sum(losses.ctc(x, jnp.array(labels), jnp.array([2, 1]), jnp.array(counts)))
    value, gradient = jax.value_and_grad(f)(LOGITS[:2])
    chex.assert_tree_all_finite((value, gradient))
    assert not np.any(gradient[0, 2:])  # padding


@pytest.mark.row("K05")
def test_torch_has_the_same_loss_and_gradient():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 9, 5)).astype(np.float32)
    labels = np.array([[1, 2, 2], [4, 0, 0], [3, 1, 0]], np.int32)
    lengths, counts = np.array([9, 4, 7]), np.array([3, 1, 2])
    x = torch.tensor(logits, requires_grad=True)
    theirs = torch.nn.functional.ctc_loss(
        x.log_softmax(-1).transpose(0, 1),
        torch.tensor(labels),
        torch.tensor(lengths),
        torch.tensor(counts),
        reduction="none",
    )
    theirs.sum().backward()
    f = lambda x: losses.ctc(x, jnp.asarray(labels), jnp.asarray(lengths), jnp.asarray(counts))
    chex.assert_trees_all_close(f(jnp.asarray(logits)), theirs.detach().numpy(), rtol=1e-4)
    gradient = jax.grad(lambda x: jnp.sum(f(x)))(jnp.asarray(logits))
    chex.assert_trees_all_close(gradient, x.grad.numpy(), atol=1e-4)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=6))
def test_greedy_decoding_collapses_the_best_path(path):
    logits = jax.nn.one_hot(jnp.array([path + [0] * (6 - len(path))]), 3) * 9
    found = decode.ctc_greedy(logits, jnp.array([len(path)]))
    expected = decode.collapse(path, 0)
    assert found.tokens[0, : found.lengths[0]].tolist() == expected
    assert not np.any(found.tokens[0, found.lengths[0] :])


def test_padding_changes_nothing():
    worse = LOGITS.at[1, 2:].set(jnp.nan)
    for search in (decode.ctc_greedy, decode.ctc_beam):
        chex.assert_trees_all_close(
            jax.tree.map(lambda a: a[1], search(worse, LENGTHS)),
            jax.tree.map(lambda a: a[1], search(LOGITS, LENGTHS)),
        )


def test_bad_input():
    with pytest.raises(ValueError, match="ctc: logits have shape .3, 4.*expected .N, T, K"):
        decode.ctc_greedy(LOGITS[..., 0])
    with pytest.raises(ValueError, match="the blank is 3"):
        decode.ctc_beam(LOGITS, blank=3)
    with pytest.raises(ValueError, match="width is 0"):
        decode.ctc_beam(LOGITS, width=0)
    with pytest.raises(ValueError, match="ctc: logits .3, 4, 3., labels .2, 1"):
        losses.ctc(LOGITS, jnp.ones((2, 1), jnp.int32), LENGTHS, LENGTHS)
