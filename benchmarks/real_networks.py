"""Explanations of real networks: sums, agreement, time and memory against Captum and Zennit.

Seven networks, two of them pretrained, with biases, scales and statistics that are not 0 and 1. The
peers run the same weights, each side in a separate process for each network, in turn.
"""

from __future__ import annotations

import pathlib
import statistics
import tempfile
import time
from typing import Any

import numpy as np

from benchmarks import _measure, _real_methods, _real_weights
from benchmarks._real_process import Process, start_processes

Row = dict[str, Any]
ENOUGH = 20.0
"""Seconds after which a work gets no further round, from the third on."""


def run(config) -> list[Row]:
    """Measures the networks whose name contains `only`."""
    networks = [name for name in _real_methods.NETWORKS if config.only in name]
    print(HEADER, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        return [row for name in networks for row in measure(name, config, pathlib.Path(folder))]


def measure(network: str, config, folder: pathlib.Path) -> list[Row]:
    """Measures the methods of one network; with `smoke`, the first one."""
    try:
        if network in _real_weights.PRETRAINED:
            _real_weights.folder(network)
    except FileNotFoundError as error:
        print(error, flush=True)
        return []
    methods = _real_methods.methods(network)[: 1 if config.smoke else None]
    peers = {method: _real_methods.peer(network, method) for method in methods}
    # Captum and Zennit share torch's network and so a process.
    sides = {name: "Captum" if name == "Zennit" else name for name in peers.values() if name}
    rows = []
    with start_processes(["ours", *dict.fromkeys(sides.values())], network) as processes:
        for method, peer in peers.items():
            both = {"ours": processes["ours"]}
            if peer:
                both[peer] = processes[sides[peer]]
            rows.append(_row(network, method, peer, both, config, folder))
            print(_line(rows[-1]), flush=True)
    return rows


def _row(network: str, method: str, peer: str | None, both: dict[str, Process], config, folder):
    paths = {side: str(folder / f"{side}.npy") for side in both}
    answers = {side: both[side].ask(method=method, path=paths[side]) for side in both}
    row: Row = {"work": f"{network}, {method}", "network": network, "method": method, "peer": peer}
    row |= {"ratio": None, "target": None}
    sound = [side for side in both if "error" not in answers[side]]
    seconds, load = _seconds({side: both[side] for side in sound}, config)
    for side, answer in answers.items():
        key = "ours" if side == "ours" else "peer"
        if side not in sound:
            row[f"{key}_error"] = answer["error"]
            continue
        row[f"{key}_ms"] = _measure.quartiles([1e3 * s for s in seconds[side]])
        row[f"{key}_MB"], row[f"{key}_compile_s"] = answer["peak_MB"], answer["compile_s"]
        row |= {f"{key}_{name}": value for name, value in _sums(method, answer).items()}
    if len(sound) == 2:
        ratios = [a / b for a, b in zip(*seconds.values(), strict=True)]
        row |= {
            "ratio": statistics.median(ratios),
            "ratio_quartiles": _measure.quartiles(ratios)[::2],
        }
        row |= agreement(*(np.load(path) for path in paths.values()))
    return row | {"load": load}


def _seconds(processes: dict[str, Process], config) -> tuple[dict[str, list[float]], float | None]:
    """Returns the seconds of a call by side and round; every second round goes backwards."""
    seconds: dict[str, list[float]] = {side: [] for side in processes}
    load, began = _measure.Load(), time.monotonic()
    for i in range(config.few_rounds):
        if i >= 3 and time.monotonic() - began > ENOUGH:
            break
        for side in list(processes)[:: -1 if i % 2 else 1]:
            time.sleep(0.2)  # lets the threads of the other process stop spinning

            def turn(side=side):
                return processes[side].ask(at_least=config.turn / 2)

            seconds[side].append(load.add_turn(turn)["seconds"])
    return seconds, load.share


def _sums(method: str, answer: dict[str, Any]) -> Row:
    """Returns the sum of an example over what is due, least and greatest, and the largest value."""
    score = np.abs(answer["score"])
    sizes: Row = {"largest": float((np.array(answer["largest"]) / score).max())}
    if method in _real_methods.TOTALS or method.startswith("lrp"):
        due = np.array(answer[_real_methods.TOTALS.get(method, "score")])
        shares = np.array(answer["sum"]) / due
        sizes["share"] = [float(shares.min()), float(shares.max())]
    return sizes


def agreement(ours: np.ndarray, theirs: np.ndarray) -> Row:
    """Returns the largest difference over the largest value, and the least correlation.

    Args:
      ours, theirs: attributions of N examples, finite or not.
    """
    ours, theirs = (a.reshape(len(a), -1).astype(np.float64) for a in (ours, theirs))
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return {"difference": None, "correlation": None}
    # Relative to the largest value: most attributions are near 0, where relative errors mean
    # nothing.
    largest = np.abs(theirs).max(1)
    difference = np.abs(ours - theirs).max(1) / np.where(largest > 0, largest, 1)
    products = [(a - a.mean()) / max(float(a.std()), 1e-300) for a in (*ours, *theirs)]
    pairs = zip(products[: len(ours)], products[len(ours) :], strict=True)
    correlations = [float((a * b).mean()) for a, b in pairs]
    return {"difference": float(difference.max()), "correlation": min(correlations)}


COLUMNS = (
    *("method", "sum / due", "largest / score", "peer", "its sum / due", "difference"),
    *("correlation", "compile s", "ms", "peer's ms", "ratio", "MB", "peer's MB"),
)
HEADER = " | ".join(("network", *COLUMNS))


def cells(row: Row) -> list[str]:
    """Returns a row of the table, in the order of `COLUMNS`."""

    def number(key: str, form: str = "{:.3g}") -> str:
        value = row.get(key)
        value = value[1] if isinstance(value, list) and len(value) == 3 else value
        return "" if value is None else form.format(value)

    def share(side: str) -> str:
        if f"{side}_error" in row:
            return "fails: " + row[f"{side}_error"].partition(":")[0]
        low, high = row.get(f"{side}_share", (None, None))
        if low is None or high is None:
            return ""
        return f"{low:.3g}" if f"{low:.3g}" == f"{high:.3g}" else f"{low:.3g} to {high:.3g}"

    whole = "{:,.0f}"
    return [
        row["method"],
        share("ours"),
        number("ours_largest"),
        row["peer"] or "",
        share("peer"),
        number("difference", "{:.1e}"),
        number("correlation", "{:.4f}"),
        number("ours_compile_s", "{:.1f}"),
        *(number(key, whole) for key in ("ours_ms", "peer_ms")),
        number("ratio", "{:.2f}"),
        *(number(key, whole) for key in ("ours_MB", "peer_MB")),
    ]


def _line(row: Row) -> str:
    errors = [f"{side}: {row[side]}" for side in ("ours_error", "peer_error") if side in row]
    return " | ".join([row["network"], *cells(row), *errors])
