"""Attributions: time and memory against Captum and Zennit, on the same weights.

Why: people wait for explanations, and perturbation methods run a network thousands of times. Two
convolutional networks, of 28x28 grey and 224x224 colour images, explain a batch of 16, compiled and
warm; only the random networks of the sanity check have their compilation counted.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import _peak_memory
from benchmarks._measure import Call, NotInstalled, Row, evaluate, measure, row, run_table

TARGETS = {
    "saliency": 0.15,
    "saliency's forward pass": None,
    "integrated gradients, 50": 0.65,
    "SmoothGrad, 50": 0.75,
    "occlusion, 4x4 by 2": 0.12,
    "occlusion, 32x32 by 16": None,
    "exact Shapley, 6 features": 0.1,
    "Shapley, 10 features": None,
    "LRP, epsilon plus": 0.6,
}
LARGE_ONLY = ("occlusion, 32x32 by 16",)
SMALL_ONLY = ("occlusion, 4x4 by 2", "exact Shapley, 6 features", "Shapley, 10 features")
AT_ONCE = ("occlusion, 4x4 by 2", "Shapley, 10 features")
"""Measured with 16 perturbations at once too; Captum's default is one at a time."""


def run(config) -> list[Row]:
    """Runs all works of the table, or those selected by `only`."""
    return run_table({"methods": methods, "memory": memory, "sanity": sanity}, config)


def _calls(method: str, size: str) -> dict[str, Call]:
    arguments = {"method": method, "size": size}
    calls = {"ours": Call("benchmarks._explain:explain", arguments)}
    if method == "LRP, epsilon plus":
        return calls | {"Zennit": Call("benchmarks._captum:zennit", {"size": size})}
    calls["Captum"] = Call("benchmarks._captum:captum", arguments)
    if method in AT_ONCE:
        sixteen = arguments | {"at_once": 16}
        calls["Captum, 16 at a time"] = Call("benchmarks._captum:captum", sixteen)
    return calls


def methods(config) -> Iterator[Row]:
    """Each method on both networks; the long ones on one of them."""
    for size in ("28x28",) if config.smoke else ("28x28", "224x224"):
        for method, target in TARGETS.items():
            if method in (LARGE_ONLY if size == "28x28" else SMALL_ONLY):
                continue
            calls = _calls(method, size)
            rounds = config.rounds if size == "28x28" else config.few_rounds
            measurement = measure(calls, rounds, config.turn)
            # Captum's exact values for 10 features would take 10! orders.
            note = "ours exact, theirs 25 orders" if method == "Shapley, 10 features" else ""
            for peer in list(calls)[1:]:
                goal = target if peer in ("Captum", "Zennit") else None
                yield measurement.row(f"{method} ({size})", peer, goal, note=note)


def memory(config) -> Iterator[Row]:
    """The peak memory of integrated gradients, compilation included."""
    if not (_peak_memory.PROCESS / "clear_refs").exists():
        return
    method = "integrated gradients, 50"
    work = f"{method}, peak memory"
    arguments = {"method": method, "size": "28x28"}
    sides = ("_explain", []), ("_captum", [])
    for _ in range(config.few_rounds):
        for module, megabytes in sides:
            try:
                megabytes.append(evaluate(Call(f"benchmarks.{module}:peak_megabytes", arguments)))
            except NotInstalled as error:
                yield row(work, "Captum", (), (), note=f"not installed: {error}")
                return
    yield row(work, "Captum", sides[0][1], sides[1][1], unit="MB")


def sanity(config) -> Iterator[Row]:
    """Explanations of random networks: all in one program, or one after the other."""
    models = 3 if config.smoke else 100
    ways = {"ours": "together", "a loop": "loop", "a loop, compiled once": "compiled loop"}
    calls = {
        name: Call(
            "benchmarks._explain:random_networks", {"how": how, "models": models}, warm=False
        )
        for name, how in ways.items()
    }
    measurement = measure(calls, config.few_rounds)
    work = f"sanity check, {models} random networks"
    yield measurement.row(work, "a loop", 0.5, note="compilation included")
    yield measurement.row(work, "a loop, compiled once", note="compilation included")
