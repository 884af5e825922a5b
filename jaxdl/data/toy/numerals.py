"""Numbers and dates in English and Chinese: a small translation task with exact targets.

Chinese numbers are written as in formal prose: 2 is 二, but 两 before 百, 千 and 万; consecutive
zeros between digits are written once, 零; 10 to 19 begin with 十. For example, 2019 is
两千零一十九.
"""

from __future__ import annotations

import jax
import numpy as np

__all__ = ["chinese", "english", "pairs"]

ONES = (
    *("zero one two three four five six seven eight nine ten eleven twelve thirteen".split()),
    *("fourteen fifteen sixteen seventeen eighteen nineteen".split()),
)
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
    "twenty": "twentieth",
    "thirty": "thirtieth",
}
MONTHS = (
    *("January February March April May June July August September October".split()),
    *("November December".split()),
)
DIGITS = "零一二三四五六七八九"


def english(n: int) -> str:
    """Returns a number in English words: 2019 is "two thousand and nineteen".

    Args:
      n: in 0 .. 999,999.

    Raises:
      ValueError: n is out of range.
    """
    _check(n)
    if n < 20:
        return ONES[n]
    if n < 100:
        return TENS[n // 10 - 2] + (f" {ONES[n % 10]}" if n % 10 else "")
    unit, name = (1000, "thousand") if n >= 1000 else (100, "hundred")
    head, rest = divmod(n, unit)
    link = " and " if 0 < rest < 100 else " "
    return f"{english(head)} {name}" + (link + english(rest) if rest else "")


def chinese(n: int) -> str:
    """Returns a number in Chinese characters: 2019 is 两千零一十九.

    Args:
      n: in 0 .. 999,999.

    Raises:
      ValueError: n is out of range.
    """
    _check(n)
    if n >= 10_000:
        head, rest = divmod(n, 10_000)
        gap = "零" if 0 < rest < 1000 else ""
        many = "两" if head == 2 else chinese(head)
        return many + "万" + (gap + _format_below_10000(rest) if rest else "")
    text = _format_below_10000(n) if n else "零"
    return text[1:] if text.startswith("一十") else text


def _format_below_10000(n: int) -> str:
    """Returns 1 .. 9,999 in Chinese, with 一 before 十."""
    text, zero = "", False
    for unit, name in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit, n = divmod(n, unit)
        if digit:
            two = digit == 2 and unit >= 100
            text += ("零" if zero else "") + ("两" if two else DIGITS[digit]) + name
        zero = digit == 0 and bool(text)
    return text


def _check(n: int) -> None:
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or not 0 <= n < 1_000_000:
        raise ValueError(f"numerals: {n!r}; expected an integer in 0 .. 999999.")


def _ordinal(n: int) -> str:
    *head, last = english(n).split()
    return " ".join([*head, ORDINALS.get(last, last + "th")])


def pairs(key: jax.Array, n: int, *, held_out: bool = False) -> list[tuple[list[str], str]]:
    """Draws English phrases with their Chinese translations: half numbers, half dates.

    Numbers have one to six digits, each length with equal probability, and Chinese characters as
    translation. Dates are "the third of May nineteen ninety eight", 1998年5月3日. Of the dates and
    the numbers from 100 on, one in ten is held out, by a hash of its value that does not depend on
    the key; so both sets never share a phrase.

    Args:
      key: a PRNG key.
      n: number of pairs, at least 1.
      held_out: whether to draw held-out phrases, or the others.

    Returns:
      n pairs of English words and a Chinese string.

    Raises:
      ValueError: n is below 1.
    """
    if n < 1:
        raise ValueError(f"numerals.pairs: n is {n}; expected at least 1.")
    rng = np.random.default_rng(np.asarray(jax.random.bits(key, (4,), np.uint32)))
    drawn: list[tuple[list[str], str]] = []
    while len(drawn) < n:
        if rng.random() < 0.5:
            number = int(rng.integers(0, 10 ** rng.integers(1, 7)))
            code, phrase, target = number, english(number), chinese(number)
        else:
            ends = (1900, 2100), (1, 13), (1, 29)
            year, month, day = (int(rng.integers(low, high)) for low, high in ends)
            code = (year * 13 + month) * 32 + day
            phrase = f"the {_ordinal(day)} of {MONTHS[month - 1]} {_year(year)}"
            target = f"{year}年{month}月{day}日"
        # Multiplicative hash (Knuth) of the value: deterministic, and even over all values.
        if (code >= 100 and code * 2_654_435_761 % 2**32 % 10 == 0) == held_out:
            drawn.append((phrase.split(), target))
    return drawn


def _year(year: int) -> str:
    century, rest = divmod(year, 100)
    if century == 20 and rest < 10:
        return english(year)
    return f"{english(century)} " + ("hundred" if rest == 0 else _two(rest))


def _two(rest: int) -> str:
    return f"oh {ONES[rest]}" if rest < 10 else english(rest)
