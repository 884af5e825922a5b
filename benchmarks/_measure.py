"""Times libraries side by side: each in a separate process, the processes in turn.

In one process, threads of one library that wait for work occupy the cores while another library is
timed. Here all processes block while one of them runs. A ratio is the median of the ratios of the
rounds, so that a slow minute of the machine affects both sides.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Row = dict[str, Any]
ROOT = pathlib.Path(__file__).parent.parent


@dataclasses.dataclass(frozen=True)
class Call:
    """A function, as "module:function", with its keyword arguments, run in a separate process.

    The function returns a call without arguments, which must not return before its work is done,
    or, for `evaluate`, a JSON value. With `warm=False` nothing is called before it is timed, and a
    turn is a single call, for work whose compilation counts.
    """

    function: str
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    warm: bool = True


class NotInstalled(Exception):
    """A library that the call needs is not installed; its name is the message."""


class Worker:
    """A process that has built a `Call`, and times it on request; use it in a `with` statement."""

    def __init__(self, call: Call) -> None:
        warm = "warm" if call.warm else "cold"
        arguments = json.dumps(dict(call.arguments))
        command = [sys.executable, "-m", "benchmarks._timer", call.function, arguments, warm]
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self._warm = call.warm
        # A file and not a pipe: a worker whose pipe is full would block, and nobody reads it before
        # the end.
        self._errors = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=os.environ | {"PYTHONPATH": path} | dict(call.environment),
        )
        try:
            self.built = self._receive()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def time(self, at_least: float) -> dict[str, float]:
        """Returns the mean wall seconds of a call over one turn, and the turn's CPU time."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `_receive` raises, with the worker's stderr
            request = {"at_least": at_least if self._warm else 0.0}
            print(json.dumps(request), file=self._process.stdin, flush=True)
        return self._receive()

    def close(self) -> None:
        """Ends the process: at the end of its input it stops by itself."""
        try:
            self._process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        self._errors.close()

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        reply = json.loads(line) if line else {"error": self._describe_exit()}
        if "missing" in reply:
            raise NotInstalled(reply["missing"])
        if "error" in reply:
            raise RuntimeError(reply["error"])
        return reply

    def _describe_exit(self) -> str:
        status = self._process.wait()
        self._errors.seek(0)
        return f"{self._process.args} ended with status {status}:\n{self._errors.read()[-4000:]}"


def evaluate(call: Call) -> Any:
    """Returns the JSON value of a function that runs in a separate process."""
    with Worker(call) as worker:
        return worker.built["value"]


class Load:
    """Share of the machine's CPU time that others use while a worker runs, over many turns.

    Others are all processes but the worker, and on a virtual machine the other machines of the
    host. Threads of an idle worker that spin are counted too.
    """

    def __init__(self) -> None:
        self._others = self._total = 0.0

    @staticmethod
    def _seconds() -> tuple[float, float] | None:
        """Busy and total CPU seconds of all cores since the start, where /proc/stat exists."""
        try:
            line = pathlib.Path("/proc/stat").read_text().splitlines()[0]
        except OSError:
            return None
        # user, nice, system, idle, iowait, irq, softirq, steal
        ticks = [int(number) for number in line.split()[1:9]]
        hertz = os.sysconf("SC_CLK_TCK")
        # Waiting for a disk is idle time: another process can use the core.
        return (sum(ticks) - ticks[3] - ticks[4]) / hertz, sum(ticks) / hertz

    def add_turn(self, turn: Callable[[], dict[str, float]]) -> dict[str, float]:
        """Runs a turn of a worker and adds the CPU time that others used during it."""
        before, result, after = self._seconds(), turn(), self._seconds()
        if before is not None and after is not None:
            self._others += after[0] - before[0] - result["cpu"]
            self._total += after[1] - before[1]
        return result

    @property
    def share(self) -> float | None:
        """Between 0 and 1; None where it cannot be known."""
        return max(0.0, self._others) / self._total if self._total else None


@dataclasses.dataclass(frozen=True)
class Measurement:
    """Seconds of a call by library and round; the libraries not installed; the machine's load."""

    seconds: dict[str, list[float]]
    missing: dict[str, str]
    load: float | None

    def row(
        self, work: str, peer: str, target: float | None = None, ours: str = "ours", note: str = ""
    ) -> Row:
        """Prints and returns the row of `ours` against `peer`."""
        missing = [self.missing[name] for name in (ours, peer) if name in self.missing]
        if missing:
            return row(work, peer, (), (), target, note=f"not installed: {missing[0]}")
        mine, theirs = ([1e3 * t for t in self.seconds[name]] for name in (ours, peer))
        return row(work, peer, mine, theirs, target, load=self.load, note=note)


def measure(
    calls: Mapping[str, Call], rounds: int, at_least: float = 0.5, pause: float = 0.2
) -> Measurement:
    """Times calls in turn: every round gives each library a turn of at least `at_least` seconds.

    The pause before a turn lets the threads of the process before it stop spinning: OpenMP's wait
    for more work for some milliseconds. Every second round goes backwards, so that no library
    always follows the same one.
    """
    missing: dict[str, str] = {}
    workers: dict[str, Worker] = {}
    load = Load()
    with contextlib.ExitStack() as stack:
        for name, call in calls.items():
            try:
                workers[name] = stack.enter_context(Worker(call))
            except NotInstalled as error:
                missing[name] = str(error)
        seconds: dict[str, list[float]] = {name: [] for name in workers}
        for i in range(rounds):
            for name in list(workers)[:: -1 if i % 2 else 1]:
                time.sleep(pause)
                turn = load.add_turn(lambda worker=workers[name]: worker.time(at_least))
                seconds[name].append(turn["seconds"])
    return Measurement(seconds, missing, load.share)


def quartiles(values: Sequence[float]) -> list[float]:
    """The first quartile, the median and the third."""
    if len(values) == 1:
        return [values[0]] * 3
    return statistics.quantiles(values, n=4, method="inclusive")


def row(
    work: str,
    peer: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    target: float | None = None,
    unit: str = "ms",
    load: float | None = None,
    note: str = "",
) -> Row:
    """Prints and returns a row.

    `ours` and `theirs` have one number for each round, or none where a library is missing.
    """
    result: Row = {"work": work, "peer": peer, "ratio": None, "target": target}
    goal = "" if target is None else f"{target:.2f}"
    shown, notes = "-", [note] if note else []
    if ours and theirs:
        # Ratios within a round: both sides of a round met the same load of the machine.
        ratios = quartiles([a / b for a, b in zip(ours, theirs, strict=True)])
        result |= {"ratio": ratios[1], "ratio_quartiles": ratios[::2], "load": load}
        result |= {f"ours_{unit}": quartiles(ours), f"peer_{unit}": quartiles(theirs)}
        shown = f"{ratios[1]:.3f} [{ratios[0]:.3f}, {ratios[2]:.3f}]"
        notes.insert(0, f"{_format_quartiles(ours)} against {_format_quartiles(theirs)} {unit}")
        notes += [] if load is None else [f"load {load:.0%}"]
    print(f"{work:44s} {peer:26s} {shown:>22s} {goal:>6s}  {'; '.join(notes)}", flush=True)
    return result


def _format_quartiles(values: Sequence[float]) -> str:
    low, middle, high = (f"{x:,.0f}" if x >= 1000 else f"{x:.3g}" for x in quartiles(values))
    return f"{middle} [{low}, {high}]"


def run_table(works: Mapping[str, Callable[[Any], Iterable[Row]]], config: Any) -> list[Row]:
    """Prints the table of the works whose name contains `config.only`; returns its rows."""
    print(f"{'work':44s} {'peer':26s} {'ratio [quartiles]':>22s} {'target':>6s}")
    chosen = [work for name, work in works.items() if config.only in name]
    return [line for work in chosen for line in work(config)]
