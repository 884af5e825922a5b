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
    """Splits the CPU into several devices, so that each core can compute its own rows.

    In a recurrent network threads that share each matrix product wait for each other at every
    step; with one device for each core they do not. Place the batch with a
    `jax.sharding.NamedSharding` over `jax.make_mesh((count,), ("batch",))`: the compiled program
    splits the work and sums the gradients. This is faster while the recurrent kernel fits in the
    cache of a core, about 1 MB.

    Args:
      count: the number of devices, at most the number of cores.

    Returns:
      The devices.

    Raises:
      ValueError: `count` is no positive integer; or JAX has already made its devices, which happens
        with the first array.
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
    """Makes the C library keep freed memory for the next step instead of returning it.

    A compiled step allocates its temporaries every time it runs. glibc returns blocks of megabytes
    to the system when they are freed, and the system clears their pages again at the next step.
    With this setting they are reused, and the process keeps its largest size. All threads share
    one heap, because the heaps of single threads are always returned. Call it before the first
    computation: threads that have a heap keep it.

    Returns:
      True if the setting was made; only glibc on Linux has it.
    """
    if not sys.platform.startswith("linux"):
        return False
    trim_threshold, top_pad, mmap_max, arena_max = -1, -2, -4, -8  # of mallopt(3)
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = {mmap_max: 0, trim_threshold: 2**31 - 1, top_pad: 2**26, arena_max: 1}
    return all(mallopt(option, value) == 1 for option, value in settings.items())


def enable_compilation_cache(directory: str | os.PathLike) -> pathlib.Path:
    """Stores compiled programs in a directory, and loads them from it in later processes.

    The setting applies to the whole process; call it before anything is compiled. Functions are
    still traced in every process. Programs in the cache are executed without a check: use a
    directory to which only you can write.

    Args:
      directory: created if it does not exist.

    Returns:
      The directory.

    Raises:
      ValueError: the directory cannot be written.
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
