import jax
import numpy as np
import pytest

from jaxdl import data

DRAW = {"silence": 0.0, "shortest": 3, "longest": 3}


@pytest.mark.row("K06")
def test_a_string_is_of_one_speaker():
    """One speaks above zero and the other below it."""
    sounds = [np.full(50, level, np.float32) for level in (0.5, 0.4, -0.5, -0.4)]
    recordings = data.Recordings(sounds, np.array([0, 1, 0, 1], np.int32), list("aabb"))
    strings, _ = data.digit_strings(jax.random.key(0), recordings, 40, **DRAW)
    signs = [set(np.sign(sound)) for sound in strings]
    assert all(len(sign) == 1 for sign in signs) and set.union(*signs) == {1, -1}


@pytest.mark.row("K06")
def test_speed_changes_by_15_percent_and_loudness_by_6_decibels_at_most():
    recordings = data.Recordings([np.full(1000, 0.1, np.float32)], np.zeros(1, np.int32), ["a"])
    options = DRAW | {"shortest": 1, "longest": 1, "augment": True}
    sounds, _ = data.digit_strings(jax.random.key(0), recordings, 200, **options)
    lengths = np.array([len(sound) for sound in sounds])
    assert 1000 / 1.15 - 2 <= lengths.min() < 900 and 1150 < lengths.max() <= 1000 / 0.85 + 2
    levels = np.array([np.median(sound) for sound in sounds])
    assert 0.049 < levels.min() < 0.055 and 0.18 < levels.max() < 0.201
