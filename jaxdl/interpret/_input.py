"""What every attribution does with its inputs: checks, baselines, and sums in bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxdl import _jaxpr

budget = jax.make_user_context(default_value=2**30)
"""Bytes that a method takes for what it computes at a time, where `chunk` is not given."""


rows = jax.make_user_context(default_value=None)
"""How many examples `by_examples` takes at a time, where `chunk` is not given; None for all."""


def memory_budget(size: int) -> AbstractContextManager[None]:
    """Sets how much memory attributions take within a `with` block, where `chunk` is None.

    As many examples, nodes of a path, or masks are computed side by side as are estimated to fit.
    A single evaluation of one example is never divided, however large it is. Without the block it
    is 1 GiB.

    Args:
      size: bytes, at least 1.

    Returns:
      A context manager. Functions that are compiled within it keep the budget.

    Raises:
      ValueError: `size` is below 1.

    Example:
      >>> with interpret.memory_budget(8 * 2**30):
      ...     interpret.integrated_gradients(f, images, target="argmax")
    """
    if size < 1:
        raise ValueError(f"memory_budget: size is {size}; expected a number of bytes, 1 or more.")
    return budget(int(size))


def checked(caller: str, x: Any) -> Any:
    """x, a tree of floating-point arrays with one batch axis in common.

    Raises:
      ValueError: it is another.
    """
    for leaf in jax.tree.leaves(x):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating) or jnp.ndim(leaf) == 0:
            raise ValueError(
                f"{caller}: x holds {jnp.result_type(leaf)}{list(jnp.shape(leaf))}; expected "
                "floating-point arrays with a batch axis: cast pixels with x.astype(jnp.float32); "
                "explain token ids through their embeddings."
            )
    sizes = {jnp.shape(leaf)[0] for leaf in jax.tree.leaves(x)}
    if len(sizes) != 1:
        raise ValueError(f"{caller}: x has batches of {sorted(sizes)}; expected one size.")
    return jax.tree.map(jnp.asarray, x)


def baselines(caller: str, x: Any, baseline: Any) -> Any:
    """The baseline as a tree of x's shapes: from a number, an array, or a tree like x.

    Raises:
      ValueError: it does not broadcast to x.
    """
    if jax.tree.structure(baseline) != jax.tree.structure(x):
        baseline = jax.tree.map(lambda leaf: baseline, x)

    def fitted(leaf, base):
        try:
            return jnp.broadcast_to(jnp.asarray(base, leaf.dtype), leaf.shape)
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{caller}: the baseline has shape {jnp.shape(base)} for x of {leaf.shape}; "
                "expected a number, or what broadcasts to x: (1, ...) for one of all examples."
            ) from error

    return jax.tree.map(fitted, x, baseline)


def weighted_sum(
    caller: str,
    value: Callable[[jax.Array], Any],
    weights: jax.Array,
    chunk: int | None,
) -> Any:
    """sum_i w_i value(i), at most `chunk` values at a time: memory does not grow with their number.

    Args:
      caller: the public function's name, for messages.
      value: from a number i, () int32, to a tree of arrays.
      weights: (n,).
      chunk: how many are computed side by side; None for as many as the memory budget allows.

    Raises:
      ValueError: `chunk` is below 1.
    """
    n = len(weights)
    value, shape, cost = _recorded(value)
    size = _size(caller, n, chunk, cost)

    def several(numbers, weights):
        values = jax.vmap(value)(numbers)
        dot = lambda leaf: jnp.tensordot(weights.astype(leaf.dtype), leaf, 1)  # noqa: E731
        return jax.tree.map(dot, values)

    whole = n - n % size
    numbers = jnp.arange(n)
    if whole == size == n:
        return several(numbers, weights)
    cut = lambda a: a[:whole].reshape(-1, size)  # noqa: E731
    start = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shape)
    several_in_loop = _jaxpr.fast_in_loops(several)
    add = lambda total, i: (jax.tree.map(jnp.add, total, several_in_loop(*i)), None)  # noqa: E731
    total, _ = lax.scan(add, start, (cut(numbers), cut(weights)))
    if whole < n:
        total = jax.tree.map(jnp.add, total, several(numbers[whole:], weights[whole:]))
    return total


def mapped(caller: str, value: Callable[[jax.Array], Any], count: int, chunk: int | None) -> Any:
    """value(0), ..., value(count - 1) on a new first axis, at most `chunk` of them side by side.

    The last ones are computed with some again, so that there is one program, not two. Without
    `chunk`, as many are computed side by side as the memory budget allows.

    Raises:
      ValueError: `chunk` is below 1.
    """
    value, _, cost = _recorded(value)
    return _in_turns(jax.vmap(value), count, _size(caller, count, chunk, cost))


def by_examples(
    caller: str, explain: Callable[[Any, Any], Any], x: Any, target: Any, chunk: int | None
) -> Any:
    """`explain(x, target)`, for at most `chunk` examples at a time.

    Args:
      caller: the public function's name, for messages.
      explain: from a batch and its targets to a tree of arrays with the same batch axis.
      x: the whole batch.
      target: of any kind; of an array each example keeps its own.
      chunk: None for as many as the memory budget allows.

    Raises:
      ValueError: `chunk` is below 1.
    """
    _bounded(caller, chunk)
    n = (*jnp.shape(jax.tree.leaves(x)[0]), 1)[0]
    each = isinstance(target, list | np.ndarray | jax.Array) and np.shape(target) == (n,)

    def some(numbers):
        take = lambda leaf: jnp.asarray(leaf)[numbers]  # noqa: E731
        return explain(jax.tree.map(take, x), take(target) if each else target)

    size = min(chunk or rows.value or n, n)
    return explain(x, target) if size == n else _in_turns(some, n, size)


def _recorded(value: Callable[[jax.Array], Any]) -> tuple[Callable[[jax.Array], Any], Any, int]:
    """Returns `value` as a function that is traced already, its output's shapes, and its bytes."""
    program, shape = _jaxpr.traced(value, jax.ShapeDtypeStruct((), jnp.arange(0).dtype))
    run, tree = _jaxpr.jaxpr_as_fun(program), jax.tree.structure(shape)
    return lambda i: jax.tree.unflatten(tree, run(i)), shape, _jaxpr.peak_bytes(program.jaxpr)


def _size(caller: str, n: int, chunk: int | None, cost: int) -> int:
    """Returns how many of n evaluations are computed side by side."""
    _bounded(caller, chunk)
    if chunk is not None:
        return min(chunk, n)
    size = min(n, max(1, budget.value * 3 // 4 // max(cost, 1)))  # the rest is for what is around
    return next((d for d in range(size, size // 2, -1) if n % d == 0), size)


def _in_turns(values: Callable[[jax.Array], Any], n: int, size: int) -> Any:
    """values(0 ... n - 1), `size` numbers at a time; the last ones are computed with some again."""
    turns = max(1, -(-n // size))
    size = -(-n // turns)
    if turns == 1:
        return values(jnp.arange(n))
    numbers = jnp.minimum(jnp.arange(turns * size), n - 1).reshape(turns, size)
    outputs = lax.map(_jaxpr.fast_in_loops(values), numbers)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:n], outputs)


def _bounded(caller, chunk):
    if chunk is not None and chunk < 1:
        raise ValueError(f"{caller}: chunk is {chunk}; expected at least 1, or None for no bound.")
