"""Checks of numbers and PRNG keys that several packages share."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


def require_ints(caller: str, minimum: int, **values: Any) -> list[int]:
    """Returns integers of any integer type as Python's.

    Args:
      caller: the public function's name, for messages.
      minimum: the smallest valid integer.
      **values: the arguments' names and values. Truth values are not integers.

    Raises:
      ValueError: a value is not an integer, or below `minimum`.
    """
    ints = []
    for argument, value in values.items():
        try:
            integer = minimum - 1 if isinstance(value, bool) else operator.index(value)
        except TypeError:
            integer = minimum - 1
        if integer < minimum:
            raise ValueError(
                f"{caller}: {argument} is {value!r}; expected an integer of at least {minimum}."
            )
        ints.append(integer)
    return ints


def require_number(
    caller: str, expected: str, is_valid: Callable[[float], bool], **value: Any
) -> Any:
    """Returns a finite number as a float, or a traced scalar unchanged.

    Args:
      caller: the public function's name, for messages.
      expected: the valid numbers in words, for messages.
      is_valid: tests a float.
      **value: the argument's name and value.

    Raises:
      ValueError: the value is not such a number.
    """
    ((argument, number),) = value.items()
    if isinstance(number, jax.Array | np.ndarray | np.generic):
        kinds = (jnp.floating, jnp.integer)
        real = number.shape == () and any(jnp.issubdtype(number.dtype, kind) for kind in kinds)
        if real and isinstance(number, Tracer):
            return number
    else:
        real = isinstance(number, numbers.Real) and not isinstance(number, bool)
    if not real or not math.isfinite(float(number)) or not is_valid(float(number)):
        raise ValueError(f"{caller}: {argument} is {number!r}; expected {expected}.")
    return float(number)


def require_key(caller: str, key: Any) -> jax.Array:
    """Returns a single PRNG key, new-style or legacy `uint32`.

    Raises:
      ValueError: `key` is not a PRNG key, or an array of several.
    """
    description = repr(key)
    if isinstance(key, jax.Array | np.ndarray):
        typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
        if key.ndim == 0 if typed else key.dtype == np.uint32 and key.shape in ((2,), (4,)):
            return key  # pyright: ignore[reportReturnType]
        description = f"{key.dtype}{list(key.shape)}"
    raise ValueError(
        f"{caller}: key is {description}; expected one PRNG key. Pass jax.random.key(seed)."
    )
