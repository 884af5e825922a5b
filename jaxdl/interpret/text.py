"""Words with the colour of their attribution, for a terminal and for a page."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["to_html", "to_terminal"]

RED, BLUE = (200, 16, 46), (31, 95, 174)


def to_html(words: Sequence[str], values: Any, *, limit: float | None = None) -> str:
    """A paragraph of HTML: red speaks for the score, blue against it, the stronger the denser.

    Args:
      words: the words; any markup in them is shown as it is.
      values: (T,), or (T, D) of which the last axis is added up; one for each word.
      limit: the size of value at full colour; the greatest by default.

    Returns:
      One `<p>` element, each word a `<span>` whose title is its value.

    Raises:
      ValueError: not one value for each word.
    """
    spans = []
    for word, value, (colour, strength) in _coloured("to_html", words, values, limit):
        ink = "white" if strength > 0.6 else "black"
        style = f"background: rgba{(*colour, round(strength, 3))}; color: {ink}; padding: 0 0.2em"
        spans.append(f'<span style="{style}" title="{value:.4g}">{html.escape(word)}</span>')
    return f"<p>{' '.join(spans)}</p>"


def to_terminal(words: Sequence[str], values: Any, *, limit: float | None = None) -> str:
    """A line for terminals that know 24-bit colours.

    Args, raises: as `to_html`.

    Returns:
      The line, with escape sequences.
    """
    line = []
    for word, _, (colour, strength) in _coloured("to_terminal", words, values, limit):
        mixed = [round(255 + strength * (part - 255)) for part in colour]
        ink = 97 if strength > 0.6 else 30
        back = ";".join(map(str, mixed))
        printable = "".join(c if c.isprintable() else "?" for c in word)
        line.append(f"\x1b[{ink};48;2;{back}m{printable}\x1b[0m")
    return " ".join(line)


def _coloured(caller, words, values, limit):
    values = np.asarray(values, np.float64)
    values = values.sum(-1) if values.ndim == 2 else values
    if values.shape != (len(words),):
        raise ValueError(
            f"{caller}: {len(words)} words and values of {values.shape}; expected one value a word."
        )
    limit = limit or float(np.abs(values).max(initial=0)) or 1.0
    for word, value in zip(words, values, strict=True):
        strength = min(abs(float(value)) / limit, 1.0)
        yield word, float(value), (RED if value >= 0 else BLUE, strength)
