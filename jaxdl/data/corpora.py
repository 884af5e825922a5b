"""Text corpora: plays, film reviews, spoken requests, translated captions."""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np

from jaxdl.data._files import data_file, read_gzip
from jaxdl.data.batches import permutation

__all__ = ["Utterances", "movie_reviews", "multi30k", "snips", "tiny_shakespeare"]

LIMIT = 64 * 2**20
RAW = "https://raw.githubusercontent.com"


def _read_text(dataset, name, root, url=None, sha256=None, encoding="utf-8") -> str:
    path = data_file(dataset, name, root=root, url=url, sha256=sha256)
    content = read_gzip(path, LIMIT)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}: not {encoding} text ({error}); get it again.") from error
    if not text.strip():
        raise ValueError(f"{dataset}: {name!r} is empty; get it again.")
    return text


def _read_lines(dataset, name, root, **options) -> list[str]:
    """Returns the lines of a file; only a line feed ends a line.

    `str.splitlines` also splits at other Unicode characters, which occur within sentences.
    """
    return _read_text(dataset, name, root, **options).rstrip("\n").split("\n")


def tiny_shakespeare(root: str | os.PathLike | None = None) -> str:
    """Loads 1,115,394 characters, 65 of them distinct, of Shakespeare's plays; public domain.

    Karpathy 2015, char-rnn; usually the first 90 % are for training and the rest for validation.

    Args:
      root: the folder of `input.txt`; None looks in `$JAXDL_DATA/tinyshakespeare`, then in the
        user's cache, then downloads it.

    Returns:
      The text.

    Raises:
      ValueError: the file is missing or damaged.
    """
    return _read_text(
        "tinyshakespeare",
        "input.txt",
        root,
        f"{RAW}/karpathy/char-rnn/{CHAR_RNN}/data/tinyshakespeare/input.txt",
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    )


def movie_reviews(
    root: str | os.PathLike | None = None, *, folds: int = 10, seed: int = 0
) -> list[tuple[list[str], np.ndarray]]:
    """Loads 10,662 sentences of film reviews, half of them positive, in cross-validation folds.

    Pang and Lee 2005 (arXiv cs/0506075), with the random split of Kim 2014 (arXiv 1408.5882).

    Args:
      root: the folder of `rt-polarity.neg` and `.pos`; None looks in `$JAXDL_DATA/rt-polarity`,
        then in the user's cache, then downloads them.
      folds: number of folds of equal size.
      seed: seed of the permutation of the sentences.

    Returns:
      For each fold `(sentences, labels)`; labels are int32, 1 for a positive sentence.

    Raises:
      ValueError: a file is missing or damaged; `folds` is not in 2 .. 5,331.
    """
    texts, labels = [], []
    for label, (name, sha256) in enumerate(POLARITY_SHA256.items()):
        url = f"{RAW}/yoonkim/CNN_sentence/{CNN_SENTENCE}/{name}"
        lines = _read_lines("rt-polarity", name, root, url=url, sha256=sha256, encoding="latin-1")
        texts += [line.strip() for line in lines]
        labels += [label] * len(lines)
    if not 2 <= folds <= len(texts) // 2:
        raise ValueError(f"movie_reviews: {folds} folds; expected 2 .. {len(texts) // 2}.")
    # The files are sorted by label, so folds of consecutive lines would have one class each.
    order = permutation(len(texts), seed=seed, epoch=0)
    parts = np.array_split(order, folds)
    return [([texts[i] for i in part], np.array(labels, np.int32)[part]) for part in parts]


class Utterances(NamedTuple):
    """Requests with a slot label for each word and an intent label for each request.

    Attributes:
      words: the words of each request.
      slots: the slot labels of each request, one per word, such as O, B-artist, I-artist.
      intents: the intent label of each request.
    """

    words: list[list[str]]
    slots: list[list[str]]
    intents: list[str]


def snips(root: str | os.PathLike | None = None) -> dict[str, Utterances]:
    """Loads SNIPS: 13,084, 700 and 700 spoken requests with 72 slot labels and 7 intents.

    Coucke et al. 2018 (arXiv 1805.10190), split as in Goo et al. 2018 (doi:10.18653/v1/N18-2118).

    Args:
      root: the folder of `train/`, `valid/` and `test/`, each with `seq.in`, `seq.out` and `label`;
        None looks in `$JAXDL_DATA/snips`, then in the user's cache.

    Returns:
      `{"train": ..., "valid": ..., "test": ...}`.

    Raises:
      ValueError: a file is missing or damaged, or the numbers of words and slots differ.
    """
    parts = {}
    for part in ("train", "valid", "test"):
        read = {}
        for name in ("seq.in", "seq.out", "label"):
            read[name] = [line.split() for line in _read_lines("snips", f"{part}/{name}", root)]
        counts = {name: len(lines) for name, lines in read.items()}
        if len(set(counts.values())) != 1:
            raise ValueError(f"snips: {part} has lines {counts}; expected equal numbers.")
        for i, (words, slots) in enumerate(zip(read["seq.in"], read["seq.out"], strict=True)):
            if not words or len(words) != len(slots):
                raise ValueError(
                    f"snips: {part}, line {i + 1} has {len(words)} words and {len(slots)} slots; "
                    "expected equal numbers of at least 1. Get the files again."
                )
        intents = [" ".join(label) for label in read["label"]]
        parts[part] = Utterances(read["seq.in"], read["seq.out"], intents)
    return parts


def multi30k(root: str | os.PathLike | None = None) -> dict[str, tuple[list[str], list[str]]]:
    """Loads Multi30k: 29,000, 1,014 and 1,000 image captions in English and German.

    Elliott et al. 2016 (doi:10.18653/v1/W16-3210); for non-commercial use.

    Args:
      root: the folder of `raw/`; None looks in `$JAXDL_DATA/multi30k`, then in the user's cache.

    Returns:
      `{"train": (english, german), "valid": ..., "test": ...}`, aligned lists of sentences.

    Raises:
      ValueError: a file is missing or damaged, or the two languages differ in length.
    """
    parts = {}
    for part, name in (("train", "train"), ("valid", "val"), ("test", "test_2016_flickr")):
        english, german = (
            _read_lines("multi30k", f"raw/{name}.{language}.gz", root) for language in ("en", "de")
        )
        if len(english) != len(german):
            raise ValueError(
                f"multi30k: {part} has {len(english)} English and {len(german)} German lines; "
                "expected equal numbers. Get the files again."
            )
        parts[part] = (english, german)
    return parts


CHAR_RNN = "d1d7aa34fdb3626174bce1d753e6cc6845ce7087"
CNN_SENTENCE = "4abc8df1de694999ff54826854d3ebc53e3e9c20"
POLARITY_SHA256 = {
    "rt-polarity.neg": "4ace77d558c3714723843f1d65b60c01e3417b208180f0728808d76ad0eeeaca",
    "rt-polarity.pos": "2da124ec187a9d5a29c9f04e91c540e02baed5af8868f550a26bd6fd4dbf8bf0",
}
