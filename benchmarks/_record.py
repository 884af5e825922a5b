"""The JSON file of a benchmark: its rows, and all that is needed to read them later."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import pathlib
import platform
import subprocess
from typing import Any

from experiments._run import commit

PACKAGES = (
    *("jaxdl", "jax", "jaxlib", "numpy", "optax", "flax", "equinox", "keras"),
    *("torch", "captum", "zennit"),
)


def record(name: str, rounds: int, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the rows with the date, the commit, the versions and the machine."""
    return {
        "benchmark": name,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "rounds": rounds,
        "versions": {"python": platform.python_version()} | versions(),
        "machine": machine(),
        "rows": rows,
    }


def versions() -> dict[str, str]:
    """Returns the versions of the compared libraries that are installed."""
    installed = {}
    for name in PACKAGES:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


def machine() -> dict[str, Any]:
    """The operating system, the processor, its cores, and the GPUs that nvidia-smi lists."""
    fields = {"system": f"{platform.system()} {platform.machine()}", "cpu": cpu()}
    return fields | {"cores": os.cpu_count()} | ({"gpu": gpus()} if gpus() else {})


def cpu() -> str:
    """The processor's model name."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def gpus() -> list[str]:
    """Name, driver version and memory of each GPU."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []
