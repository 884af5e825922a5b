import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import decode

TABLE = jax.random.normal(jax.random.key(0), (4, 4)) * 1.5
START = jnp.array([1, 3])


def step(carry, tokens):
    """Scores that hang on the last symbol and on the time."""
    return carry + 1, TABLE[tokens] + 0.3 * carry[:, None] * jnp.arange(4.0)


def probability(start, sequence):
    """ln p of a sequence by the chain rule."""
    total, last = 0.0, start
    for t, symbol in enumerate(sequence):
        _, logits = step(jnp.full(1, float(t)), jnp.array([last]))
        total += float(jax.nn.log_softmax(logits)[0, symbol])
        last = symbol
    return total


def everything(start, length, stop):
    """Every sequence that can be written, with its ln p."""
    found = {}
    for tokens in itertools.product(range(4), repeat=length):
        end = tokens.index(stop) + 1 if stop in tokens else length
        found[tokens[:end]] = None
    return {sequence: probability(start, sequence) for sequence in found}


def test_a_wide_beam_is_the_enumeration():
    found = jax.jit(lambda c: decode.beam(step, c, START, width=100, length=3, stop=0))(
        jnp.zeros(2)
    )
    for n, start in enumerate(START.tolist()):
        expected = everything(start, 3, stop=0)
        some = np.isfinite(found.scores[n])
        assert some.sum() == len(expected)
        for tokens, length, score in zip(
            np.asarray(found.tokens[n]), np.asarray(found.lengths[n]), found.scores[n], strict=True
        ):
            if np.isfinite(score):
                sequence = tuple(tokens[: min(length + 1, 3)].tolist())
                assert float(score) == pytest.approx(expected.pop(sequence), abs=1e-4)
        assert not expected


def test_greedy_takes_the_best_symbol_and_a_beam_of_one_is_greedy():
    found = decode.greedy(step, jnp.zeros(2), START, length=5, stop=0)
    for n in range(2):
        last, t = int(START[n]), 0
        for symbol in found.tokens[n].tolist():
            if t > found.lengths[n]:
                assert symbol == 0
                continue
            _, logits = step(jnp.full(1, float(t)), jnp.array([last]))
            assert symbol == int(jnp.argmax(logits[0]))
            last, t = symbol, t + 1
    one = decode.beam(step, jnp.zeros(2), START, width=1, length=5, stop=0)
    chex.assert_trees_all_close(jax.tree.map(lambda a: a[:, 0], one), found, atol=1e-5)


def test_a_beam_is_never_worse_than_greedy():
    greedy = decode.greedy(step, jnp.zeros(2), START, length=6)
    beam = decode.beam(step, jnp.zeros(2), START, width=8, length=6)
    assert np.all(beam.scores[:, 0] >= greedy.scores - 1e-5)
    assert beam.lengths.tolist() == [[6] * 8] * 2


def test_alpha_orders_by_the_mean_logarithm():
    plain = decode.beam(step, jnp.zeros(2), START, width=100, length=3, stop=0)
    mean = decode.beam(step, jnp.zeros(2), START, width=100, length=3, stop=0, alpha=1.0)
    for found, power in ((plain, 0.0), (mean, 1.0)):
        symbols = np.minimum(found.lengths + 1, 3)
        ranks = np.asarray(found.scores) / symbols**power
        real = np.isfinite(ranks)
        assert all(np.all(np.diff(row[ok]) <= 1e-6) for row, ok in zip(ranks, real, strict=True))


def test_samples_follow_the_distribution_and_the_temperature():
    start = jnp.ones(4000, jnp.int32)
    draw = lambda **options: decode.sample(
        step, jnp.zeros(4000), start, jax.random.key(1), length=1, **options
    ).tokens[:, 0]
    for temperature in (1.0, 0.5):
        p = jax.nn.softmax(TABLE[1] / temperature)
        counts = np.bincount(np.asarray(draw(temperature=temperature)), minlength=4) / 4000
        assert np.abs(counts - p).max() < 5 * np.sqrt(0.25 / 4000)
    best = np.argsort(TABLE[1])[::-1][:2]
    assert set(np.asarray(draw(top_k=2)).tolist()) == set(best.tolist())
    chex.assert_trees_all_equal(draw(temperature=1e-4), jnp.full(4000, int(best[0]), jnp.int32))


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32, jnp.bfloat16])
def test_scores_are_summed_in_float32_at_least(dtype):
    with jax.enable_x64(True):
        table = TABLE.astype(dtype)
        step = lambda carry, tokens: (carry, table[tokens])
        found = decode.greedy(step, (), START, length=4)
        several = decode.beam(step, (), START, width=2, length=4, stop=0)
        wide = dtype if dtype == jnp.float64 else jnp.float32
        assert found.scores.dtype == several.scores.dtype == wide
        assert found.tokens.dtype == several.lengths.dtype == jnp.int32


def test_the_loop_ends_when_every_row_has_stopped():
    """The third step would be the first with scores that are not finite."""

    def step(carry, tokens):
        bad = jnp.where(carry[:, None] < 2, 0.0, jnp.nan)
        return carry + 1, jnp.where(carry[:, None] == 1, 5.0, -5.0) * jnp.array([1.0, 0, 0]) + bad

    for found in (
        decode.greedy(step, jnp.zeros(2), START, length=9, stop=0),
        decode.beam(step, jnp.zeros(2), START, width=1, length=9, stop=0),
    ):
        assert found.lengths.ravel().tolist() == [1, 1] and np.all(np.isfinite(found.scores))


def test_bad_input():
    with pytest.raises(ValueError, match="length is 0"):
        decode.greedy(step, jnp.zeros(2), START, length=0)
    with pytest.raises(ValueError, match="one integer a row"):
        decode.greedy(step, jnp.zeros(2), jnp.zeros(2), length=1)
    with pytest.raises(ValueError, match=r"logits \(2, 4\), and stop is 4; expected"):
        decode.greedy(step, jnp.zeros(2), START, length=1, stop=4)
    with pytest.raises(ValueError, match=r"logits \(4,\), and stop is -1; expected"):
        decode.beam(lambda c, t: (c, TABLE[0]), (), START, width=1, length=1)
    with pytest.raises(ValueError, match="width is 0"):
        decode.beam(step, jnp.zeros(2), START, width=0, length=1)
    with pytest.raises(ValueError, match="temperature is 0"):
        decode.sample(step, jnp.zeros(2), START, jax.random.key(0), length=1, temperature=0)
