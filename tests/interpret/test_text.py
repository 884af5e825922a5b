import re

import numpy as np
import pytest

from jaxdl.interpret import text

WORDS = ["a", "<b>bad</b>", "film\x1b[2J"]


def test_html_shows_words_as_they_are_and_the_strongest_at_full_colour():
    page = text.to_html(WORDS, [0.5, -2.0, 0.0])
    assert page.startswith("<p>") and page.count("<span") == 3
    assert "&lt;b&gt;bad&lt;/b&gt;" in page and "<b>" not in page
    assert re.findall(r"rgba\((\d+), (\d+), (\d+), ([\d.]+)\)", page) == [
        ("200", "16", "46", "0.25"),
        ("31", "95", "174", "1.0"),
        ("200", "16", "46", "0.0"),
    ]
    assert 'title="-2"' in page


def test_terminal_colours_and_no_escapes_of_the_words():
    line = text.to_terminal(WORDS, np.array([[1.0, 1.0], [-1.0, 0.0], [0.0, 0.0]]), limit=4)
    assert re.findall(r"48;2;(\d+);(\d+);(\d+)m", line) == [
        ("228", "136", "150"),
        ("199", "215", "235"),
        ("255", "255", "255"),
    ]
    assert "[2J" in line and "film?[2J" in line and line.count("\x1b[") == 6


def test_zeros_and_no_words():
    assert "rgba(200, 16, 46, 0.0)" in text.to_html(["a"], [0.0])
    assert text.to_html([], []) == "<p></p>" and text.to_terminal([], []) == ""


def test_one_value_a_word():
    with pytest.raises(ValueError, match="3 words and values of .2,.; expected one value a word"):
        text.to_html(WORDS, [1, 2])
