"""What a run says while it goes on: a bar on a terminal, a line an epoch elsewhere."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any


class Silent:
    """Says nothing; and what the others are asked to say."""

    def compiled(self, seconds: float) -> None:
        """The training program is compiled."""

    def steps(self, epoch: int, done: int, of: int) -> None:
        """`done` of an epoch's steps are taken."""

    def epoch(self, epoch: int, row: Mapping[str, float]) -> None:
        """An epoch is over, and these are its numbers."""

    def say(self, text: str) -> None:
        """Anything else."""


class Lines(Silent):
    """A line an epoch."""

    def __init__(self, last: int):
        self.last = last

    def compiled(self, seconds):
        if seconds >= 0.1:  # otherwise it was compiled before
            self.say(f"compiled in {seconds:.1f} s")

    def epoch(self, epoch, row):
        values = "  ".join(
            f"{name} {value:.4g}" for name, value in row.items() if not name.endswith("seconds")
        )
        self.say(f"epoch {epoch}/{self.last}  {row['seconds']:.2f} s  {values}")

    def say(self, text):
        print(text, flush=True)


class Bar(Lines):
    """Lines, and below them a bar over the steps of the epoch in progress."""

    def __init__(self, last: int, bar: Any, task: Any):
        super().__init__(last)
        self._bar, self._task = bar, task

    def steps(self, epoch, done, of):
        self._bar.update(
            self._task, completed=done, total=of, description=f"epoch {epoch}/{self.last}"
        )

    def say(self, text):
        self._bar.console.print(text, highlight=False)


@contextlib.contextmanager
def progress(verbose: int, last: int) -> Iterator[Silent]:
    """The reporter of a run that ends with epoch `last`: 0 none, 1 a bar if it can, 2 lines."""
    if verbose == 0:
        yield Silent()
    elif verbose == 2 or not sys.stdout.isatty():
        yield Lines(last)
    else:
        import rich.progress as rich

        columns = (
            rich.TextColumn("{task.description}"),
            rich.BarColumn(),
            rich.MofNCompleteColumn(),
            rich.TimeRemainingColumn(),
        )
        with rich.Progress(*columns, transient=True) as bar:
            yield Bar(last, bar, bar.add_task("compiling", total=None))
