"""Vision: prediction and training steps of networks, and compiling ResNet-50; torch and Flax.

Why: small convolutions decide how long a network trains on a CPU, and compiling decides how long
one waits for the first step.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import Any

from benchmarks._measure import Call, Row, evaluate, measure, row, run_table

CASES = (
    # network, batch, side of the images in pixels
    ("resnet18", 64, 32),
    ("resnet18", 16, 64),
    ("unet", 2, 128),
    ("efficientnet_b0", 16, 64),
)
PEERS = {"torch": "torch", "torch, channels last": "torch", "Flax Linen": "flax"}
TARGETS = {"torch": 1.5, "torch, channels last": None, "Flax Linen": 0.9}


def run(config) -> list[Row]:
    """Runs all works of the table, or those selected by `only`."""
    works = {"forward": forward, "step": step, "compile": compilation}
    return run_table(works, config)


def forward(config) -> Iterator[Row]:
    """Logits of a batch, with running statistics."""
    yield from _networks(config, "forward")


def step(config) -> Iterator[Row]:
    """Steps of SGD with momentum."""
    yield from _networks(config, "step")


def _networks(config, function: str) -> Iterator[Row]:
    for name, batch, side in [("resnet18", 2, 32)] if config.smoke else CASES:
        arguments: dict[str, Any] = {"name": name, "batch": batch, "side": side}
        calls = {"ours": Call(f"benchmarks._vision_ours:{function}", arguments)}
        for peer, module in PEERS.items():
            more = {"channels_last": peer.endswith("last")} if module == "torch" else {}
            calls[peer] = Call(f"benchmarks._vision_{module}:{function}", arguments | more)
        measurement = measure(calls, config.rounds, config.turn)
        for peer in PEERS:
            work = f"{function} of {name}, {side}x{side}, batch {batch}"
            yield measurement.row(work, peer, TARGETS[peer])


def compilation(config) -> Iterator[Row]:
    """Seconds from a model to its compiled step, and at the second start with a cache."""
    arguments = {"name": "resnet18" if config.smoke else "resnet50", "batch": 2, "side": 64}
    modules = {"ours": "_vision_ours", "Flax": "_vision_flax"}
    spent: dict[str, list[float]] = {name: [] for name in modules}
    again: list[float] = []
    for _ in range(config.few_rounds):
        for name, module in modules.items():
            with tempfile.TemporaryDirectory() as cache:
                call = Call(f"benchmarks.{module}:compile_step", arguments | {"cache": cache})
                spent[name].append(1e3 * evaluate(call))
                if name == "ours":
                    again.append(1e3 * evaluate(call))
    work = f"tracing and compiling a step of {arguments['name']}"
    yield row(work, "Flax Linen", spent["ours"], spent["Flax"], 1.0)
    yield row(f"{work}, second start", "the first start", again, spent["ours"], 0.25)
