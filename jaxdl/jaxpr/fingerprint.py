"""Fingerprints of jaxprs: equal for equal computations with any constants."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from jax.extend import core

from jaxdl.jaxpr.equations import ClosedJaxpr, Literal, close_jaxpr, stored_jaxprs
from jaxdl.jaxpr.evaluation import called_with_constants, collect_constants


def fingerprint(jaxpr: ClosedJaxpr) -> tuple[Any, ...]:
    """Returns a hashable description of a jaxpr, without the values of its constants.

    Jaxprs with equal fingerprints have equal outputs for equal constants and inputs. The converse
    is not true: parameters that cannot be compared by value, such as callbacks, equal only
    themselves. Names, source lines and the derivative rules of `custom_jvp` and `custom_vjp` are
    left out, so the fingerprint describes values and not derivatives.
    """
    return _describe(jaxpr.jaxpr, {}, called_with_constants)


def split_numbers(jaxpr: ClosedJaxpr) -> tuple[str, list[str]]:
    """Returns the text of a jaxpr without numbers, and its numbers.

    Numbers are scalars in the text and constants; arrays are represented by digests.
    """
    values = [np.asarray(value) for value in collect_constants(jaxpr)]
    numbers = [
        str(v.item()) if v.size == 1 else f"array-{hashlib.sha256(v.tobytes()).hexdigest()[:8]}"
        for v in values
    ]
    scalar = re.compile(r"(?<![\w.])-?(?:\d|inf|nan)[\w.+-]*(?=:\w+\[\])")
    return scalar.sub("number", text := str(jaxpr)), scalar.findall(text) + numbers


class _Identity:
    """Wraps an object so that it equals only itself.

    The reference keeps the object alive: otherwise another one could get the same `id`.
    """

    def __init__(self, value: Any):
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


def _describe(
    jaxpr: core.Jaxpr, memo: dict[int, Any], called: Callable[[Any], ClosedJaxpr | None]
) -> tuple[Any, ...]:
    numbers: dict[Any, int] = {}

    def name(variable):
        return numbers.setdefault(variable, len(numbers)), variable.aval

    def read(atom):
        if isinstance(atom, Literal):
            return _freeze(atom.val, memo), atom.aval
        return numbers[atom]

    def params(equation):
        call = called(equation)
        if call is not None:
            return _describe(call.jaxpr, memo, called)
        if equation.primitive.name in ("custom_jvp_call", "custom_vjp_call"):
            return tuple(_freeze(inner, memo) for inner in stored_jaxprs(equation.params))
        return tuple((key, _freeze(value, memo)) for key, value in sorted(equation.params.items()))

    inputs = tuple(map(name, jaxpr.constvars)), tuple(map(name, jaxpr.invars))
    equations = tuple(
        (e.primitive, tuple(map(read, e.invars)), params(e), tuple(map(name, e.outvars)))
        for e in jaxpr.eqns
    )
    return inputs, equations, tuple(map(read, jaxpr.outvars))


def _freeze(value: Any, memo: dict[int, Any]) -> Any:
    """Returns a hashable value that compares equal only for equal contents."""
    if isinstance(value, core.Jaxpr | ClosedJaxpr):
        if id(value) not in memo:  # a function that is called several times is described once
            inner = close_jaxpr(value)
            own = tuple(_freeze(constant, memo) for constant in inner.consts)
            # Constants within loops and branches cannot be replaced, so they are compared by value.
            memo[id(value)] = (*_describe(inner.jaxpr, memo, lambda _: None), own)
        return memo[id(value)]
    if isinstance(value, tuple | list):
        return type(value), *(_freeze(item, memo) for item in value)
    if isinstance(value, dict):
        return dict, *((key, _freeze(item, memo)) for key, item in value.items())
    if isinstance(value, float | complex):
        return type(value), repr(value)  # -0.0 == 0.0, and nan != nan
    if isinstance(value, np.ndarray | np.generic):
        return str(value.dtype), value.shape, value.tobytes()
    try:
        hash(value)
    except TypeError:
        return _Identity(value)
    return type(value), value
