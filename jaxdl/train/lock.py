"""One writer for a directory: a lock that names its holder and ends with its process."""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket
from collections.abc import Iterator

LOCK = "lock"


@contextlib.contextmanager
def locked(directory: pathlib.Path) -> Iterator[None]:
    """Holds the directory's lock; the system lets go of it when the process ends, however it does.

    Raises:
      ValueError: another writer holds it; the message names the process and its machine.
    """
    try:
        import fcntl
    except ImportError:  # Windows has no such locks: there a second writer is not noticed
        yield
        return
    handle = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(handle, 200).decode("utf-8", "replace").strip()
            raise ValueError(
                f"checkpoint {str(directory)!r} is being written by {holder or 'another process'}; "
                "expected one writer a directory: wait for it, end it, or choose another directory."
            ) from None
        os.ftruncate(handle, 0)
        os.write(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield
    finally:
        os.close(handle)
