import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import decode

TABLE = 1.5 * np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
START, ZEROS = np.array([1, 3], np.int32), np.zeros(2, np.float32)


def step(carry, tokens):
    """Scores that hang on the last symbol and on the time."""
    return carry + 1, jnp.asarray(TABLE)[tokens] + 0.3 * carry[:, None] * jnp.arange(4.0)


def scores(t, last):
    """What `step` computes, in NumPy."""
    return np.float64(TABLE[last]) + 0.3 * t * np.arange(4)


def probability(start, sequence):
    """ln p of a sequence by the chain rule."""
    total, last = 0.0, start
    for t, symbol in enumerate(sequence):
        logits = scores(t, last)
        total += logits[symbol] - np.log(np.exp(logits).sum())
        last = symbol
    return total


@functools.cache
def search(function, step=step, **options):
    """What a search finds, compiled."""
    run = jax.jit(lambda carry, start: function(step, carry, start, **options))
    return jax.tree.map(np.asarray, run(ZEROS, START))


def everything(start, length, stop):
    """Every sequence that can be written, with its ln p."""
    actual = {}
    for tokens in itertools.product(range(4), repeat=length):
        end = tokens.index(stop) + 1 if stop in tokens else length
        actual[tokens[:end]] = None
    return {sequence: probability(start, sequence) for sequence in actual}


def test_a_wide_beam_is_the_enumeration():
    actual = search(decode.beam, width=100, length=3, stop=0)
    for n, start in enumerate(START.tolist()):
        expected = everything(start, 3, stop=0)
        some = np.isfinite(actual.scores[n])
        assert some.sum() == len(expected)
        for tokens, length, score in zip(
            actual.tokens[n], actual.lengths[n], actual.scores[n], strict=True
        ):
            if np.isfinite(score):
                sequence = tuple(tokens[: min(length + 1, 3)].tolist())
                assert float(score) == pytest.approx(expected.pop(sequence), abs=1e-4)
        assert not expected


def test_greedy_takes_the_best_symbol_and_a_beam_of_one_is_greedy():
    actual = jax.tree.map(np.asarray, decode.greedy(step, ZEROS, START, length=5, stop=0))
    for n in range(2):
        last, t = int(START[n]), 0
        for symbol in actual.tokens[n].tolist():
            if t > actual.lengths[n]:
                assert symbol == 0
                continue
            assert symbol == np.argmax(scores(t, last))
            last, t = symbol, t + 1
    one = search(decode.beam, width=1, length=5, stop=0)
    chex.assert_trees_all_close(jax.tree.map(lambda a: a[:, 0], one), actual, atol=1e-5)


def test_a_beam_is_never_worse_than_greedy():
    greedy, beam = search(decode.greedy, length=6), search(decode.beam, width=8, length=6)
    assert np.all(beam.scores[:, 0] >= greedy.scores - 1e-5)
    assert beam.lengths.tolist() == [[6] * 8] * 2


def test_alpha_orders_by_the_mean_logarithm():
    plain = search(decode.beam, width=100, length=3, stop=0)
    mean = search(decode.beam, width=100, length=3, stop=0, alpha=1.0)
    for actual, power in ((plain, 0.0), (mean, 1.0)):
        symbols = np.minimum(actual.lengths + 1, 3)
        ranks = actual.scores / symbols**power
        real = np.isfinite(ranks)
        assert all(np.all(np.diff(row[ok]) <= 1e-6) for row, ok in zip(ranks, real, strict=True))


def test_samples_follow_the_distribution_and_the_temperature():
    start, carry = np.ones(4000, np.int32), np.zeros(4000, np.float32)
    draw = lambda **options: np.asarray(
        decode.sample(step, carry, start, jax.random.key(1), length=1, **options).tokens
    )[:, 0]
    for temperature in (1.0, 0.5):
        p = np.exp(TABLE[1] / temperature)
        p /= p.sum()
        counts = np.bincount(draw(temperature=temperature), minlength=4) / 4000
        assert np.abs(counts - p).max() < 5 * np.sqrt(0.25 / 4000)
    best = np.argsort(TABLE[1])[::-1][:2]
    assert set(draw(top_k=2).tolist()) == set(best.tolist())
    np.testing.assert_array_equal(draw(temperature=1e-4), best[0])


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32, jnp.bfloat16])
def test_scores_are_summed_in_float32_at_least(dtype):
    with jax.enable_x64(True):
        step = lambda carry, tokens: (carry, jnp.asarray(TABLE, dtype)[tokens])
        actual = search(decode.greedy, step, length=4)
        several = search(decode.beam, step, width=2, length=4, stop=0)
        wide = dtype if dtype == jnp.float64 else jnp.float32
        assert actual.scores.dtype == several.scores.dtype == wide
        assert actual.tokens.dtype == several.lengths.dtype == jnp.int32


def test_the_loop_ends_when_every_row_has_stopped():
    """The third step would be the first with scores that are not finite."""

    def step(carry, tokens):
        bad = jnp.where(carry[:, None] < 2, 0.0, jnp.nan)
        return carry + 1, jnp.where(carry[:, None] == 1, 5.0, -5.0) * jnp.array([1.0, 0, 0]) + bad

    for actual in (
        search(decode.greedy, step, length=9, stop=0),
        search(decode.beam, step, width=1, length=9, stop=0),
    ):
        assert actual.lengths.ravel().tolist() == [1, 1] and np.all(np.isfinite(actual.scores))


def test_bad_input():
    with pytest.raises(ValueError, match="length is 0"):
        decode.greedy(step, ZEROS, START, length=0)
    with pytest.raises(ValueError, match="one integer per row"):
        decode.greedy(step, ZEROS, ZEROS, length=1)
    with pytest.raises(ValueError, match=r"logits \(2, 4\), and stop is 4; expected"):
        decode.greedy(step, ZEROS, START, length=1, stop=4)
    with pytest.raises(ValueError, match=r"logits \(4,\), and stop is -1; expected"):
        decode.beam(lambda c, t: (c, jnp.asarray(TABLE[0])), (), START, width=1, length=1)
    with pytest.raises(ValueError, match="width is 0"):
        decode.beam(step, ZEROS, START, width=0, length=1)
    with pytest.raises(ValueError, match="temperature is 0"):
        decode.sample(step, ZEROS, START, jax.random.key(0), length=1, temperature=0)
