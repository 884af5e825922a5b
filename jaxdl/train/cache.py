"""Compiled programs kept on disk from one start of a program to the next."""

from __future__ import annotations

import os
import pathlib
import tempfile

import jax

__all__ = ["enable_compilation_cache"]


def enable_compilation_cache(directory: str | os.PathLike) -> pathlib.Path:
    """Keeps what XLA compiles in a directory, and takes it from there at the next start.

    For the whole process, so a program asks for it and the library never does; best before
    anything is compiled. Tracing is not saved, only compiling. Programs in the cache are run as
    they are: use a directory that only you can write.

    Args:
      directory: made if it is not there.

    Returns:
      The directory.

    Raises:
      ValueError: nothing can be written there.
    """
    path = pathlib.Path(directory).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise ValueError(
            f"enable_compilation_cache: cannot write to {str(path)!r} ({error}); expected a "
            "directory that you may write."
        ) from error
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return path
