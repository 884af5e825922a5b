"""Peak memory of a first call, by Linux's counters."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

PROCESS = pathlib.Path("/proc/self")


def peak_megabytes(call: Callable[[], Any]) -> float:
    """Returns the megabytes by which a call raises the greatest resident memory so far."""
    (PROCESS / "clear_refs").write_text("5")  # resets the greatest so far, VmHWM
    before = resident_megabytes()
    call()
    return _megabytes("VmHWM") - before


def resident_megabytes() -> float:
    """Returns the resident memory of this process."""
    return _megabytes("VmRSS")


def _megabytes(field: str) -> float:
    lines = (PROCESS / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024
