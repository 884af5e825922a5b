"""The claims, what came of them, and how it is said: what the table and the page are made of."""

from __future__ import annotations

import collections
import importlib
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from experiments import _run, coverage
from experiments._claim import Claim, Verdict

REPOSITORY = "../jaxdl"
STEPS = {
    "set": ("Step 1: define a set of functions", "第一步：定义函数集合"),
    "goodness": ("Step 2: goodness of a function", "第二步：评判函数的好坏"),
    "best": ("Step 3: pick the best function", "第三步：挑出最好的函数"),
}


class Tried(NamedTuple):
    """A claim and what came of it; `result` is None where it has not been run."""

    name: str
    claim: Claim
    module: Any
    result: dict[str, Any] | None

    @property
    def minutes(self) -> float:
        """How long it took, with the networks that it found trained by another experiment."""
        if self.result is None:
            return self.claim.minutes
        return max(self.result["seconds"], sum(self.metrics.get("seconds", {}).values())) / 60

    @property
    def speedup(self) -> float | None:
        """How many times as fast the seeds were as one program as they would be one by one."""
        speedups = self.metrics.get("speedup")
        if not speedups:
            return None
        seconds = {name: self.metrics["seconds"][name] for name in speedups}
        return sum(seconds[name] * speedups[name] for name in speedups) / sum(seconds.values())

    @property
    def verdict(self) -> Verdict | None:
        """What the stored numbers say, None without a result."""
        return self.module.judge(self.metrics) if self.result else None

    @property
    def metrics(self) -> dict[str, Any]:
        return self.result["metrics"] if self.result else {}


def modules() -> Iterator[tuple[str, Any]]:
    """The experiments that try a claim."""
    for name in _run.names():
        if "\nCLAIM = Claim(" in (_run.HERE / f"{name}.py").read_text("utf-8"):
            yield name, importlib.import_module(f"experiments.{name}")


def claims() -> list[Tried]:
    """All of them, in the order of the course, and within a step of the lectures' rows."""
    order = list(coverage.rows())
    tried = []
    for name, module in modules():
        path = _run.RESULTS / f"{name}.json"
        result = json.loads(path.read_text("utf-8")) if path.is_file() else None
        tried.append(Tried(name, module.CLAIM, module, result))
    steps = list(STEPS)
    return sorted(tried, key=lambda t: (steps.index(t.claim.step), order.index(t.claim.rows[0])))


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def ours(spread: dict[str, float]) -> str:
    """Mean and deviation over the seeds, if there are several; small numbers with their digits."""
    mean, deviation = spread["mean"], spread["deviation"]
    digits = ".3f" if abs(mean) >= 0.01 else ".1e"
    return f"{mean:{digits}} ± {deviation:{digits}}" if spread["seeds"] > 1 else f"{mean:{digits}}"


def seeds(spread: dict[str, float]) -> str:
    """How many; none where a number is exact."""
    return f"{spread['seeds'] or '-'}"


def time(tried: Tried) -> tuple[str, str]:
    """What it takes, in both languages."""
    english, chinese = f"{tried.minutes:.1f} minutes", f"{tried.minutes:.1f} 分钟"
    if tried.speedup is None:
        return english, chinese
    return (
        f"{english}, {tried.speedup:.1f} times as fast as its seeds one by one",
        f"{chinese}，比逐个种子运行快 {tried.speedup:.1f} 倍",
    )


def whole(tried: list[Tried]) -> tuple[str, str]:
    """The time of all, in which networks in common are trained once."""
    minutes = sum(t.result["seconds"] for t in tried if t.result) / 60
    machines = {t.result["machine"] for t in tried if t.result}
    where = "; ".join(sorted(machines))
    return (
        f"One after the other, all of them take {minutes:.0f} minutes ({where}).",
        f"依次运行全部实验共需 {minutes:.0f} 分钟（{where}）。",
    )


OUTCOMES = {"holds": "成立", "holds in part": "部分成立", "does not hold": "不成立"}


def verdict(tried: Tried) -> tuple[str, str]:
    """Returns the outcome in both languages."""
    if tried.verdict is None:
        return "not yet run", "尚未运行"
    return tried.verdict.outcome, OUTCOMES[tried.verdict.outcome]


def outcomes(tried: list[Tried]) -> tuple[str, str]:
    """Returns how many claims have each outcome, in both languages."""
    counts = collections.Counter(one.verdict.outcome for one in tried if one.verdict)
    return (
        ", ".join(f"{outcome}: {counts[outcome]}" for outcome in OUTCOMES),
        "，".join(f"{counts[outcome]} 条{chinese}" for outcome, chinese in OUTCOMES.items()),
    )


OVERVIEW = (
    ("claim", "论断"),
    ("", "结论"),
    ("seeds", "种子数"),
    ("minutes", "分钟"),
    ("speed-up", "加速比"),
)
"""The heads of the table of all claims."""


def overview(tried: Tried) -> tuple[tuple[str, str], ...]:
    """A line of that table, after the claim itself, in both languages."""
    numbers = [spread["seeds"] for spread in tried.metrics.get("measured", {}).values()]
    least = f"{min(numbers, default=0) or '-'}"
    speedup = "-" if tried.speedup is None else f"{tried.speedup:.1f}"
    minutes = f"{tried.minutes:.1f}"
    return verdict(tried), (least, least), (minutes, minutes), (speedup, speedup)
