"""Words colored by their attributions, as HTML and for a terminal."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxdl.interpret import _panels

__all__ = ["join_pieces", "to_html", "to_terminal"]

SPECIAL = re.compile(r"\[[A-Z]+\d*\]|</?(s|pad|unk|mask|cls|sep|bos|eos)>|<\|.*\|>")
"""Special tokens of a tokenizer, such as "[CLS]", "</s>" and "<|endoftext|>"."""

JOINERS = "\u200c\u200d"
"""Zero-width joiner and non-joiner, as in Persian, Hindi and emoji."""

PADDING = {"[PAD]", "<pad>", "<|pad|>"}
STYLE = "background: white; color: black; padding: 0.3em; line-height: 1.8"
"""Style of the paragraph: its own background, so that it looks the same on a dark page."""


class Html(str):
    """A string of HTML that a notebook renders."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return str(self)


def to_html(
    words: Sequence[str], values: Any, *, clip: float = 99.0, limit: float | None = None
) -> Html:
    """Returns HTML in which red words increase the score and blue ones decrease it.

    Stronger attributions have denser colors, those of the figures of `plot`. Words are joined from
    their pieces (`join_pieces`), and special tokens are set in small type.

    Args:
      words: T words, or pieces of words. Markup in them is escaped.
      values: (T,), or (T, D), summed over the last axis; one for each word.
      clip: the percentile, in (0, 100], of the words' absolute values at which the color is full.
      limit: the absolute value at full color, instead of a percentile.

    Returns:
      One `<p>` element with a `<span>` for each word, whose title is its value: a string that a
      notebook renders.

    Raises:
      ValueError: a word is not a string; there is not one finite value for each word; or `clip` or
        `limit` is out of range.
    """
    spans = []
    for word, value, color in _color_words("to_html", words, values, clip, limit):
        ink = "white" if _is_dark(color) else "black"
        style = f"background: rgb{color}; color: {ink}; padding: 0.1em 0.2em; border-radius: 0.2em"
        if SPECIAL.fullmatch(word):
            style += "; font-size: 75%"
        spans.append(f'<span style="{style}" title="{value:.4g}">{html.escape(word)}</span>')
    return Html(f'<p style="{STYLE}">{" ".join(spans)}</p>')


def to_terminal(
    words: Sequence[str], values: Any, *, clip: float = 99.0, limit: float | None = None
) -> str:
    """Returns a line for terminals with 24-bit colors, like `to_html`.

    Args, raises: as `to_html`.

    Returns:
      The line, with escape sequences.
    """
    line = []
    for word, _, color in _color_words("to_terminal", words, values, clip, limit):
        ink = 97 if _is_dark(color) else 30
        back = ";".join(map(str, color))
        # A word from a file could contain escape sequences of the terminal.
        printable = "".join(map(_to_printable, word))
        line.append(f"\x1b[{ink};48;2;{back}m{printable}\x1b[0m")
    return " ".join(line)


def join_pieces(pieces: Sequence[str], values: Any) -> tuple[list[str], np.ndarray]:
    """Joins a tokenizer's pieces to words, and sums their values.

    "##ing" continues the previous word (WordPiece), and is kept as a word if there is none. If a
    piece begins with "Ġ" or "▁", these marks begin words, and pieces without one continue them
    (byte-level BPE, SentencePiece). Special tokens like "[CLS]" are not joined. Padding with a
    value of 0 is removed, so that the sum does not change.

    Args:
      pieces: T pieces.
      values: (T,), or (T, D), summed over the last axis.

    Returns:
      The words and their values.

    Raises:
      ValueError: a piece is not a string; or there is not one finite value for each piece.
    """
    return _join("join_pieces", pieces, values)


def _join(caller, pieces, values):
    pieces = list(pieces) if np.iterable(pieces) else [pieces]
    wrong = [piece for piece in pieces if not isinstance(piece, str)]
    if wrong:
        raise ValueError(
            f"{caller}: a word is {wrong[0]!r}; expected texts, as the tokenizer gives for ids."
        )
    values = _panels.real(caller, "values", values).astype(np.float64)
    values = values.sum(-1) if values.ndim == 2 else values
    if values.shape != (len(pieces),):
        raise ValueError(
            f"{caller}: {len(pieces)} words and values of {values.shape}; expected one value a "
            "word."
        )
    _panels.check_finite(caller, "values", values)
    spaced = any(piece[:1] in "Ġ▁" for piece in pieces if piece)
    words: list[str] = []
    sums: list[float] = []
    open_word = False
    for piece, value in zip(pieces, values, strict=True):
        if piece in PADDING and value == 0:
            continue
        special = bool(SPECIAL.fullmatch(piece))
        continues = open_word and re.match(r"##.", piece)  # else "##" is a word
        starts = piece[:1] in ("Ġ", "▁") if spaced else not continues
        text = piece.lstrip("Ġ▁") if spaced else piece if starts else piece[2:]
        if starts or special or not open_word:
            words.append(text)
            sums.append(float(value))
        else:
            words[-1] += text
            sums[-1] += float(value)
        open_word = not special
    return words, np.array(sums)


def _color_words(
    caller: str, words: Sequence[str], values: Any, clip: float, limit: float | None
) -> Iterator[tuple[str, float, tuple[int, ...]]]:
    """Yields each word, its value, and its color blended with white."""
    words, values = _join(caller, words, values)
    end = _panels.scale_end(caller, values, clip, limit)
    for word, value in zip(words, values, strict=True):
        strength = min(abs(float(value)) / end, 1.0)
        full = _panels.RED if value >= 0 else _panels.BLUE
        yield word, float(value), tuple(round(255 + strength * (c - 255)) for c in full)


def _to_printable(letter: str) -> str:
    """Returns a printable character: letters, joiners and spaces, or "?"."""
    if letter.isprintable() or letter in JOINERS:
        return letter
    return " " if unicodedata.category(letter) == "Zs" else "?"


def _is_dark(color: tuple[int, ...]) -> bool:
    """Returns whether white text has more contrast: below a luminance of 0.18."""
    return float(np.dot((np.array(color) / 255) ** 2.2, [0.2126, 0.7152, 0.0722])) < 0.18
