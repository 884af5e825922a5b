"""Locating and downloading data files, and reading untrusted files.

A size in a file's header is compared with the size of its content, in Python's unbounded integers,
before anything is allocated. Nothing is unpickled, and no path comes from a file.
"""

from __future__ import annotations

import gzip
import math
import os
import pathlib
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxdl._optional import extra

__all__ = ["Capped", "data_file", "data_folder", "read_gzip", "read_npz", "read_png", "read_up_to"]

BLOCK = 1 << 20


def data_file(
    dataset: str,
    name: str,
    *,
    root: str | os.PathLike | None,
    url: str | None = None,
    sha256: str | None = None,
) -> pathlib.Path:
    """Returns the path of a data set's file, and downloads it if necessary.

    Looks in `root`, then in `$JAXDL_DATA/<dataset>`, then in the user's cache; then downloads from
    `url` into the cache, where the file appears only if its checksum is right.

    Args:
      dataset: name of the folder, e.g. "mnist".
      name: name of the file.
      root: the folder of the file; if given, no other is tried.
      url: public address of the file, or None if it has none.
      sha256: checksum of the file, verified on download.

    Raises:
      ValueError: the file is missing and cannot be downloaded; the message names the folder for it.
    """
    if root is not None:
        path = pathlib.Path(root) / name
        if path.is_file():
            return path
        raise ValueError(f"{dataset}: no file {name!r} in root={os.fspath(root)!r}; put it there.")
    with extra("data", dataset):
        import pooch

    cache = pathlib.Path(pooch.os_cache("jaxdl")) / dataset
    environment = os.environ.get("JAXDL_DATA")
    folders = ([pathlib.Path(environment) / dataset] if environment else []) + [cache]
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    fix = f"put it into {cache}, or set JAXDL_DATA to the folder above {dataset}/."
    if url is None:
        raise ValueError(f"{dataset}: no file {name!r} here, and no address to get it from; {fix}")
    try:
        return pathlib.Path(
            pooch.retrieve(url, f"sha256:{sha256}", fname=name, path=cache, progressbar=False)
        )
    except Exception as error:  # the fix is the same for every error of the network
        raise ValueError(
            f"{dataset}: {name!r} could not be downloaded from {url} ({error}); {fix}"
        ) from error


def data_folder(dataset: str, name: str, *, root: str | os.PathLike | None) -> pathlib.Path:
    """Returns the path of a data set's folder, from the same places as `data_file`.

    Raises:
      ValueError: the folder is missing; the message gives its expected path.
    """
    if root is not None:
        places = [pathlib.Path(root)]
    else:
        with extra("data", dataset):
            import pooch

        environment = os.environ.get("JAXDL_DATA")
        places = [pathlib.Path(environment) / dataset] if environment else []
        places.append(pathlib.Path(pooch.os_cache("jaxdl")) / dataset)
    for place in places:
        if (place / name).is_dir():
            return place / name
    raise ValueError(
        f"{dataset}: no folder {name!r} here; put it into {places[-1]}, or set JAXDL_DATA to the "
        f"folder above {dataset}/."
    )


def read_gzip(path: str | os.PathLike, limit: int) -> bytes:
    """Returns the content of a gzip file or a plain file, of at most `limit` bytes.

    Raises:
      ValueError: the content is longer, truncated or damaged.
    """
    path = pathlib.Path(path)
    with open(path, "rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        try:
            with gzip.GzipFile(fileobj=raw) if packed else raw as file:
                content = read_up_to(file, limit + 1)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(
                f"{path.name}: damaged or truncated ({error}); get it again."
            ) from error
    if len(content) > limit:
        raise ValueError(f"{path.name}: has more than the expected {limit} bytes; get it again.")
    return content


def read_up_to(file: Any, limit: int) -> bytes:
    """Reads at most `limit` bytes in blocks, because `read(limit)` allocates all of it first."""
    blocks = []
    while limit > 0 and (block := file.read(min(limit, BLOCK))):
        blocks.append(block)
        limit -= len(block)
    return b"".join(blocks)


class Capped:
    """A file that raises after `limit` bytes, against archives that expand without end."""

    def __init__(self, file: Any, limit: int, name: str):
        self._file, self._left, self._name = file, limit, name

    def read(self, size: int) -> bytes:
        block = self._file.read(size)
        self._left -= len(block)
        if self._left < 0:
            raise ValueError(f"{self._name}: unpacks to more than expected; get it again.")
        return block


def read_png(dataset: str, path: pathlib.Path, size: tuple[int, int], mode: str) -> np.ndarray:
    """Reads the pixels of a PNG image of a known width, height and mode.

    Raises:
      ValueError: the file is missing or damaged, or the image has another size or mode.
    """
    with extra("data", dataset):
        from PIL import Image

    try:
        with Image.open(path, formats=("PNG",)) as image:
            if image.size != size or image.mode != mode:
                raise ValueError(
                    f"{path.name} is {image.size} {image.mode}; expected {size} {mode}."
                )
            return np.asarray(image)
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path.name}: no complete PNG image ({error}); get it again.") from error


def read_npz(
    path: str | os.PathLike, arrays: Mapping[str, tuple[tuple[int, ...], str]]
) -> dict[str, np.ndarray]:
    """Reads named arrays of known shapes and dtypes from a NumPy archive.

    Raises:
      ValueError: the file is no such archive, or an array is missing or differs from `arrays`.
    """
    path = pathlib.Path(path)
    loaded = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name, (shape, dtype) in arrays.items():
                with archive.open(f"{name}.npy") as member:
                    loaded[name] = _read_npy(member, f"{path.name}: {name}", shape, dtype)
    except (
        *(zipfile.BadZipFile, KeyError, EOFError, OSError, zlib.error),
        *(NotImplementedError, RuntimeError),  # another version of zip, an encrypted member
    ) as error:
        raise ValueError(
            f"{path.name}: no archive of {', '.join(arrays)} ({error}); get it again."
        ) from error
    return loaded


def _read_npy(member, what: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    try:
        version = np.lib.format.read_magic(member)
        header = np.lib.format.read_array_header_1_0(member) if version == (1, 0) else (None,) * 3
    except (ValueError, SyntaxError, tokenize.TokenError) as error:
        raise ValueError(f"{what} has no header of a NumPy array ({error}).") from error
    if header[0] != shape or header[2] != np.dtype(dtype):
        raise ValueError(f"{what} is {header[0]} of {header[2]}; expected {shape} of {dtype}.")
    size = math.prod(shape) * np.dtype(dtype).itemsize
    content = read_up_to(member, size + 1)
    if len(content) != size:
        raise ValueError(f"{what} has {len(content)} bytes or more; its header says {size}.")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if header[1] else "C")
