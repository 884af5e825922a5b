import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxdl
from jaxdl import data, decode, losses, nn

LENGTHS = np.array([4, 2, 0], np.int32)
LOGITS = 2 * np.random.default_rng(0).normal(size=(3, 4, 3)).astype(np.float32)
LABELS = np.array([[1, 2], [2, 0], [0, 0]], np.int32)
ctc_loss, greedy = jax.jit(losses.ctc), jax.jit(decode.ctc_greedy)


@functools.cache
def beam(width, blank=0):
    """The search, compiled."""
    return jax.jit(functools.partial(decode.ctc_beam, width=width, blank=blank))


@jax.jit
def loss_and_gradient(logits, labels, lengths, counts, rows):
    """The sum of the losses of some rows, and its gradient with respect to the logits."""
    total = lambda x: jnp.sum(jnp.where(rows, losses.ctc(x, labels, lengths, counts), 0))
    return jax.value_and_grad(total)(logits)


def log_softmax(logits):
    wide = np.asarray(logits, np.float64)
    return wide - np.log(np.exp(wide).sum(-1, keepdims=True))


def by_brute_force(logits, length, blank=0):
    """The probability of every sequence, over all paths."""
    logp = log_softmax(logits)
    actual = {}
    for path in itertools.product(range(logp.shape[1]), repeat=int(length)):
        sequence = tuple(decode.collapse(path, blank))
        p = np.exp(sum(logp[t, symbol] for t, symbol in enumerate(path)))
        actual[sequence] = actual.get(sequence, 0.0) + p
    return actual


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
    actual = jax.tree.map(np.asarray, beam(50, blank)(LOGITS, LENGTHS))
    for n, length in enumerate(LENGTHS.tolist()):
        expected = by_brute_force(LOGITS[n], length, blank)
        some = np.isfinite(actual.scores[n])
        rows = [actual.tokens[n, w, : actual.lengths[n, w]].tolist() for w in np.flatnonzero(some)]
        got = dict(zip(map(tuple, rows), np.exp(actual.scores[n][some]).tolist(), strict=True))
        assert len(got) == len(rows)
        assert got == pytest.approx(expected, abs=1e-6)
        assert np.all(np.diff(actual.scores[n][some]) <= 1e-6)


def by_dictionary(logits, length, width, blank):
    """Prefix beam search as one writes it by hand: a dict of prefixes, cut to the best."""
    beam = {(): (0.0, -np.inf)}
    for logp in log_softmax(logits)[:length]:
        new = {}

        def add(prefix, in_blank, in_symbol, new=new):
            old = new.get(prefix, (-np.inf, -np.inf))
            new[prefix] = (np.logaddexp(old[0], in_blank), np.logaddexp(old[1], in_symbol))

        for prefix, (in_blank, in_symbol) in beam.items():
            either = np.logaddexp(in_blank, in_symbol)
            add(prefix, either + logp[blank], in_symbol + logp[prefix[-1]] if prefix else -np.inf)
            for symbol in set(range(len(logp))) - {blank}:
                before = in_blank if prefix[-1:] == (symbol,) else either
                add((*prefix, symbol), -np.inf, before + logp[symbol])
        best = sorted(new.items(), key=lambda item: -np.logaddexp(*item[1]))
        beam = dict(best[:width])
    return [(list(prefix), np.logaddexp(*p)) for prefix, p in beam.items()]


@pytest.mark.row("K05")
def test_a_narrow_beam_drops_what_a_dictionary_of_prefixes_drops():
    logits = 2 * np.random.default_rng(1).normal(size=(40, 12, 4)).astype(np.float32)
    lengths = np.arange(40, dtype=np.int32) % 11 + 2
    actual = jax.tree.map(np.asarray, beam(3, 2)(logits, lengths))
    for n, length in enumerate(lengths.tolist()):
        expected = by_dictionary(logits[n], length, 3, 2)
        rows = [actual.tokens[n, w, : actual.lengths[n, w]].tolist() for w in range(3)]
        assert rows == [prefix for prefix, _ in expected]
        np.testing.assert_allclose(actual.scores[n], [p for _, p in expected], atol=1e-4)


@pytest.mark.row("K05")
def test_the_loss_is_minus_the_logarithm_of_the_sum_over_paths():
    labels, counts = LABELS, np.array([2, 1, 0], np.int32)
    values = losses.ctc(LOGITS, labels, LENGTHS, counts)
    for n in range(3):
        sequence = tuple(labels[n, : counts[n]].tolist())
        expected = -np.log(by_brute_force(LOGITS[n], LENGTHS[n])[sequence])
        assert values[n] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("labels, counts", [([[1, 1], [1, 2]], [2, 2]), ([[1, 2], [0, 0]], [2, 0])])
def test_gradients_stay_finite_where_there_is_no_path(labels, counts):
    labels, counts = np.array([*labels, [0, 0]], np.int32), np.array([*counts, 0], np.int32)
    lengths, rows = np.array([2, 1, 0], np.int32), np.array([True, True, False])
    value, gradient = loss_and_gradient(LOGITS, labels, lengths, counts, rows)
    chex.assert_tree_all_finite((value, gradient))
    assert not np.any(np.asarray(gradient)[0, 2:])  # padding


def test_a_loss_without_a_path_is_large_and_the_loss_of_no_labels_is_that_of_blanks():
    labels, lengths = np.array([[1, 1], [1, 2], [0, 0]], np.int32), np.array([2, 1, 3], np.int32)
    values = np.asarray(ctc_loss(LOGITS, labels, lengths, np.array([2, 2, 0], np.int32)))
    assert np.all(np.abs(values[:2] - 1e5) < 10)
    blanks = log_softmax(LOGITS[2, :3])[:, 0]
    assert values[2] == pytest.approx(-blanks.sum(), rel=1e-5)


@pytest.mark.parametrize(
    "label, length, count",
    [(3, 4, 2), (-1, 4, 2), (0, 4, 2), (1, 5, 2), (1, -1, 2), (1, 4, 3), (1, 4, -1)],
)
def test_labels_and_lengths_out_of_range_give_nan(label, length, count):
    labels = np.array([[2, label], [2, 1], [2, -1]], np.int32)
    lengths, counts = np.array([[length, 4, 4], [count, 2, 1]], np.int32)
    values = ctc_loss(LOGITS, labels, lengths, counts)
    assert np.isnan(values[0]) and np.all(np.isfinite(values[1:]))


@given(st.lists(st.integers(0, 2), min_size=1, max_size=6))
def test_greedy_decoding_collapses_the_best_path(path):
    logits = 9 * np.eye(3, dtype=np.float32)[[path + [0] * (6 - len(path))]]
    actual = jax.tree.map(np.asarray, greedy(logits, np.array([len(path)], np.int32)))
    expected = decode.collapse(path, 0)
    assert actual.tokens[0, : actual.lengths[0]].tolist() == expected
    assert not np.any(actual.tokens[0, actual.lengths[0] :])


def test_padding_changes_nothing():
    worse, labels = LOGITS.copy(), LABELS.copy()
    worse[1, 2:], labels[1, 1] = np.nan, -1
    rest = LENGTHS, np.array([2, 1, 0], np.int32), np.array([True, True, False])
    chex.assert_trees_all_close(
        loss_and_gradient(worse, labels, *rest), loss_and_gradient(LOGITS, LABELS, *rest)
    )
    for search in (decode.ctc_greedy, beam(16)):
        second = [
            jax.tree.map(lambda a: np.asarray(a)[1], search(x, LENGTHS)) for x in (worse, LOGITS)
        ]
        chex.assert_trees_all_close(*second)


def test_bad_input():
    with pytest.raises(
        ValueError, match="ctc: logits are float32.3, 4.*expected floating-point .N, T, K"
    ):
        decode.ctc_greedy(LOGITS[..., 0])
    with pytest.raises(ValueError, match="ctc: logits are int32"):
        decode.ctc_greedy(np.ones((3, 4, 3), np.int32))
    with pytest.raises(ValueError, match="ctc: lengths are .1,.; expected .3,."):
        decode.ctc_greedy(LOGITS, LENGTHS[:1])
    with pytest.raises(ValueError, match="the blank is 3"):
        decode.ctc_beam(LOGITS, blank=3)
    with pytest.raises(ValueError, match="width is 0"):
        decode.ctc_beam(LOGITS, width=0)
    with pytest.raises(ValueError, match="ctc: logits .3, 4, 3., labels .2, 1"):
        losses.ctc(LOGITS, np.ones((2, 1), np.int32), LENGTHS, LENGTHS)
    labels = np.ones((3, 1), np.int32)
    with pytest.raises(ValueError, match="T above 0"):
        losses.ctc(LOGITS[:, :0], labels, LENGTHS, LENGTHS)
    with pytest.raises(ValueError, match="labels are float32"):
        losses.ctc(LOGITS, labels.astype(np.float32), LENGTHS, LENGTHS)
    with pytest.raises(ValueError, match="blank is -1; expected integers and a blank in 0 .. 2"):
        losses.ctc(LOGITS, labels, LENGTHS, LENGTHS, blank=-1)


def phones(key, n):
    """Strings of 1-3 of three symbols; each lasts 2-4 frames, after a pause of 1-3, in noise."""
    rng = np.random.default_rng(np.asarray(jax.random.bits(key, (4,), np.uint32)))
    rows, labels = [], []
    for _ in range(n):
        symbols = rng.integers(1, 4, rng.integers(1, 4))
        pieces = [np.repeat([0, s], [rng.integers(1, 4), rng.integers(2, 5)]) for s in symbols]
        rows.append(np.eye(4)[np.concatenate(pieces)][:, 1:])
        labels.append(symbols)
    x, lengths = data.pad(rows, length=21)
    labels, counts = data.pad(labels, length=3)
    x = x + rng.normal(0, 0.3, x.shape)
    return jnp.asarray(x, jnp.float32), *map(jnp.asarray, (lengths, labels, counts))


@pytest.mark.slow
@pytest.mark.row("K05", "K06")
def test_a_bidirectional_network_learns_to_spell_without_an_alignment():
    parts = dict(reader=nn.bidirectional(nn.lstm(12)), scores=nn.dense(4))
    forward = lambda call, x, lengths: call("scores", call("reader", x, lengths))
    model = jaxdl.compose("speech", parts, forward)
    learnt, heard = (phones(key, 128) for key in jax.random.split(jax.random.key(2)))
    params, state = jaxdl.init(model, jax.random.key(3), *learnt[:2])
    logits = lambda params, x, lengths: model.apply(params, state, x, lengths)[0]
    optimizer = optax.adam(0.03)

    def update(carry, _):
        params, moments = carry
        x, lengths, labels, counts = learnt
        f = lambda p: jnp.mean(losses.ctc(logits(p, x, lengths), labels, lengths, counts))
        value, gradient = jax.value_and_grad(f)(params)
        step, moments = optimizer.update(gradient, moments)
        return (optax.apply_updates(params, step), moments), value

    train = jax.jit(lambda carry: jax.lax.scan(update, carry, length=120))
    with jax.numpy_dtype_promotion("standard"):  # optax mixes its counter with floats
        (params, _), values = train((params, optimizer.init(params)))
    assert values[0] > 3 and values[-1] < 0.1
    x, lengths, labels, counts = heard
    actual = decode.ctc_greedy(logits(params, x, lengths), lengths)
    right = [
        row[:n].tolist() == true[:m].tolist()
        for row, n, true, m in zip(actual.tokens, actual.lengths, labels, counts, strict=True)
    ]
    assert np.mean(right) > 0.9
