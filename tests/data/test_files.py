"""Files that lie: at worst a ValueError, and never an allocation by a header's word."""

import gzip
import io
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdl import data
from jaxdl.data._files import data_file, read_gzip, read_npz

VALID = b"\0\0\x08\x02" + (2).to_bytes(4, "big") + (3).to_bytes(4, "big") + bytes(range(6))


def written(tmp_path, content, name="x.gz"):
    path = tmp_path / name
    path.write_bytes(content)
    return path


@pytest.mark.row("V08")
@pytest.mark.parametrize("pack", [gzip.compress, bytes], ids=["gzipped", "plain"])
def test_a_good_idx_file(tmp_path, pack):
    array = data.read_idx(written(tmp_path, pack(VALID)))
    np.testing.assert_array_equal(array, [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "expected an idx file"),
        (b"\0\0\x09" + VALID[3:], "begins with '00000902'"),
        (b"\0\0\x08\x00" + VALID[4:], "expected an idx file"),
        (VALID[:7], "expected an idx file"),
        (VALID[:-1], r"header says 2 x 3 = 6 bytes, the file has 5"),
        (VALID + b"!", "header says 2 x 3 = 6 bytes, the file has 7"),
        (b"\0\0\x08\x04" + b"\xff" * 16 + b"abc", "the file has 3"),
    ],
    ids=["empty", "floats", "no axes", "cut header", "short", "long", "2^128 bytes"],
)
def test_lying_idx_files(tmp_path, content, words):
    with pytest.raises(ValueError, match=words):
        data.read_idx(written(tmp_path, gzip.compress(content)))


def test_truncated_and_damaged_gzip(tmp_path):
    packed = gzip.compress(VALID * 100)
    for content in (packed[:-9], packed[:20] + b"\xff" * 5 + packed[25:]):
        with pytest.raises(ValueError, match="damaged or truncated"):
            read_gzip(written(tmp_path, content), 10_000)


def test_a_gzip_bomb_stops_at_the_limit(tmp_path):
    path = written(tmp_path, gzip.compress(bytes(64 << 20)))
    tracemalloc.start()
    with pytest.raises(ValueError, match="more than the expected 1000 bytes"):
        read_gzip(path, 1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 << 20


@given(st.data())
def test_fuzzed_idx_files_give_an_array_or_a_value_error(tmp_path_factory, draw):
    raw = bytearray(draw.draw(st.sampled_from([VALID, gzip.compress(VALID)])))
    for _ in range(draw.draw(st.integers(1, 4))):
        raw[draw.draw(st.integers(0, len(raw) - 1))] = draw.draw(st.integers(0, 255))
    raw = raw[: draw.draw(st.integers(0, len(raw)))]
    path = written(tmp_path_factory.mktemp("idx"), bytes(raw))
    try:
        assert data.read_idx(path, limit=1000).dtype == np.uint8
    except ValueError:
        pass


def npz(tmp_path, **members):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def npy(array, **options):
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


EXPECTED = {"a": ((2, 3), "<f4")}


def test_a_good_npz_in_either_order(tmp_path):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    for order in (array, np.asfortranarray(array)):
        np.testing.assert_array_equal(read_npz(npz(tmp_path, a=npy(order)), EXPECTED)["a"], array)


def test_bad_npz_files(tmp_path):
    good = npy(np.zeros((2, 3), np.float32))
    huge = good.replace(b"(2, 3)", b"(9**9,)"[:6])
    cases = {
        "expected \\(2, 3\\) of <f4": npy(np.zeros((3, 2), np.float32)),
        "of object": npy(np.array([[{}, 1, 2]] * 2, object), allow_pickle=True),
        "header says 24": good + bytes(1 << 20),
        "a.npz|magic|header": huge,
    }
    for words, content in cases.items():
        with pytest.raises(ValueError, match=words):
            read_npz(npz(tmp_path, a=content), EXPECTED)
    with pytest.raises(ValueError, match="no archive of a"):
        read_npz(npz(tmp_path, b=good), EXPECTED)
    with pytest.raises(ValueError, match="no archive of a"):
        read_npz(written(tmp_path, pickle.dumps({"a": 1}), "p.npz"), EXPECTED)


def test_where_files_are_looked_for(tmp_path, monkeypatch):
    (tmp_path / "usps").mkdir()
    written(tmp_path / "usps", b"1", "f")
    monkeypatch.setenv("JAXDL_DATA", str(tmp_path))
    assert data_file("usps", "f", root=None) == tmp_path / "usps" / "f"
    with pytest.raises(ValueError, match="no file 'g' in root="):
        data_file("usps", "g", root=tmp_path)
    with pytest.raises(ValueError, match="set JAXDL_DATA"):
        data_file("usps", "g", root=None)


def test_a_download_that_fails_names_the_address_and_the_place(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXDL_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ValueError, match="could not be downloaded from http://127.0.0.1:9/f"):
        data_file("mnist", "f", root=None, url="http://127.0.0.1:9/f", sha256="0" * 64)
    assert not list(tmp_path.rglob("f"))
