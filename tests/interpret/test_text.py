import re

import chex
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdl.interpret import plot, text

WORDS = ["a", "<b>bad</b>", "film\x1b[2J"]


def spans(page):
    """(background, ink, word) of each span."""
    actual = re.findall(r"background: rgb\(([\d, ]+)\); color: (\w+);[^>]*>([^<]*)<", page)
    return [(tuple(map(int, rgb.split(", "))), ink, word) for rgb, ink, word in actual]


def test_html_shows_words_as_they_are_and_the_strongest_at_full_colour():
    page = text.to_html(WORDS, [0.5, -2.0, 0.0], clip=100)
    assert page.startswith("<p ") and page.endswith("</p>") and page.count("<span") == 3
    assert "&lt;b&gt;bad&lt;/b&gt;" in page and "<b>" not in page
    assert [span[:2] for span in spans(page)] == [
        ((241, 195, 203), "black"),  # a quarter of the way from white to (200, 16, 46)
        ((31, 95, 174), "white"),
        ((255, 255, 255), "black"),
    ]
    assert 'title="-2"' in page
    assert text.to_html(['"><script>'], [1.0]).count("<script") == 0


def test_a_notebook_displays_html_that_can_be_read_on_a_dark_page():
    page = text.to_html(WORDS, [0.5, -2.0, 0.0])
    assert isinstance(page, str) and page._repr_html_() == page
    assert type(page._repr_html_()) is str
    # No colour is transparent, none is left to the page, and every ink has contrast.
    assert "rgba" not in page and page.startswith('<p style="background: white; color: black')
    for value in np.linspace(-1, 1, 41):
        ((back, ink, _), _) = spans(text.to_html(["x", "y"], [value, 1.0], limit=1.0))
        light = [(c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4) for c in back]
        luminance = np.dot(light, [0.2126, 0.7152, 0.0722])
        contrast = 1.05 / (luminance + 0.05) if ink == "white" else (luminance + 0.05) / 0.05
        assert contrast > 4.4, (value, contrast)  # WCAG asks for 4.5, and 3 of large text


def test_colours_are_those_of_the_figures():
    over = plot.overlay(np.zeros((1, 1, 2)), np.array([[[-1.0, 1.0]]]), clip=100)
    inks = over.axes[0].images[1]
    colours = inks.to_rgba(inks.get_array())[0, :, :3] * 255
    words = spans(text.to_html(["x", "y"], [-1.0, 1.0]))
    np.testing.assert_allclose(colours, [back for back, _, _ in words], atol=0.6)


def test_colours_are_full_at_a_percentile():
    values = np.append(np.linspace(0, 1, 100), 50.0)
    full = lambda page: sum(back == (200, 16, 46) for back, _, _ in spans(page))
    assert full(text.to_html(["w"] * 101, values)) == 2
    assert full(text.to_html(["w"] * 101, values, clip=90)) == 11
    assert full(text.to_html(["w"] * 101, values, clip=100)) == 1
    assert full(text.to_html(["w"] * 101, values, limit=100)) == 0


def test_terminal_colours_and_no_escapes_of_the_words():
    line = text.to_terminal(WORDS, np.array([[1.0, 1.0], [-1.0, 0.0], [0.0, 0.0]]), limit=4)
    assert re.findall(r"48;2;(\d+);(\d+);(\d+)m", line) == [
        ("228", "136", "150"),
        ("199", "215", "235"),
        ("255", "255", "255"),
    ]
    assert "[2J" in line and "film?[2J" in line and line.count("\x1b[") == 6


@pytest.mark.parametrize(
    "pieces, words",
    [
        ("[CLS] play ##ing well ##! ## [SEP] [PAD]", "[CLS] playing well! ## [SEP]"),
        ("The Ġguitar ist Ġplays . <|endoftext|>", "The guitarist plays. <|endoftext|>"),
        ("<s> ▁un bel iev ably ▁ good </s> <pad>", "<s> unbelievably good </s>"),
        ("a <b> #1 [x] [1]", "a <b> #1 [x] [1]"),
    ],
)
def test_pieces_are_joined_and_their_values_summed(pieces, words):
    pieces, words = pieces.split(" "), words.split(" ")
    values = np.arange(1.0, len(pieces) + 1) * np.array([p not in text.PADDING for p in pieces])
    joined, sums = text.join_pieces(pieces, values)
    assert joined == words
    letters = [len(re.sub("^##(?=.)|^[Ġ▁]", "", piece)) for piece in pieces]
    # Independent of the joining: the value of each letter, in order.
    each = [v / n for v, n in zip(values, letters, strict=True) if n for _ in range(n)]
    ends = np.cumsum([len(word) for word in words])
    bare = sum(v for v, n in zip(values, letters, strict=True) if n == 0)  # "▁" alone
    expected = np.diff(np.append(0, np.cumsum(each)[ends - 1]))
    np.testing.assert_allclose(sums.sum(), expected.sum() + bare)
    if not bare:
        np.testing.assert_allclose(sums, expected)
    page = text.to_html(pieces, values)
    assert page.count("<span") == len(words) and "##" not in page.replace(">##<", "")
    assert ("font-size" in page) == any(text.SPECIAL.fullmatch(word) for word in words)
    chex.assert_equal(
        re.sub(r"\x1b\[[^m]*m", "", text.to_terminal(pieces, values)), " ".join(words)
    )


def test_pieces_without_a_word_before_them_stay_as_they_are():
    assert text.join_pieces("##ing is [CLS] ##s ##t".split(), np.ones(5))[0] == [
        *("##ing", "is", "[CLS]", "##st")
    ]


def test_joiners_and_spaces_are_printed():
    words = ["\U0001f469\u200d\U0001f4bb", "\u0645\u06cc\u200c\u0631", "1\xa0km\u202f\u2028\x07"]
    line = re.sub(r"\x1b\[[^m]*m", "", text.to_terminal(words, [1, 2, 3]))
    assert line == " ".join([*words[:2], "1 km ??"])


def test_padding_with_a_value_is_kept():
    assert text.join_pieces(["a", "[PAD]"], [1.0, 0.5])[0] == ["a", "[PAD]"]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.text(max_size=5), st.floats(-1e6, 1e6)), max_size=8))
def test_any_text_keeps_its_sum_and_is_escaped(rows):
    words, values = [word for word, _ in rows], [value for _, value in rows]
    np.testing.assert_allclose(
        text.join_pieces(words, values)[1].sum(), np.sum(values), rtol=1e-9, atol=1e-3
    )
    page = text.to_html(words, values)
    assert page.count("<") == page.count(">") == 2 * page.count("<span") + 2


def test_zeros_and_no_words():
    assert spans(text.to_html(["a"], [0.0])) == [((255, 255, 255), "black", "a")]
    assert text.to_html([], []).endswith('"></p>') and text.to_terminal([], []) == ""


@pytest.mark.parametrize(
    "options, words",
    [
        ({"values": [1, 2]}, "3 words and values of .2,.; expected one value a word"),
        ({"values": [1, 2, 3], "words": [1, 2, 3]}, "a word is 1; expected texts"),
        ({"values": [1, 2, 3], "words": None}, "a word is None; expected texts"),
        ({"values": ["a", "b", "c"]}, "values are <U1; expected an array of real numbers"),
        ({"values": [1, 2, 3], "clip": None}, "clip is None"),
        ({"values": [1, np.nan, 2]}, r"1 NaN or infinite values, the first at \(1,\)"),
        ({"values": [1, 2, 3], "clip": 101}, "clip is 101; .* percentile in"),
        ({"values": [1, 2, 3], "limit": 0}, "limit is 0; expected .* above 0"),
    ],
)
def test_bad_arguments(options, words):
    for show in (text.to_html, text.to_terminal):
        with pytest.raises(ValueError, match=words):
            show(**{"words": WORDS} | options)
