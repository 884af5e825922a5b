"""Inputs of explanations: checks of x, and baselines and attributions like x.

x is one array (N, ...) or a tree of arrays with one common batch axis. Floating-point arrays are
explained; integers, truth values and PRNG keys are passed to f unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def count_examples(caller: str, x: Any) -> int:
    """Returns the number of examples in x.

    Raises:
      ValueError: x has no arrays, an array of another dtype or without a batch axis, or several
        batch sizes.
    """
    leaves = jax.tree.leaves(x)
    for leaf in leaves:
        is_array = isinstance(leaf, jax.Array | np.ndarray)
        if not is_array or not (is_floating(leaf) or _is_discrete(leaf)) or leaf.ndim == 0:
            kind = f"{leaf.dtype}{list(leaf.shape)}" if is_array else repr(type(leaf).__name__)
            raise ValueError(
                f"{caller}: x contains {kind}; expected floating-point arrays with a batch axis, "
                "and optionally integers. Convert x with jnp.asarray(x, jnp.float32), and add a "
                "batch axis to one example with x[None]."
            )
    sizes = sorted({leaf.shape[0] for leaf in leaves})
    if len(sizes) != 1:
        raise ValueError(
            f"{caller}: x has batches of {sizes}; expected one size. Give every array of x the "
            "same first axis, and close over arrays without a batch axis."
        )
    return sizes[0]


def as_batch(caller: str, x: Any) -> Any:
    """Returns x as JAX arrays, at least one of them floating-point.

    Raises:
      ValueError: as `count_examples`; or no array is floating-point.
    """
    count_examples(caller, x)
    leaves = jax.tree.leaves(x)
    if not any(map(is_floating, leaves)):
        dtypes = ", ".join(sorted({str(leaf.dtype) for leaf in leaves}))
        raise ValueError(
            f"{caller}: x contains {dtypes} only; expected floating-point arrays with a batch "
            "axis. Cast pixels with x.astype(jnp.float32). Explain token ids by their embeddings: "
            "integrated_gradients(f, ids, layer='path of the embedding')."
        )
    return jax.tree.map(jnp.asarray, x)


def separate(f: Callable[[Any], Any], x: Any) -> tuple[Callable[[Any], Any], Any]:
    """Returns f as a function of the floating-point arrays of x, and these arrays.

    Other arrays (token ids, lengths, masks) are passed to f unchanged. In the tree of arrays, and
    in every attribution, they are None: a zero would claim that they do not matter.
    """
    if all(map(is_floating, jax.tree.leaves(x))):
        return f, x

    def f_of_floating(parts):
        return f(jax.tree.map(lambda leaf, part: leaf if part is None else part, x, parts))

    return f_of_floating, jax.tree.map(lambda leaf: leaf if is_floating(leaf) else None, x)


def match(caller: str, x: Any, argument: str, value: Any) -> Any:
    """Returns the part of `value`, a tree like x, for each array of x.

    Where x has None, the result has None too.

    Raises:
      ValueError: the trees differ.
    """
    # `is_leaf` compares the Nones of x too, which `separate` puts where x has integers.
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


def broadcast_baseline(caller: str, x: Any, baseline: Any, argument: str = "baseline") -> Any:
    """Returns a baseline of the shapes and dtypes of x's floating-point arrays.

    Args:
      caller: the public function's name, for messages.
      x: arrays (N, ...), or their shapes.
      baseline: a number, an array that broadcasts to x, or a tree of them like x.
      argument: the name of `baseline`, for messages.

    Raises:
      ValueError: the baseline does not broadcast to x.
    """
    is_leaf = jax.tree_util.all_leaves([baseline])
    parts = jax.tree.map(lambda _: baseline, x) if is_leaf else match(caller, x, argument, baseline)

    def broadcast(leaf, base):
        if not is_floating(leaf):
            return None
        try:
            return jnp.broadcast_to(jnp.asarray(base, leaf.dtype), leaf.shape)
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{caller}: the {argument} has shape {jnp.shape(base)} for x of {leaf.shape}; "
                "expected a number or an array that broadcasts to x. Use (1, ...) for one of all "
                "examples."
            ) from error

    return jax.tree.map(broadcast, x, parts)


def as_examples(caller: str, x: Any, argument: str, value: Any) -> tuple[Any, int]:
    """Returns M examples as arrays (M, ...) like the floats of x, and M.

    Raises:
      ValueError: `value` is neither an array nor a tree like x, or its arrays are not (M, ...) with
        one M of at least 1 and rows of the shape of an example of x.
    """
    is_leaf = jax.tree_util.all_leaves([value])
    parts = jax.tree.map(lambda _: value, x) if is_leaf else match(caller, x, argument, value)
    pairs = [
        (leaf, part)
        for leaf, part in zip(
            jax.tree.leaves(x), jax.tree.structure(x).flatten_up_to(parts), strict=True
        )
        if is_floating(leaf)
    ]
    # One M for all arrays, and 0 for an array that does not fit.
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

    def cast(leaf, part):
        return jnp.asarray(part, leaf.dtype) if is_floating(leaf) else None

    return jax.tree.map(cast, x, parts), counts.pop()


def as_attributions(caller: str, x: Any, attributions: Any) -> Any:
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
    """Inverts `flatten`: returns rows (N or 1, features) as arrays shaped like x."""
    leaves, tree = jax.tree.flatten(x)
    # NumPy arrays, such as masks, stay NumPy arrays: their values must remain known under `jit`.
    ends = np.cumsum([math.prod(leaf.shape[1:]) for leaf in leaves])
    parts = (np if isinstance(rows, np.ndarray) else jnp).split(rows, ends[:-1], axis=1)
    shaped = [
        part.reshape(len(rows), *leaf.shape[1:]) for part, leaf in zip(parts, leaves, strict=True)
    ]
    return jax.tree.unflatten(tree, shaped)


def is_floating(leaf: Any) -> bool:
    """Returns whether an array is explained."""
    return jnp.issubdtype(leaf.dtype, jnp.floating)


def _is_discrete(leaf: Any) -> bool:
    """Returns whether an array is of a dtype that is passed to f unchanged."""
    kinds = (jnp.integer, jnp.bool_, jax.dtypes.prng_key)
    return any(jnp.issubdtype(leaf.dtype, kind) for kind in kinds)
