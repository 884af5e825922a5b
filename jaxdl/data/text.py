"""Text processing: vocabularies, tokens, padding, length buckets and letter trigrams."""

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

__all__ = ["TRIGRAMS", "Vocabulary", "bucket_by_length", "letter_trigrams", "pad", "tokenize"]

TRIGRAMS = 26**3
"""Number of trigrams of the letters a to z: 17,576."""


class Vocabulary:
    """Maps the symbols of a corpus to ids, frequent symbols first, and back.

    Id 0 is the padding, and 1 represents all unknown symbols.

    Attributes:
      symbols: the symbols in the order of their ids; the first two are `padding` and `unknown`.
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
          min_count: smallest number of occurrences of a known symbol.
          max_size: largest number of symbols, including padding and unknown; None has no limit.
          padding: text of the padding.
          unknown: text of unknown symbols.

        Raises:
          ValueError: `min_count` is below 1 or `max_size` below 2; `texts` is one string instead of
            several; a text contains `padding` or `unknown`.
        """
        if min_count < 1 or (max_size is not None and max_size < 2):
            raise ValueError(
                f"Vocabulary: min_count={min_count}, max_size={max_size}; expected at least 1, and "
                "at least 2 or None."
            )
        if isinstance(texts, str):
            raise ValueError("Vocabulary: texts is one string; expected several; pass [text].")
        counts = collections.Counter(symbol for text in texts for symbol in text)
        special = (padding, unknown)
        for symbol in special:
            if symbol in counts:
                raise ValueError(
                    f"Vocabulary: the texts contain {symbol!r}; rename padding= and unknown=."
                )
        # Ties in alphabetical order: the ids must not depend on the order of the texts.
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
        """Returns the ids of a text's symbols, (T,) int32; unknown symbols have id 1."""
        return np.fromiter((self._number.get(symbol, 1) for symbol in text), np.int32)

    def decode(self, numbers: Iterable[int]) -> list[str]:
        """Returns the symbols of ids, without the padding.

        Raises:
          ValueError: an id is out of range.
        """
        numbers = [int(n) for n in numbers]
        wrong = [n for n in numbers if not 0 <= n < len(self)]
        if wrong:
            raise ValueError(f"Vocabulary.decode: {wrong[0]} is not in 0 .. {len(self) - 1}.")
        return [self.symbols[n] for n in numbers if n]


def tokenize(text: str) -> list[str]:
    """Splits a text into lower-case words, numbers and single punctuation marks.

    Args:
      text: any string.

    Returns:
      The tokens; for "It's GOOD!" these are it, 's, good and !.
    """
    return re.findall(r"'\w+|\w+|[^\w\s]", text.lower())


def letter_trigrams(word: str, *, boundaries: bool = False) -> np.ndarray:
    """Returns the ids of a word's letter trigrams, for word hashing.

    Huang et al. 2013 (doi:10.1145/2505515.2505665), sec. 3.1. "apple" has app, ppl and ple. Most
    trigrams of an unknown word are known.

    Args:
      word: a word; characters other than a to z, in either case, are ignored.
      boundaries: mark the ends of the word, as in the paper: trigrams of 27 symbols, `#apple#`.

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
    """Pads rows of unequal length to one array, and returns it with their lengths.

    Args:
      rows: N sequences of numbers (T_n,), or of vectors (T_n, D).
      length: T; None takes the length of the longest row.
      value: value of the padding.
      truncate: which part of rows longer than `length` to remove, "start" or "end"; None raises an
        error.

    Returns:
      `(array (N, T, ...), lengths (N,) int32)`; the array has the common dtype of the rows.

    Raises:
      ValueError: there are no rows, one is longer than `length` without `truncate`, `length` is
        negative, steps differ in shape, or the dtype of the rows cannot represent `value`.
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
        raise ValueError("pad: no rows; expected at least one.")
    single = next((row for row in arrays if not row.ndim), None)
    if single is not None:
        raise ValueError(
            f"pad: a row is {single}, a single number; expected sequences. Pass one row as [row]."
        )
    filled = [row for row in arrays if len(row)] or arrays[:1]  # np.asarray([]) is float64
    steps = {row.shape[1:] for row in filled}
    if len(steps) != 1:
        raise ValueError(f"pad: steps of shapes {sorted(steps)}; expected one shape in all rows.")
    longest = max(map(len, arrays))
    if length is not None and length < longest:
        if truncate is None:
            raise ValueError(
                f"pad: length is {length}, but a row has {longest} steps; expected at least as "
                "many. Pass truncate='end' or 'start' to shorten longer rows."
            )
        arrays = [row[max(len(row) - length, 0) * (truncate == "start") :] for row in arrays]
        arrays = [row[:length] for row in arrays]
    lengths = np.array([len(row) for row in arrays], np.int32)
    dtype = np.result_type(*filled)
    shape = (len(arrays), longest if length is None else length, *steps.pop())
    with np.errstate(all="ignore"):
        try:
            fill = np.asarray(value).astype(dtype)
            same = fill == value if dtype.kind in "biu" else np.isfinite(fill) == np.isfinite(value)
        except (TypeError, ValueError):
            same = False
    if not np.all(same):
        raise ValueError(
            f"pad: value is {value!r} for rows of {dtype}; expected a number of that dtype. "
            "Convert the rows first, by row.astype(np.float32) or np.int32."
        )
    padded = np.full(shape, fill, dtype)
    for row, array in zip(padded, arrays, strict=True):
        row[: len(array)] = array
    return padded, lengths


def bucket_by_length(
    data: Any,
    lengths: np.ndarray,
    batch_size: int,
    *,
    bounds: Sequence[int],
    seed: int,
) -> BatchStream:
    """Creates a stream of batches of similar length, cut to the bounds of buckets.

    This saves the computation of padding, for one compilation per bucket. Every row occurs once per
    epoch, in an order that is a pure function of (seed, epoch).

    Args:
      data: `(x, y)` or `(x, y, weight)`; x is an array (N, T, ...), or a tuple that begins with
        one. Arrays with a second axis of T are cut along it, in x, y and weight.
      lengths: (N,) steps before the padding.
      batch_size: rows in a batch; the last batch of a bucket may have fewer.
      bounds: lengths of the buckets, ascending; the last is at least the longest row's length and
        at most T.
      seed: seed of the order of rows and batches.

    Returns:
      A `BatchStream` of `((x, lengths), y)` or `((x, lengths), y, weight)`, for a model of
      `(x, lengths)`. If x is a tuple, the lengths are appended to it.

    Raises:
      ValueError: `data` is not such a tuple; `bounds` are not ascending, or do not fit the lengths
        and T; the arrays of `data` do not have N rows; `batch_size` is below 1.
    """
    lengths, limits = np.asarray(as_array(lengths, "bucket_by_length: lengths")), np.asarray(bounds)
    require_ints("bucket_by_length", 1, batch_size=batch_size)
    if limits.ndim != 1 or (limits.size and limits.dtype.kind not in "iu"):
        raise ValueError(
            f"bucket_by_length: bounds is {bounds!r}; expected ascending integers, the lengths of "
            "the buckets: bounds=[16, 32, 64]."
        )
    bounds = limits.tolist()
    if not isinstance(data, tuple) or len(data) not in (2, 3):
        raise ValueError(
            f"bucket_by_length: data is {type(data).__name__}; expected (x, y) or (x, y, weight). "
            "Pad rows with data.pad first."
        )
    if not np.issubdtype(lengths.dtype, np.integer) or lengths.ndim != 1 or not lengths.size:
        raise ValueError(
            f"bucket_by_length: lengths are {lengths.dtype}{list(lengths.shape)}; expected one "
            "integer per row. data.pad returns them."
        )
    if lengths.min() < 0:
        raise ValueError(
            f"bucket_by_length: lengths from {lengths.min()} to {lengths.max()}; expected none "
            "below 0, the steps of each row before its padding. data.pad returns them."
        )
    if not bounds or bounds != sorted(set(bounds)) or lengths.max() > bounds[-1]:
        raise ValueError(
            f"bucket_by_length: bounds {bounds} for rows of up to {lengths.max()} steps; expected "
            "ascending lengths, the last one at least that of the longest row."
        )
    x, *rest = data
    x = x if isinstance(x, tuple) else (x,)
    x, rest = as_arrays(x, "bucket_by_length: x"), as_arrays(tuple(rest), "bucket_by_length: y")
    leaves = jax.tree.leaves((x, rest))
    time = leaves[0].shape[1] if leaves[0].ndim > 1 else 0
    if any(leaf.shape[:1] != lengths.shape for leaf in leaves) or time < bounds[-1]:
        raise ValueError(
            f"bucket_by_length: arrays of shapes {[leaf.shape for leaf in leaves]}; expected "
            f"{len(lengths)} rows, one per length, and x of at least {bounds[-1]} steps. Pad them "
            "to the last bound."
        )
    bucket = np.searchsorted(bounds, lengths)
    counts = np.bincount(bucket, minlength=len(bounds))

    def open(epoch, first):
        order = permutation(len(lengths), seed=seed, epoch=epoch)
        groups = []
        for b, bound in enumerate(bounds):
            rows = order[bucket[order] == b]
            groups += [(rows[i : i + batch_size], bound) for i in range(0, len(rows), batch_size)]
        # Batches of all lengths are mixed: in order of length, the last steps would see long rows
        # only.
        turns = permutation(len(groups), seed=seed, epoch=epoch)
        return (select(*groups[i]) for i in turns[first:])

    def select(rows, bound):
        def cut(a):
            return a[rows, :bound] if a.ndim > 1 and a.shape[1] == time else a[rows]

        inputs, others = jax.tree.map(cut, (x, rest))
        return (*inputs, lengths[rows]), *others

    return BatchStream(int(np.sum(-(-counts // batch_size))), open, batch_size)
