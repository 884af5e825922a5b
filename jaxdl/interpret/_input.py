"""What every attribution does with its inputs: checks, baselines, and sums in bounded memory."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from jaxdl._precision import widen
from jaxdl.jaxpr import reading

budget = jax.make_user_context(default_value=2**30)
"""Bytes that a method takes for what it computes at a time, where `batch_size` is not given."""


rows = jax.make_user_context(default_value=None)
"""Examples that `by_examples` takes at a time without `batch_size`; None for all."""


def memory_budget(size: int) -> AbstractContextManager[None]:
    """Sets how much memory attributions take within a `with` block, where `batch_size` is None.

    As many examples, nodes of a path, or masks are computed side by side as are estimated to fit.
    A single evaluation of one example is never divided, however large it is. Without the block it
    is 1 GiB.

    Args:
      size: bytes, at least 1.

    Returns:
      A context manager. Functions that are compiled within it keep the budget.

    Raises:
      ValueError: `size` is no finite number, or below 1.

    Example:
      >>> with interpret.memory_budget(8 * 2**30):
      ...     interpret.integrated_gradients(f, images, target="argmax")
    """
    bytes_of = number("memory_budget", "a number of bytes, 1 or more", lambda v: v >= 1, size=size)
    return budget(int(bytes_of))


def count_examples(caller: str, x: Any) -> int:
    """Returns the number of examples in x, a tree of arrays with one common batch axis.

    Raises:
      ValueError: x has no arrays, or arrays of another kind, without a batch axis, or of several
        batch sizes.
    """
    leaves = jax.tree.leaves(x)
    for leaf in leaves:
        arrays = isinstance(leaf, jax.Array | np.ndarray)
        if not arrays or not _floating(leaf) and not _fixed(leaf) or leaf.ndim == 0:
            kind = f"{leaf.dtype}{list(leaf.shape)}" if arrays else repr(type(leaf).__name__)
            raise ValueError(
                f"{caller}: x holds {kind}; expected floating-point arrays with a batch axis, and "
                "integers beside them. Convert x with jnp.asarray(x, jnp.float32), and give one "
                "example a batch axis with x[None]."
            )
    sizes = sorted({leaf.shape[0] for leaf in leaves})
    if len(sizes) != 1:
        raise ValueError(
            f"{caller}: x has batches of {sizes}; expected one size. Give every array of x the "
            "same first axis; close over what is not a batch."
        )
    return sizes[0]


def checked(caller: str, x: Any) -> Any:
    """Returns x as arrays: a tree with one common batch axis and something to explain.

    Raises:
      ValueError: as `count_examples`; no array is floating-point.
    """
    count_examples(caller, x)
    leaves = jax.tree.leaves(x)
    if not any(map(_floating, leaves)):
        dtypes = ", ".join(sorted({str(leaf.dtype) for leaf in leaves}))
        raise ValueError(
            f"{caller}: x holds {dtypes} only; expected floating-point arrays with a batch axis. "
            "Cast pixels with x.astype(jnp.float32); explain token ids by their embeddings: "
            "integrated_gradients(f, ids, layer='path of the embedding')."
        )
    return jax.tree.map(jnp.asarray, x)


def separate(caller: str, f: Callable[[Any], Any], x: Any) -> tuple[Callable[[Any], Any], Any]:
    """Returns f as a function of the floating-point arrays of x, and these arrays.

    Integers and truth values (token ids, lengths, masks) go to f unchanged and are not explained:
    None stands for them in the tree of arrays, and so in every attribution. A zero there would say
    that they do not matter.

    Raises:
      ValueError: as `checked`.
    """
    x = checked(caller, x)
    if all(map(_floating, jax.tree.leaves(x))):
        return f, x

    def of_floating(parts):
        return f(jax.tree.map(lambda leaf, part: leaf if part is None else part, x, parts))

    return of_floating, jax.tree.map(lambda leaf: leaf if _floating(leaf) else None, x)


def match(caller: str, x: Any, argument: str, value: Any) -> Any:
    """Returns the part of `value`, a tree like x, for each array of x, and None where x has None.

    Raises:
      ValueError: the trees differ.
    """
    try:
        return jax.tree.map(
            lambda leaf, part: None if leaf is None else part,
            x,
            value,
            is_leaf=lambda leaf: leaf is None,
        )
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{caller}: {argument} is {jax.tree.structure(value)} for x of "
            f"{jax.tree.structure(x)}; expected a tree like x."
        ) from error


def baselines(caller: str, x: Any, baseline: Any, argument: str = "baseline") -> Any:
    """Returns the baseline of x's floating-point arrays: from a number, an array, or a tree like x.

    Raises:
      ValueError: it does not broadcast to x.
    """
    one = jax.tree_util.all_leaves([baseline])
    parts = jax.tree.map(lambda _: baseline, x) if one else match(caller, x, argument, baseline)

    def fitted(leaf, base):
        if not _floating(leaf):
            return None
        try:
            return jnp.broadcast_to(jnp.asarray(base, leaf.dtype), leaf.shape)
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{caller}: the {argument} has shape {jnp.shape(base)} for x of {leaf.shape}; "
                "expected a number, or what broadcasts to x: (1, ...) for one of all examples."
            ) from error

    return jax.tree.map(fitted, x, parts)


def examples(caller: str, x: Any, argument: str, value: Any) -> tuple[Any, int]:
    """Returns M examples as arrays (M, ...), one for each floating-point array of x, and M.

    Raises:
      ValueError: `value` is neither an array nor a tree like x, or its arrays are not (M, ...), of
        one M of at least 1 and each like an example of x.
    """
    one = jax.tree_util.all_leaves([value])
    parts = jax.tree.map(lambda _: value, x) if one else match(caller, x, argument, value)
    pairs = [
        (leaf, part)
        for leaf, part in zip(
            jax.tree.leaves(x), jax.tree.structure(x).flatten_up_to(parts), strict=True
        )
        if _floating(leaf)
    ]
    counts = {
        (*np.shape(part), 0)[0]
        if isinstance(part, jax.Array | np.ndarray)
        and any(jnp.issubdtype(part.dtype, kind) for kind in (jnp.floating, jnp.integer))
        and part.shape[1:] == leaf.shape[1:]
        else 0
        for leaf, part in pairs
    }
    if len(counts) != 1 or 0 in counts:
        shapes = [getattr(part, "shape", part) for _, part in pairs]
        expected = [("M", *leaf.shape[1:]) for leaf, _ in pairs]
        raise ValueError(
            f"{caller}: {argument} of {str(shapes)[1:-1]}; expected arrays of numbers "
            f"{str(expected)[1:-1]}, M of 1 or more, each row like an example of x. Give one a "
            "first axis with a[None]."
        )
    take = lambda leaf, part: jnp.asarray(part, leaf.dtype) if _floating(leaf) else None  # noqa: E731
    return jax.tree.map(take, x, parts), counts.pop()


def like(caller: str, x: Any, attributions: Any) -> Any:
    """Returns attributions of x as arrays.

    Raises:
      ValueError: their tree or shapes are not those of x.
    """
    parts = jax.tree.map(jnp.asarray, match(caller, x, "attributions", attributions))
    shapes = [[leaf.shape for leaf in jax.tree.leaves(tree)] for tree in (x, parts)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"{caller}: attributions of {shapes[1]} for x of {shapes[0]}; expected the same shapes."
        )
    return parts


def flatten(x: Any) -> jax.Array:
    """Returns the values of each example in one row, (N, features), array after array."""
    rows = [leaf.reshape(len(leaf), math.prod(leaf.shape[1:])) for leaf in jax.tree.leaves(x)]
    return jnp.concatenate(rows, axis=1)


def unflatten(rows: Any, x: Any) -> Any:
    """Returns rows (N or 1, features) as a tree of arrays shaped like x: undoes `flatten`."""
    leaves, tree = jax.tree.flatten(x)
    ends = np.cumsum([math.prod(leaf.shape[1:]) for leaf in leaves])
    parts = (np if isinstance(rows, np.ndarray) else jnp).split(rows, ends[:-1], axis=1)
    shaped = [
        part.reshape(len(rows), *leaf.shape[1:]) for part, leaf in zip(parts, leaves, strict=True)
    ]
    return jax.tree.unflatten(tree, shaped)


def at_least(caller: str, least: int, **counts: Any) -> list[int]:
    """Returns counts, of any integer type, as ints.

    Raises:
      ValueError: one is not an integer, or below `least`.
    """
    numbers = []
    for argument, count in counts.items():
        try:
            number = least - 1 if isinstance(count, bool) else operator.index(count)
        except TypeError:
            number = least - 1
        if number < least:
            raise ValueError(
                f"{caller}: {argument} is {count!r}; expected an integer of at least {least}."
            )
        numbers.append(number)
    return numbers


def number(caller: str, expected: str, valid: Callable[[Any], bool], **value: Any) -> Any:
    """Returns a finite number of any real type as a float; a traced one, (), as it is.

    Args:
      caller: the public function's name, for messages.
      expected: what is valid, for the message.
      valid: whether a float is.
      value: the argument's name and value.

    Raises:
      ValueError: it is no such number.
    """
    ((argument, given),) = value.items()
    if isinstance(given, jax.Array | np.ndarray | np.generic):
        kinds = (jnp.floating, jnp.integer)
        real = given.shape == () and any(jnp.issubdtype(given.dtype, kind) for kind in kinds)
        if real and isinstance(given, Tracer):
            return given
    else:
        real = isinstance(given, numbers.Real) and not isinstance(given, bool)
    if not real or not math.isfinite(float(given)) or not valid(float(given)):
        raise ValueError(f"{caller}: {argument} is {given!r}; expected {expected}.")
    return float(given)


def prng_key(caller: str, key: Any) -> jax.Array:
    """Returns a PRNG key, typed or of numbers.

    Raises:
      ValueError: it is none, or several.
    """
    what = repr(key)
    if isinstance(key, jax.Array | np.ndarray):
        typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
        if key.ndim == 0 if typed else key.dtype == np.uint32 and key.shape in ((2,), (4,)):
            return key  # pyright: ignore[reportReturnType]
        what = f"{key.dtype}{list(key.shape)}"
    raise ValueError(f"{caller}: key is {what}; expected one PRNG key: pass jax.random.key(seed).")


def _floating(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.floating)


def _fixed(leaf: Any) -> bool:
    kinds = (jnp.integer, jnp.bool_, jax.dtypes.prng_key)
    return any(jnp.issubdtype(leaf.dtype, kind) for kind in kinds)


def weighted_sum(
    caller: str,
    value: Callable[[jax.Array], Any],
    weights: jax.Array,
    batch_size: int | None,
) -> Any:
    """Returns sum_i w_i value(i), with at most `batch_size` values in memory.

    It is added up in float32 at least, so that `batch_size` does not change sums of half precision.

    Args:
      caller: the public function's name, for messages.
      value: from a number i, () int32, to a tree of arrays.
      weights: (n,).
      batch_size: how many are computed side by side; None for as many as the memory budget allows.

    Raises:
      ValueError: `batch_size` is no integer of at least 1.
    """
    n = len(weights)
    value, shape, cost = _recorded(value)
    size = _size(caller, n, batch_size, cost)

    def several(numbers, weights):
        def dot(leaf):
            leaf = widen(leaf)
            return jnp.tensordot(weights.astype(leaf.dtype), leaf, 1)

        return jax.tree.map(dot, jax.vmap(value)(numbers))

    def narrowed(total):
        return jax.tree.map(lambda leaf, of: leaf.astype(of.dtype), total, shape)

    whole = n - n % size
    numbers = jnp.arange(n)
    if whole == size == n:
        return narrowed(several(numbers, weights))
    cut = lambda a: a[:whole].reshape(-1, size)  # noqa: E731
    start = jax.tree.map(lambda leaf: widen(jnp.zeros(leaf.shape, leaf.dtype)), shape)
    several_in_loop = reading.fast_in_loops(several)
    add = lambda total, i: (jax.tree.map(jnp.add, total, several_in_loop(*i)), None)  # noqa: E731
    total, _ = lax.scan(add, start, (cut(numbers), cut(weights)))
    if whole < n:
        total = jax.tree.map(jnp.add, total, several(numbers[whole:], weights[whole:]))
    return narrowed(total)


def mapped(
    caller: str, value: Callable[[jax.Array], Any], count: int, batch_size: int | None
) -> Any:
    """Returns value(0), ..., value(count - 1) stacked, at most `batch_size` side by side.

    The last ones are computed with some again, so that there is one program, not two. Without
    `batch_size`, as many are computed side by side as the memory budget allows.

    Raises:
      ValueError: `batch_size` is no integer of at least 1.
    """
    value, _, cost = _recorded(value)
    return _in_turns(jax.vmap(value), count, _size(caller, count, batch_size, cost))


def by_examples(
    caller: str, explain: Callable[[Any, Any], Any], x: Any, target: Any, batch_size: int | None
) -> Any:
    """`explain(x, target)`, for at most `batch_size` examples at a time.

    What has no row for each example, as the value at a place where f has joined the examples with
    another axis, is not divided: without `batch_size` the whole batch is explained at once.

    Args:
      caller: the public function's name, for messages.
      explain: from a batch and its targets to a tree of arrays with the same batch axis.
      x: the whole batch, and what goes with it, such as baselines: trees of arrays, of which the
        first is of all examples. An array of length 1 serves every example.
      target: of any kind; of an array each example keeps its own.
      batch_size: None for as many as the memory budget allows.

    Raises:
      ValueError: `batch_size` is no integer of at least 1, or the explanation cannot be divided.
    """
    batch_size = _bounded(caller, batch_size)
    n = (*jnp.shape(jax.tree.leaves(x)[0]), 1)[0]
    each = isinstance(target, list | np.ndarray | jax.Array) and np.shape(target) == (n,)
    size = min(batch_size or rows.value or n, n)
    if size == n:
        return explain(x, target)

    def some(numbers):
        take = lambda leaf: jnp.asarray(leaf)[numbers]  # noqa: E731
        cut = lambda leaf: leaf if len(leaf) == 1 else take(leaf)  # noqa: E731
        return explain(jax.tree.map(cut, x), take(target) if each else target)

    # Where some other axis is as long as one of the two batches, it is not as long as both.
    calls = ((n, lambda: explain(x, target)), (size, lambda: some(np.arange(size))))
    if all(
        leaf.shape[:1] == (count,)
        for count, call in calls
        for leaf in jax.tree.leaves(jax.eval_shape(call))
    ):
        return _in_turns(some, n, size)
    if batch_size is None:
        return explain(x, target)
    raise ValueError(
        f"{caller}: batch_size is {batch_size}, and the explanation has no row for each of the {n} "
        "examples; expected examples on its first axis. Leave batch_size out, or explain at another place."
    )


def by_examples_or_evaluations(
    caller: str, explain: Callable[[Any, Any], Any], x: Any, target: Any, batch_size: int | None
) -> Any:
    """As `by_examples`, where `batch_size` bounds the evaluations within `explain`, not the examples."""
    if _bounded(caller, batch_size) is not None:
        return explain(x, target)
    return by_examples(caller, explain, x, target, None)


def _recorded(value: Callable[[jax.Array], Any]) -> tuple[Callable[[jax.Array], Any], Any, int]:
    """Returns `value` as a function that is traced already, its output's shapes, and its bytes."""
    program, shape = reading.traced(value, jax.ShapeDtypeStruct((), jnp.arange(0).dtype))
    run, tree = reading.jaxpr_as_fun(program), jax.tree.structure(shape)
    return lambda i: jax.tree.unflatten(tree, run(i)), shape, reading.peak_bytes(program.jaxpr)


def _size(caller: str, n: int, batch_size: int | None, cost: int) -> int:
    """Returns how many of n evaluations are computed side by side."""
    batch_size = _bounded(caller, batch_size)
    if batch_size is not None:
        return min(batch_size, n)
    size = min(n, max(1, budget.value * 3 // 4 // max(cost, 1)))  # the rest is for what is around
    return next((d for d in range(size, size // 2, -1) if n % d == 0), size)


def _in_turns(values: Callable[[jax.Array], Any], n: int, size: int) -> Any:
    """values(0 ... n - 1), `size` numbers at a time; the last ones are computed with some again."""
    turns = max(1, -(-n // size))
    size = -(-n // turns)
    if turns == 1:
        return values(jnp.arange(n))
    numbers = jnp.minimum(jnp.arange(turns * size), n - 1).reshape(turns, size)
    outputs = lax.map(reading.fast_in_loops(values), numbers)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:n], outputs)


def _bounded(caller: str, batch_size: Any) -> int | None:
    """Returns `batch_size` as an int, or None."""
    return None if batch_size is None else at_least(caller, 1, batch_size=batch_size)[0]
