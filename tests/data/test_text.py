import chex
import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdl import data

WORDS = st.lists(st.sampled_from(["apple", "bag", "cat", "dog", "elephant"]), max_size=8)


@pytest.mark.row("K02")
def test_one_of_n_encoding():
    """The deck's lexicon: each word a row of the identity."""
    lexicon = ["apple", "bag", "cat", "dog", "elephant"]
    vocabulary = data.Vocabulary([lexicon])
    rows = data.one_hot(vocabulary.encode(lexicon) - 2, 5)
    chex.assert_trees_all_equal(rows, np.eye(5, dtype=np.float32))


@pytest.mark.row("M01")
@given(st.lists(WORDS.filter(bool), min_size=2, max_size=4))
def test_vectors_of_words_and_documents_are_as_long_as_the_lexicon(texts):
    """The drawbacks of one dimension a word: size, lost order, cosine 0 where no word is shared."""
    vocabulary = data.Vocabulary(texts)
    size = len(vocabulary)
    assert size == 2 + len({word for text in texts for word in text})
    words = data.one_hot(np.arange(size), size)
    chex.assert_trees_all_equal(words @ words.T, np.eye(size, dtype=np.float32))  # cosines
    bags = np.stack([data.one_hot(vocabulary.encode(text), size).sum(0) for text in texts])
    for bag, text in zip(bags, texts, strict=True):
        assert bag.tolist() == [text.count(word) for word in vocabulary.symbols]
        backwards = data.one_hot(vocabulary.encode(text[::-1]), size).sum(0)
        chex.assert_trees_all_equal(bag, backwards)
    shared = [[bool({*a} & {*b}) for b in texts] for a in texts]
    assert ((bags @ bags.T) > 0).tolist() == shared


@given(st.lists(WORDS, min_size=1, max_size=5))
def test_a_vocabulary_gives_back_what_it_was_made_of(texts):
    vocabulary = data.Vocabulary(texts)
    for text in texts:
        assert vocabulary.decode(vocabulary.encode(text)) == text


@pytest.mark.row("K03")
def test_what_is_not_known_has_a_number_of_its_own():
    vocabulary = data.Vocabulary([["a", "b", "a"], ["c", "b", "a"]], min_count=2)
    assert vocabulary.symbols == ("<pad>", "<unk>", "a", "b")
    assert vocabulary.encode(["c", "a", "zebra"]).tolist() == [1, 2, 1]
    assert vocabulary.decode([1, 2, 0]) == ["<unk>", "a"]
    assert "a" in vocabulary and "c" not in vocabulary and len(vocabulary) == 4
    assert data.Vocabulary([["a", "b", "a"]], max_size=3).symbols == ("<pad>", "<unk>", "a")


@pytest.mark.row("K03")
def test_word_hashing_by_letter_trigrams():
    number = lambda t: sum((ord(c) - 97) * 26 ** (2 - i) for i, c in enumerate(t))
    assert data.letter_trigrams("apple").tolist() == [number(t) for t in ("app", "ppl", "ple")]
    assert data.TRIGRAMS == 17_576 == number("zzz") + 1
    assert data.letter_trigrams("Ap-PLE").tolist() == data.letter_trigrams("apple").tolist()
    assert len(data.letter_trigrams("at")) == 0
    assert len(data.letter_trigrams("at", boundaries=True)) == 2
    assert data.letter_trigrams("zzz", boundaries=True).max() < 27**3


@pytest.mark.row("K03")
def test_one_of_n_encoding_has_a_dimension_for_other_words():
    """The deck's "Sauron" and "Gandalf" share the dimension "other"."""
    vocabulary = data.Vocabulary([["apple", "bag", "cat"]])
    rows = data.one_hot(vocabulary.encode(["Sauron", "bag", "Gandalf"]), len(vocabulary))
    assert rows.tolist() == [[0, 1, 0, 0, 0], [0, 0, 0, 1, 0], [0, 1, 0, 0, 0]]


def test_tokenize():
    assert data.tokenize("It's GOOD, isn't it?") == [
        "it",
        "'s",
        "good",
        ",",
        "isn",
        "'t",
        "it",
        "?",
    ]


@given(st.lists(st.lists(st.integers(1, 9), max_size=6), min_size=1, max_size=6))
def test_padding_keeps_the_rows(rows):
    padded, lengths = data.pad(rows, length=7)
    assert padded.shape == (len(rows), 7)
    for row, out, length in zip(rows, padded, lengths, strict=True):
        assert out[:length].tolist() == row and not out[length:].any()


def test_padding_of_vectors():
    padded, lengths = data.pad([np.ones((2, 3)), np.ones((0, 3))], value=-1.0)
    assert padded.shape == (2, 2, 3) and lengths.tolist() == [2, 0]
    assert (padded[1] == -1).all()


def test_padding_loses_nothing():
    """Neither fractions below whole numbers nor a value that the rows' dtype cannot hold."""
    assert data.pad([[1], [2.5, 3]])[0].tolist() == [[1, 0], [2.5, 3]]
    ints = np.array([1, 2], np.int32)
    assert data.pad([[], ints])[0].dtype == np.int32
    assert np.isnan(data.pad([[1.0]], length=2, value=np.nan)[0][0, 1])
    with pytest.raises(ValueError, match="value is 0.5 for rows of int32"):
        data.pad([ints], value=0.5)
    with pytest.raises(ValueError, match=r"steps of shapes \[\(1,\), \(3,\)\]"):
        data.pad([np.ones((2, 3)), np.ones((1, 1))])


def test_longer_rows_are_truncated_when_asked_for():
    rows = [[1, 2, 3, 4], [5, 6], []]
    ends, lengths = data.pad(rows, length=3, truncate="end")
    assert ends.tolist() == [[1, 2, 3], [5, 6, 0], [0, 0, 0]] and lengths.tolist() == [3, 2, 0]
    starts, lengths = data.pad(rows, length=3, truncate="start")
    assert starts.tolist() == [[2, 3, 4], [5, 6, 0], [0, 0, 0]] and lengths.tolist() == [3, 2, 0]
    for side in ("start", "end"):
        assert data.pad(rows, length=0, truncate=side)[0].shape == (3, 0)
        chex.assert_trees_all_equal(data.pad(rows, truncate=side), data.pad(rows))
    with pytest.raises(ValueError, match="truncate is 'pre'"):
        data.pad(rows, truncate="pre")
    with pytest.raises(ValueError, match="length is -1"):
        data.pad(rows, length=-1)


def test_bad_input():
    with pytest.raises(ValueError, match="texts is one string"):
        data.Vocabulary("abc")
    with pytest.raises(ValueError, match="min_count=0"):
        data.Vocabulary([["a"]], min_count=0)
    with pytest.raises(ValueError, match="contain '<pad>'"):
        data.Vocabulary([["<pad>"]])
    with pytest.raises(ValueError, match="9 is not in 0 .. 2"):
        data.Vocabulary([["a"]]).decode([9])
    with pytest.raises(ValueError, match="no rows"):
        data.pad([])
    with pytest.raises(ValueError, match="length is 1, but a row has 2"):
        data.pad([[1, 2]], length=1)
    for value in (np.nan, np.inf, 0.5, "a"):
        with pytest.raises(ValueError, match="for rows of int.*expected"):
            data.pad([[1, 2], [3]], value=value)
    with pytest.raises(ValueError, match="value is -100 for rows of uint8"):
        data.pad([np.array([1], np.uint8)] * 2, value=-100)
    with pytest.raises(ValueError, match="a row is 1, a single number"):
        data.pad([1, 2])
    with pytest.raises(ValueError, match="row 0 has strings"):
        data.pad(["abc", "d"])


@pytest.mark.row("K01")
def test_a_city_alone_does_not_tell_its_slot():
    rows = data.toy.travel.requests(jax.random.key(0), 2000)
    assert rows == data.toy.travel.requests(jax.random.key(0), 2000)
    assert rows[:50] != data.toy.travel.requests(jax.random.key(1), 50)
    counts = {city: [0, 0] for city in data.toy.travel.CITIES}
    for words, slots in rows:
        assert len(words) == len(slots) and set(slots) <= {0, 1, 2, 3}
        (at,) = [i for i, slot in enumerate(slots) if slot in (1, 2)]
        counts[words[at]][slots[at] - 1] += 1
        before = words[at - 1] if words[at - 1] not in ("in", "at", "from") else words[at - 2]
        assert before == {1: "arrive", 2: "leave"}[slots[at]] or before == "depart"
    share = np.array(list(counts.values()))
    assert np.abs(share[:, 0] / share.sum(1) - 0.5).max() < 5 * 0.5 / np.sqrt(share.sum(1).min())
    with pytest.raises(ValueError, match="n is 0"):
        data.toy.travel.requests(jax.random.key(0), 0)


def value(text):
    """The number that Chinese characters write, read back by their place values."""
    total = section = digit = 0
    for c in text:
        if c in "零一二三四五六七八九":
            digit = "零一二三四五六七八九".index(c)
        elif c == "两":
            digit = 2
        elif c == "万":
            total, section, digit = (section + digit) * 10_000, 0, 0
        else:
            section += (digit or 1) * {"十": 10, "百": 100, "千": 1000}[c]
            digit = 0
    return total + section + digit


def spoken(words):
    """The number that English words say."""
    numerals = data.toy.numerals
    total = now = 0
    for word in words:
        if word in numerals.ONES:
            now += numerals.ONES.index(word)
        elif word in numerals.TENS:
            now += 10 * numerals.TENS.index(word) + 20
        elif word == "hundred":
            now *= 100
        elif word == "thousand":
            total, now = total + now * 1000, 0
        else:
            assert word == "and"
    return total + now


@pytest.mark.row("K07")
@given(st.integers(0, 999_999))
def test_numbers_are_read_back_from_both_languages(n):
    assert value(data.toy.numerals.chinese(n)) == n
    assert spoken(data.toy.numerals.english(n).split()) == n


@pytest.mark.parametrize(
    "n, expected",
    [(10, "十"), (12, "十二"), (101, "一百零一"), (110, "一百一十"), (2019, "两千零一十九"),
     (10_010, "一万零一十"), (20_000, "两万"), (120_000, "十二万"), (0, "零"), (222, "两百二十二")],
)  # fmt: skip
def test_chinese_numbers_by_hand(n, expected):
    assert data.toy.numerals.chinese(n) == expected


@pytest.mark.row("K07")
def test_held_out_pairs_are_never_trained_on():
    training = data.toy.numerals.pairs(jax.random.key(0), 3000)
    test = data.toy.numerals.pairs(jax.random.key(1), 500, held_out=True)
    assert not {t for _, t in training} & {t for _, t in test}
    assert training[:20] == data.toy.numerals.pairs(jax.random.key(0), 20)
    dates = [pair for pair in training if "年" in pair[1]]
    assert 0.4 < len(dates) / 3000 < 0.6
    with pytest.raises(ValueError, match="n is 0"):
        data.toy.numerals.pairs(jax.random.key(0), 0)
    with pytest.raises(ValueError, match="expected an integer in 0 .. 999999"):
        data.toy.numerals.chinese(1_000_000)
