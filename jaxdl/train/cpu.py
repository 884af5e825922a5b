"""Settings of the whole process: CPU devices, memory, and a compilation cache on disk."""

from __future__ import annotations

import ctypes
import os
import pathlib
import sys
import tempfile

import jax

from jaxdl.nn import _check

__all__ = ["enable_compilation_cache", "keep_memory", "use_cpu_devices"]


def use_cpu_devices(count: int) -> list:
    """Makes the CPU count as several devices, so that a batch can be shared out between its cores.

    The many short steps of a recurrent network leave threads that share each product waiting for
    one another; a device for each core runs its own rows without waiting. Place the batch with a
    `jax.sharding.NamedSharding` over `jax.make_mesh((count,), ("batch",))`, and the compiled
    program shares out the work and sums the gradients. It pays while the recurrent kernel fits in
    each core's cache, about 1 MB.

    Args:
      count: the number of devices, at most the number of cores.

    Returns:
      The devices.

    Raises:
      ValueError: `count` is no positive integer; or JAX has already made its devices, which it does
        when the first array is made: call this first.
    """
    _check.positive("use_cpu_devices", count=count)
    try:
        jax.config.update("jax_num_cpu_devices", count)
    except RuntimeError as error:
        raise ValueError(
            f"use_cpu_devices({count}): JAX has already made its devices; expected to be called "
            "before the first array: move it to the start of the program."
        ) from error
    devices = jax.devices("cpu")
    if len(devices) != count:
        raise ValueError(
            f"use_cpu_devices({count}): JAX made {len(devices)}; is XLA_FLAGS set to "
            "--xla_force_host_platform_device_count?"
        )
    return devices


def keep_memory() -> bool:
    """Asks the C library to keep freed memory for the next step instead of returning it.

    A compiled step takes its temporaries anew each time it runs. glibc returns blocks of megabytes
    to the system when they are freed, and the system must find and clear their pages again at the
    next step. Kept, they are reused as they are; the process stays as large as it was at most.

    Returns:
      Whether it could be asked for: only glibc, on Linux, can.
    """
    if not sys.platform.startswith("linux"):
        return False
    trim_threshold, top_pad, mmap_max = -1, -2, -4  # of mallopt(3)
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = {mmap_max: 0, trim_threshold: 2**31 - 1, top_pad: 2**26}
    return all(mallopt(option, value) == 1 for option, value in settings.items())


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
