"""CIFAR-10: small colour photographs in ten classes (Krizhevsky 2009, technical report, ch. 3)."""

from __future__ import annotations

import gzip
import os
import pathlib
import tarfile
import zlib

import numpy as np

from jaxdl.data._files import Capped, data_file, read_png
from jaxdl.data.dataset import Dataset, images

__all__ = ["cifar10", "cifar10_png"]

CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
RECORD, RECORDS = 1 + 3 * 32 * 32, 10_000


def cifar10(root: str | os.PathLike | None = None) -> Dataset:
    """Loads CIFAR-10: 50,000 and 10,000 colour photographs of 32x32, in ten classes.

    Reads the published binary version, `cifar-10-binary.tar.gz`; the Python version is a pickle and
    is not supported.

    Args:
      root: the folder of that file; None looks in `$JAXDL_DATA/cifar10`, then in the user's cache,
        and then downloads it.

    Returns:
      A `Dataset` of (N, 32, 32, 3) float32 images in [0, 1] and int32 labels.

    Raises:
      ValueError: the file is missing, damaged or not what is expected.
    """
    path = data_file("cifar10", "cifar-10-binary.tar.gz", root=root, url=URL, sha256=SHA256)
    folder = "cifar-10-batches-bin/"
    names = [f"{folder}data_batch_{i}.bin" for i in range(1, 6)] + [f"{folder}test_batch.bin"]
    records = _members(path, names)
    train = np.concatenate([records[name] for name in names[:5]])
    return Dataset(_split(train), _split(records[names[5]]), CLASSES)


def _members(path: pathlib.Path, names: list[str]) -> dict[str, np.ndarray]:
    """Reads members of an archive in memory; no path of the archive is used."""
    size = RECORD * RECORDS
    contents = {}
    try:
        limit = (len(names) + 1) * size + (1 << 20)
        with gzip.open(path) as file, _tar(Capped(file, limit, path.name)) as archive:
            for member in archive:
                if member.name not in names:
                    continue
                if not member.isreg() or member.size != size:
                    raise ValueError(
                        f"{path.name}: {member.name} has {member.size} bytes; expected {size}."
                    )
                member_file = archive.extractfile(member)
                assert member_file is not None
                content = member_file.read(size)
                contents[member.name] = np.frombuffer(content, np.uint8).reshape(RECORDS, RECORD)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path.name}: damaged or truncated ({error}); get it again.") from error
    missing = [name for name in names if name not in contents]
    if missing:
        raise ValueError(f"{path.name}: has no {missing[0]}; get it again.")
    return contents


def _tar(file: Capped) -> tarfile.TarFile:
    return tarfile.open(fileobj=file, mode="r|")  # type: ignore[call-overload]


def _split(records: np.ndarray):
    """Splits records into images and labels.

    A record is the label and the red, green and blue planes, row by row.
    """
    labels, planes = records[:, 0], records[:, 1:].reshape(-1, 3, 32, 32)
    if np.any(labels > 9):
        raise ValueError(
            f"cifar10: a label is {labels.max()}; expected 0 .. 9. Get the file again."
        )
    return images(planes.transpose(0, 2, 3, 1), labels, 255)


def cifar10_png(root: str | os.PathLike | None = None) -> Dataset:
    """Loads 4,000 images of CIFAR-10 from PNG files: the first 3,200 to train, 800 to test.

    The files are `cifar10_batch_0.png` to `cifar10_batch_3.png`, with the 1,024 pixels of an image
    in each of 1,000 rows, and `labels.txt`.

    Args:
      root: the folder of the files; None looks in `$JAXDL_DATA/cifar10-png`, then in the user's
        cache.

    Returns:
      A `Dataset` of (N, 32, 32, 3) float32 images in [0, 1] and int32 labels.

    Raises:
      ValueError: a file is missing, damaged or not what is expected.
    """
    strips = []
    for i in range(4):
        path = data_file("cifar10-png", f"cifar10_batch_{i}.png", root=root)
        strips.append(read_png("cifar10_png", path, (1024, 1000), "RGB"))
    pixels = np.concatenate(strips).reshape(-1, 32, 32, 3)
    path = data_file("cifar10-png", "labels.txt", root=root)
    lines = path.read_bytes()[:16_000].split()
    if len(lines) != 4000 or not all(len(line) == 1 and line.isdigit() for line in lines):
        raise ValueError(f"{path.name}: expected 4,000 lines of one digit; got {len(lines)}.")
    split = images(pixels, np.array(lines, "S1").astype(np.int32), 255)
    train, test = (type(split)(split.x[part], split.y[part]) for part in PARTS)
    return Dataset(train, test, CLASSES)


PARTS = (slice(None, 3200), slice(3200, None))
