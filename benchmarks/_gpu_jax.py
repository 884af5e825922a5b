"""Shared by jaxdl and Flax on a GPU: weights, and compiling and timing a function."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import numpy as np

from benchmarks._gpu_timing import median_ms


def machine(*packages: str) -> dict[str, Any]:
    """Returns the device, the versions and the precision, for the table."""
    import importlib.metadata

    device = jax.devices()[0]
    versions = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", *packages)}
    stats = device.memory_stats() or {}
    precision = jax.config.jax_default_matmul_precision  # pyright: ignore[reportAttributeAccessIssue]
    return {
        "device": device.device_kind,
        "platform": device.platform,
        "memory_gb": round(stats.get("bytes_limit", 0) / 1e9, 1),
        "versions": versions,
        "jax_default_matmul_precision": precision or "default (TF32 where the card has it)",
    }


def images(batch: int, *shape: int, classes: int = 10):
    """Draws random images (or other rows) and labels."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, *shape), np.float32)
    return x, rng.integers(0, classes, batch).astype(np.int32)


def weights(shapes: Any) -> Any:
    """Draws weights for a tree of shapes on the host; initializers would have to be compiled."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        name = path[-1].key
        if name == "kernel":
            fan_in = np.prod(leaf.shape[:-1])
            value = rng.standard_normal(leaf.shape, np.float32) * np.sqrt(2 / fan_in)
        else:
            value = np.full(leaf.shape, float(name in ("scale", "var")))
        return jax.numpy.asarray(value, leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def zeros(shapes: Any) -> Any:
    """Returns zeros for a tree of shapes, such as the first state of an optimizer."""
    return jax.tree.map(lambda leaf: jax.numpy.asarray(np.zeros(leaf.shape, leaf.dtype)), shapes)


def pure(
    f: Callable[..., Any], *args: Any, seconds: float, note: Callable[[Any], str] = lambda _: ""
) -> dict[str, Any]:
    """Compiles f once and measures a call of it; `note(result)` is a remark for the table."""
    compiled, spent = _compile(jax.jit(f), *args)

    def call():
        return compiled(*args)

    return _row(call, compiled, spent, seconds) | {"note": note(call())}


def measure_step(
    step: Callable[..., Any], state: Any, *batch: Any, seconds: float
) -> dict[str, Any]:
    """Compiles `step(state, *batch) -> (state, loss)` once and measures one step of many."""
    state, batch = jax.device_put((state, batch))
    compiled, spent = _compile(jax.jit(step, donate_argnums=0), state, *batch)
    held = {"state": state}

    def call():
        held["state"], loss = compiled(held["state"], *batch)
        return loss

    return _row(call, compiled, spent, seconds)


def peak_mb(before: int) -> float | None:
    """Returns the process's peak use of the card's memory if it exceeds `before`, else None.

    JAX cannot reset its peak, so a work that needs less than an earlier one has none.
    """
    now = greatest()
    return now / 1e6 if now > before else None


def greatest() -> int:
    """Returns the peak use of the card's memory so far, in bytes; 0 if JAX does not report it."""
    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)


def _compile(jitted: Any, *args: Any):
    began = time.perf_counter()
    compiled = jitted.lower(*args).compile()
    return compiled, time.perf_counter() - began


def _row(call: Callable[[], Any], compiled: Any, spent: float, seconds: float) -> dict[str, Any]:
    jax.block_until_ready(call())
    ms = median_ms(call, jax.block_until_ready, seconds)
    plan = compiled.memory_analysis()
    planned = None
    if plan is not None:
        planned = plan.argument_size_in_bytes + plan.output_size_in_bytes
        planned += plan.temp_size_in_bytes - plan.alias_size_in_bytes
    return {"ms": ms, "compile_s": spent, "peak_mb": planned and planned / 1e6}
