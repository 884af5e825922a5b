"""Symbols to integers and back: vocabularies, padding, batches of similar length, letter trigrams.

Lecture rows K02, K03.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from jaxdl.data.batches import permutation

__all__ = ["TRIGRAMS", "Vocabulary", "bucketed", "letter_trigrams", "pad", "tokenize"]

TRIGRAMS = 26**3
"""The number of trigrams of the letters a to z: 17,576."""


class Vocabulary:
    """Numbers for the symbols of a corpus, the frequent ones first.

    0 is the padding and 1 stands for every symbol that is not known (row K03's "other").

    Attributes:
      symbols: the symbols in the order of their numbers; the first two are `padding` and `unknown`.
    """

    def __init__(
        self,
        texts: Iterable[Iterable[str]],
        *,
        min_count: int = 1,
        max_size: int | None = None,
        padding: str = "<pad>",
        unknown: str = "<unk>",
    ):
        """Counts the symbols of `texts`.

        Args:
          texts: sequences of symbols: lists of words, or strings, whose symbols are characters.
          min_count: how often a symbol must stand in the texts to be known.
          max_size: at most so many symbols, the first two included; rarer ones are not known.
          padding, unknown: how the first two are written.

        Raises:
          ValueError: `min_count` is below 1 or `max_size` below 2; a text is a string where a list
            of texts was expected to be; a text holds `padding` or `unknown`.
        """
        if min_count < 1 or (max_size is not None and max_size < 2):
            raise ValueError(
                f"Vocabulary: min_count={min_count}, max_size={max_size}; expected at least 1, and "
                "at least 2 or None."
            )
        if isinstance(texts, str):
            raise ValueError("Vocabulary: texts is one string; expected several: pass [text].")
        counts = collections.Counter(symbol for text in texts for symbol in text)
        special = (padding, unknown)
        for symbol in special:
            if symbol in counts:
                raise ValueError(
                    f"Vocabulary: the texts hold {symbol!r}; rename padding= and unknown=."
                )
        known = sorted(
            (s for s, n in counts.items() if n >= min_count), key=lambda s: (-counts[s], s)
        )
        self.symbols = special + tuple(known[: None if max_size is None else max_size - 2])
        self._number = {symbol: i for i, symbol in enumerate(self.symbols)}

    def __len__(self) -> int:
        return len(self.symbols)

    def __contains__(self, symbol: str) -> bool:
        return symbol in self._number

    def encode(self, text: Iterable[str]) -> np.ndarray:
        """The numbers of a text's symbols, (T,) int32; what is not known is 1."""
        return np.fromiter((self._number.get(symbol, 1) for symbol in text), np.int32)

    def decode(self, numbers: Iterable[int]) -> list[str]:
        """The symbols of numbers, without the padding.

        Raises:
          ValueError: a number is out of range.
        """
        numbers = [int(n) for n in numbers]
        wrong = [n for n in numbers if not 0 <= n < len(self)]
        if wrong:
            raise ValueError(f"Vocabulary.decode: {wrong[0]} is not in 0 .. {len(self) - 1}.")
        return [self.symbols[n] for n in numbers if n]


def tokenize(text: str) -> list[str]:
    """Lower-case words, numbers and single punctuation marks.

    Args:
      text: any string.

    Returns:
      The tokens; "It's GOOD!" gives it, 's, good and !.
    """
    return re.findall(r"'\w+|\w+|[^\w\s]", text.lower())


def letter_trigrams(word: str, *, boundaries: bool = False) -> np.ndarray:
    """The numbers of a word's letter trigrams, for word hashing. Lecture row K03.

    Huang et al. 2013 (doi:10.1145/2505515.2505665), sec. 3.1. "apple" has app, ppl and ple. Words
    that are not known still have trigrams that are.

    Args:
      word: letters a to z count, in either case; all else is left out.
      boundaries: mark the word's ends, as the paper does: trigrams of 27 symbols, `#apple#`.

    Returns:
      (G,) int32, in the order of the word, in 0 .. 26^3 - 1, or 27^3 - 1 with `boundaries`.
    """
    letters = [ord(c) - ord("a") for c in word.lower() if "a" <= c <= "z"]
    base = 27 if boundaries else 26
    if boundaries:
        letters = [26, *letters, 26]
    triples = zip(letters, letters[1:], letters[2:], strict=False)
    return np.array([(a * base + b) * base + c for a, b, c in triples], np.int32)


def pad(
    rows: Sequence[Sequence[Any] | np.ndarray], *, length: int | None = None, value: Any = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of unequal length as one array, and their lengths.

    Args:
      rows: N sequences of numbers (T_n,), or of vectors (T_n, D).
      length: T, at least the longest row's; None for that.
      value: what the padding is filled with.

    Returns:
      `(array (N, T, ...), lengths (N,) int32)`; the array is of the dtype that holds every row.

    Raises:
      ValueError: there are no rows, one is longer than `length`, their steps differ in shape, or
        their dtype cannot hold `value`.
    """
    arrays = [np.asarray(row) for row in rows]
    if not arrays:
        raise ValueError("pad: no rows; expected one at least.")
    lengths = np.array([len(row) for row in arrays], np.int32)
    longest = int(lengths.max())
    if length is not None and length < longest:
        raise ValueError(f"pad: length is {length}, but a row has {longest} steps.")
    filled = [row for row in arrays if len(row)] or arrays[:1]  # an empty list is one of floats
    steps = {row.shape[1:] for row in filled}
    if len(steps) != 1:
        raise ValueError(f"pad: steps of shapes {sorted(steps)}; expected one shape in all rows.")
    dtype = np.result_type(*filled)
    shape = (len(arrays), longest if length is None else length, *steps.pop())
    padded = np.full(shape, value, dtype)
    if padded.size and value == value and padded.flat[0] != value:  # NaN is no number's equal
        raise ValueError(f"pad: value is {value!r} for rows of {dtype}, which cannot hold it.")
    for row, array in zip(padded, arrays, strict=True):
        row[: len(array)] = array
    return padded, lengths


def bucketed(
    data: Any,
    lengths: np.ndarray,
    batch_size: int,
    *,
    bounds: Sequence[int],
    seed: int,
    epoch: int = 0,
) -> Iterator[Any]:
    """Batches of rows of similar length, each cut to its bucket's bound: less padding to compute.

    Every row comes once an epoch, in an order that (seed, epoch) alone give, and every shape is one
    of `bounds`, so that there are few compilations.

    Args:
      data: a tree of arrays (N, T, ...) to cut along their second axis, with T at least the last
        bound; arrays (N,) are kept.
      lengths: (N,) steps before the padding.
      batch_size: rows in a batch; a bucket's last one may have fewer.
      bounds: the buckets' lengths, rising; the last at least the longest row's.
      seed, epoch: they alone give the order of rows and batches.

    Yields:
      `(batch, lengths)`, a tree like `data` with arrays (n, bound, ...), and its rows' lengths.

    Raises:
      ValueError: `bounds` do not rise, or a row is longer than the last; the arrays of `data` are
        not N rows, or shorter than the last bound; `batch_size` is below 1.
    """
    lengths, bounds = np.asarray(lengths), list(bounds)
    if batch_size < 1:
        raise ValueError(f"bucketed: batch_size is {batch_size}; expected at least 1.")
    if not bounds or bounds != sorted(set(bounds)) or lengths.max(initial=0) > bounds[-1]:
        raise ValueError(
            f"bucketed: bounds {bounds} for rows of up to {lengths.max(initial=0)} steps; expected "
            "rising lengths, the last no shorter than the longest row."
        )
    for leaf in jax.tree.leaves(data):
        if len(leaf) != len(lengths) or (leaf.ndim > 1 and leaf.shape[1] < bounds[-1]):
            raise ValueError(
                f"bucketed: an array of shape {leaf.shape}; expected {len(lengths)} rows, one for "
                f"each length, of at least {bounds[-1]} steps: pad them to the last bound."
            )
    order = permutation(len(lengths), seed=seed, epoch=epoch)
    bucket = np.searchsorted(bounds, lengths[order])
    groups = []
    for b, bound in enumerate(bounds):
        rows = order[bucket == b]
        groups += [(rows[i : i + batch_size], bound) for i in range(0, len(rows), batch_size)]
    turns = permutation(len(groups), seed=seed, epoch=epoch)
    return ((_cut(data, *groups[i]), lengths[groups[i][0]]) for i in turns)


def _cut(data: Any, rows: np.ndarray, bound: int) -> Any:
    return jax.tree.map(lambda a: a[rows] if a.ndim == 1 else a[rows, :bound], data)
