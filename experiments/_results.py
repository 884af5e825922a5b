"""What the committed results amount to, in the words of the README's table."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from typing import Any

from experiments import _claim, _run

ROOT = pathlib.Path(__file__).parent.parent


def loaded(name: str) -> dict[str, Any] | None:
    path = ROOT / "experiments" / "results" / f"{name}.json"
    return json.loads(path.read_text("utf-8")) if path.is_file() else None


def accuracy(metrics: dict[str, Any]) -> str:
    networks = [
        f"{network} {found['accuracy']:.4f}"
        for network, found in metrics.items()
        if "accuracy" in found
    ]
    return "held-out accuracy " + ", ".join(networks)


def claimed() -> str:
    """How many of the lectures' claims hold, hold in part and do not hold."""
    counts = _claim.count_outcomes(_claim.claims())
    return ", ".join(f"{outcome}: {count}" for outcome, count in counts.items())


def cliff(metrics: dict[str, Any]) -> str:
    plain, clipped = (metrics[name]["final_loss"] for name in ("plain", "clipped"))
    return f"loss after descent from a start at the cliff: plain {plain:.3f}, clipped {clipped:.3f}"


def judged(metrics: dict[str, Any]) -> str:
    best = "; ".join(f"by {measure}: {name}" for measure, name in metrics["best"].items())
    return f"of {len(metrics['areas'])} methods the best {best}"


def words(metrics: dict[str, Any]) -> str:
    value = metrics["rank_correlation"]["LRP and removal"]
    return f"rank correlation of relevance and removal {value:.2f}"


def hans(metrics: dict[str, Any]) -> str:
    parts = [
        f"{name} mending {of['like_training']:.4f} with the mark, {of['clean']:.4f} without"
        for name, of in ((name, metrics[name]) for name in ("before", "after"))
    ]
    return "accuracy " + "; ".join(parts)


def slots(metrics: dict[str, Any]) -> str:
    cities = ", ".join(f"{k} {v['city_accuracy']:.3f}" for k, v in metrics["travel"].items())
    if "snips" not in metrics:
        return f"cities: {cities}"
    test = metrics["snips"]["test"]
    return (
        f"cities: {cities}; SNIPS slot F1 {test['slot_f1']:.4f}, "
        f"intents {test['intent_accuracy']:.4f}"
    )


def nats(metrics: dict[str, Any]) -> str:
    return f"{metrics['nats_per_character']:.3f} nats a character, {metrics['source']}"


def sentiment(metrics: dict[str, Any]) -> str:
    return f"accuracy {metrics['accuracy']:.4f}, {metrics['source']}"


def speech(metrics: dict[str, Any]) -> str:
    rates = metrics["digit_error_rate"]
    return "digit error rate " + ", ".join(f"{name} {rate:.4f}" for name, rate in rates.items())


def translation(metrics: dict[str, Any]) -> str:
    rows = ", ".join(f"{name} {row['exact_match']:.4f}" for name, row in metrics.items())
    return f"exact match by attention: {rows}"


SAY: dict[str, Callable[[dict[str, Any]], str]] = {
    "char_lm": nats,
    "clever_hans": hans,
    "digits": accuracy,
    "explain_digits": judged,
    "explain_lstm": words,
    "explain_photo": judged,
    "mnist": accuracy,
    "rough_surface": cliff,
    "sentiment": sentiment,
    "slot_filling": slots,
    "spoken_digits": speech,
    "translate": translation,
}


def of(name: str) -> tuple[str, str]:
    """Returns an experiment's name, and its result in words: "" where it has not been run.

    Of a claim, the outcome and its reason.
    """
    result, claims = loaded(name), dict(_claim.modules())
    if result is None:
        return name, ""
    if name in claims:
        verdict = claims[name].judge(result["metrics"])
        return name, f"{verdict.outcome}: {verdict.reason}"
    return name, SAY[name](result["metrics"])


def benchmark_rows(name: str) -> list[dict[str, Any]]:
    """Rows of a benchmark's last run: none where it has not been run."""
    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    return json.loads(path.read_text("utf-8"))["rows"] if path.is_file() else []


def speed(name: str, *peers: str) -> tuple[str, str]:
    """A benchmark's command and its ratios against some peers."""
    rows = benchmark_rows(name)
    if not rows:
        return "", ""
    left_out = ("temporary memory", "peak memory", "its products alone")
    ratios = [
        f"{short(row['work'])} {row['ratio']:.{2 if row['ratio'] >= 0.1 else 3}f}"
        for row in rows
        if row["peer"] in peers
        and row["ratio"] is not None
        and not any(words in row["work"] for words in left_out)
    ]
    whose = " or ".join(peers)
    return f"python -m benchmarks {name}", f"time / {whose}'s: " + ", ".join(ratios)


def counts() -> str:
    """The table of `benchmarks reliability`."""
    lines = ["| what | found | reach |", "|---|---|---|"]
    for row in benchmark_rows("reliability"):
        missed = "" if row["well"] else " (missed)"
        lines.append(f"| {row['what']} | {row['found']}{missed} | {row['reach']} |")
    return "\n".join(lines) + "\n"


def reliable() -> tuple[str, str]:
    """The benchmark's command and its first counts."""
    rows = benchmark_rows("reliability")
    found = [f"{row['what'].split(',')[0]} {row['found']}" for row in rows if row["reach"] == "all"]
    return "python -m benchmarks reliability" if rows else "", "; ".join(found)


def short(work: str) -> str:
    """A work's name up to its shape's end, or its first comma."""
    return work if ")" in work else work.split(",")[0]


def sources() -> str:
    """What the numbers come from."""
    lines = []
    for name in _run.names():
        result = loaded(name)
        if result is not None:
            versions = result["versions"]
            lines.append(
                f"`{name}`: seed {result['seed']}, jax {versions['jax']}, Python "
                f"{versions['python']}, {result['machine']}, {result['seconds']:.0f} s."
            )
    return "\n".join(lines) + ("\n" if lines else "")
