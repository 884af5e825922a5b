"""Batches of examples and of evaluations, of a size that fits a memory budget.

An evaluation is one run of a network for an explanation: at a node of a path, with noise, or with
some features masked.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxdl._check import require_ints, require_number
from jaxdl._precision import widen
from jaxdl.jaxpr import channels_last, evaluation, tracing
from jaxdl.jaxpr.cost import peak_bytes

budget = jax.make_user_context(default_value=2**30)
"""Bytes for the values that a method computes at a time when `batch_size` is None."""

examples_at_a_time = jax.make_user_context(default_value=None)
"""Batch size of `map_examples` when its `batch_size` is None; None for the whole batch."""


def memory_budget(size: int) -> AbstractContextManager[None]:
    """Sets the memory of attributions without `batch_size` within a `with` block.

    The number of examples, nodes of a path or masks that are computed side by side is the largest
    whose estimated memory fits. A single evaluation of one example is never divided, however large
    it is. The default is 1 GiB.

    Args:
      size: bytes, at least 1.

    Returns:
      A context manager. Functions that are compiled within it keep the budget.

    Raises:
      ValueError: `size` is not a finite number, or below 1.

    Example:
      >>> with interpret.memory_budget(8 * 2**30):
      ...     interpret.integrated_gradients(f, images, target="argmax")
    """
    expected = "a number of bytes, 1 or more"
    return budget(int(require_number("memory_budget", expected, lambda v: v >= 1, size=size)))


def accumulate(
    caller: str,
    evaluate: Callable[[jax.Array], Any],
    weights: jax.Array,
    batch_size: int | None,
) -> Any:
    """Returns sum_i w_i evaluate(i), with at most `batch_size` evaluations in memory.

    The sum is computed in float32 at least, so that `batch_size` does not change sums of half
    precision.

    Args:
      caller: the public function's name, for messages.
      evaluate: from a number i, () int32, to a tree of arrays.
      weights: (n,).
      batch_size: evaluations side by side; None for the largest number within the memory budget.

    Raises:
      ValueError: `batch_size` is not an integer of at least 1.
    """
    n = len(weights)
    # Traced once, for the memory estimate and for all batches.
    evaluate, shape, cost = _trace(evaluate)
    size = _choose_size(caller, n, batch_size, cost)

    def sum_batch(numbers, weights):
        def dot(leaf):
            leaf = widen(leaf)
            return jnp.tensordot(weights.astype(leaf.dtype), leaf, 1)

        return jax.tree.map(dot, jax.vmap(evaluate)(numbers))

    def narrow(total):
        return jax.tree.map(lambda leaf, of: leaf.astype(of.dtype), total, shape)

    whole = n - n % size
    numbers = jnp.arange(n)
    if whole == size == n:
        return narrow(sum_batch(numbers, weights))
    sum_in_loop = channels_last.use_channels_last(sum_batch)

    def add(total, batch):
        return jax.tree.map(jnp.add, total, sum_in_loop(*batch)), None

    start = jax.tree.map(lambda leaf: widen(jnp.zeros(leaf.shape, leaf.dtype)), shape)
    batches = [array[:whole].reshape(-1, size) for array in (numbers, weights)]
    total, _ = lax.scan(add, start, tuple(batches))
    if whole < n:
        total = jax.tree.map(jnp.add, total, sum_batch(numbers[whole:], weights[whole:]))
    return narrow(total)


def map_evaluations(
    caller: str, evaluate: Callable[[jax.Array], Any], count: int, batch_size: int | None
) -> Any:
    """Returns evaluate(0), ..., evaluate(count - 1), stacked.

    Args:
      caller, evaluate, batch_size: as for `accumulate`.
      count: the number of evaluations.

    Raises:
      ValueError: `batch_size` is not an integer of at least 1.
    """
    evaluate, _, cost = _trace(evaluate)
    return _map_batches(jax.vmap(evaluate), count, _choose_size(caller, count, batch_size, cost))


def map_examples(
    caller: str, explain: Callable[[Any, Any], Any], x: Any, target: Any, batch_size: int | None
) -> Any:
    """Returns `explain(x, target)`, computed for `batch_size` examples at a time.

    An explanation without a row for each example is not divided, such as that of a layer where f
    has merged the batch axis with another: without `batch_size` the whole batch is explained at
    once.

    Args:
      caller: the public function's name, for messages.
      explain: from a batch and its targets to a tree of arrays with the same batch axis.
      x: trees of arrays, the first with all examples. An array of length 1 serves every example.
      target: any target; an array of one target per example is divided too.
      batch_size: examples at a time; None for the largest number within the memory budget.

    Raises:
      ValueError: `batch_size` is not an integer of at least 1, or the explanation cannot be
        divided.
    """
    batch_size = as_batch_size(caller, batch_size)
    n = (*jnp.shape(jax.tree.leaves(x)[0]), 1)[0]
    per_example = isinstance(target, list | np.ndarray | jax.Array) and np.shape(target) == (n,)
    size = min(batch_size or examples_at_a_time.value or n, n)
    if size == n:
        return explain(x, target)

    def explain_some(numbers):
        def take(leaf):
            return jnp.asarray(leaf)[numbers]

        part = jax.tree.map(lambda leaf: leaf if len(leaf) == 1 else take(leaf), x)
        return explain(part, take(target) if per_example else target)

    # Both sizes are tried: an axis that is not the batch axis can be as long as one of them.
    calls = ((n, lambda: explain(x, target)), (size, lambda: explain_some(np.arange(size))))
    if all(
        leaf.shape[:1] == (count,)
        for count, call in calls
        for leaf in jax.tree.leaves(jax.eval_shape(call))
    ):
        return _map_batches(explain_some, n, size)
    if batch_size is None:
        return explain(x, target)
    raise ValueError(
        f"{caller}: batch_size is {batch_size}, and the explanation has no row for each of the {n} "
        "examples; expected examples on its first axis. Omit batch_size, or choose another layer."
    )


def as_batch_size(caller: str, batch_size: Any) -> int | None:
    """Returns `batch_size` as an int, or None.

    Raises:
      ValueError: it is not an integer of at least 1.
    """
    return None if batch_size is None else require_ints(caller, 1, batch_size=batch_size)[0]


def _trace(evaluate: Callable[[jax.Array], Any]) -> tuple[Callable[[jax.Array], Any], Any, int]:
    """Returns `evaluate` as a traced program, its output's shapes, and its peak bytes."""
    program, shape = tracing.make_jaxpr(evaluate, jax.ShapeDtypeStruct((), jnp.arange(0).dtype))
    run, tree = evaluation.jaxpr_as_fun(program), jax.tree.structure(shape)
    return lambda i: jax.tree.unflatten(tree, run(i)), shape, peak_bytes(program.jaxpr)


def _choose_size(caller: str, n: int, batch_size: int | None, cost: int) -> int:
    """Returns how many of n evaluations, of `cost` bytes each, run side by side."""
    batch_size = as_batch_size(caller, batch_size)
    if batch_size is not None:
        return min(batch_size, n)
    # A quarter of the budget is for values outside of the evaluations.
    size = min(n, max(1, budget.value * 3 // 4 // max(cost, 1)))
    # A divisor of n leaves no remainder, which would be a second program to compile.
    return next((d for d in range(size, size // 2, -1) if n % d == 0), size)


def _map_batches(evaluate: Callable[[jax.Array], Any], n: int, size: int) -> Any:
    """Returns evaluate(0 ... n - 1), computed for at most `size` numbers at a time.

    The last batch is filled up with repeated evaluations, so that there is one program to compile,
    not two.
    """
    batches = max(1, -(-n // size))
    # As equal as possible: 10 examples in batches of at most 8 are 5 and 5, not 8 and a padded 2.
    size = -(-n // batches)
    if batches == 1:
        return evaluate(jnp.arange(n))
    numbers = jnp.minimum(jnp.arange(batches * size), n - 1).reshape(batches, size)
    outputs = lax.map(channels_last.use_channels_last(evaluate), numbers)
    # Not -1: a leaf may be empty.
    return jax.tree.map(lambda a: a.reshape(batches * size, *a.shape[2:])[:n], outputs)
