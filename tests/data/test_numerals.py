import calendar
import re

import jax
import pytest

from jaxdl import data

ORDINALS = {1: "first", 2: "second", 3: "third", 5: "fifth", 8: "eighth", 9: "ninth"}
ORDINALS |= {12: "twelfth", 14: "fourteenth", 20: "twentieth", 21: "twenty first"}


@pytest.mark.row("K07")
def test_numbers_of_up_to_six_digits_and_dates_that_say_what_their_digits_say():
    large, dates = 0, 0
    for words, text in data.toy.numerals.pairs(jax.random.key(3), 300):
        date = re.fullmatch(r"(\d+)年(\d+)月(\d+)日", text)
        if date:
            of = words.index("of")
            assert words[of + 1] == calendar.month_name[int(date[2])]
            day = " ".join(words[1:of])
            assert ORDINALS.get(int(date[3]), day) == day
            dates += 1
        elif "thousand" in words:
            large += "hundred" in words[: words.index("thousand")]
    assert large > 5 and dates > 100


@pytest.mark.parametrize(
    "n, expected",
    [
        (2019, "two thousand and nineteen"),
        (101, "one hundred and one"),
        (1100, "one thousand one hundred"),
        (120_045, "one hundred and twenty thousand and forty five"),
    ],
)
def test_english_numbers_by_hand(n, expected):
    assert data.toy.numerals.english(n) == expected
