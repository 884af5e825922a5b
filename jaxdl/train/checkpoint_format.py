"""Checkpoint files: layout, checksums, reading and writing.

A checkpoint is a folder:

    arrays/          written by Orbax; leaf i of the tree is named by its number
    record.json      paths, dtypes and shapes of the leaves, and what `save` got as `record`
    manifest.json    the SHA-256 and the size of every file above, written last

A folder may come from a stranger. So paths of record.json are compared with the expected ones and
never opened, and a shape in it allocates nothing until the stored array has confirmed it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl import tree
from jaxdl.data._files import read_up_to
from jaxdl.train.state import TrainState, as_numbers, is_key, rebuild

__all__ = ["CheckpointCorrupt", "RestoredRun"]

FORMAT = "jaxdl checkpoint 1"
ARRAYS, RECORD, MANIFEST = "arrays", "record.json", "manifest.json"
TEMPORARY = "manifest.tmp"
BLOCK = 1 << 20
MANIFEST_LIMIT = 1 << 26
"""Bytes; larger than the manifest of a million files."""


class CheckpointCorrupt(ValueError):
    """Raised when no checkpoint of a directory, or not the requested one, is intact."""


class RestoredRun(NamedTuple):
    """A checkpoint that was read.

    Attributes:
      state: the `TrainState`.
      record: the `record` passed to `save`, with `record["history"]` if `fit` wrote it.
      extra: `{path: array or number}`, the state of the callbacks.
      path: the folder of the checkpoint.
    """

    state: TrainState
    record: dict[str, Any]
    extra: dict[str, Any]
    path: pathlib.Path


def pack(
    state: TrainState, record: Mapping[str, Any], extra: Any
) -> tuple[str, dict[str, jax.Array]]:
    """Returns the text of record.json and the arrays by number.

    PRNG keys become their uint32 data; empty arrays are left out, because Orbax rejects them. The
    text is made at once, because the run changes its history while the arrays are written.
    """
    leaves = tree.flatten({"state": state, "extra": jax.tree.map(as_numbers, extra)})
    numbers = {path: leaf for path, leaf in leaves.items() if isinstance(leaf, int | float)}
    arrays = {path: leaf for path, leaf in leaves.items() if path not in numbers}
    content = {
        "format": FORMAT,
        "step": int(state.step),
        "arrays": [[path, format_array(leaf)] for path, leaf in arrays.items()],
        "numbers": numbers,
        "record": dict(record),
    }
    numbered = {_name(i): as_numbers(leaf) for i, leaf in enumerate(arrays.values()) if leaf.size}
    return json.dumps(content), numbered


def read(
    folder: pathlib.Path,
    like: TrainState,
    check: Callable[[pathlib.Path, dict[str, Any]], None] | None = None,
) -> RestoredRun:
    """Reads a checkpoint whose files have been verified.

    Args:
      folder: the folder of the checkpoint.
      like: a state of the same structure.
      check: called with the folder and its record before the state is compared.

    Raises:
      CheckpointCorrupt: the files are not those of a checkpoint.
      ValueError: the checkpoint's state differs from `like`.
    """
    import orbax.checkpoint as ocp

    content = _read_record(folder)
    if check is not None:
        check(folder, content["record"])
    expected = tree.flatten({"state": like})
    stored = {path: described for path, described in content["arrays"]}
    stored_state = {path: d for path, d in stored.items() if path.startswith("state/")}
    expected_state = {path: format_array(leaf) for path, leaf in expected.items()}
    wrong = list_differences(stored_state, expected_state)
    if wrong:
        raise ValueError(
            f"checkpoint {str(folder)!r} is of another state: {'; '.join(wrong)}. Use the model "
            "and the optimizer that it was saved with, or another directory."
        )
    targets = {}
    for i, (path, described) in enumerate(stored.items()):
        leaf = expected.get(path)
        targets[_name(i)] = _parse_array(described) if leaf is None else _target(leaf)
    empty = {i: target for i, target in targets.items() if not target.size}
    targets = {i: target for i, target in targets.items() if i not in empty}
    with ocp.StandardCheckpointer() as orbax:
        arrays = orbax.restore(folder / ARRAYS, targets)
    for i, target in targets.items():
        # Orbax restores a stored array of another shape without an error.
        if format_array(arrays[i]) != format_array(target):
            raise CheckpointCorrupt(
                f"{folder.name}: array {i} is {format_array(arrays[i])}; its record expects "
                f"{format_array(target)}."
            )
    arrays |= empty
    leaves = {path: arrays[_name(i)] for i, path in enumerate(stored)}
    state = rebuild(like, leaves, "state/")
    extra = {p.removeprefix("extra/"): leaf for p, leaf in leaves.items() if p not in expected}
    extra |= {path.removeprefix("extra/"): value for path, value in content["numbers"].items()}
    return RestoredRun(state, content["record"], extra, folder)


def _read_record(folder: pathlib.Path) -> dict[str, Any]:
    """Returns the content of record.json, with the types of its entries checked."""
    try:
        content = json.loads((folder / RECORD).read_text("utf-8"))
        ok = content["format"] == FORMAT and all(
            isinstance(content[name], kind)
            for name, kind in {"arrays": list, "numbers": dict, "record": dict}.items()
        )
        ok = ok and all(isinstance(value, int | float) for value in content["numbers"].values())
        ok = ok and all(isinstance(p, str) and isinstance(d, str) for p, d in content["arrays"])
    # Deeply nested JSON raises RecursionError.
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointCorrupt(f"{folder.name}: record.json cannot be read: {error!r}.") from error
    if not ok:
        raise CheckpointCorrupt(f"{folder.name}: record.json is not of the format {FORMAT!r}.")
    return content


def read_monitor(folder: pathlib.Path, monitor: str | None) -> float:
    """Returns the last value of an entry of a checkpoint's history, NaN if it has none."""
    try:
        return float(_read_record(folder)["record"]["history"][monitor][-1])
    except (CheckpointCorrupt, KeyError, IndexError, TypeError, ValueError):
        return math.nan


def list_differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Lists the differences of two flat descriptions, one line for each entry."""
    wrong = [f"{name} was {was[name]}, not there now" for name in was if name not in now]
    wrong += [f"{name} is {now[name]}, not there then" for name in now if name not in was]
    both = [name for name in was if name in now and was[name] != now[name]]
    return wrong + [f"{name} was {was[name]}, is {now[name]}" for name in both]


def format_array(leaf: Any) -> str:
    """Returns dtype and shape of an array as text: "float32[3,4]"."""
    return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"


def _name(i: int) -> str:
    return f"{i:06d}"


def _target(leaf: Any) -> Any:
    """Returns what Orbax restores a leaf as: an array sharded like it, or one on the host."""
    sharding = getattr(leaf, "sharding", None)
    plain = jax.eval_shape(as_numbers, leaf)
    if sharding is None or len(sharding.device_set) == 1:
        return _make_placeholder(plain.shape, plain.dtype)
    # The uint32 data of a key have one more axis than the key, so its sharding does not fit.
    if is_key(leaf):
        sharding = jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())
    return jax.ShapeDtypeStruct(plain.shape, plain.dtype, sharding=sharding)


_ARRAY = re.compile(r"([a-z0-9_]+)\[([\d,]*)\]")


def _parse_array(text: str) -> Any:
    """Returns an unallocated array from the text of `format_array`."""
    match = _ARRAY.fullmatch(text)
    if match is None:
        raise CheckpointCorrupt(f"record.json describes an array as {text[:80]!r}.")
    return _make_placeholder(tuple(int(n) for n in match[2].split(",") if n), jnp.dtype(match[1]))


def _make_placeholder(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Returns a host array that allocates one number, however large a file claims it to be."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def write_manifest(folder: pathlib.Path) -> None:
    """Writes the checksums of all files below a folder, and waits until they are on the disk."""
    entries = {name: _checksum(path) for name, path in _files(folder).items()}
    # Renamed when complete, so that a partial manifest never has the final name.
    with open(folder / TEMPORARY, "wb") as file:
        file.write(_format_manifest(entries))
        file.flush()
        os.fsync(file.fileno())
    os.replace(folder / TEMPORARY, folder / MANIFEST)
    fsync_folder(folder)


def verify(folder: pathlib.Path) -> str | None:
    """Compares a folder with its manifest; returns what is wrong, or None.

    A name in the manifest is never made into a path: the files that exist are looked up in it.
    """
    try:
        with open(folder / MANIFEST, "rb") as file:
            # One byte more than allowed shows that the file is too large, without reading the rest.
            content = read_up_to(file, MANIFEST_LIMIT + 1)
        entries = json.loads(content)["files"]
        if len(content) > MANIFEST_LIMIT or content != _format_manifest(entries):
            return f"{MANIFEST} is damaged"
        files = _files(folder)
        for name, expected in entries.items():
            if name not in files:
                return f"{name} is missing"
            # The size first: a truncated file of gigabytes needs no hash.
            if files[name].stat().st_size != expected["size"] or _checksum(files[name]) != expected:
                return f"{name} is damaged"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return f"{MANIFEST} cannot be read ({type(error).__name__}: {str(error)[:200]})"
    return None


def list_manifest(folder: pathlib.Path) -> list[str]:
    """Lists the files of a folder that are in its manifest; none if it has no manifest."""
    if not (folder / MANIFEST).is_file():
        return []
    entries = json.loads((folder / MANIFEST).read_bytes())["files"]
    return [name for name in _files(folder) if name in entries]


def _files(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Returns all regular files below a folder except the manifest, by relative path."""
    files = {}
    for top, _, names in os.walk(folder):
        for name in names:
            path = pathlib.Path(top) / name
            # A link in a folder from elsewhere could name any file of this machine.
            if path.is_file() and not path.is_symlink():
                files[path.relative_to(folder).as_posix()] = path
    return {name: files[name] for name in sorted(files) if name not in (MANIFEST, TEMPORARY)}


def _checksum(path: pathlib.Path) -> dict[str, int | str]:
    digest, size = hashlib.sha256(), 0
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            size += len(block)
    return {"sha256": digest.hexdigest(), "size": size}


def _format_manifest(entries: dict) -> bytes:
    """Returns the bytes of a manifest; they are unique, so any other bytes are damage."""
    listing = json.dumps(entries, sort_keys=True, indent=0)
    own = hashlib.sha256(listing.encode()).hexdigest()
    return f'{{"files": {listing}, "sha256": "{own}"}}\n'.encode()


def fsync_folder(folder: pathlib.Path) -> None:
    """Waits until the entries of a folder are on the disk, where the system supports it."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
