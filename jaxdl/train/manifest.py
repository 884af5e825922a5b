"""The checksums of a folder's files: what was written is what is read, or it is not read at all."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib

from jaxdl.data._files import read_up_to

MANIFEST = "manifest.json"
TEMPORARY = "manifest.tmp"
BLOCK = 1 << 20
LIMIT = 1 << 26
"""Bytes: more than the manifest of a million files holds."""


def write(folder: pathlib.Path) -> None:
    """Adds the manifest of all files below a folder, and waits until it is on the disk."""
    entries = {name: entry(path) for name, path in files(folder).items()}
    with open(folder / TEMPORARY, "wb") as file:
        file.write(text(entries))
        file.flush()
        os.fsync(file.fileno())
    os.replace(folder / TEMPORARY, folder / MANIFEST)
    sync(folder)


def damage(folder: pathlib.Path) -> str | None:
    """What is wrong with a folder's files, or None if they are those that were written.

    A name in the manifest is never made into a path: the files that are there are looked up in it.
    """
    try:
        with open(folder / MANIFEST, "rb") as file:
            content = read_up_to(file, LIMIT + 1)
        entries = json.loads(content)["files"]
        if len(content) > LIMIT or content != text(entries):
            return f"{MANIFEST} is damaged"
        found = files(folder)
        for name, expected in entries.items():
            if name not in found:
                return f"{name} is missing"
            if found[name].stat().st_size != expected["size"] or entry(found[name]) != expected:
                return f"{name} is damaged"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return f"{MANIFEST} cannot be read ({type(error).__name__}: {str(error)[:200]})"
    return None


def names(folder: pathlib.Path) -> list[str]:
    """The files that the manifest lists and that are there."""
    entries = json.loads((folder / MANIFEST).read_bytes())["files"]
    return [name for name in files(folder) if name in entries]


def files(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """All regular files below a folder but the manifest, by their path in it."""
    found = {}
    for top, _, leaves in os.walk(folder):
        for leaf in leaves:
            path = pathlib.Path(top) / leaf
            if path.is_file() and not path.is_symlink():
                found[path.relative_to(folder).as_posix()] = path
    return {name: found[name] for name in sorted(found) if name not in (MANIFEST, TEMPORARY)}


def entry(path: pathlib.Path) -> dict[str, int | str]:
    digest, size = hashlib.sha256(), 0
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            size += len(block)
    return {"sha256": digest.hexdigest(), "size": size}


def text(entries: dict) -> bytes:
    """The manifest's bytes; there is one way to write it, so any other bytes are damage."""
    listing = json.dumps(entries, sort_keys=True, indent=0)
    own = hashlib.sha256(listing.encode()).hexdigest()
    return f'{{"files": {listing}, "sha256": "{own}"}}\n'.encode()


def sync(folder: pathlib.Path) -> None:
    """Waits until a folder's entries are on the disk, where the system can say so."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
