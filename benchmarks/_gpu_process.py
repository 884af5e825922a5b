"""Runs the works of one library in separate processes with time limits.

A process that dies, or that takes too long over one work, costs that work alone: the next process
begins with the work after it.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks._gpu_works import Work

START = 90.0
"""Seconds for a process to import its library and open the card."""
ROOT = pathlib.Path(__file__).parent.parent
Record = Callable[[Work, dict[str, Any]], None]
"""Takes a work and the fields of its row, or {"note": reason}, with a "trace" after a failure."""


def worker(library: str, works: Sequence[Work], seconds: float, smoke: bool) -> list[str]:
    """Returns the command of a process that measures these works."""
    what = "smoke" if smoke else "full"
    command = [sys.executable, "-m", "benchmarks._gpu_worker", library, f"{seconds:.1f}", what]
    return [*command, *(work.key for work in works)]


def measure(
    command: Callable[[Sequence[Work], float], list[str]],
    works: Sequence[Work],
    *,
    share: float,
    end: float,
    limit: float,
    record: Record,
    machine: Callable[[dict[str, Any]], None],
) -> list[Work]:
    """Measures works until all are done or the time is over.

    Args:
      command: returns the command of a process that measures works within a number of seconds.
      works: in the order in which they are measured.
      share: seconds after which no further work is begun.
      end: the time, by `time.monotonic`, at which a process is killed in any case.
      limit: seconds for one work, after which its process is killed.
      record: takes each work's fields.
      machine: takes the description of the device and the versions.

    Returns:
      The works for which there was no time.
    """
    left, stop = list(works), min(time.monotonic() + share, end)
    while left and time.monotonic() < stop:
        with _start_process(command(left, stop - time.monotonic())) as child:
            started = False
            while True:
                try:
                    allowed = limit if started else START
                    message = child.read(min(allowed, end - time.monotonic()))
                except queue.Empty:
                    if time.monotonic() >= end:
                        return left
                    if not started:
                        for work in left:
                            record(work, {"note": f"failed: no process within {START:.0f} s"})
                        return []
                    # Only the work that was running: the next process begins with the one after it.
                    record(left.pop(0), {"note": f"stopped after {limit:.0f} s"})
                    break
                if message is None:
                    status, words = child.death()
                    last = words[-1][:200] if words else "no message"
                    note = f"failed: the process ended with status {status}: {last}"
                    fields = {"note": note, "trace": "\n".join(words[-60:])}
                    for work in left if not started else left[:1]:
                        record(work, fields)
                    # A process that dies before its first work would die again before the others.
                    left = left[1:] if started else []
                    break
                if "missing" in message:
                    for work in left:
                        record(work, {"note": f"not installed: {message['missing']}"})
                    return []
                if "machine" in message:
                    started = True
                    machine(message["machine"])
                elif "end" in message:
                    return left
                else:
                    key = message.pop("key")
                    work = next(work for work in left if work.key == key)
                    left.remove(work)
                    record(work, message)
    return left


class _Child:
    """A process that writes JSON lines to its standard output."""

    def __init__(self, command: list[str]):
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        environment = os.environ | {"PYTHONPATH": path}
        self.errors = tempfile.TemporaryFile()
        # A new process session, so that the compilers it starts are killed with it.
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=environment,
            start_new_session=True,
            text=True,
        )
        # A thread reads, because `readline` has no time limit and a hung process writes nothing.
        self.lines: queue.Queue[str | None] = queue.Queue()
        self.thread = threading.Thread(target=self._pass_on, daemon=True)
        self.thread.start()

    def _pass_on(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def read(self, seconds: float) -> dict[str, Any] | None:
        """Returns the next message, None at the end; raises `queue.Empty` after `seconds`."""
        line = self.lines.get(timeout=max(0.01, seconds))
        return None if line is None else json.loads(line)

    def death(self) -> tuple[int | None, list[str]]:
        """Returns the exit status and the lines of standard error."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        self.errors.seek(0)
        words = self.errors.read().decode(errors="replace")
        return self.process.poll(), words.strip().splitlines()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.thread.join(5)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.errors.close()


@contextlib.contextmanager
def _start_process(command: list[str]):
    child = _Child(command)
    try:
        yield child
    finally:
        child.kill()
