"""Embedding: a vector for each symbol, learned as the rows of a table."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl.core import Module, named_key
from jaxdl.nn import _check
from jaxdl.nn.initializers import Initializer, initializer

__all__ = ["embedding"]

# Rows of expected square length 1: standard deviation 1/sqrt(F).
_UNIT_ROWS = jax.nn.initializers.variance_scaling(1.0, "fan_in", "normal", out_axis=0)


_lookups: list[tuple[jax.Array, int]] | None = None


@contextlib.contextmanager
def record_lookups() -> Iterator[list[tuple[jax.Array, int]]]:
    """Lists `(ids, V)` of every `lookup` of the block, for `train` to check the ids' range."""
    global _lookups
    outer, _lookups = _lookups, []
    try:
        yield _lookups
    finally:
        _lookups = outer


def lookup(ids: jax.Array, table: jax.Array) -> jax.Array:
    """y_i = E[id_i], what the product of one-hot rows with E is, without the product.

    Lecture row F16.

    Args:
      ids: (...) integers in 0 .. V - 1.
      table: (V, F) rows E.

    Returns:
      (..., F). An id out of range gives a row of NaN: compiled code cannot raise, and another
      symbol's row would be silently wrong.

    Raises:
      ValueError: the ids are not integers.
    """
    if not jnp.issubdtype(ids.dtype, jnp.integer):
        raise ValueError(
            f"embedding: ids are {ids.dtype}{list(ids.shape)}; expected integers: a table is read "
            "by number, e.g. ids.astype(jnp.int32)."
        )
    if _lookups is not None:
        _lookups.append((ids, table.shape[0]))
    ids = jnp.where(ids < 0, table.shape[0], ids)  # -1 would be the last row
    return jnp.take(table, ids, axis=0, mode="fill", fill_value=jnp.nan)


def embedding(
    num_embeddings: int,
    features: int,
    *,
    embedding_init: str | Initializer = _UNIT_ROWS,
    dtype: Any = jnp.float32,
) -> Module:
    """A table of `num_embeddings` rows of `features` numbers, read by integer ids.

    Parameters: `embedding` (num_embeddings, features); name and default initial values,
    normal with standard deviation 1/sqrt(F), are those of Flax's `Embed`.

    Args:
      num_embeddings: V, the number of symbols.
      features: F, the length of a row.
      embedding_init: a name from `nn.INITIALIZERS`, or `(key, shape, dtype) -> array`.
      dtype: of the table, as the ids have no floating-point dtype to follow.

    Returns:
      A `Module` from (...) integer ids to (..., features); ids out of range give NaN, and
      `train.fit`, `evaluate` and `predict` refuse them.

    Raises:
      ValueError: a size is no positive integer; an initializer's name is unknown; the ids are not
        integers.
    """
    _check.positive("embedding", num_embeddings=num_embeddings, features=features)
    make_table = initializer(embedding_init)

    def init(key, ids):
        shape = (num_embeddings, features)
        table = make_table(named_key(key, "embedding"), shape, dtype)
        jax.eval_shape(lookup, ids, table)
        return {"embedding": table}, {}

    def apply(params, state, ids, **_):
        return lookup(ids, params["embedding"]), state

    config = {"num_embeddings": num_embeddings, "features": features}
    return Module(init, apply, "embedding", config)
