"""Parts of the experiments on sequences; whole smoke runs are made by `.ci/run`."""

import functools
import itertools
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pooch
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxdl
from experiments import (
    _run,
    char_lm,
    long_memory,
    rough_surface,
    sentiment,
    slot_filling,
    spoken_digits,
    translate,
)
from jaxdl import data, nn, train
from tests.nn import numpy_cells as cells
from tests.nn.filled import filled

DIGITS = st.lists(st.integers(0, 3), max_size=6)


@given(DIGITS, DIGITS)
def test_edit_distance_is_a_distance(a, b):
    d = spoken_digits.edit_distance
    assert d(a, b) == d(b, a) <= max(len(a), len(b))
    assert d(a, b) >= abs(len(a) - len(b))
    assert (d(a, b) == 0) == (a == b)
    assert d([*a, 9], b) <= d(a, b) + 1


def test_digit_error_rate_by_hand():
    tokens, lengths = np.array([[1, 2, 3], [4, 0, 0]]), np.array([3, 1])
    truth = [np.array([1, 3]), np.array([4, 4])]
    assert spoken_digits.count_errors(tokens, lengths, truth) == (2, 4)


def test_windows_go_on_from_one_to_the_next():
    x, y = char_lm.windows(np.arange(51, dtype=np.int32), rows=2, steps=5)
    assert x.shape == y.shape == (5, 2, 5)
    for row in range(2):
        np.testing.assert_array_equal(x[:, row].ravel(), np.arange(25) + 25 * row)
    np.testing.assert_array_equal(y, x + 1)


def echoes(n, seed):
    """A text of n times a letter, a new line and the letter again: 3 n characters.

    It has ln 2 / 3 = 0.231 nats a character. Without memory it has ln 2 after the new line, and 1.5
    ln 2 after a letter, which does not say whether it is the first: 4/3 ln 2 = 0.924 on average.
    """
    letters = np.random.default_rng(seed).choice(["a", "b"], n)
    return "".join(f"{letter}\n{letter}" for letter in letters)


VOCABULARY = data.Vocabulary([echoes(8, 0)])


def windows_of_echoes(seed):
    # Windows that begin anywhere in an echo: only what is carried on says where.
    return char_lm.windows(VOCABULARY.encode(echoes(2000, seed)), rows=8, steps=13)


@pytest.mark.row("K12")
def test_a_character_model_remembers_what_it_read():
    """It reaches the text's entropy, is an LSTM in NumPy along each row, and writes echoes."""
    model = char_lm.network(len(VOCABULARY), 16)
    x, y = windows_of_echoes(seed=0)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.02))
    state = train.init_state(model, optimizer, jax.random.key(0), x[0])
    fresh = state.model_state
    step = train.make_train_step(model, "cross_entropy", optimizer)
    epoch = jax.jit(functools.partial(char_lm.run_epoch, step))
    for _ in range(3):
        state, _ = epoch(state.replace(model_state=fresh), x, y)
    x, y = map(np.asarray, windows_of_echoes(seed=1))
    nats = float(jax.jit(functools.partial(char_lm.evaluate, model))(state.params, fresh, x, y))
    assert nats == pytest.approx(np.log(2) / 3, rel=0.05)

    params = jax.tree.map(np.float64, state.params)
    rows, after = (a.swapaxes(0, 1).reshape(8, -1) for a in (x, y))
    hidden = cells.over_time(cells.lstm, cells.zeros(parts=2))(
        params["lstm_0"], {}, params["embedding_0"]["embedding"][rows]
    )
    scores = hidden @ params["dense_0"]["kernel"] + params["dense_0"]["bias"]
    right = np.take_along_axis(scores, after[..., None], -1)[..., 0]
    assert nats == pytest.approx(np.mean(np.log(np.exp(scores).sum(-1)) - right), rel=1e-4)

    config = char_lm.Config(smoke=True)
    text = char_lm.sample(config, model, state.params, VOCABULARY, 0.5)
    assert text[2::3] == "\n" * 10 and text[3::3] == text[1:-2:3] and {*text} == {*"ab\n"}


@pytest.mark.row("D16", "T15")
def test_the_loss_of_an_elman_character_model_jumps_unless_gradients_are_clipped():
    """Plain descent at rate 2; without feedback the largest jump is 0.2."""
    model = jaxdl.serial(
        nn.embedding(len(VOCABULARY), 8), nn.rnn(nn.elman(16), stateful=True), nn.dense(5)
    )
    descent = lambda clip: optax.chain(optax.clip_by_global_norm(clip), optax.sgd(2.0))

    @jax.jit
    def losses(state, clip, x, y):
        step = train.make_train_step(model, "cross_entropy", descent(clip))
        metrics = jax.lax.scan(step, state, (x, y))[1]["loss"]
        return metrics.total / metrics.count

    for seed in range(3):
        x, y = windows_of_echoes(seed)
        state = train.init_state(model, descent(1.0), jax.random.key(seed), x[0])
        plain, clipped = (np.asarray(losses(state, clip, x, y)) for clip in (np.inf, 0.25))
        assert np.diff(plain).max() > 1 and np.diff(clipped).max() < 0.5
        assert clipped[-10:].mean() < 0.5


@pytest.mark.row("D16", "S21")
def test_the_cliff_and_what_clipping_does():
    config = rough_surface.Config()
    begin = jnp.array([1.7, -0.25])
    (plain, norms), (clipped, _) = (
        rough_surface.descend(config, begin, clip) for clip in (np.inf, config.clip)
    )
    assert norms.max() > 50
    moves = lambda path: np.linalg.norm(np.diff(path, axis=0), axis=1)
    assert moves(plain).max() > 1 > config.rate * config.clip * 1.01 >= moves(clipped).max()
    assert rough_surface.loss(plain[-1]) > 1 > 1e-3 > rough_surface.loss(clipped[-1])
    assert [row["y"] for row in rough_surface.repeated_powers()] == pytest.approx(
        [1.0, 20751.63924536005946974364, 4.360732e-5, 0.0], rel=1e-6
    )


@pytest.mark.slow
@pytest.mark.row("K01")
def test_one_word_alone_cannot_be_tagged_and_a_sequence_can():
    config = slot_filling.Config(requests=400)
    actual = slot_filling.train_on_travel(config)
    assert abs(actual["feed-forward"]["city_accuracy"] - 0.5) < 0.15
    assert actual["LSTM"]["city_accuracy"] > 0.95 < actual["Elman"]["city_accuracy"]


def no_network(*_, **__):
    raise OSError("no network")


def test_made_up_data_take_the_place_of_missing_files(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("JAXDL_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(pooch, "retrieve", no_network)
    recordings, name = spoken_digits.load_recordings()
    assert name == "tones" and len(recordings["train"].sounds) == 50
    folds, name = sentiment.load_folds(sentiment.Config())
    assert name == "made-up opinions" and len(folds) == 10
    for texts, labels in folds:
        for text, label in zip(texts, labels, strict=True):
            good = any(word in text for word in ("great", "lovely", "fine", "moving"))
            assert (good != ("not " in text)) == bool(label)
    assert capsys.readouterr().out.count("\n") == 2


@pytest.mark.row("K04", "Q13")
def test_the_word_that_decides_is_the_most_important():
    """A network by hand: "good" counts 2, "bad" -2, all else nothing."""
    vocabulary = data.Vocabulary([["the", "film", "is", "good", "bad"]])
    model = sentiment.network(len(vocabulary), 1)
    shapes = jax.eval_shape(
        model.init, jax.random.key(0), jnp.ones((1, 16), jnp.int32), jnp.ones(1, jnp.int32)
    )
    params, state = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    number = lambda word: int(vocabulary.encode([word])[0])
    table = params["embedding"]["embedding"]
    table = table.at[number("good"), 0].set(2.0).at[number("bad"), 0].set(-2.0)
    params["embedding"]["embedding"] = table
    cell = params["reader"]["forward"]
    cell["kernel"] = cell["kernel"].at[0, 2].set(1.0)  # the candidate reads the first value
    cell["bias"] = cell["bias"].at[1].set(-9.0)  # and replaces the state
    params["scores"]["kernel"] = params["scores"]["kernel"].at[0, 1].set(1.0)

    class State:
        pass

    holder = State()
    holder.params, holder.model_state = params, state
    words = ["the", "film", "is", "good", "film"]
    (entry,) = sentiment.explain(model, holder, vocabulary, [words], np.array([1]))
    assert np.argmax(entry["removal"]) == np.argmax(entry["gradient"]) == 3
    assert entry["removal"][0] == pytest.approx(0, abs=1e-5)


READER = cells.both_ways(cells.over_time(cells.gru_after, cells.zeros()))


def numpy_dense(params, x):
    return x @ params["kernel"] + params["bias"]


@pytest.mark.row("K04")
def test_a_sentence_of_any_length_has_one_answer():
    """In NumPy: a GRU each way over the vectors, the largest values over time, two scores."""
    model, lengths = sentiment.network(7, 3), np.array([5, 2])
    numbers = np.array([[2, 3, 4, 5, 6], [6, 1, 0, 0, 0]], np.int32)
    params, state = jax.tree.map(np.asarray, filled(model, numbers, lengths))
    actual, _ = jax.jit(model.apply)(params, state, numbers, lengths)
    y = READER(params["reader"], params["embedding"]["embedding"][numbers], lengths)
    most = np.stack([row[:n].max(0) for row, n in zip(y, lengths, strict=True)])
    np.testing.assert_allclose(actual, numpy_dense(params["scores"], most), atol=1e-5)


@pytest.mark.row("K06")
def test_the_recognizer_is_two_layers_each_way_and_a_sum_over_alignments():
    """In NumPy: bidirectional GRUs; -log of the sum over paths that collapse to the digits."""
    model, lengths = spoken_digits.network(3), np.array([3, 2])
    frames = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    params, state = jax.tree.map(np.asarray, filled(model, frames, lengths))

    @jax.jit
    def run(params, digits):
        output, _ = model.apply(params, state, frames, lengths)
        return output[0], spoken_digits.loss(output, (digits, np.array([2, 1])))

    logits, values = jax.tree.map(np.asarray, run(params, np.array([[4, 7], [5, 0]])))
    y = frames
    for layer in ("bidirectional_0", "bidirectional_1"):
        y = READER(params["reader"][layer], y, lengths)
    np.testing.assert_allclose(logits, numpy_dense(params["scores"], y), atol=1e-5)
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    for row, n, digits, value in zip(shares, lengths, ([4, 7], [5]), values, strict=True):
        total = 0.0
        for path in itertools.product(range(11), repeat=int(n)):
            merged = [k for k, _ in itertools.groupby(path) if k != spoken_digits.BLANK]
            total += np.prod(row[np.arange(n), path]) * (merged == digits)
        assert value == pytest.approx(-np.log(total), rel=1e-4)


@pytest.mark.row("K07")
def test_targets_are_moved_by_one_and_padding_costs_nothing():
    pairs = data.toy.numerals.pairs(jax.random.key(0), 5)
    source = data.Vocabulary([words for words, _ in pairs])
    symbols = [translate.START, translate.STOP, *"".join(text for _, text in pairs)]
    target = data.Vocabulary([symbols])
    (words, lengths, before), after = translate.encode(pairs, source, target)
    for i, (phrase, text) in enumerate(pairs):
        assert source.decode(words[i, : lengths[i]]) == phrase
        assert target.decode(after[i]) == [*text, translate.STOP]
        assert target.decode(before[i, : len(text) + 1]) == [translate.START, *text]
    logits = jax.nn.one_hot(after, len(target)) * 50
    assert float(translate.target_loss(logits, jnp.asarray(after)).max()) < 1e-6


@pytest.mark.slow
@pytest.mark.row("J17")
def test_a_symbol_is_recalled_after_400_steps_by_an_lstm_and_not_by_an_elman_network():
    right = {
        name: long_memory.train_cell(cell, "recall", 400, 600, [0])[0][0]
        for name, cell in long_memory.cells(32, 400).items()
        if name != "GRU"
    }
    assert right["LSTM"] > 0.8 and right["Elman"] < 0.3  # by chance 1/8


def test_long_memory_learns_a_short_task_and_measures_it():
    (right,), (losses,) = long_memory.train_cell(nn.gru(16), "recall", 5, 150, [0])
    assert right > 0.95 and losses[-1] < 0.3 * losses[0]


def test_the_tasks_that_the_lectures_name_are_indexed():
    """Each has the experiment that does it, or is named as missing."""
    page = (pathlib.Path(__file__).parent.parent / "docs" / "lectures.md").read_text("utf-8")
    page = page.partition("## Tasks on language")[2]
    table = dict(re.findall(r"^\| ([a-z].+?) \| (.+?) \|$", page, re.MULTILINE))
    experiments = {
        "document classification": "sentiment",
        "opinion": "sentiment",
        "machine translation": "translate",
        "assistant": "slot_filling",
        'language model ("pass it as memory")': "char_lm",
        "speech": "spoken_digits",
    }
    assert set(experiments.values()) <= set(_run.names())
    assert table == {"task": "where it is"} | {
        task: f"`python -m experiments {name}`" for task, name in experiments.items()
    } | {"reading comprehension, chatbot, summarisation": "not here yet"}
