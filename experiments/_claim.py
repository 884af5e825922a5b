"""Claims of the lectures: their form, their verdicts, and both in Chinese.

An experiment that tests a claim is a module with four names: `CLAIM`; `run(config)`, which returns
numbers alone, with one `_seeds.summarize` for each quantity under "measured"; `judge(metrics)`,
with a `Verdict` from these numbers; and `draw(metrics)`, the figure. Verdicts are not
stored: the report computes them from the committed numbers. The Chinese text of all claims is in
`chinese.toml`.
"""

from __future__ import annotations

import collections
import functools
import importlib
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from experiments import _run, coverage

STEPS = ("set", "goodness", "best")
"""The steps of a course: a set of functions, how good a function is, the best one (row A18)."""
OUTCOMES = ("holds", "holds in part", "does not hold")


class Claim(NamedTuple):
    """A claim of the lectures.

    Attributes:
      rows: the lecture rows, the first one the claim's.
      step: which of `STEPS` it is about.
      statement: the claim in a plain sentence.
      deck: the lectures' own numbers by what they measure; None where there is only a picture.
      source: the function that it is about, a file below `jaxdl`.
      minutes: about how long it takes on two cores.
    """

    rows: tuple[str, ...]
    step: str
    statement: str
    deck: Mapping[str, float | None]
    source: str
    minutes: float


class Verdict(NamedTuple):
    """The outcome of a claim.

    Attributes:
      outcome: one of `OUTCOMES`; the second if a part of the claim or the deck's number is missed.
      reason: a sentence with its numbers, without a full stop.
      values: the same numbers by name, for the Chinese sentence.
    """

    outcome: Literal["holds", "holds in part", "does not hold"]
    reason: str
    values: Mapping[str, Any]


class Chinese(NamedTuple):
    """The entry of an experiment in `chinese.toml`, which describes the fields.

    Attributes:
      name: the experiment.
      claim: the claim's statement.
      words: the names of the quantities.
      template: the reason, with fields in the syntax of `str.format`.
      parts: the forms of truth values and lists among the fields.
    """

    name: str
    claim: str
    words: Mapping[str, str]
    template: str
    parts: Mapping[str, Mapping[str, str]]

    def reason(self, verdict: Verdict) -> str:
        """Returns the reason of a verdict in Chinese.

        Raises:
          ValueError: the verdict lacks a value of the template, or the file the form of a value.
        """
        try:
            return self.template.format(**self._render(verdict.values))
        except KeyError as error:
            raise ValueError(
                f"chinese.toml: the verdict of {self.name!r} needs {error}, which neither the "
                "values of its Verdict nor its parts have. Add it to one of them."
            ) from error

    def _render(self, values: Mapping[str, Any]) -> dict[str, Any]:
        rendered = {}
        for field, value in values.items():
            if isinstance(value, bool | np.bool_):
                value = self.parts[field]["yes" if value else "no"]
            elif isinstance(value, list) and field in self.parts:
                part = self.parts[field]
                entries = [part["each"].format(**self._render(entry)) for entry in value]
                value = part["join"].join(entries) if entries else part["empty"]
            elif field == "name":
                value = self.words.get(str(value), value)
            rendered[field] = value
        return rendered


@functools.cache
def chinese_texts() -> dict[str, Any]:
    """Returns `chinese.toml` as nested dicts."""
    return tomllib.loads((_run.HERE / "chinese.toml").read_text("utf-8"))


def load_chinese(name: str) -> Chinese:
    """Returns the Chinese text of an experiment's claim.

    Raises:
      ValueError: the file has no such table, or the table lacks a key.
    """
    entry = chinese_texts().get(name, {})
    missing = [key for key in ("claim", "verdict", "words") if key not in entry]
    if missing:
        raise ValueError(
            f"chinese.toml: the table [{name}] lacks {', '.join(missing)}. Translate the claim of "
            f"experiments/{name}.py there."
        )
    return Chinese(name, entry["claim"], entry["words"], entry["verdict"], entry.get("parts", {}))


class ClaimResult(NamedTuple):
    """A claim with the committed result of its experiment, None where it has not been run."""

    name: str
    claim: Claim
    module: Any
    result: dict[str, Any] | None

    @property
    def minutes(self) -> float:
        """The time of the experiment, with networks that an earlier experiment had trained."""
        if self.result is None:
            return self.claim.minutes
        return max(self.result["seconds"], sum(self.metrics.get("seconds", {}).values())) / 60

    @property
    def speedup(self) -> float | None:
        """Time of the seeds one by one over their time as one program."""
        speedups = self.metrics.get("speedup")
        if not speedups:
            return None
        seconds = {name: self.metrics["seconds"][name] for name in speedups}
        return sum(seconds[name] * speedups[name] for name in speedups) / sum(seconds.values())

    @property
    def verdict(self) -> Verdict | None:
        """The verdict by the committed numbers, None without a result."""
        return self.module.judge(self.metrics) if self.result else None

    @property
    def metrics(self) -> dict[str, Any]:
        return self.result["metrics"] if self.result else {}

    @property
    def chinese(self) -> Chinese:
        return load_chinese(self.name)


def modules() -> Iterator[tuple[str, Any]]:
    """Yields the experiments that test a claim, by name."""
    for name in _run.names():
        # Read from the source: importing every experiment would take seconds.
        if "\nCLAIM = Claim(" in (_run.HERE / f"{name}.py").read_text("utf-8"):
            yield name, importlib.import_module(f"experiments.{name}")


def claims() -> list[ClaimResult]:
    """Returns all claims with their results, by the step of the course and the lecture row."""
    order = list(coverage.rows())
    results = []
    for name, module in modules():
        path = _run.RESULTS / f"{name}.json"
        result = json.loads(path.read_text("utf-8")) if path.is_file() else None
        results.append(ClaimResult(name, module.CLAIM, module, result))
    return sorted(results, key=lambda r: (STEPS.index(r.claim.step), order.index(r.claim.rows[0])))


def count_outcomes(results: Sequence[ClaimResult]) -> dict[str, int]:
    """Returns how many claims have each outcome."""
    counts = collections.Counter(one.verdict.outcome for one in results if one.verdict)
    return {outcome: counts[outcome] for outcome in OUTCOMES}


def numbers(values: Any, digits: int = 4) -> Any:
    """Converts arrays, also in dicts, to lists of numbers with few significant digits.

    Results are committed as JSON: four digits keep the files small enough to read and to compare.
    """
    if isinstance(values, Mapping):
        return {str(key): numbers(value, digits) for key, value in values.items()}
    array = np.asarray(values, np.float64)
    if array.ndim:
        return [numbers(value, digits) for value in array]
    return float(f"{float(array):.{digits}g}")
