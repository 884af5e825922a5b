"""The compiled library: loads it with oneDNN and registers its handlers with XLA."""

from __future__ import annotations

import ctypes
import functools
import pathlib
import platform
import sys
import sysconfig
from collections.abc import Sequence

import jax

AVX2 = 0x4
"""Bit of AVX2 in oneDNN's names of instruction sets."""
INSTRUCTION_SETS = {
    0x7: "AVX2",
    0xF: "AVX2 with VNNI",
    0x27: "AVX-512",
    0x67: "AVX-512 with VNNI",
    0xE7: "AVX-512 with bfloat16",
}
HANDLERS = ("jaxdl_multiply", "jaxdl_convolve")
LIBRARY = "libjaxdl_cpu.so"


@functools.cache
def load() -> ctypes.CDLL:
    """Returns the library, loaded once.

    Raises:
      RuntimeError: this machine has another system or processor, or a library cannot be loaded.
    """
    machine = platform.system(), platform.machine()
    if machine != ("Linux", "x86_64"):
        raise RuntimeError(
            f"jaxdl_cpu: this machine is {' '.join(machine)}; expected Linux x86_64. Programs run "
            "without jaxdl_cpu, by XLA's own operations."
        )
    # Loaded before the handlers, so that the linker takes this file.
    load_library(find_onednn(), mode=ctypes.RTLD_GLOBAL)
    library = load_library(pathlib.Path(__file__).parent / LIBRARY)
    library.jaxdl_isa.restype = library.jaxdl_onednn_version.restype = ctypes.c_int64
    if not library.jaxdl_isa() & AVX2:
        raise RuntimeError(
            "jaxdl_cpu: this processor has no AVX2, which oneDNN's fast operations need. Programs "
            "run without jaxdl_cpu, by XLA's own operations."
        )
    for name in HANDLERS:
        handler = jax.ffi.pycapsule(getattr(library, name))
        jax.ffi.register_ffi_target(name, handler, platform="cpu")
    return library


def load_library(path: pathlib.Path, mode: int = ctypes.DEFAULT_MODE) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(path), mode=mode)
    except OSError as error:
        raise RuntimeError(
            f"jaxdl_cpu: {path} cannot be loaded ({error}). Build it again by `pip install "
            "--force-reinstall ./native`."
        ) from error


def find_onednn() -> pathlib.Path:
    """Returns the path of oneDNN's library, which its package puts beside Python's own."""
    folders = [pathlib.Path(sys.prefix) / "lib", pathlib.Path(sysconfig.get_path("data")) / "lib"]
    for folder in folders:
        if (folder / "libdnnl.so.3").is_file():
            return folder / "libdnnl.so.3"
    raise RuntimeError(
        f"jaxdl_cpu: there is no libdnnl.so.3 in {folders[0]}. Install the package "
        "onednn-cpu-gomp into this environment."
    )


def version() -> str:
    """Returns oneDNN's version."""
    number = load().jaxdl_onednn_version()
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"


def instruction_set() -> str:
    """Returns the instruction set that oneDNN uses."""
    isa = load().jaxdl_isa()
    return INSTRUCTION_SETS.get(isa, f"isa {isa:#x}")


@functools.lru_cache(4096)
def describe_convolution(
    kind: int,
    x: tuple[int, ...],
    w: tuple[int, ...],
    y: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    low: tuple[int, ...],
    groups: int,
) -> str:
    """Returns the name of oneDNN's implementation, or "!" and what is wrong."""

    def ints(values: Sequence[int]):
        return (ctypes.c_int64 * len(values))(*values)

    name = ctypes.create_string_buffer(256)
    arrays = [ints(values) for values in (x, w, y, strides, dilations, low)]
    numbers = [ctypes.c_int64(n) for n in (kind, len(x), groups, len(name))]
    kind_, rank, groups_, size = numbers
    load().jaxdl_describe_convolution(kind_, rank, *arrays, groups_, name, size)
    return name.value.decode()
