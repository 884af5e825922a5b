"""What every attribution does with its inputs: checks, baselines, and sums in bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


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
      chunk: how many are computed side by side; None for all.

    Raises:
      ValueError: `chunk` is below 1.
    """
    n = len(weights)
    _bounded(caller, chunk)
    size = n if chunk is None else min(chunk, n)

    def several(numbers, weights):
        values = jax.vmap(value)(numbers)
        dot = lambda leaf: jnp.tensordot(weights.astype(leaf.dtype), leaf, 1)  # noqa: E731
        return jax.tree.map(dot, values)

    whole = n - n % size
    numbers = jnp.arange(n)
    if whole == size == n:
        return several(numbers, weights)
    cut = lambda a: a[:whole].reshape(-1, size)  # noqa: E731
    start = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(several, numbers, weights)
    )
    add = lambda total, at: (jax.tree.map(jnp.add, total, several(*at)), None)  # noqa: E731
    total, _ = lax.scan(add, start, (cut(numbers), cut(weights)))
    if whole < n:
        total = jax.tree.map(jnp.add, total, several(numbers[whole:], weights[whole:]))
    return total


def mapped(caller: str, value: Callable[[jax.Array], Any], count: int, chunk: int | None) -> Any:
    """value(0), ..., value(count - 1) on a new first axis, at most `chunk` of them side by side.

    The last ones are computed with some again, so that there is one program, not two.

    Raises:
      ValueError: `chunk` is below 1.
    """
    _bounded(caller, chunk)
    turns = max(1, -(-count // (chunk or count or 1)))
    size = -(-count // turns)
    if turns == 1:
        return jax.vmap(value)(jnp.arange(count))
    numbers = jnp.minimum(jnp.arange(turns * size), count - 1).reshape(turns, size)
    values = lax.map(jax.vmap(value), numbers)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:count], values)


def by_examples(
    caller: str, explain: Callable[[Any, Any], Any], x: Any, target: Any, chunk: int | None
) -> Any:
    """`explain(x, target)` as one program, for at most `chunk` examples at a time.

    Args:
      caller: the public function's name, for messages.
      explain: from a batch and its targets to a tree of arrays with the same batch axis.
      x: the whole batch.
      target: of any kind; of an array each example keeps its own.
      chunk: None for all at once.

    Raises:
      ValueError: `chunk` is below 1.
    """
    n = jax.tree.leaves(x)[0].shape[0]
    each = isinstance(target, list | np.ndarray | jax.Array) and np.shape(target) == (n,)
    rows = (x, jnp.asarray(target)) if each else (x, None)
    run = jax.jit(lambda rows: explain(rows[0], rows[1] if each else target))
    _bounded(caller, chunk)
    if chunk is None or chunk >= n > 0:
        return run(rows)
    return jax.lax.map(
        lambda row: jax.tree.map(lambda a: a[0], run(jax.tree.map(lambda a: a[None], row))),
        rows,
        batch_size=chunk,
    )


def _bounded(caller, chunk):
    if chunk is not None and chunk < 1:
        raise ValueError(f"{caller}: chunk is {chunk}; expected at least 1, or None for no bound.")
