"""Symbols to integers and back: vocabularies, padding, batches of similar length, letter trigrams.

Lecture rows K02, K03.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import jax
import numpy as np

from jaxdl._check import require_ints
from jaxdl.data.batches import permutation
from jaxdl.data.convert import as_array, as_arrays
from jaxdl.data.source import BatchStream

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
    rows: Sequence[Sequence[Any] | np.ndarray],
    *,
    length: int | None = None,
    value: Any = 0,
    truncate: Literal["start", "end"] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of unequal length as one array, and their lengths.

    Args:
      rows: N sequences of numbers (T_n,), or of vectors (T_n, D).
      length: T; None for the longest row's.
      value: what the padding is filled with.
      truncate: for rows longer than `length`, whether the "start" or the "end" of the row is left
        out; None refuses them.

    Returns:
      `(array (N, T, ...), lengths (N,) int32)`; the array is of the dtype that holds every row.

    Raises:
      ValueError: there are no rows, one is longer than `length` without `truncate`, `length` is
        negative, their steps differ in shape, or their dtype cannot hold `value`.
    """
    if truncate not in (None, "start", "end"):
        raise ValueError(f"pad: truncate is {truncate!r}; expected 'start', 'end' or None.")
    if length is not None:
        require_ints("pad", 0, length=length)
    if not isinstance(rows, Iterable):
        raise ValueError(f"pad: rows is {rows!r}; expected a list of sequences.")
    arrays = [as_array(row, f"pad: row {i}") for i, row in enumerate(rows)]
    arrays = [np.asarray(row) for row in arrays]
    if not arrays:
        raise ValueError("pad: no rows; expected one at least.")
    single = next((row for row in arrays if not row.ndim), None)
    if single is not None:
        raise ValueError(
            f"pad: a row is {single}, a single number; expected sequences: one row alone is [row]."
        )
    filled = [row for row in arrays if len(row)] or arrays[:1]  # an empty list is one of floats
    steps = {row.shape[1:] for row in filled}
    if len(steps) != 1:
        raise ValueError(f"pad: steps of shapes {sorted(steps)}; expected one shape in all rows.")
    longest = max(map(len, arrays))
    if length is not None and length < longest:
        if truncate is None:
            raise ValueError(
                f"pad: length is {length}, but a row has {longest} steps; expected at least as "
                "many. To shorten longer rows, pass truncate='end' or 'start'."
            )
        arrays = [row[max(len(row) - length, 0) * (truncate == "start") :] for row in arrays]
        arrays = [row[:length] for row in arrays]
    lengths = np.array([len(row) for row in arrays], np.int32)
    dtype = np.result_type(*filled)
    shape = (len(arrays), longest if length is None else length, *steps.pop())
    with np.errstate(all="ignore"):
        try:
            held = np.asarray(value).astype(dtype)
            same = held == value if dtype.kind in "biu" else np.isfinite(held) == np.isfinite(value)
        except (TypeError, ValueError):
            same = False
    if not np.all(same):
        raise ValueError(
            f"pad: value is {value!r} for rows of {dtype}, which cannot hold it; expected a number "
            "of that dtype: convert the rows first, row.astype(np.float32) or np.int32."
        )
    padded = np.full(shape, held, dtype)
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
) -> BatchStream:
    """Batches of rows of similar length, each cut to its bucket's bound, for `train.fit`.

    There is less padding to compute than in whole rows, and one compilation for each bound. Every
    row comes once an epoch, in an order that is a pure function of (seed, epoch).

    Args:
      data: `(x, y)` or `(x, y, weight)`; x an array (N, T, ...), or a tuple that begins with one.
        In all three, arrays with a second axis of T are cut along it, and others are kept.
      lengths: (N,) steps before the padding.
      batch_size: rows in a batch; a bucket's last one may have fewer.
      bounds: the buckets' lengths, rising; the last at least the longest row's and at most T.
      seed: with the epoch, it alone gives the order of rows and batches.

    Returns:
      A `BatchStream` of `((x, lengths), y)` or `((x, lengths), y, weight)`, for a model of
      `(x, lengths)`. A tuple x is followed by the lengths in the same way.

    Raises:
      ValueError: `data` is no such tuple; `bounds` do not rise, or do not fit the rows' lengths and
        T; the arrays of `data` are not N rows; `batch_size` is below 1.
    """
    lengths, limits = np.asarray(as_array(lengths, "bucketed: lengths")), np.asarray(bounds)
    require_ints("bucketed", 1, batch_size=batch_size)
    if limits.ndim != 1 or (limits.size and limits.dtype.kind not in "iu"):
        raise ValueError(
            f"bucketed: bounds is {bounds!r}; expected rising integers, the buckets' "
            "lengths: bounds=[16, 32, 64]."
        )
    bounds = limits.tolist()
    if not isinstance(data, tuple) or len(data) not in (2, 3):
        raise ValueError(
            f"bucketed: data is {type(data).__name__}; expected (x, y) or (x, y, weight): pad rows "
            "with data.pad first."
        )
    if not np.issubdtype(lengths.dtype, np.integer) or lengths.ndim != 1 or not lengths.size:
        raise ValueError(
            f"bucketed: lengths are {lengths.dtype}{list(lengths.shape)}; expected one integer for "
            "each row, as data.pad returns them."
        )
    if lengths.min() < 0:
        raise ValueError(
            f"bucketed: lengths from {lengths.min()} to {lengths.max()}; expected none below 0, "
            "the steps of each row before its padding, as data.pad returns them."
        )
    if not bounds or bounds != sorted(set(bounds)) or lengths.max() > bounds[-1]:
        raise ValueError(
            f"bucketed: bounds {bounds} for rows of up to {lengths.max()} steps; expected rising "
            "lengths, the last no shorter than the longest row."
        )
    x, *rest = data
    x = x if isinstance(x, tuple) else (x,)
    x, rest = as_arrays(x, "bucketed: x"), as_arrays(tuple(rest), "bucketed: y")
    leaves = jax.tree.leaves((x, rest))
    time = leaves[0].shape[1] if leaves[0].ndim > 1 else 0
    if any(leaf.shape[:1] != lengths.shape for leaf in leaves) or time < bounds[-1]:
        raise ValueError(
            f"bucketed: arrays of shapes {[leaf.shape for leaf in leaves]}; expected "
            f"{len(lengths)} rows, one for each length, and x of at least {bounds[-1]} steps: pad "
            "them to the last bound."
        )
    bucket = np.searchsorted(bounds, lengths)
    counts = np.bincount(bucket, minlength=len(bounds))

    def open(epoch, first):
        order = permutation(len(lengths), seed=seed, epoch=epoch)
        groups = []
        for b, bound in enumerate(bounds):
            rows = order[bucket[order] == b]
            groups += [(rows[i : i + batch_size], bound) for i in range(0, len(rows), batch_size)]
        turns = permutation(len(groups), seed=seed, epoch=epoch)
        return (cut(*groups[i]) for i in turns[first:])

    def cut(rows, bound):
        one = lambda a: a[rows, :bound] if a.ndim > 1 and a.shape[1] == time else a[rows]  # noqa: E731
        inputs, others = jax.tree.map(one, (x, rest))
        return (*inputs, lengths[rows]), *others

    return BatchStream(int(np.sum(-(-counts // batch_size))), open, batch_size)
