"""Checkpoints of a training run: atomic, verified when read, written in the background.

Orbax writes the arrays, of every process and without blocking the training. It does not detect a
bit that flipped on the disk, so a checksum of every file is added. A checkpoint is written in this
order, and reading takes the newest folder whose files match its manifest:

    .saving-step_000000100/        while it is being written
        arrays/, record.json, manifest.json
    step_000000100/                renamed when all of it is on the disk

Folder and files are described in `checkpoint_format`.
"""

from __future__ import annotations

import contextlib
import math
import os
import pathlib
import re
import shutil
import socket
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl.core import suggest
from jaxdl.train import sharding, validation
from jaxdl.train.callbacks import sign
from jaxdl.train.checkpoint_format import (
    ARRAYS,
    MANIFEST,
    RECORD,
    CheckpointCorrupt,
    RestoredRun,
    fsync_folder,
    list_manifest,
    pack,
    read,
    read_monitor,
    verify,
    write_manifest,
)
from jaxdl.train.state import TrainState

__all__ = ["Checkpointer"]

# The step, and the number of the copy if a damaged checkpoint of that step exists.
NAME = re.compile(r"step_(\d{9,18})(?:_(\d{1,9}))?")
SAVING, REMOVING = ".saving-", ".removing-"
LOCK = "lock"


class Checkpointer:
    """Saves and restores the checkpoints of one run, in one directory.

    Pass it, or the directory alone, to `fit(checkpoint=...)`. In a custom loop:

      >>> with checkpoints.writing():
      ...     saved = checkpoints.restore(like=state)
      ...     state = saved.state if saved else state
      ...     for batch in batches:
      ...         state, metrics = step(state, batch)
      ...         if int(state.step) % 1000 == 0:
      ...             checkpoints.save(state)

    Args:
      directory: created if it does not exist. One run at a time writes to it.
      every: steps between checkpoints; None saves at the end of every epoch.
      keep: number of newest checkpoints to keep; None keeps all.
      monitor: an entry of the history, such as "eval_loss"; the best checkpoint by it is kept too.
      mode: "min", "max" or "auto", as for `EarlyStopping`.
      resume: what `fit` resumes from: "auto", the newest valid checkpoint, if there is one; False,
        nothing, and the directory must have no checkpoint; or the path of a checkpoint.

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
        resume: str | os.PathLike | bool = "auto",
    ):
        counts = {"every": every, "keep": keep}
        counts = {name: n for name, n in counts.items() if n is not None}
        validation.validate_positive("Checkpointer", **counts)
        if every is not None and monitor is not None:
            raise ValueError(
                f"Checkpointer: every is {every} and monitor {monitor!r}; expected one of the two, "
                "because the history has one value per epoch."
            )
        self.directory = pathlib.Path(directory).expanduser().absolute()
        self.every, self.keep, self.monitor, self.resume = every, keep, monitor, resume
        self._sign = sign("Checkpointer", monitor or "loss", mode)
        self._orbax: Any = None
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._damaged: set[pathlib.Path] = set()

    @classmethod
    def from_argument(
        cls, checkpoint: Checkpointer | str | os.PathLike | None
    ) -> Checkpointer | None:
        """Returns the `Checkpointer` of `fit(checkpoint=...)`, which may be a directory."""
        if checkpoint is None or isinstance(checkpoint, Checkpointer):
            return checkpoint
        return cls(checkpoint)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Locks the directory, in a `with` block that ends when every checkpoint is written.

        Raises:
          ValueError: another process writes to the directory, or it is not writable.
        """
        import orbax.checkpoint as ocp

        with contextlib.ExitStack() as stack:
            if sharding.is_process0():
                try:
                    self.directory.mkdir(parents=True, exist_ok=True)
                    stack.enter_context(_lock(self.directory))
                    self._remove_incomplete()
                except OSError as error:
                    raise ValueError(
                        f"checkpoint {str(self.directory)!r} cannot be written ({error}); expected "
                        "a directory that you may write."
                    ) from error
            sharding.barrier("jaxdl checkpoint directory")
            with ocp.StandardCheckpointer() as self._orbax:
                try:
                    yield
                finally:
                    self.wait()

    def save(
        self, state: TrainState, record: Mapping[str, Any] | None = None, extra: Any = None
    ) -> None:
        """Starts writing a checkpoint in the background.

        The arrays are copied first, so that the next step may consume the state at once.

        Args:
          state: the state; its step names the checkpoint.
          record: a JSON-serializable dict; `history` is read for `monitor`.
          extra: a tree of arrays and numbers to save with the state.

        Raises:
          OSError: the previous checkpoint could not be written.
          ValueError: the history has no entry named `monitor`.
        """
        self.wait()
        history = (record or {}).get("history")
        if self.monitor and history and self.monitor not in history:
            raise ValueError(
                f"Checkpointer: monitor is {self.monitor!r}; "
                + suggest(self.monitor, list(history), "history entries")
            )
        step = int(state.step)
        text, arrays = pack(state, record or {}, extra)
        name = self._unused_name(step)
        saving = self.directory / f"{SAVING}{name}"
        if sharding.is_process0():
            saving.mkdir()
        sharding.barrier(f"jaxdl save {step}")
        # Orbax reads the arrays in the background, while the next step donates those of the state.
        copies = jax.tree.map(jnp.copy, arrays)
        self._orbax.save(saving / ARRAYS, copies)
        self._thread = threading.Thread(target=self._finish, args=(saving, name, text))
        self._thread.start()

    def wait(self) -> None:
        """Waits until the last checkpoint is written.

        Raises:
          OSError: it could not be written; earlier checkpoints are intact.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise OSError(
                f"checkpoint {str(self.directory)!r}: the last one could not be written ({error}); "
                "earlier ones are intact. Check the free space on the disk."
            ) from error

    def paths(self) -> list[pathlib.Path]:
        """Returns the folders of all checkpoints, the oldest first, intact or not."""
        if not self.directory.is_dir():
            return []
        matches = [(NAME.fullmatch(path.name), path) for path in self.directory.iterdir()]
        named = [(int(m[1]), int(m[2] or 0), path) for m, path in matches if m and path.is_dir()]
        return [path for *_, path in sorted(named)]

    def restore(
        self,
        like: TrainState,
        *,
        path: str | os.PathLike | None = None,
        check: Callable[[pathlib.Path, dict[str, Any]], None] | None = None,
    ) -> RestoredRun | None:
        """Reads the newest intact checkpoint; warns about every damaged one it skips.

        Args:
          like: a state of the same structure, as arrays or `jax.ShapeDtypeStruct`s. If these have a
            sharding over several devices, the arrays are sharded like them, whatever number of
            devices wrote them.
          path: the folder of one checkpoint, to read only this one.
          check: called with the folder and its record before the state is compared; it may raise.

        Returns:
          A `RestoredRun`, or None if there is no checkpoint.

        Raises:
          CheckpointCorrupt: there are checkpoints, but all are damaged.
          ValueError: the state differs from `like`; the message lists every path that differs.
        """
        folders = self.paths() if path is None else [pathlib.Path(path).absolute()]
        # All processes must read the same checkpoint: process 0 verifies and chooses.
        chosen = -1
        if sharding.is_process0():
            for i in reversed(range(len(folders))):
                wrong = verify(folders[i])
                if wrong is None:
                    chosen = i
                    break
                self._damaged.add(folders[i])
                warnings.warn(f"checkpoint {str(folders[i])!r} is skipped: {wrong}.", stacklevel=2)
        chosen = sharding.broadcast_from_process0(chosen)
        if chosen >= 0:
            return read(folders[chosen], like, check)
        if folders:
            raise CheckpointCorrupt(
                f"checkpoint {str(path or self.directory)!r}: none of {len(folders)} is intact. "
                "Move them away to start a new run."
            )
        return None

    def best(self) -> pathlib.Path | None:
        """Returns the folder of the best checkpoint by `monitor`, or None if there is none."""
        values = {path: read_monitor(path, self.monitor) for path in self.paths()}
        values = {path: self._sign * v for path, v in values.items() if not math.isnan(v)}
        return min(values, key=lambda path: values[path], default=None)

    def _finish(self, saving: pathlib.Path, name: str, text: str) -> None:
        """Completes a checkpoint in a thread: waits for the arrays, adds the record, renames."""
        try:
            self._orbax.wait_until_finished()
            if sharding.is_process0():
                with open(saving / RECORD, "w", encoding="utf-8") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                write_manifest(saving)
                # Only a complete checkpoint gets its name: a rename is atomic on POSIX.
                os.rename(saving, self.directory / name)
                fsync_folder(self.directory)
                self._prune()
        except BaseException as error:  # raised by `wait` in the main thread
            self._error = error

    def _unused_name(self, step: int) -> str:
        """Returns a name that no folder has; damaged checkpoints keep theirs."""
        name, copy = f"step_{step:09d}", 1
        while (self.directory / name).exists():
            copy += 1
            name = f"step_{step:09d}_{copy}"
        return name

    def _prune(self) -> None:
        """Removes all checkpoints but the newest `keep` and the best."""
        if self.keep is None:
            return
        intact = [p for p in self.paths() if p not in self._damaged]
        best = self.best() if self.monitor else None
        for path in intact[: -self.keep]:
            if path != best:
                # Renamed first: a folder that is removed halfway must not look like a checkpoint.
                removing = path.with_name(REMOVING + path.name)
                os.rename(path, removing)
                _remove(removing)

    def _remove_incomplete(self) -> None:
        """Removes what a killed process left half written or half removed."""
        for path in self.directory.iterdir():
            if path.name.startswith(SAVING) and NAME.fullmatch(path.name[len(SAVING) :]):
                shutil.rmtree(path)  # not yet visible as a checkpoint, so without foreign files
            elif path.name.startswith(REMOVING) and NAME.fullmatch(path.name[len(REMOVING) :]):
                _remove(path)


def _remove(folder: pathlib.Path) -> None:
    """Removes the files that the manifest lists, then empty folders; leaves any other file."""
    for name in list_manifest(folder):
        (folder / name).unlink()
    (folder / MANIFEST).unlink(missing_ok=True)
    for top, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(top)


@contextlib.contextmanager
def _lock(directory: pathlib.Path) -> Iterator[None]:
    """Locks a directory for one writer; the system releases the lock when the process ends.

    Raises:
      ValueError: another writer has the lock; the message names its process and machine.
    """
    try:
        import fcntl
    except ImportError:  # Windows: a second writer is not detected
        yield
        return
    # flock instead of the existence of a file: a killed process leaves no stale lock. The content
    # is for the error message only.
    handle = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.read(handle, 200).decode("utf-8", "replace").strip()
            raise ValueError(
                f"checkpoint {str(directory)!r} is being written by {owner or 'another process'}; "
                "expected one writer. Wait for it, end it, or choose another directory."
            ) from None
        os.ftruncate(handle, 0)
        os.write(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield
    finally:
        os.close(handle)
