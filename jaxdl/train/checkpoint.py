"""Checkpoints of a training run: whole or not there, checked when they are read, never in the way.

Orbax writes the arrays, of every process and without holding up the training; it does not notice a
bit that flipped on the disk. So a checkpoint is a folder in this order:

    .saving-step_000000100/        while it is being written
        arrays/                    Orbax's; leaf i of the tree is named by its number
        record.json                the leaves' paths, the history, how the run was set up
        manifest.json              the SHA-256 of every file above, written last
    step_000000100/                renamed to this when all of it is on the disk

Reading takes the newest folder whose files are those of its manifest.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import pathlib
import re
import shutil
import threading
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl import tree
from jaxdl.train import distributed, manifest, validate
from jaxdl.train.callbacks import sign
from jaxdl.train.lock import locked
from jaxdl.train.state import TrainState, as_numbers, is_key, rebuilt

__all__ = ["CheckpointCorrupt", "Checkpoints", "Saved"]

FORMAT = "jaxdl checkpoint 1"
NAME = re.compile(r"step_(\d{9,18})(?:_(\d{1,9}))?")
SAVING, REMOVING = ".saving-", ".removing-"


class CheckpointCorrupt(ValueError):
    """No checkpoint of a directory, or not the one asked for, is as it was written."""


class Saved(NamedTuple):
    """What a checkpoint holds.

    Attributes:
      state: the `TrainState`.
      record: how the run stood, as `save` was given it: `record["history"]` and more.
      extra: `{path: array or number}`, what the callbacks asked to have saved.
      path: its folder.
    """

    state: TrainState
    record: dict[str, Any]
    extra: dict[str, Any]
    path: pathlib.Path


class Checkpoints:
    """The checkpoints of one run, in a directory of their own.

    `fit(checkpoint=...)` takes one, or the directory alone. In a loop of one's own:

      >>> with checkpoints.writing():
      ...     saved = checkpoints.restore(like=state)
      ...     state = saved.state if saved else state
      ...     for batch in batches:
      ...         state, metrics = step(state, batch)
      ...         if int(state.step) % 1000 == 0:
      ...             checkpoints.save(state)

    Args:
      directory: made if it is not there. One run writes to it at a time.
      every: steps from one checkpoint to the next, besides those at the end of every epoch; None
        saves at the ends of epochs only.
      keep: how many of the newest to keep; None keeps all.
      monitor: an entry of the history, such as "eval_loss", by which the best is kept too.
      mode: "min", "max" or "auto", as for `EarlyStopping`.

    Raises:
      ValueError: an argument is out of range.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        *,
        every: int | None = None,
        keep: int | None = 3,
        monitor: str | None = None,
        mode: str = "auto",
    ):
        given = {"every": every, "keep": keep}
        validate.positive("Checkpoints", **{k: v for k, v in given.items() if v is not None})
        if every is not None and monitor is not None:
            raise ValueError(
                f"Checkpoints: every is {every} and monitor {monitor!r}; expected one of the two, "
                "for the history has a number an epoch."
            )
        self.directory = pathlib.Path(directory).expanduser().absolute()
        self.every, self.keep, self.monitor = every, keep, monitor
        self._sign = sign("Checkpoints", monitor or "", mode)
        self._orbax: Any = None
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._damaged: set[pathlib.Path] = set()

    @classmethod
    def of(cls, given: Checkpoints | str | os.PathLike | None) -> Checkpoints | None:
        """As `fit` takes it: a directory stands for the checkpoints in it."""
        return given if given is None or isinstance(given, Checkpoints) else cls(given)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Holds the directory's lock; at the end, waits until all that was saved is written.

        Raises:
          ValueError: another process writes there, or nobody can.
        """
        import orbax.checkpoint as ocp

        with contextlib.ExitStack() as stack:
            if distributed.first_process():
                try:
                    self.directory.mkdir(parents=True, exist_ok=True)
                    stack.enter_context(locked(self.directory))
                    self._clear()
                except OSError as error:
                    raise ValueError(
                        f"checkpoint {str(self.directory)!r} cannot be written ({error}); expected "
                        "a directory that you may write."
                    ) from error
            distributed.barrier("jaxdl checkpoint directory")
            with ocp.StandardCheckpointer() as self._orbax:
                try:
                    yield
                finally:
                    self.wait()

    def save(
        self, state: TrainState, record: Mapping[str, Any] | None = None, extra: Any = None
    ) -> None:
        """Begins to write a checkpoint, from copies: the state may be consumed at once.

        Args:
          state: the state; its step names the checkpoint.
          record: anything that JSON can hold; `history` is read for `monitor`.
          extra: a tree of arrays and numbers to be saved along.

        Raises:
          OSError: the checkpoint before this one could not be written.
        """
        self.wait()
        step = int(state.step)
        leaves = tree.flatten({"state": state, "extra": jax.tree.map(as_numbers, extra)})
        numbers = {path: leaf for path, leaf in leaves.items() if isinstance(leaf, int | float)}
        arrays = {path: leaf for path, leaf in leaves.items() if path not in numbers}
        content = {
            "format": FORMAT,
            "step": step,
            "arrays": [[path, spec(leaf)] for path, leaf in arrays.items()],
            "numbers": numbers,
            "record": dict(record or {}),
        }
        text = json.dumps(content)  # now: the run goes on to change its history
        name = self._free(step)
        saving = self.directory / f"{SAVING}{name}"
        if distributed.first_process():
            saving.mkdir()
        distributed.barrier(f"jaxdl save {step}")
        copies = {
            number(i): jnp.copy(as_numbers(leaf))
            for i, leaf in enumerate(arrays.values())
            if leaf.size  # Orbax takes no empty arrays
        }
        self._orbax.save(saving / "arrays", copies)
        self._thread = threading.Thread(target=self._finish, args=(saving, name, text))
        self._thread.start()

    def wait(self) -> None:
        """Waits until what was saved is written.

        Raises:
          OSError: it could not be; the checkpoints before it are as they were.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise OSError(
                f"checkpoint {str(self.directory)!r}: the last one could not be written ({error}); "
                "those before it are whole. Is there space on the disk?"
            ) from error

    def paths(self) -> list[pathlib.Path]:
        """The folders of all checkpoints, the oldest first, whether they are whole or not."""
        if not self.directory.is_dir():
            return []
        found = [(NAME.fullmatch(path.name), path) for path in self.directory.iterdir()]
        named = [(int(m[1]), int(m[2] or 0), path) for m, path in found if m and path.is_dir()]
        return [path for *_, path in sorted(named)]

    def restore(self, like: TrainState, *, path: str | os.PathLike | None = None) -> Saved | None:
        """Reads the newest checkpoint that is as it was written; warns of every one that is not.

        Args:
          like: a state of the same structure, as arrays or `jax.ShapeDtypeStruct`s. Where these
            have a sharding over several devices, the arrays are placed so, whatever number of
            devices wrote them.
          path: the folder of one checkpoint, to read this one only.

        Returns:
          A `Saved`, or None if there is no checkpoint.

        Raises:
          CheckpointCorrupt: there are checkpoints, but all are damaged.
          ValueError: it is the checkpoint of another state; all the paths that differ are listed.
        """
        folders = self.paths() if path is None else [pathlib.Path(path).absolute()]
        chosen = -1
        if distributed.first_process():
            for i in reversed(range(len(folders))):
                wrong = manifest.damage(folders[i])
                if wrong is None:
                    chosen = i
                    break
                self._damaged.add(folders[i])
                warnings.warn(f"checkpoint {str(folders[i])!r} is skipped: {wrong}.", stacklevel=2)
        chosen = distributed.from_first(chosen)
        if chosen >= 0:
            return _read(folders[chosen], like)
        if folders:
            raise CheckpointCorrupt(
                f"checkpoint {str(path or self.directory)!r}: none of {len(folders)} is as it was "
                "written; move them away to start anew."
            )
        return None

    def best(self) -> pathlib.Path | None:
        """The folder of the best checkpoint by `monitor`, or None if there is none."""
        values = {path: _monitored(path, self.monitor) for path in self.paths()}
        values = {path: self._sign * v for path, v in values.items() if not math.isnan(v)}
        return min(values, key=lambda path: values[path], default=None)

    def _finish(self, saving: pathlib.Path, name: str, text: str) -> None:
        """In a thread: when the arrays are written, the record, the manifest and the name."""
        try:
            self._orbax.wait_until_finished()
            if distributed.first_process():
                with open(saving / "record.json", "w", encoding="utf-8") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                manifest.write(saving)
                os.rename(saving, self.directory / name)
                manifest.sync(self.directory)
                self._prune()
        except BaseException as error:
            self._error = error

    def _free(self, step: int) -> str:
        """A name that no folder has; that of a damaged checkpoint is not used again."""
        name, copy = f"step_{step:09d}", 1
        while (self.directory / name).exists():
            copy += 1
            name = f"step_{step:09d}_{copy}"
        return name

    def _prune(self) -> None:
        """Removes all but the newest `keep` and the best."""
        if self.keep is None:
            return
        whole = [p for p in self.paths() if p not in self._damaged]
        best = self.best() if self.monitor else None
        for path in whole[: -self.keep]:
            if path != best:
                removing = path.with_name(REMOVING + path.name)
                os.rename(path, removing)
                _remove(removing)

    def _clear(self) -> None:
        """Removes what a process that was killed left half written, or half removed."""
        for path in self.directory.iterdir():
            if path.name.startswith(SAVING) and NAME.fullmatch(path.name[len(SAVING) :]):
                shutil.rmtree(path)
            elif path.name.startswith(REMOVING) and NAME.fullmatch(path.name[len(REMOVING) :]):
                _remove(path)


def _remove(folder: pathlib.Path) -> None:
    """Removes the files that the manifest lists, and what is empty then; nothing else."""
    listed = manifest.names(folder) if (folder / manifest.MANIFEST).is_file() else []
    for name in listed:
        (folder / name).unlink()
    (folder / manifest.MANIFEST).unlink(missing_ok=True)
    for top, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(top)


def _read(folder: pathlib.Path, like: TrainState) -> Saved:
    import orbax.checkpoint as ocp

    content = _content(folder)
    expected = tree.flatten({"state": like})
    stored = {path: described for path, described in content["arrays"]}
    of_state = {path: d for path, d in stored.items() if path.startswith("state/")}
    wanted = {path: spec(leaf) for path, leaf in expected.items()}
    wrong = differences(of_state, wanted)
    if wrong:
        raise ValueError(
            f"checkpoint {str(folder)!r} is of another state: {'; '.join(wrong)}. Use the model "
            "and the optimizer that it was made with, or another directory."
        )
    targets = {}
    for i, (path, described) in enumerate(stored.items()):
        leaf = expected.get(path)
        targets[number(i)] = _extra_target(described) if leaf is None else _target(leaf)
    empty = {i: target for i, target in targets.items() if not target.size}
    targets = {i: target for i, target in targets.items() if i not in empty}
    with ocp.StandardCheckpointer() as orbax:
        arrays = orbax.restore(folder / "arrays", targets)
    for i, target in targets.items():
        if spec(arrays[i]) != spec(target):
            raise CheckpointCorrupt(
                f"{folder.name}: array {i} is {spec(arrays[i])} and its record says {spec(target)}."
            )
    arrays |= empty
    leaves = {path: arrays[number(i)] for i, path in enumerate(stored)}
    state = rebuilt(like, leaves, "state/")
    extra = {p.removeprefix("extra/"): leaf for p, leaf in leaves.items() if p not in expected}
    extra |= {path.removeprefix("extra/"): value for path, value in content["numbers"].items()}
    return Saved(state, content["record"], extra, folder)


def _content(folder: pathlib.Path) -> dict[str, Any]:
    """record.json, with nothing in it but what may be there."""
    try:
        content = json.loads((folder / "record.json").read_text("utf-8"))
        ok = content["format"] == FORMAT and all(
            isinstance(content[name], kind)
            for name, kind in {"arrays": list, "numbers": dict, "record": dict}.items()
        )
        ok = ok and all(isinstance(value, int | float) for value in content["numbers"].values())
        ok = ok and all(isinstance(p, str) and isinstance(d, str) for p, d in content["arrays"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointCorrupt(f"{folder.name}: record.json cannot be read: {error!r}.") from error
    if not ok:
        raise CheckpointCorrupt(f"{folder.name}: record.json is not of the format {FORMAT!r}.")
    return content


def _monitored(folder: pathlib.Path, monitor: str | None) -> float:
    """The last value of an entry of a checkpoint's history, NaN where there is none."""
    try:
        return float(_content(folder)["record"]["history"][monitor][-1])
    except (CheckpointCorrupt, KeyError, IndexError, TypeError, ValueError):
        return math.nan


def differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two flat descriptions, a line an entry."""
    wrong = [f"{name} was {was[name]}, not there now" for name in was if name not in now]
    wrong += [f"{name} is {now[name]}, not there then" for name in now if name not in was]
    both = [name for name in was if name in now and was[name] != now[name]]
    return wrong + [f"{name} was {was[name]}, is {now[name]}" for name in both]


def spec(leaf: Any) -> str:
    """float32[3,4]"""
    return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"


def number(i: int) -> str:
    return f"{i:06d}"


def _target(leaf: Any) -> Any:
    """What Orbax is to make of a leaf: an array over its devices, or one on the host."""
    sharding = getattr(leaf, "sharding", None)
    plain = jax.eval_shape(as_numbers, leaf)
    if sharding is None or len(sharding.device_set) == 1:
        return _unallocated(plain.shape, plain.dtype)
    if is_key(leaf):
        sharding = jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())
    return jax.ShapeDtypeStruct(plain.shape, plain.dtype, sharding=sharding)


_DESCRIBED = re.compile(r"([a-z0-9_]+)\[([\d,]*)\]")


def _extra_target(described: str) -> Any:
    match = _DESCRIBED.fullmatch(described)
    if match is None:
        raise CheckpointCorrupt(f"record.json describes an array as {described[:80]!r}.")
    return _unallocated(tuple(int(n) for n in match[2].split(",") if n), jnp.dtype(match[1]))


def _unallocated(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """A host array for its shape and dtype alone: one number, however large a file says it is."""
    return np.broadcast_to(np.zeros((), dtype), shape)
