"""Where the numbers of a run go besides its history: files, and services that draw them.

A logger is anything with `log(step, values)` and `close()`. Each of those here is a few lines
around a library that is imported when it is made.
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
    """What `fit(logger=...)` takes."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """The numbers of an epoch, or others, at a step."""

    def close(self) -> None:
        """No more will come; what was logged is written."""


class JSONLines:
    """A line of JSON for every call: `{"step": 100, "loss": 0.5, ...}`; NaN and infinity are null.

    Args:
      path: the file, which is added to. Lines from the step of the next `log` on are dropped first:
        they are of steps that a resumed run takes again.

    Raises:
      OSError: it cannot be written.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = pathlib.Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file: Any = None

    def log(self, step, values):
        if self._file is None:
            kept = [line for line in self._lines() if _step(line) < step]
            self._file = open(self.path, "w", encoding="utf-8")
            self._file.writelines(kept)
        finite = {k: v if abs(v) < float("inf") else None for k, v in values.items()}
        self._file.write(json.dumps({"step": step} | finite) + "\n")
        self._file.flush()

    def close(self):
        if self._file is not None:
            self._file.close()
            self._file = None

    def _lines(self) -> list[str]:
        if not self.path.is_file():
            return []
        lines = self.path.read_text("utf-8", errors="replace").split("\n")
        return [f"{line}\n" for line in lines if line]


def _step(line: str) -> float:
    """The step of a line, or infinity where a killed run left half of one."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return float("inf")


class TensorBoard:
    """Scalars in TensorBoard's event files, by the package tensorboardX.

    Args:
      directory: for the event files.
    """

    def __init__(self, directory: str | os.PathLike):
        self._writer = _library("tensorboardX", "TensorBoard").SummaryWriter(os.fspath(directory))

    def log(self, step, values):
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self):
        self._writer.close()


class WandB:
    """A run of Weights & Biases.

    Args:
      **options: for `wandb.init`, such as `project`.
    """

    def __init__(self, **options: Any):
        self._run = _library("wandb", "WandB").init(**options)

    def log(self, step, values):
        self._run.log(dict(values), step=step)

    def close(self):
        self._run.finish()


class MLflow:
    """A run of MLflow.

    Args:
      **options: for `mlflow.start_run`, such as `run_name`.
    """

    def __init__(self, **options: Any):
        self._mlflow = _library("mlflow", "MLflow")
        self._mlflow.start_run(**options)

    def log(self, step, values):
        self._mlflow.log_metrics(dict(values), step=step)

    def close(self):
        self._mlflow.end_run()


class Trackio:
    """A run of Trackio.

    Args:
      project: the project's name.
      **options: for `trackio.init`.
    """

    def __init__(self, project: str, **options: Any):
        self._trackio = _library("trackio", "Trackio")
        self._trackio.init(project=project, **options)

    def log(self, step, values):
        self._trackio.log(dict(values), step=step)

    def close(self):
        self._trackio.finish()


@contextlib.contextmanager
def logging(
    given: Logger | Sequence[Logger], checkpoints: Checkpointer | None, who: str = "fit"
) -> Iterator[Sequence[Logger]]:
    """The loggers of a run, with the file of lines that is beside its checkpoints; closes all."""
    several = isinstance(given, Sequence) and not isinstance(given, str)
    loggers: list[Any] = [*given] if several else [given]  # type: ignore[misc]
    for logger in loggers:
        if not (hasattr(logger, "log") and hasattr(logger, "close")):
            raise ValueError(
                f"{who}: logger is {logger!r}; expected log(step, values) and close(), such as "
                "train.TensorBoard(directory)."
            )
    if checkpoints is not None:
        loggers.append(JSONLines(checkpoints.directory / "log.jsonl"))
    with contextlib.ExitStack() as stack:
        for logger in loggers:
            stack.callback(logger.close)
        yield loggers


def _library(name: str, who: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(f"{who} needs the package {name}: pip install {name}.") from error
