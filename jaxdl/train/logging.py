"""Loggers: write the metrics of a run to files and experiment trackers.

A logger is any object with `log(step, values)` and `close()`. The classes here wrap libraries that
are imported when the logger is created.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from jaxdl.train.checkpoint import Checkpointer

__all__ = ["JSONLines", "Logger", "MLflow", "TensorBoard", "Trackio", "WandB"]


class Logger(Protocol):
    """Protocol of the loggers that `fit(logger=...)` takes."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Writes named values at a step."""

    def close(self) -> None:
        """Writes what is buffered, and ends the log."""


class JSONLines:
    """Appends a line of JSON for every call: `{"step": 100, "loss": 0.5, ...}`.

    NaN and infinity are written as null, because JSON has neither.

    Args:
      path: the file. The first `log` drops its lines of the same step and later ones, because a
        resumed run takes these steps again.

    Raises:
      OSError: the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = pathlib.Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file: Any = None

    def log(self, step, values):
        # Opened by the first `log`, which knows the step from which earlier lines are obsolete.
        if self._file is None:
            earlier = [line for line in self._read_lines() if _read_step(line) < step]
            self._file = open(self.path, "w", encoding="utf-8")
            self._file.writelines(earlier)
        finite = {k: v if abs(v) < float("inf") else None for k, v in values.items()}
        self._file.write(json.dumps({"step": step} | finite) + "\n")
        self._file.flush()

    def close(self):
        if self._file is not None:
            self._file.close()
            self._file = None

    def _read_lines(self) -> list[str]:
        if not self.path.is_file():
            return []
        lines = self.path.read_text("utf-8", errors="replace").split("\n")
        return [f"{line}\n" for line in lines if line]


def _read_step(line: str) -> float:
    """Returns the step of a line, or infinity for the partial line of a killed run."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return float("inf")


class TensorBoard:
    """Writes scalars to TensorBoard's event files, by the package tensorboardX.

    Args:
      directory: folder of the event files.
    """

    def __init__(self, directory: str | os.PathLike):
        self._writer = _import("tensorboardX", "TensorBoard").SummaryWriter(os.fspath(directory))

    def log(self, step, values):
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self):
        self._writer.close()


class WandB:
    """Logs to a run of Weights & Biases.

    Args:
      **options: for `wandb.init`, such as `project`.
    """

    def __init__(self, **options: Any):
        self._run = _import("wandb", "WandB").init(**options)

    def log(self, step, values):
        self._run.log(dict(values), step=step)

    def close(self):
        self._run.finish()


class MLflow:
    """Logs to a run of MLflow.

    Args:
      **options: for `mlflow.start_run`, such as `run_name`.
    """

    def __init__(self, **options: Any):
        self._mlflow = _import("mlflow", "MLflow")
        self._mlflow.start_run(**options)

    def log(self, step, values):
        self._mlflow.log_metrics(dict(values), step=step)

    def close(self):
        self._mlflow.end_run()


class Trackio:
    """Logs to a run of Trackio.

    Args:
      project: name of the project.
      **options: for `trackio.init`.
    """

    def __init__(self, project: str, **options: Any):
        self._trackio = _import("trackio", "Trackio")
        self._trackio.init(project=project, **options)

    def log(self, step, values):
        self._trackio.log(dict(values), step=step)

    def close(self):
        self._trackio.finish()


@contextlib.contextmanager
def open_loggers(
    logger: Logger | Sequence[Logger], checkpoints: Checkpointer | None, who: str = "fit"
) -> Iterator[Sequence[Logger]]:
    """Yields the loggers of a run as a list, and closes them at the end.

    Args:
      logger: as for `fit`.
      checkpoints: if there are any, their directory gets a log.jsonl.
      who: the calling function, for errors.
    """
    several = isinstance(logger, Sequence) and not isinstance(logger, str)
    loggers: list[Any] = [*logger] if several else [logger]  # type: ignore[misc]
    for each in loggers:
        if not (hasattr(each, "log") and hasattr(each, "close")):
            raise ValueError(
                f"{who}: logger is {each!r}; expected log(step, values) and close(), such as "
                "train.TensorBoard(directory)."
            )
    if checkpoints is not None:
        loggers.append(JSONLines(checkpoints.directory / "log.jsonl"))
    with contextlib.ExitStack() as stack:
        for each in loggers:
            stack.callback(each.close)
        yield loggers


def _import(name: str, who: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(f"{who} needs the package {name}: pip install {name}.") from error
