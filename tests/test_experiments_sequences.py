"""Parts of the experiments on sequences; whole smoke runs are made by `.ci/run`."""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pooch
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from jaxdl import data, nn

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
    assert spoken_digits.error_rate(tokens, lengths, truth) == (2, 4)


@pytest.mark.row("K12", "T15")
def test_windows_go_on_from_one_to_the_next():
    x, y = char_lm.windows(np.arange(51, dtype=np.int32), rows=2, steps=5)
    assert x.shape == y.shape == (5, 2, 5)
    for row in range(2):
        np.testing.assert_array_equal(x[:, row].ravel(), np.arange(25) + 25 * row)
    np.testing.assert_array_equal(y, x + 1)


@pytest.mark.row("D16", "S21", "T15")
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
    assert [row["y"] for row in rough_surface.powers()] == pytest.approx(
        [1.0, 20751.63924536005946974364, 4.360732e-5, 0.0], rel=1e-6
    )


@pytest.mark.slow
@pytest.mark.row("K01")
def test_one_word_alone_cannot_be_tagged_and_a_sequence_can():
    config = slot_filling.Config(requests=400)
    found = slot_filling.travel(config)
    assert abs(found["feed-forward"]["city_accuracy"] - 0.5) < 0.15
    assert found["LSTM"]["city_accuracy"] > 0.95 < found["Elman"]["city_accuracy"]


def no_network(*_, **__):
    raise OSError("no network")


def test_made_up_data_take_the_place_of_missing_files(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("JAXDL_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(pooch, "retrieve", no_network)
    recordings, name = spoken_digits.corpus()
    assert name == "tones" and len(recordings["train"].sounds) == 50
    folds, name = sentiment.corpus(sentiment.Config())
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


@pytest.mark.row("K07")
def test_targets_are_moved_by_one_and_padding_costs_nothing():
    pairs = data.numerals.pairs(jax.random.key(0), 5)
    source = data.Vocabulary([words for words, _ in pairs])
    symbols = [translate.START, translate.STOP, *"".join(text for _, text in pairs)]
    target = data.Vocabulary([symbols])
    (words, lengths, before), after = translate.encoded(pairs, source, target)
    for i, (phrase, text) in enumerate(pairs):
        assert source.decode(words[i, : lengths[i]]) == phrase
        assert target.decode(after[i]) == [*text, translate.STOP]
        assert target.decode(before[i, : len(text) + 1]) == [translate.START, *text]
    logits = jax.nn.one_hot(after, len(target)) * 50
    assert float(translate.per_target(logits, jnp.asarray(after)).max()) < 1e-6


@pytest.mark.row("J16", "J17", "D13")
def test_long_memory_learns_a_short_task_and_measures_it():
    (right,), (losses,) = long_memory.learn(nn.gru(16), "recall", 5, 150, [0])
    assert right > 0.95 and losses[-1] < 0.3 * losses[0]


@pytest.mark.row("J19", "K10")
def test_the_tasks_that_the_lectures_name_are_indexed():
    """Each has an experiment that is there, or an honest word."""
    page = (pathlib.Path(__file__).parent.parent / "docs" / "lectures.md").read_text("utf-8")
    table = dict(re.findall(r"^\| ([a-z].+?) \| (.+?) \|$", page, re.MULTILINE))
    words = "document classification,opinion,machine translation,reading,chatbot,assistant,summaris"
    for word in (*words.split(","), "language model"):
        (place,) = [place for task, place in table.items() if word in task]
        named = re.search(r"experiments (\w+)", place)
        assert place == "not here yet" if named is None else named[1] in _run.names()
