"""`python -m benchmarks._worker WHAT ...`: the processes that `_reliability` starts and kills."""

from __future__ import annotations

import json
import os
import pathlib
import sys
import time
from typing import Any

import jax
import numpy as np


def network():
    """A convolution, batch norm and dropout: parameters, running state and random numbers."""
    import jaxdl
    from jaxdl import nn

    conv = nn.conv(8, 3, use_bias=False)  # a bias before batch norm has no gradient but rounding
    layers = [conv, nn.batch_norm(), jax.nn.relu, nn.max_pool(2), nn.flatten(), nn.dropout(0.3)]
    return jaxdl.serial(*layers, nn.dense(10))


def digits(rows: int):
    from jaxdl import data

    train = data.digits().train
    return train.x[:rows], train.y[:rows]


def plain(tree: Any) -> dict[str, np.ndarray]:
    """The leaves of a tree by path, as NumPy arrays."""
    from jaxdl import tree as paths
    from jaxdl.train.state import as_numbers

    return {path: np.asarray(as_numbers(leaf)) for path, leaf in paths.flatten(tree).items()}


def join(devices: str, process: str, port: str) -> None:
    """Runs one of two processes with `devices` devices each; "-" for a single process."""
    from jaxdl import train

    jax.config.update("jax_num_cpu_devices", int(devices))
    if process != "-":
        # Without it, JAX's CPU devices of several processes cannot exchange arrays.
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        train.sharding.init(f"localhost:{port}", 2, int(process), heartbeat_timeout_seconds=10)


def fit(directory: str, steps: str, out: str, devices: str, process: str, port: str) -> None:
    """Trains on the digits, saving every second step, and writes what came of it."""
    import optax

    from jaxdl import train

    join(devices, process, port)
    checkpoint = None if directory == "-" else train.Checkpointer(directory, every=2)
    x, y = digits(200)
    state, history = train.fit(
        network(),
        (x, y),
        eval_data=(x[:33], y[:33]),
        loss="cross_entropy",
        optimizer=optax.adam(0.01),
        batch_size=24,
        epochs=train.Steps(int(steps)),
        checkpoint=checkpoint,
        execution=train.Execution(steps_per_call=1),
        verbose=2,
    )
    # Both processes have the whole result; only one may write the file.
    if jax.process_index() == 0:
        arrays: Any = encode_paths(plain((state.params, state.model_state, state.opt_state)))
        np.savez(out, loss=history["loss"], eval_loss=history["eval_loss"], **arrays)


def encode_paths(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {path.replace("/", "|"): leaf for path, leaf in arrays.items()}


def save(directory: str) -> None:
    """Saves without a pause and prints the step on the disk; the state contains its step too."""
    import optax

    from jaxdl import nn, train

    x = np.zeros((1, 256), np.float32)
    optimizer = optax.sgd(0.1)
    state = train.init_state(nn.dense(256), optimizer, jax.random.key(0), x)
    checkpoints = train.Checkpointer(directory)
    with checkpoints.writing():
        saved = checkpoints.restore(state)
        state = state if saved is None else saved.state
        step = int(state.step)
        print("ready", step, flush=True)
        while True:
            step += 1
            params = {name: np.full_like(leaf, step) for name, leaf in state.params.items()}
            checkpoints.save(state.replace(params=params, step=np.int32(step)))
            checkpoints.wait()
            # Flushed at once: the killer must see every step that is on the disk.
            print("committed", step, flush=True)


def soak(directory: str, steps: str) -> None:
    """Many steps with checkpoints and callbacks; prints resident memory and live arrays."""
    import optax

    from jaxdl import train

    seen = []
    checkpoints = train.Checkpointer(directory)

    class Look(train.Callback):
        def on_epoch_end(self, context):
            lines = pathlib.Path("/proc/self/status").read_text().splitlines()
            checkpoints.wait()  # otherwise copies of the state may still be in memory
            kilobytes = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
            seen.append((int(context.state.step), kilobytes, len(jax.live_arrays())))

    x, y = digits(800)
    train.fit(
        network(),
        (x, y),
        eval_data=(x[:100], y[:100]),
        loss="cross_entropy",
        optimizer=optax.adam(1e-3),
        batch_size=8,
        epochs=train.Steps(int(steps)),
        checkpoint=checkpoints,
        callbacks=[Look(), train.EarlyStopping(patience=10**6)],
        verbose=0,
    )
    print(json.dumps(seen))


def fetch(url: str, sha256: str, start: str) -> None:
    """Gets a data set's file into the cache, at an appointed time."""
    from jaxdl.data._files import data_file

    time.sleep(max(0.0, float(start) - time.time()))
    path = data_file("shared", "file.bin", root=None, url=url, sha256=sha256)
    print(json.dumps([os.fspath(path), path.stat().st_size]))


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    {"fit": fit, "save": save, "soak": soak, "fetch": fetch}[what](*rest)
