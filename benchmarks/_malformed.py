"""Malformed files for every reader of outside bytes: an error of the right type, time, memory.

Each reader gets a valid file, and then random changes of it: flipped bits, truncation, repeated or
zeroed parts, largest numbers, noise. A changed file that is still read is a valid file with other
content; a rejected one is counted, with the time and the memory of the rejection.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import pathlib
import random
import tarfile
import tempfile
import time
import tracemalloc
import unittest.mock
import wave
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
import optax

from jaxdl import data, nn, train
from jaxdl.data import cifar
from jaxdl.data._files import read_gzip, read_npz
from jaxdl.interop import safetensors
from jaxdl.train.checkpoint_format import MANIFEST, verify, write_manifest

SECONDS, MEGABYTES = 1.0, 50


class Reader(NamedTuple):
    """A reader, a file that it reads, and the file's place below a folder."""

    read: Callable[[pathlib.Path], object]
    name: str
    content: bytes


class Tally(NamedTuple):
    """Counts of files rejected and read, and the failures among them."""

    cases: int
    refused: int
    read: int
    wrong: tuple[str, ...]
    slowest: float
    largest: float


def fuzz(cases: int, seed: int = 0, only: str = "") -> dict[str, Tally]:
    """Feeds changed files to every reader."""
    with tempfile.TemporaryDirectory() as made, contextlib.ExitStack() as stack:
        # Ten images a file instead of 10,000, so that a thousand cases take seconds.
        stack.enter_context(unittest.mock.patch.object(cifar, "RECORDS", 10))
        readers = {k: r for k, r in all_readers(pathlib.Path(made)).items() if only in k}
        return {
            kind: tally(reader, pathlib.Path(made) / "files" / kind, cases, seed)
            for kind, reader in readers.items()
        }


def tally(reader: Reader, folder: pathlib.Path, cases: int, seed: int) -> Tally:
    # By the reader's name, so that a case can be repeated without the other readers.
    rng = random.Random(f"{seed} {reader.name}")
    path = folder / reader.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(reader.content)
    with contextlib.suppress(ValueError):  # the bomb
        reader.read(folder)  # what is imported late is imported
    refused, read, wrong, slowest, largest = 0, 0, [], 0.0, 0.0
    for case in range(cases):
        content = change_bytes(rng, reader.content)
        path.write_bytes(content)
        tracemalloc.start()
        began = time.perf_counter()
        try:
            reader.read(folder)
            read += 1
            outcome = None
        except (ValueError, OSError) as error:
            refused += 1
            outcome = error
        except Exception as error:
            wrong.append(f"case {case}: {type(error).__name__}: {str(error)[:200]}")
            outcome = error
        seconds = time.perf_counter() - began
        # Less the file itself, which every reader reads into memory.
        peak = (tracemalloc.get_traced_memory()[1] - len(content)) / 2**20
        tracemalloc.stop()
        slowest = max(slowest, seconds)
        if outcome is not None:
            largest = max(largest, peak)
        if seconds > SECONDS or (outcome is not None and peak > MEGABYTES):
            wrong.append(f"case {case}: {seconds:.2f} s, {peak:.0f} MB: {outcome}")
    path.write_bytes(reader.content)
    return Tally(cases, refused, read, tuple(wrong), slowest, largest)


def change_bytes(rng: random.Random, content: bytes) -> bytes:
    """The content with one to three changes; half of them near its beginning, where headers are."""
    out = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        size = len(out)
        start = rng.randrange(max(1, min(size, 200) if rng.random() < 0.5 else size))
        kind = rng.randrange(8)
        if kind == 0 and size:
            out[start] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del out[start:]
        elif kind == 2:
            out[start : start + 8] = rng.choice([b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"\0" * 8])
        elif kind == 3:
            out[start:start] = out[start : start + rng.randint(1, 64)]
        elif kind == 4:
            del out[start : start + rng.randint(1, 64)]
        elif kind == 5:
            out[start : start + 16] = rng.randbytes(16)
        elif kind == 6:  # a number in text, made huge or negative or none
            number = rng.choice(
                [b"99999999999999999999", b"-1", b"1e999", b"NaN", b"null", b"[[[["]
            )
            out[start : start + 1] = number
        else:
            out += rng.randbytes(rng.randint(1, 64))
    return bytes(out)


def all_readers(folder: pathlib.Path) -> dict[str, Reader]:
    """Every reader of `jaxdl` that takes bytes from outside."""
    idx = b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (3, 28, 28)) + bytes(3 * 784)
    text = "one two three\nvier fünf sechs\n".encode() * 20
    return {
        "idx": Reader(lambda p: data.read_idx(p / "x"), "x", idx),
        "idx gzipped": Reader(lambda p: data.read_idx(p / "x.gz"), "x.gz", gzip.compress(idx)),
        "gzip bomb": Reader(lambda p: read_gzip(p / "x.gz", 1 << 16), "x.gz", bomb()),
        "npz": Reader(
            lambda p: read_npz(p / "x.npz", {"a": ((50, 4), "<f4"), "b": ((50,), "<i8")}),
            "x.npz",
            npz(),
        ),
        "safetensors": Reader(
            lambda p: safetensors.load_weights(p / "x"), "x", weights(folder / "weights")
        ),
        "WAV": Reader(lambda p: data.read_wav(p / "x.wav"), "x.wav", sound()),
        "PNG": Reader(strips, "cifar10_batch_2.png", png()),
        "labels": Reader(strips, "labels.txt", b"7\n" * 4000),
        "tar of images": Reader(lambda p: data.cifar10(p), "cifar-10-binary.tar.gz", archive()),
        "text": Reader(lambda p: reviews(p), "rt-polarity.neg", text),
        "slots": Reader(slots, "train/seq.out", b"O O B-x\nO O O\n" * 20),
        "sentences gzipped": Reader(sentences, "raw/train.de.gz", gzip.compress(text)),
        "manifest": Reader(verify_folder, "manifest.json", manifest_of(folder / "manifest")),
        "checkpoint record": checkpoint_record(folder / "checkpoint"),
        "log": Reader(log, "log.jsonl", b'{"step": 1, "loss": 0.5}\n' * 30),
    }


def bomb() -> bytes:
    """30 MB of zeros, which the reader's limit forbids."""
    return gzip.compress(bytes(30 << 20))


def npz() -> bytes:
    file = io.BytesIO()
    np.savez(file, a=np.zeros((50, 4), np.float32), b=np.arange(50))
    return file.getvalue()


def weights(path: pathlib.Path) -> bytes:
    params = {"dense_0": {"kernel": np.ones((8, 4), np.float32), "bias": np.zeros(4, np.float32)}}
    safetensors.save_weights(path, params, {"mean": np.zeros(3, np.float32)})
    return path.read_bytes()


def sound() -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((1, 2, 8000, 0, "NONE", ""))
        out.writeframes(bytes(2000))
    return file.getvalue()


def png() -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (1024, 1000), (1, 2, 3)).save(file, "PNG")
    return file.getvalue()


def strips(folder: pathlib.Path) -> object:
    """The reader of PNG strips, with its other files in place."""
    for i in range(4):
        if not (folder / f"cifar10_batch_{i}.png").exists():
            (folder / f"cifar10_batch_{i}.png").write_bytes(png())
    if not (folder / "labels.txt").exists():
        (folder / "labels.txt").write_bytes(b"7\n" * 4000)
    return data.cifar10_png(folder)


def archive() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as out:
        for name in [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]:
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = 10 * cifar.RECORD
            out.addfile(member, io.BytesIO(bytes(member.size)))
    return file.getvalue()


def reviews(folder: pathlib.Path) -> object:
    (folder / "rt-polarity.pos").write_bytes(b"good\n" * 40)
    return data.movie_reviews(folder)


def slots(folder: pathlib.Path) -> object:
    for part in ("train", "valid", "test"):
        (folder / part).mkdir(exist_ok=True)
        for name, line in (("seq.in", b"a b c\n"), ("seq.out", b"O O O\n"), ("label", b"X\n")):
            if not (folder / part / name).exists():
                (folder / part / name).write_bytes(line * 40)
    return data.snips(folder)


def sentences(folder: pathlib.Path) -> object:
    for name in ("train", "val", "test_2016_flickr"):
        for language in ("en", "de"):
            path = folder / "raw" / f"{name}.{language}.gz"
            if not path.exists():
                path.write_bytes(gzip.compress(b"one two three\n" * 40))
    return data.multi30k(folder)


def manifest_of(folder: pathlib.Path) -> bytes:
    folder.mkdir()
    (folder / "a").write_bytes(b"content")
    write_manifest(folder)
    return (folder / MANIFEST).read_bytes()


def verify_folder(folder: pathlib.Path) -> object:
    """Verifies a folder; a changed manifest must be noticed."""
    (folder / "a").write_bytes(b"content")
    wrong = verify(folder)
    if wrong is not None:
        raise ValueError(wrong)
    return None


def checkpoint_record(folder: pathlib.Path) -> Reader:
    """Writes a forged record with a matching manifest."""
    x = np.zeros((1, 4), np.float32)
    state = train.init_state(nn.dense(3), optax.sgd(0.1), jax.random.key(0), x)
    checkpoints = train.Checkpointer(folder)
    with checkpoints.writing():
        checkpoints.save(state, {"history": {"loss": [1.0]}}, {"0": {"best": 1.0}})
    (path,) = checkpoints.paths()
    before = (path / "record.json").read_bytes()

    def read(below: pathlib.Path) -> object:
        (path / "record.json").write_bytes((below / "record.json").read_bytes())
        write_manifest(path)
        return train.Checkpointer(folder).restore(state)

    return Reader(read, "record.json", before)


def log(folder: pathlib.Path) -> object:
    logger = train.JSONLines(folder / "log.jsonl")
    logger.log(10, {"loss": 1.0})
    logger.close()
    lines = (folder / "log.jsonl").read_text("utf-8").splitlines()
    return json.loads(lines[-1])
