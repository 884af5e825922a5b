"""Spoken digits: single recordings, and strings of digits concatenated from them."""

from __future__ import annotations

import os
import pathlib
import re
from typing import NamedTuple

import jax
import numpy as np

from jaxdl.data._files import data_folder
from jaxdl.data.audio import read_wav

__all__ = ["Recordings", "digit_strings", "spoken_digits"]

RATE = 8000


class Recordings(NamedTuple):
    """Single spoken digits.

    Attributes:
      sounds: a list of (T,) float32 in [-1, 1), at 8 kHz.
      digits: (N,) int32, 0 to 9.
      speakers: N names.
    """

    sounds: list[np.ndarray]
    digits: np.ndarray
    speakers: list[str]


def spoken_digits(root: str | os.PathLike | None = None) -> dict[str, Recordings]:
    """Loads the Free Spoken Digit Dataset: six speakers, each digit several times, at 8 kHz.

    Jackson et al. 2018 (doi:10.5281/zenodo.1342401), CC BY-SA 4.0. As its authors define, the test
    set is recordings 0 to 4 of each speaker and digit.

    Args:
      root: the folder above `recordings/`; None looks in `$JAXDL_DATA/fsdd`, then in the user's
        cache.

    Returns:
      `{"train": ..., "test": ...}`.

    Raises:
      ValueError: the files are missing, or one is damaged or not at 8 kHz.
    """
    folder = data_folder("fsdd", "recordings", root=root)
    parts: dict[str, list] = {"train": [], "test": []}
    for path in sorted(pathlib.Path(folder).glob("*.wav")):
        named = re.fullmatch(r"(\d)_([a-z]+)_(\d+)", path.stem)
        if not named:
            raise ValueError(f"fsdd: {path.name!r}; expected names such as 7_jackson_12.wav.")
        samples, rate = read_wav(path)
        if rate != RATE or samples.ndim != 1:
            raise ValueError(f"fsdd: {path.name} has {rate} Hz; expected one channel of {RATE}.")
        part = "test" if int(named[3]) < 5 else "train"
        parts[part].append((samples, int(named[1]), named[2]))
    if not parts["train"] or not parts["test"]:
        raise ValueError(f"fsdd: no recordings 0-4 or none from 5 in {folder}; put them there.")
    return {
        part: Recordings(
            [sound for sound, _, _ in rows],
            np.array([digit for _, digit, _ in rows], np.int32),
            [speaker for _, _, speaker in rows],
        )
        for part, rows in parts.items()
    }


def digit_strings(
    key: jax.Array,
    recordings: Recordings,
    n: int,
    *,
    shortest: int = 1,
    longest: int = 5,
    silence: float = 0.15,
    augment: bool = False,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Concatenates recordings of one speaker, with random silences, to strings of digits.

    Args:
      key: a PRNG key.
      recordings: the recordings to concatenate.
      n: number of strings.
      shortest: smallest number of digits in a string.
      longest: largest number of digits in a string.
      silence: mean length of the silence before, between and after digits, in seconds.
      augment: change each recording's speed by up to 15 % and loudness by up to 6 dB, add noise.

    Returns:
      `(sounds, digits)`: n arrays (T,) float32, and n arrays of int32 digits.

    Raises:
      ValueError: `n` or `shortest` is below 1, or `longest` below `shortest`.
    """
    if n < 1 or not 1 <= shortest <= longest:
        raise ValueError(
            f"digit_strings: n={n}, shortest={shortest}, longest={longest}; expected at least 1, "
            "and longest no less than shortest."
        )
    # NumPy from here on: every sound has another length, and JAX would compile for each.
    rng = np.random.default_rng(np.asarray(jax.random.bits(key, (4,), np.uint32)))
    by_speaker: dict[str, list[int]] = {}
    for i, speaker in enumerate(recordings.speakers):
        by_speaker.setdefault(speaker, []).append(i)
    speakers, sounds, digits = sorted(by_speaker), [], []
    for _ in range(n):
        own = by_speaker[speakers[rng.integers(len(speakers))]]
        chosen = rng.choice(own, rng.integers(shortest, longest + 1))
        pieces = [_silence(rng, silence)]
        for i in chosen:
            sound = recordings.sounds[i]
            if augment:
                times = np.arange(0, len(sound) - 1, rng.uniform(0.85, 1.15))
                sound = np.interp(times, np.arange(len(sound)), sound) * 2 ** rng.uniform(-1, 1)
            pieces += [sound, _silence(rng, silence)]
        whole = np.concatenate(pieces)
        if augment:
            whole = whole + rng.normal(0, 10 ** rng.uniform(-4, -2.3), len(whole))
        sounds.append(whole.astype(np.float32))
        digits.append(recordings.digits[chosen])
    return sounds, digits


def _silence(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Returns faint noise: exact silence would give the same feature vector everywhere."""
    return rng.normal(0, 1e-4, int(rng.uniform(0, 2 * seconds) * RATE))
