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
import math
import os
import pathlib
import re
import shutil
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl.core import suggest
from jaxdl.train import manifest, sharding, validation
from jaxdl.train.callbacks import sign
from jaxdl.train.checkpoint_format import (
    ARRAYS,
    RECORD,
    CheckpointCorrupt,
    RestoredRun,
    monitored,
    packed,
    read,
)
from jaxdl.train.lock import locked
from jaxdl.train.state import TrainState

__all__ = ["Checkpointer"]

NAME = re.compile(r"step_(\d{9,18})(?:_(\d{1,9}))?")
SAVING, REMOVING = ".saving-", ".removing-"


class Checkpointer:
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
      every: steps from one checkpoint to the next; None saves at the end of every epoch.
      keep: how many of the newest to keep; None keeps all.
      monitor: an entry of the history, such as "eval_loss", by which the best is kept too.
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
        given = {"every": every, "keep": keep}
        validation.positive("Checkpointer", **{k: v for k, v in given.items() if v is not None})
        if every is not None and monitor is not None:
            raise ValueError(
                f"Checkpointer: every is {every} and monitor {monitor!r}; expected one of the two, "
                "for the history has a number an epoch."
            )
        self.directory = pathlib.Path(directory).expanduser().absolute()
        self.every, self.keep, self.monitor, self.resume = every, keep, monitor, resume
        self._sign = sign("Checkpointer", monitor or "loss", mode)
        self._orbax: Any = None
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._damaged: set[pathlib.Path] = set()

    @classmethod
    def of(cls, given: Checkpointer | str | os.PathLike | None) -> Checkpointer | None:
        """As `fit` takes it: a directory stands for the checkpoints in it."""
        return given if given is None or isinstance(given, Checkpointer) else cls(given)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Holds the directory's lock; at the end, waits until all that was saved is written.

        Raises:
          ValueError: another process writes there, or nobody can.
        """
        import orbax.checkpoint as ocp

        with contextlib.ExitStack() as stack:
            if sharding.first_process():
                try:
                    self.directory.mkdir(parents=True, exist_ok=True)
                    stack.enter_context(locked(self.directory))
                    self._clear()
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
        """Begins to write a checkpoint, from copies: the state may be consumed at once.

        Args:
          state: the state; its step names the checkpoint.
          record: anything that JSON can hold; `history` is read for `monitor`.
          extra: a tree of arrays and numbers to be saved along.

        Raises:
          OSError: the checkpoint before this one could not be written.
          ValueError: the history has no entry named `monitor`.
        """
        self.wait()
        history = (record or {}).get("history")
        if self.monitor and history and self.monitor not in history:
            raise ValueError(
                f"Checkpointer: monitor is {self.monitor!r}; "
                + suggest(self.monitor, list(history), "history holds")
            )
        step = int(state.step)
        text, arrays = packed(state, record or {}, extra)
        name = self._free(step)
        saving = self.directory / f"{SAVING}{name}"
        if sharding.first_process():
            saving.mkdir()
        sharding.barrier(f"jaxdl save {step}")
        copies = jax.tree.map(jnp.copy, arrays)
        self._orbax.save(saving / ARRAYS, copies)
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

    def restore(
        self,
        like: TrainState,
        *,
        path: str | os.PathLike | None = None,
        check: Callable[[pathlib.Path, dict[str, Any]], None] | None = None,
    ) -> RestoredRun | None:
        """Reads the newest checkpoint that is as it was written; warns of every one that is not.

        Args:
          like: a state of the same structure, as arrays or `jax.ShapeDtypeStruct`s. Where these
            have a sharding over several devices, the arrays are placed so, whatever number of
            devices wrote them.
          path: the folder of one checkpoint, to read this one only.
          check: called with the folder and its record before the state is compared; it may raise.

        Returns:
          A `RestoredRun`, or None if there is no checkpoint.

        Raises:
          CheckpointCorrupt: there are checkpoints, but all are damaged.
          ValueError: it is the checkpoint of another state; all the paths that differ are listed.
        """
        folders = self.paths() if path is None else [pathlib.Path(path).absolute()]
        chosen = -1
        if sharding.first_process():
            for i in reversed(range(len(folders))):
                wrong = manifest.damage(folders[i])
                if wrong is None:
                    chosen = i
                    break
                self._damaged.add(folders[i])
                warnings.warn(f"checkpoint {str(folders[i])!r} is skipped: {wrong}.", stacklevel=2)
        chosen = sharding.from_first(chosen)
        if chosen >= 0:
            return read(folders[chosen], like, check)
        if folders:
            raise CheckpointCorrupt(
                f"checkpoint {str(path or self.directory)!r}: none of {len(folders)} is as it was "
                "written; move them away to start anew."
            )
        return None

    def best(self) -> pathlib.Path | None:
        """The folder of the best checkpoint by `monitor`, or None if there is none."""
        values = {path: monitored(path, self.monitor) for path in self.paths()}
        values = {path: self._sign * v for path, v in values.items() if not math.isnan(v)}
        return min(values, key=lambda path: values[path], default=None)

    def _finish(self, saving: pathlib.Path, name: str, text: str) -> None:
        """In a thread: when the arrays are written, the record, the manifest and the name."""
        try:
            self._orbax.wait_until_finished()
            if sharding.first_process():
                with open(saving / RECORD, "w", encoding="utf-8") as file:
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
