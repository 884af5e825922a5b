"""Readers of text: the real files where they are at hand, and files that lie."""

import gzip
import hashlib
import re

import numpy as np
import pooch
import pytest

from jaxdl import data


def test_tiny_shakespeare(data_root):
    text = data.tiny_shakespeare(data_root("tinyshakespeare"))
    assert len(text) == 1_115_394 and len(set(text)) == 65
    assert text.startswith("First Citizen:\n")


def test_movie_reviews(data_root):
    folds = data.movie_reviews(data_root("rt-polarity"))
    assert sorted(len(texts) for texts, _ in folds) == [1066] * 8 + [1067] * 2
    labels = np.concatenate([labels for _, labels in folds])
    assert labels.sum() == 5331 and len(labels) == 10_662
    assert all(0.4 < own.mean() < 0.6 for _, own in folds)
    again = data.movie_reviews(data_root("rt-polarity"))
    assert [texts for texts, _ in folds] == [texts for texts, _ in again]
    with pytest.raises(ValueError, match="1 folds; expected 2"):
        data.movie_reviews(data_root("rt-polarity"), folds=1)


def test_snips(data_root):
    snips = data.snips(data_root("snips"))
    assert {part: len(rows.words) for part, rows in snips.items()} == {
        "train": 13_084,
        "valid": 700,
        "test": 700,
    }
    assert len({slot for row in snips["train"].slots for slot in row}) == 72
    assert len(set(snips["train"].intents)) == 7


def test_multi30k(data_root):
    parts = data.multi30k(data_root("multi30k"))
    assert {part: len(english) for part, (english, _) in parts.items()} == {
        "train": 29_000,
        "valid": 1014,
        "test": 1000,
    }
    assert parts["train"][1][0].startswith("Zwei junge")


def test_published_checksums_are_those_of_the_files(data_root, monkeypatch, tmp_path):
    """What a download would be compared with; the addresses name a commit, not a branch."""
    asked = {}

    def retrieve(url, known_hash, fname, **_):
        asked[fname] = (url, known_hash)
        return folders[fname] / fname

    folders = {name: data_root("rt-polarity") for name in ("rt-polarity.neg", "rt-polarity.pos")}
    folders["input.txt"] = data_root("tinyshakespeare")
    monkeypatch.delenv("JAXDL_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(pooch, "retrieve", retrieve)
    assert len(data.movie_reviews()) == 10 and len(data.tiny_shakespeare()) == 1_115_394
    assert set(asked) == set(folders)
    for name, (url, known_hash) in asked.items():
        content = (folders[name] / name).read_bytes()
        assert known_hash == f"sha256:{hashlib.sha256(content).hexdigest()}"
        assert re.fullmatch(rf"https://\S+/[0-9a-f]{{40}}/\S*{name}", url)


def write(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def test_files_that_do_not_fit_together(tmp_path):
    lines = {f"{part}/{name}": b"a b\n" for part in ("train", "valid", "test") for name in
             ("seq.in", "seq.out", "label")}  # fmt: skip
    write(tmp_path, lines)
    assert data.snips(tmp_path)["test"].words == [["a", "b"]]
    write(tmp_path, {"valid/seq.out": b"O\n"})
    with pytest.raises(ValueError, match="valid, line 1 has 2 words and 1 slots"):
        data.snips(tmp_path)
    write(tmp_path, {"valid/seq.out": b"O O\nO\n"})
    with pytest.raises(ValueError, match="valid has lines"):
        data.snips(tmp_path)


@pytest.mark.parametrize(
    "files, read",
    [
        ({"input.txt": b""}, data.tiny_shakespeare),
        ({"rt-polarity.neg": b"bad\n", "rt-polarity.pos": b"\n"}, data.movie_reviews),
        ({"train/seq.in": b"\n\n"}, data.snips),
        ({"raw/train.en.gz": gzip.compress(b"")}, data.multi30k),
    ],
    ids=["tiny_shakespeare", "movie_reviews", "snips", "multi30k"],
)
def test_empty_files(tmp_path, files, read):
    with pytest.raises(ValueError, match="is empty; get it again"):
        read(write(tmp_path, files))


def test_a_blank_line_is_named_and_not_skipped(tmp_path):
    lines = {"train/seq.in": b"a\n\nb\n", "train/seq.out": b"O\n\nO\n", "train/label": b"x\nx\nx"}
    with pytest.raises(ValueError, match="train, line 2 has 0 words"):
        data.snips(write(tmp_path, lines))


def test_a_sentence_may_hold_what_unicode_calls_a_line_break(tmp_path):
    lines = "so\x85 so\none \u2028 two\n".encode()
    files = {f"raw/{part}.{language}.gz": gzip.compress(lines) for part in
             ("train", "val", "test_2016_flickr") for language in ("en", "de")}  # fmt: skip
    parts = data.multi30k(write(tmp_path, files))
    assert parts["test"][1] == ["so\x85 so", "one \u2028 two"]


def test_movie_reviews_are_latin_1(tmp_path):
    files = {"rt-polarity.neg": b"not my caf\xe9 \ndull \n", "rt-polarity.pos": b"good\nfine"}
    folds = data.movie_reviews(write(tmp_path, files), folds=2)
    pairs = [pair for texts, labels in folds for pair in zip(texts, labels.tolist(), strict=True)]
    assert sorted(pairs) == [("dull", 0), ("fine", 1), ("good", 1), ("not my caf\xe9", 0)]


def test_files_that_are_damaged(tmp_path):
    with pytest.raises(ValueError, match="no file 'input.txt'"):
        data.tiny_shakespeare(tmp_path)
    write(tmp_path, {"input.txt": b"\xff\xfe\x00"})
    with pytest.raises(ValueError, match="input.txt: not utf-8 text"):
        data.tiny_shakespeare(tmp_path)
    packed = gzip.compress(b"one\ntwo\n" * 50)
    write(tmp_path, {"raw/train.en.gz": packed, "raw/train.de.gz": packed[:-9]})
    with pytest.raises(ValueError, match="train.de.gz: damaged or truncated"):
        data.multi30k(tmp_path)
    write(tmp_path, {"raw/train.de.gz": gzip.compress(b"eins\n")})
    with pytest.raises(ValueError, match="train has 100 English and 1 German lines"):
        data.multi30k(tmp_path)
