"""What `target=` means, once for every method: which number of the output is explained."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

Target = int | list[int] | np.ndarray | jax.Array | str | Callable[[Any], jax.Array] | None
"""None, an int, an array of ints, "argmax", or a function from outputs (N, ...) to scores (N,)."""


def score(caller: str, output: Any, target: Target) -> jax.Array:
    """The number of each example that is explained: (N, K) scores and a target give (N,).

    Args:
      caller: the public function's name, for messages.
      output: what f gave for a batch of N examples.
      target: None where f gives one score per example, (N,) or (N, 1); an int, the class for all;
        ints (N,), a class for each; "argmax", the class that each example is given; or a function
        from the output to scores (N,).

    Returns:
      (N,). A class out of range raises; where it is known only when the program runs (under `jit`
      or `vmap`), its score is NaN.

    Raises:
      ValueError: the target does not fit the output.
    """
    if callable(target):
        chosen = target(output)
        if jnp.ndim(chosen) != 1:
            raise ValueError(
                f"{caller}: target(output) has shape {jnp.shape(chosen)}; expected (N,), one score "
                "per example: reduce every axis but the first."
            )
        return chosen
    shape = jnp.shape(output)
    if target is None:
        if len(shape) == 1:
            return output
        if len(shape) == 2 and shape[1] == 1:
            return output[:, 0]
        raise ValueError(
            f"{caller}: f gives {shape} and no target is given; expected (N,): say which score is "
            "explained by target=, an int, ints (N,), 'argmax', or a function from the output."
        )
    if len(shape) != 2:
        raise ValueError(
            f"{caller}: f gives {shape}; target={target!r} needs (N, K), K scores for each of N "
            "examples: pass a function from the output to scores (N,) as target."
        )
    if isinstance(target, str):
        if target != "argmax":
            raise ValueError(f"{caller}: target is {target!r}; the one word known is 'argmax'.")
        classes = jnp.argmax(output, axis=1)
    else:
        classes = _classes(caller, target, *shape)
    known = (classes >= 0) & (classes < shape[1])
    chosen = jnp.take_along_axis(output, jnp.where(known, classes, 0)[:, None], axis=1)[:, 0]
    return chosen * jnp.where(known, 1, jnp.nan).astype(chosen.dtype)


def each(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method that takes targets (K, N) too: K explanations of every example, (K, N, ...)."""

    @functools.wraps(method)
    def several(*args, target=None, **options):
        given = isinstance(target, list | np.ndarray | jax.Array)
        if not given or np.ndim(target) != 2:
            return method(*args, target=target, **options)
        return jax.vmap(lambda one: method(*args, target=one, **options))(jnp.asarray(target))

    return several


def settled(caller: str, f: Callable[[Any], Any], x: Any, target: Target) -> Target:
    """The target with "argmax" replaced by the classes of x itself.

    Methods that run f on other inputs, noisy or between x and a baseline, explain the class that x
    is given, not whatever class each of those would be.
    """
    if isinstance(target, str) and target == "argmax":
        output = f(x)
        score(caller, output, target)  # refuses outputs that are not (N, K)
        return jnp.argmax(output, axis=1)
    return target


def _classes(caller: str, target: Any, n: int, k: int) -> jax.Array:
    """Ints () or (N,) as ints (N,); those known before the program runs are in range."""
    classes = jnp.asarray(target)
    if not jnp.issubdtype(classes.dtype, jnp.integer):
        raise ValueError(
            f"{caller}: target is {target!r}; expected ints: class numbers from 0 to {k - 1}."
        )
    if classes.shape not in ((), (n,)):
        raise ValueError(
            f"{caller}: target has shape {classes.shape} for {n} examples; expected one int or "
            f"ints ({n},): use jax.vmap over targets to explain several classes of each."
        )
    if not isinstance(target, Tracer):
        wrong = [int(c) for c in np.ravel(target) if not 0 <= c < k]
        if wrong:
            raise ValueError(f"{caller}: target is {wrong[0]}; expected a class of 0 to {k - 1}.")
    return jnp.broadcast_to(classes, (n,))
