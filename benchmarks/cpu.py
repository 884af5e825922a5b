"""jaxdl_cpu: products, convolutions, training and explanations by oneDNN, against XLA and torch.

Why: `jaxdl_cpu.enable()` promises that a JAX program is as fast on a CPU as a torch program, and
never slower than without it. Each side runs in a process of its own; "without" is the same call
without `enable`. The peak is the best rate of a product or a convolution in the same run.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterator
from typing import Any, NamedTuple

from benchmarks._measure import Call, Row, measure, row, run_table

ENABLED = {"JAXDL_CPU": "1"}
"""Environment in which `benchmarks._timer` enables jaxdl_cpu."""
NEVER_SLOWER = 1.05


class Work(NamedTuple):
    """A call of ours and, if there is one, of torch, with the reach of their ratio."""

    name: str
    ours: Call
    torch: Call | None = None
    reach: float | None = None
    without: float = NEVER_SLOWER


def run(config) -> list[Row]:
    """Runs all works of the table, or those selected by `only`."""
    works = {"operations": operations, "training": training, "explanations": explanations}
    return run_table(works, config)


PRODUCTS = ((32, 256, 1024), (100, 784, 500), (64, 512, 2048), (2048, 2048, 2048))
CONVOLUTIONS = ((64, 32, 16, 3), (32, 16, 64, 3), (16, 56, 64, 3), (16, 56, 64, 1))
"""(batch, side, channels, kernel)."""


def operations(config) -> Iterator[Row]:
    """Products, convolutions and weight gradients, with their rates."""
    cases: list[tuple[str, str, dict[str, Any]]] = []
    for m, k, n in PRODUCTS[:1] if config.smoke else PRODUCTS:
        cases.append((f"product {m}x{k} @ {k}x{n}", "product", {"sizes": (m, k, n)}))
    for batch, side, channels, kernel in CONVOLUTIONS[: 0 if config.smoke else None]:
        name = f"{kernel}x{kernel} convolution, {channels} channels, {side}x{side}, batch {batch}"
        arguments = {"batch": batch, "side": side, "channels": channels, "kernel": kernel}
        cases.append((name, "convolution", arguments))
        cases.append((f"{name}, weight gradient", "weight_gradient", arguments))
    if not config.smoke:
        arguments = {"batch": 16, "side": 56, "channels": 144, "kernel": 3, "groups": 144}
        cases.append(("depthwise 3x3, 144 channels, 56x56, batch 16", "convolution", arguments))
    timed: dict[str, tuple[float, list[float]]] = {}
    for name, function, arguments in cases:
        call = Call(f"benchmarks._cpu:{function}", arguments)
        measurement = measure(_with_and_without(call), config.rounds, config.turn)
        reach = 0.4 if "depthwise" in name or " 1x1 " in f" {name}" else NEVER_SLOWER
        line = measurement.row(name, "without", reach)
        yield line
        if "ours" in measurement.seconds:
            timed[name] = _flops(function, arguments), measurement.seconds["ours"]
    rates = {name: flops / statistics.median(seconds) for name, (flops, seconds) in timed.items()}
    for name, (flops, seconds) in timed.items():
        least = [1e3 * flops / max(rates.values())] * len(seconds)
        note = f"{rates[name] / 1e9:.0f} GFLOP/s"
        yield row(name, "the peak", [1e3 * s for s in seconds], least, note=note)


def _flops(function: str, arguments: dict[str, Any]) -> float:
    if function == "product":
        m, k, n = arguments["sizes"]
        return 2.0 * m * k * n
    channels, groups = arguments["channels"], arguments.get("groups", 1)
    positions = arguments["batch"] * arguments["side"] ** 2
    return 2.0 * positions * channels * channels / groups * arguments["kernel"] ** 2


def training(config) -> Iterator[Row]:
    """Epochs and steps."""
    both: list[tuple[str, str, dict[str, Any], float]] = [
        ("epoch of 784-500-500-10, batch 100", "epoch", {"n": 60_000}, 0.5),
        ("step of a LeNet-like CNN", "step", {"kind": "lenet", "shape": (64, 28, 1)}, 0.6),
        ("step of 4 conv 3x3, 16 ch", "step", {"kind": "stack", "shape": (64, 32, 16)}, 0.8),
        ("step of 4 conv 3x3, 64 ch", "step", {"kind": "stack", "shape": (32, 16, 64)}, 1.0),
    ]
    works = [
        Work(
            name,
            Call(f"benchmarks._jaxdl:{function}", arguments),
            Call(f"benchmarks._torch:{function}", arguments),
            reach,
        )
        for name, function, arguments, reach in both
    ]
    recurrent = {
        ("lstm", (32, 100, 128, 256)): 1.0,
        ("lstm", (64, 50, 256, 512)): 1.0,
        ("gru", (32, 100, 128, 256)): 0.6,
        ("gru", (64, 50, 256, 512)): 0.7,
    }
    for (kind, shape), reach in recurrent.items():
        ours, torch = (
            Call(
                "benchmarks._recurrent:forward_backward",
                {"library": library, "kind": kind, "shape": shape},
            )
            for library in ("ours", "torch")
        )
        works.append(Work(f"{kind.upper()} {shape}", ours, torch, reach))
    resnet = {"name": "resnet18", "batch": 16, "side": 64}
    flax = Call("benchmarks._vision_flax:step", resnet)
    works.append(Work("step of Flax's ResNet-18, 64x64", flax, without=0.5))
    works.append(
        Work(
            "step of ResNet-18, 64x64",
            Call("benchmarks._vision_ours:step", resnet),
            Call("benchmarks._vision_torch:step", resnet | {"channels_last": True}),
            1.0,
        )
    )
    yield from _measure_works(works[1:2] if config.smoke else works, config)


def explanations(config) -> Iterator[Row]:
    """Predictions, saliency and relevance of networks at 224x224."""
    reach = {
        "lite0": {"forward": 1.2, "saliency": 1.2, "lrp epsilon_plus": 0.8},
        "resnet50": {"forward": 0.6, "saliency": 0.8, "lrp epsilon_plus": 0.3},
    }
    works = []
    for network, methods in reach.items():
        for method, most in methods.items():
            ours, torch = (
                Call(
                    "benchmarks._cpu:explain", {"side": side, "network": network, "method": method}
                )
                for side in ("ours", "torch")
            )
            works.append(Work(f"{network}, {method}", ours, torch, most))
    yield from _measure_works(works[:0] if config.smoke else works, config)


def _with_and_without(call: Call) -> dict[str, Call]:
    return {"ours": dataclasses.replace(call, environment=ENABLED), "without": call}


def _measure_works(works: list[Work], config) -> Iterator[Row]:
    for work in works:
        calls = _with_and_without(work.ours)
        if work.torch is not None:
            calls["torch"] = work.torch
        measurement = measure(calls, config.few_rounds, config.turn)
        if work.torch is not None:
            yield measurement.row(work.name, "torch", work.reach)
        yield measurement.row(work.name, "without", work.without)
