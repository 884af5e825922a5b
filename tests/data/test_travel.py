import calendar

import jax
import pytest

from jaxdl import data


@pytest.mark.row("K01")
def test_month_and_day_are_the_time_and_four_requests_of_five_have_them():
    months, dates = set(calendar.month_name[1:]), 0
    for words, slots in data.toy.travel.requests(jax.random.key(0), 300):
        before = [""] + words[:-1]
        actual = [
            word in months or last in months for last, word in zip(before, words, strict=True)
        ]
        assert [slot == data.toy.travel.SLOTS.index("time") for slot in slots] == actual
        dates += any(actual)
    assert abs(dates / 300 - 0.8) < 0.12
