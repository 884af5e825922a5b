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


def by_dictionary(logits, length, width, blank):
    """Prefix beam search as one writes it by hand: a dict of prefixes, cut to the best."""
    beam = {(): (0.0, -np.inf)}
    for logp in np.asarray(jax.nn.log_softmax(logits))[:length]:
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
    search = jax.jit(lambda x, n: decode.ctc_beam(x, n, width=3, blank=2))
    logits, lengths = jax.random.normal(jax.random.key(1), (40, 12, 4)) * 2, jnp.arange(40) % 11 + 2
    found = search(logits, lengths)
    for n, length in enumerate(lengths.tolist()):
        expected = by_dictionary(logits[n], length, 3, 2)
        rows = [found.tokens[n, w, : found.lengths[n, w]].tolist() for w in range(3)]
        assert rows == [prefix for prefix, _ in expected]
        np.testing.assert_allclose(found.scores[n], [p for _, p in expected], atol=1e-4)


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


def test_a_loss_without_a_path_is_large_and_the_loss_of_no_labels_is_that_of_blanks():
    labels, lengths = jnp.array([[1, 1], [1, 2], [0, 0]]), jnp.array([2, 1, 3])
    values = losses.ctc(LOGITS, labels, lengths, jnp.array([2, 2, 0]))
    assert np.all(np.abs(values[:2] - 1e5) < 10)
    blanks = jax.nn.log_softmax(LOGITS[2, :3])[:, 0]
    assert float(values[2]) == pytest.approx(-float(jnp.sum(blanks)), rel=1e-5)


@pytest.mark.parametrize(
    "label, length, count",
    [(3, 4, 2), (-1, 4, 2), (0, 4, 2), (1, 5, 2), (1, -1, 2), (1, 4, 3), (1, 4, -1)],
)
def test_labels_and_lengths_out_of_range_give_nan(label, length, count):
    labels, padded = jnp.array([[2, label], [2, 1], [2, -1]]), jnp.array([2, 2, 1])
    values = losses.ctc(
        LOGITS, labels, LENGTHS.at[:].set(4).at[0].set(length), padded.at[0].set(count)
    )
    assert np.isnan(values[0]) and np.all(np.isfinite(values[1:]))


@given(st.lists(st.integers(0, 2), min_size=1, max_size=6))
def test_greedy_decoding_collapses_the_best_path(path):
    logits = jax.nn.one_hot(jnp.array([path + [0] * (6 - len(path))]), 3) * 9
    found = decode.ctc_greedy(logits, jnp.array([len(path)]))
    expected = decode.collapse(path, 0)
    assert found.tokens[0, : found.lengths[0]].tolist() == expected
    assert not np.any(found.tokens[0, found.lengths[0] :])


def test_padding_changes_nothing():
    worse = LOGITS.at[1, 2:].set(jnp.nan)
    labels, counts = jnp.array([[1, 2], [2, 0], [0, 0]]), jnp.array([2, 1, 0])
    f = lambda x, labels: jnp.sum(losses.ctc(x, labels, LENGTHS, counts)[:2])
    chex.assert_trees_all_close(
        jax.value_and_grad(f)(worse, labels.at[1, 1].set(-1)), jax.value_and_grad(f)(LOGITS, labels)
    )
    for search in (decode.ctc_greedy, decode.ctc_beam):
        chex.assert_trees_all_close(
            jax.tree.map(lambda a: a[1], search(worse, LENGTHS)),
            jax.tree.map(lambda a: a[1], search(LOGITS, LENGTHS)),
        )


def test_bad_input():
    with pytest.raises(
        ValueError, match="ctc: logits are float32.3, 4.*expected floating-point .N, T, K"
    ):
        decode.ctc_greedy(LOGITS[..., 0])
    with pytest.raises(ValueError, match="ctc: logits are int32"):
        decode.ctc_greedy(jnp.ones((3, 4, 3), jnp.int32))
    with pytest.raises(ValueError, match="ctc: lengths are .1,.; expected .3,."):
        decode.ctc_greedy(LOGITS, LENGTHS[:1])
    with pytest.raises(ValueError, match="the blank is 3"):
        decode.ctc_beam(LOGITS, blank=3)
    with pytest.raises(ValueError, match="width is 0"):
        decode.ctc_beam(LOGITS, width=0)
    with pytest.raises(ValueError, match="ctc: logits .3, 4, 3., labels .2, 1"):
        losses.ctc(LOGITS, jnp.ones((2, 1), jnp.int32), LENGTHS, LENGTHS)
    labels = jnp.ones((3, 1), jnp.int32)
    with pytest.raises(ValueError, match="T above 0"):
        losses.ctc(LOGITS[:, :0], labels, LENGTHS, LENGTHS)
    with pytest.raises(ValueError, match="labels are float32"):
        losses.ctc(LOGITS, labels.astype(jnp.float32), LENGTHS, LENGTHS)
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
    found = decode.ctc_greedy(logits(params, x, lengths), lengths)
    right = [
        row[:n].tolist() == true[:m].tolist()
        for row, n, true, m in zip(found.tokens, found.lengths, labels, counts, strict=True)
    ]
    assert np.mean(right) > 0.9
