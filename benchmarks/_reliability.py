"""Runs that are killed, files that are damaged: each function counts what went well."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from benchmarks import _worker
from jaxdl import train

ROOT = pathlib.Path(__file__).parent.parent


class Outcome(NamedTuple):
    """Trials and successes, or a measured number, and the failures."""

    good: float
    of: float
    wrong: tuple[str, ...] = ()


def start(*args: Any, **options: Any) -> subprocess.Popen:
    """A worker in a separate process."""
    command = [sys.executable, "-m", "benchmarks._worker", *map(str, args)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | options.pop("env", {})
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, cwd=ROOT, **pipes, **options)


def finish(worker: subprocess.Popen, seconds: float = 240) -> str:
    """Waits for a worker that should end well; what it printed."""
    out, err = worker.communicate(timeout=seconds)
    if worker.returncode:
        raise RuntimeError(f"worker ended with {worker.returncode}: {out[-500:]} {err[-2000:]}")
    return out


@contextlib.contextmanager
def folder() -> Iterator[pathlib.Path]:
    with tempfile.TemporaryDirectory() as made:
        yield pathlib.Path(made)


class Bomb:
    """Sends this process a signal from inside of a training step, as an augmentation."""

    def __init__(self):
        self.at, self.count, self.number = -1, 0, signal.SIGTERM

    def set(self, step: int, number: int = signal.SIGTERM) -> None:
        self.at, self.count, self.number = step, 0, number

    def __call__(self, key: jax.Array, x: jax.Array) -> jax.Array:
        jax.debug.callback(self._tick)
        return x

    def _tick(self) -> None:
        self.count += 1
        if self.count == self.at:
            os.kill(os.getpid(), self.number)


def outcome(state: train.TrainState, history: dict) -> dict[str, Any]:
    """Returns everything that must agree bit for bit: the state, and the history without times."""
    leaves = {path: leaf.tobytes() for path, leaf in _worker.plain(state).items()}
    return leaves | {k: v for k, v in history.items() if not k.endswith("seconds")}


def stop_and_resume(times: int, seed: int = 0, number: int = signal.SIGTERM) -> Outcome:
    """Signals runs at random steps; each must resume bit for bit like the uninterrupted run."""
    rng, bomb, good, wrong = random.Random(seed), Bomb(), 0, []
    x, y = _worker.digits(100)
    epochs, last = 4, 4 * 13
    options = {
        "eval_data": (x[:20], y[:20]),
        "loss": "cross_entropy",
        "optimizer": optax.chain(
            optax.clip_by_global_norm(1.0), optax.adamw(optax.cosine_decay_schedule(0.01, last))
        ),
        "batch_size": 8,
        "epochs": epochs,
        "verbose": 0,
    }
    fit = functools.partial(
        train.fit, _worker.network(), train.AugmentedData((x, y), bomb), **options
    )

    def callbacks():
        return [train.EarlyStopping(patience=3)]

    whole = outcome(*fit(callbacks=callbacks()))
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    for _ in range(times):
        # Calls of several steps too, in whose middle the signal arrives.
        step, pace = rng.randrange(1, last), rng.choice([1, 1, 3])
        with folder() as made:
            bomb.set(step, number)
            try:
                fit(
                    checkpoint=made,
                    execution=train.Execution(steps_per_call=pace),
                    callbacks=callbacks(),
                )
                code = 0
            except SystemExit as left:
                code = left.code
            bomb.set(-1)
            saved = [path.name for path in train.Checkpointer(made).paths()]
            resumed = outcome(*fit(checkpoint=made, callbacks=callbacks()))
        # A run must restore the handlers of the process.
        now = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
        expected = 143 if number == signal.SIGTERM else 0
        differs = [name for name in whole if resumed.get(name) != whole[name]]
        if code == expected and saved and not differs and now == before:
            good += 1
        else:
            wrong.append(f"step {step}: exit {code}, checkpoints {saved}, differ {differs[:3]}")
    return Outcome(good, times, tuple(wrong))


def killed_while_saving(cycles: int, seed: int = 0) -> Outcome:
    """Kills runs at random moments of saving; the next read must be whole and not before the last
    that was on the disk."""
    rng, good, wrong = random.Random(seed), 0, []
    with folder() as made:
        committed = 0
        for cycle in range(cycles):
            worker = start("save", made)
            assert worker.stdout is not None and worker.stderr is not None
            line = worker.stdout.readline()
            if not line.startswith("ready"):
                wrong.append(f"cycle {cycle}: {line} {worker.stderr.read()[-500:]}")
                break
            resumed = int(line.split()[1])
            # A random moment, so that the kills meet every phase of a save.
            time.sleep(rng.uniform(0, 0.4))
            worker.send_signal(signal.SIGKILL)
            steps = [
                int(line.split()[1])
                for line in worker.stdout.read().splitlines(True)
                # The last line may be cut off by the kill.
                if line.startswith("committed") and line.endswith("\n")
            ]
            worker.wait()
            worker.stderr.close()
            worker.stdout.close()
            if resumed < committed:
                wrong.append(f"cycle {cycle}: went on from {resumed}, {committed} was on the disk")
            else:
                good += 1
            committed = max([committed, resumed, *steps])
        with warnings.catch_warnings():
            # A warning would mean that a damaged checkpoint had its final name.
            warnings.simplefilter("error")
            saved = train.Checkpointer(made).restore(_small())
        if saved is None or int(saved.state.step) < committed:
            wrong.append(f"at the end {saved and int(saved.state.step)}, {committed} was written")
        elif not all((leaf == int(saved.state.step)).all() for leaf in saved.state.params.values()):
            wrong.append("at the end a mixture of steps")
    return Outcome(min(good, cycles - 1) if wrong else good, cycles, tuple(wrong))


def _small() -> train.TrainState:
    from jaxdl import nn

    x = np.zeros((1, 256), np.float32)
    return train.init_state(nn.dense(256), optax.sgd(0.1), jax.random.key(0), x)


def damage_checkpoints(times: int, seed: int = 0) -> Outcome:
    """Flips a bit or truncates a random file of the newest checkpoint; it must be noticed, and
    the one before is read."""
    rng, good, wrong = random.Random(seed), 0, []
    state = _small()
    with folder() as made:
        checkpoints = train.Checkpointer(made)
        with checkpoints.writing():
            for step in (1, 2):
                checkpoints.save(state.replace(step=np.int32(step)), {"history": {"loss": [1.0]}})
        newest = checkpoints.paths()[-1]
        # Each file in turn, and not by size: a small record matters as much as the arrays.
        files = sorted(path for path in newest.rglob("*") if path.is_file())
        for i in range(times):
            path = files[i % len(files)]
            content = path.read_bytes()
            if content and rng.random() < 0.8:
                changed, bit = bytearray(content), rng.randrange(8 * len(content))
                changed[bit // 8] ^= 1 << bit % 8
            elif content:
                changed = content[: rng.randrange(len(content))]
            else:
                changed = b"x"
            path.write_bytes(bytes(changed))
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                saved = train.Checkpointer(made).restore(state)
            path.write_bytes(content)
            if saved is not None and int(saved.state.step) == 1 and caught:
                good += 1
            else:
                wrong.append(f"{path.relative_to(newest)}: read {saved and saved.path.name}")
    return Outcome(good, times, tuple(wrong))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def together(directory: Any, steps: int, out: Any) -> list[subprocess.Popen]:
    """Runs two processes of four devices each."""
    port = free_port()
    return [start("fit", directory, steps, out, 4, process, port) for process in (0, 1)]


def largest_difference(a: pathlib.Path, b: pathlib.Path) -> float:
    with np.load(a) as one, np.load(b) as other:
        assert set(one.files) == set(other.files)
        return max(float(np.abs(one[name] - other[name]).max(initial=0)) for name in one.files)


def devices() -> Outcome:
    """Returns the largest difference between one device, eight, and two processes of four."""
    with folder() as made:
        outs = [made / f"{name}.npz" for name in ("one", "eight", "processes")]
        for count, out in zip((1, 8), outs, strict=False):
            finish(start("fit", "-", 12, out, count, "-", "-"))
        for worker in together("-", 12, outs[2]):
            finish(worker)
        return Outcome(max(largest_difference(outs[0], out) for out in outs[1:]), 1e-6)


def move_between_devices() -> Outcome:
    """Returns the largest difference after resuming on one device from eight, and back."""
    with folder() as made:
        whole = made / "whole.npz"
        finish(start("fit", "-", 12, whole, 1, "-", "-"))
        worst = 0.0
        for first, second in ((8, 1), (1, 8)):
            directory, out = made / f"from {first}", made / f"{first}.npz"
            finish(start("fit", directory, 6, out, first, "-", "-"))
            finish(start("fit", directory, 12, out, second, "-", "-"))
            worst = max(worst, weights_apart(whole, out))
        return Outcome(worst, 1e-5)


def weights_apart(a: pathlib.Path, b: pathlib.Path) -> float:
    """Returns the largest difference of states; the history of a run in two parts is cut in two."""
    with np.load(a) as one, np.load(b) as other:
        names = [name for name in one.files if not name.endswith("loss")]
        return max(float(np.abs(one[name] - other[name]).max(initial=0)) for name in names)


def kill_one_of_two() -> Outcome:
    """Kills one of two processes; the other must end with an error by itself, and both
    are started again and end where a run that was let be does."""
    with folder() as made:
        whole, out = made / "whole.npz", made / "out.npz"
        for worker in together("-", 40, whole):
            finish(worker)
        workers = together(made / "run", 40, out)
        while not train.Checkpointer(made / "run").paths():
            time.sleep(0.02)
        workers[1].kill()
        codes = []
        for worker in workers:
            worker.communicate(timeout=240)
            codes.append(worker.returncode)
        if codes[0] == 0:
            raise RuntimeError("the run was over before its second process was killed")
        for worker in together(made / "run", 40, out):
            finish(worker)
        return Outcome(largest_difference(whole, out), 1e-5)


def soak(steps: int) -> tuple[Outcome, Outcome]:
    """Returns the relative growth of resident memory after the first tenth, and of live arrays."""
    with folder() as made:
        seen = json.loads(finish(start("soak", made, steps), 1200).splitlines()[-1])
    # The first tenth compiles and fills caches, which is growth that ends.
    early = next(row for row in seen if row[0] >= steps // 10)
    arrays = [row[2] for row in seen[2:]]
    return Outcome(seen[-1][1] / early[1] - 1, 0.05), Outcome(max(arrays) - min(arrays), 0)


def overhead(rounds: int) -> Outcome:
    """Returns the relative extra time of `fit` with a checkpoint every 1,000 steps."""
    from jaxdl.train.batches import epoch_batches

    steps = 3000
    x, y = _worker.digits(1400)
    x = x.reshape(len(x), -1)
    import jaxdl
    from jaxdl import nn

    model = jaxdl.serial(nn.dense(512), jax.nn.relu, nn.dense(512), jax.nn.relu, nn.dense(10))
    optimizer, batch = optax.adam(1e-3), 100
    step = jax.jit(train.make_train_step(model, "cross_entropy", optimizer), donate_argnums=0)
    dx, dy = jax.device_put((x, y))
    take = jax.jit(lambda rows: (dx[rows], dy[rows]))

    def run_loop():
        state = train.init_state(model, optimizer, jax.random.key(0), x[:batch])
        began = time.perf_counter()
        for first in range(0, steps, 14):
            order, _ = epoch_batches(1400, batch, 0, first // 14)
            for rows in order[: steps - first]:
                state, _ = step(state, take(rows))
        jax.block_until_ready(state)
        return time.perf_counter() - began

    def run_fit():
        with folder() as made:
            began = time.perf_counter()
            train.fit(
                model,
                (x, y),
                loss="cross_entropy",
                optimizer=optimizer,
                batch_size=batch,
                epochs=train.Steps(steps),
                metrics=(),
                verbose=0,
                execution=train.Execution(check=False),
                checkpoint=train.Checkpointer(made, every=1000),
            )
            return time.perf_counter() - began

    # Compiled before the first timed round.
    for warm in (run_loop, run_fit):
        warm()
    ratios = sorted(run_fit() / run_loop() for _ in range(rounds))
    return Outcome(ratios[rounds // 2] - 1, 0.02)


def fetch_concurrently(processes: int) -> Outcome:
    """Counts processes that fetch the same file at the same time from a local server."""
    content = np.random.default_rng(0).bytes(20 << 20)
    good, wrong = 0, []
    with folder() as made:
        (made / "served").mkdir()
        (made / "served" / "file.bin").write_bytes(content)
        handler = functools.partial(_Quiet, directory=str(made / "served"))
        server = http.server.ThreadingHTTPServer(("localhost", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://localhost:{server.server_port}/file.bin"
        digest = hashlib.sha256(content).hexdigest()
        environment = {"XDG_CACHE_HOME": str(made / "cache"), "JAXDL_DATA": str(made / "none")}
        # All at the same moment, after the slowest has imported its modules.
        moment = time.time() + 3 + processes
        workers = [start("fetch", url, digest, moment, env=environment) for _ in range(processes)]
        for worker in workers:
            try:
                path, size = json.loads(finish(worker).splitlines()[-1])
                fetched = hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()
                good += size == len(content) and fetched == digest
            except RuntimeError as error:
                wrong.append(str(error)[-500:])
        server.shutdown()
        server.server_close()
        left = [p.name for p in (made / "cache").rglob("*") if p.is_file()]
        if left != ["file.bin"]:
            wrong.append(f"the cache holds {left}")
    return Outcome(good if not wrong else 0, processes, tuple(wrong))


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass
