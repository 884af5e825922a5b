"""Rules that lower JAX's products and convolutions to calls of oneDNN, and their switch."""

from __future__ import annotations

import contextlib
import functools
import os
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
from jax import lax
from jax._src import config as private_config
from jax._src.interpreters import mlir as private_mlir
from jax.interpreters import mlir

from jaxdl_cpu import _convolution, _library, _product

# A state of JAX, so that a function compiled without oneDNN is compiled again with it.
STATE = private_config.bool_state(
    "jaxdl_cpu_enabled",
    False,
    "Lower matrix products and convolutions on CPUs to oneDNN.",
    include_in_jit_key=True,
    include_in_trace_context=True,
)
REPLACED: Counter[str] = Counter()
LEFT: Counter[tuple[str, str]] = Counter()


class Info(NamedTuple):
    """What jaxdl_cpu did in this process.

    Attributes:
      enabled: whether functions that are compiled now call oneDNN.
      version: that of oneDNN.
      instruction_set: the one that oneDNN uses.
      threads: those of XLA's pool, which oneDNN's operations run on.
      replaced: the number of lowered operations that call oneDNN, by name.
      left: the number of lowered operations that do not, by name and reason.
    """

    enabled: bool
    version: str
    instruction_set: str
    threads: int
    replaced: dict[str, int]
    left: dict[tuple[str, str], int]


def enable() -> None:
    """Lets functions that are compiled from now on call oneDNN where it is faster.

    A function that was compiled before is compiled again at its next call. Enabling twice is the
    same as once.

    Raises:
      RuntimeError: this machine has another system or processor, or a library cannot be loaded.
    """
    register()
    jax.config.update("jaxdl_cpu_enabled", True)


def disable() -> None:
    """Restores XLA's own products and convolutions."""
    jax.config.update("jaxdl_cpu_enabled", False)


@contextlib.contextmanager
def enabled(value: bool = True) -> Iterator[None]:
    """Enables or disables oneDNN in a `with` block, for the thread that runs it.

    Raises:
      RuntimeError: as for `enable`.
    """
    if value:
        register()
    with STATE(value):
        yield


def info() -> Info:
    """Returns versions, and what was replaced and what was not.

    Raises:
      RuntimeError: as for `enable`.
    """
    return Info(
        STATE.value,
        _library.version(),
        _library.instruction_set(),
        len(os.sched_getaffinity(0)),
        dict(REPLACED),
        dict(LEFT),
    )


@functools.cache
def register() -> None:
    """Loads the library and registers the rules, which do nothing while they are disabled."""
    _library.load()
    products, convolutions = lax.dot_general_p, lax.conv_general_dilated_p
    for primitive, plan in ((products, plan_product), (convolutions, plan_convolution)):
        platform_rules = private_mlir._platform_specific_lowerings["cpu"]
        entry = platform_rules.get(primitive) or private_mlir._lowerings[primitive]
        rule = make_rule(primitive.name, entry.rule, plan)
        mlir.register_lowering(primitive, rule, platform="cpu")


def make_rule(name: str, default: Callable[..., Any], plan: Callable[..., Any]) -> Callable:
    """Returns the rule that lowers a primitive by its plan, or by JAX's own rule."""

    def rule(ctx, *args, **params):
        if not STATE.value:
            return default(ctx, *args, **params)
        made = why_not(ctx) or plan(ctx, **params)
        if isinstance(made, str):
            LEFT[name, made] += 1
            return default(ctx, *args, **params)
        REPLACED[name] += 1
        return mlir.lower_fun(made, multiple_results=False)(ctx, *args)

    return rule


def why_not(ctx: Any) -> str | None:
    """Returns why no operation of a module is replaced, or None."""
    module = ctx.module_context
    if module.lowering_parameters.for_export:
        return "exported module"  # which must run where jaxdl_cpu is not installed
    if getattr(module.axis_context, "num_devices", None) != 1:
        return "several devices"  # XLA cannot partition a call
    return None


def plan_product(ctx: Any, **params: Any) -> Any:
    return _product.plan(*ctx.avals_in, **params)


def plan_convolution(ctx: Any, **params: Any) -> Any:
    return _convolution.plan(*ctx.avals_in, **params, out=ctx.avals_out[0])
