"""MNIST and Fashion-MNIST, from the published idx files.

LeCun et al. 1998 (doi:10.1109/5.726791); Xiao, Rasul and Vollgraf 2017 (arXiv 1708.07747).
"""

from __future__ import annotations

import math
import os
import pathlib

import numpy as np

from jaxdl.data._files import data_file, read_gzip
from jaxdl.data.dataset import DIGITS, Dataset, images

__all__ = ["fashion_mnist", "mnist", "read_idx"]

LIMIT = 1 << 28
"""Bytes; larger than any published idx file."""


def read_idx(path: str | os.PathLike, *, limit: int = LIMIT) -> np.ndarray:
    """Reads an array of bytes from an idx file, plain or gzipped.

    The format: two zero bytes, 8 for unsigned bytes, the number of axes, each size as a big-endian
    32-bit integer, then the values in C order.

    Args:
      path: the file.
      limit: largest allowed size of the unpacked file in bytes.

    Returns:
      A read-only uint8 array of one to four axes.

    Raises:
      ValueError: the file is not an idx file of bytes, is longer than `limit`, damaged or
        truncated, or the sizes in its header do not match its content.
    """
    name = pathlib.Path(path).name
    content = read_gzip(path, limit)
    axes = content[3] if len(content) > 3 else 0
    if content[:3] != b"\0\0\x08" or not 1 <= axes <= 4 or len(content) < 4 + 4 * axes:
        raise ValueError(
            f"{name}: begins with {content[:4].hex()!r}; expected an idx file of unsigned bytes "
            "with one to four axes, '00000801' to '00000804'."
        )
    header = 4 + 4 * axes
    shape = tuple(int.from_bytes(content[i : i + 4], "big") for i in range(4, header, 4))
    if math.prod(shape) != len(content) - header:
        raise ValueError(
            f"{name}: its header says {' x '.join(map(str, shape))} = {math.prod(shape)} bytes, "
            f"the file has {len(content) - header}; get it again."
        )
    # A view of the bytes, read-only and without a copy.
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _load(dataset, base, checksums, classes, root) -> Dataset:
    parts = []
    for part in ("train", "t10k"):
        arrays = []
        for kind in ("images-idx3", "labels-idx1"):
            name = f"{part}-{kind}-ubyte.gz"
            path = data_file(dataset, name, root=root, url=f"{base}/{name}", sha256=checksums[name])
            arrays.append(read_idx(path))
        pixels, labels = arrays
        if pixels.ndim != 3 or labels.shape != pixels.shape[:1] or np.any(labels > 9):
            raise ValueError(
                f"{dataset}: {part} has images {pixels.shape} and labels {labels.shape}; expected "
                "(N, 28, 28) and (N,) in 0 .. 9. Check that the files are of one data set."
            )
        parts.append(images(pixels, labels, 255))
    train, test = parts
    return Dataset(train, test, classes)


def mnist(root: str | os.PathLike | None = None) -> Dataset:
    """Loads MNIST: 60,000 and 10,000 handwritten digits of 28x28.

    Args:
      root: the folder of the four idx files; None looks in `$JAXDL_DATA/mnist`, then in the user's
        cache, and then downloads them.

    Returns:
      A `Dataset` of (N, 28, 28, 1) float32 images in [0, 1], with ink 1, and int32 labels.

    Raises:
      ValueError: a file is missing or damaged, or does not match its header.
    """
    return _load("mnist", MNIST_URL, MNIST_SHA256, DIGITS, root)


def fashion_mnist(root: str | os.PathLike | None = None) -> Dataset:
    """Loads Fashion-MNIST: 60,000 and 10,000 pictures of clothes of 28x28, in ten classes.

    Args:
      root: the folder of the four idx files; None looks in `$JAXDL_DATA/fashion-mnist`, then in the
        user's cache, and then downloads them.

    Returns:
      A `Dataset` of (N, 28, 28, 1) float32 images in [0, 1] and int32 labels.

    Raises:
      ValueError: a file is missing or damaged, or does not match its header.
    """
    return _load("fashion-mnist", FASHION_URL, FASHION_SHA256, FASHION, root)


FASHION = (
    *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist"
MNIST_SHA256 = {
    "train-images-idx3-ubyte.gz": (
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
    ),
    "train-labels-idx1-ubyte.gz": (
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
    ),
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
FASHION_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
FASHION_SHA256 = {
    "train-images-idx3-ubyte.gz": (
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"
    ),
    "train-labels-idx1-ubyte.gz": (
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"
    ),
    "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}
