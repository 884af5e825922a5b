"""Embedding: a learned vector for each integer id."""

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


# The list of the innermost `record_lookups` block, or None outside of one.
_lookups: list[tuple[jax.Array, int]] | None = None


@contextlib.contextmanager
def record_lookups() -> Iterator[list[tuple[jax.Array, int]]]:
    """Records `(ids, V)` of every `lookup` in the block, for `train` to check the ids' range."""
    global _lookups
    outer, _lookups = _lookups, []
    try:
        yield _lookups
    finally:
        _lookups = outer


def lookup(ids: jax.Array, table: jax.Array) -> jax.Array:
    """Reads rows of a table: y_i = E[id_i], equal to the product of one-hot rows with E.

    Args:
      ids: (...) integers in 0 .. V - 1.
      table: (V, F), E.

    Returns:
      (..., F). An id out of range gives a row of NaN: compiled code cannot raise an error, and the
      row of another id would be silently wrong.

    Raises:
      ValueError: the ids are not integers.
    """
    if not jnp.issubdtype(ids.dtype, jnp.integer):
        raise ValueError(
            f"embedding: ids are {ids.dtype}{list(ids.shape)}; expected integers. Convert them "
            "first, e.g. ids.astype(jnp.int32)."
        )
    if _lookups is not None:
        _lookups.append((ids, table.shape[0]))
    # `jnp.take` reads -1 as the last row, so negative ids are moved out of range.
    ids = jnp.where(ids < 0, table.shape[0], ids)
    return jnp.take(table, ids, axis=0, mode="fill", fill_value=jnp.nan)


def embedding(
    num_embeddings: int,
    features: int,
    *,
    embedding_init: str | Initializer = _UNIT_ROWS,
    dtype: Any = jnp.float32,
) -> Module:
    """Creates a layer that maps integer ids to rows of a learned table.

    Parameter: `embedding` (num_embeddings, features). Name and default initial values, normal with
    standard deviation 1/sqrt(features), are those of Flax's `Embed`.

    Args:
      num_embeddings: V, the number of ids.
      features: F, the length of a row.
      embedding_init: a name from `nn.INITIALIZERS`, or `(key, shape, dtype) -> array`.
      dtype: the dtype of the table.

    Returns:
      A `Module` from (...) integer ids to (..., features). Ids out of range give NaN;
      `train.fit`, `evaluate` and `predict` raise an error for them.

    Raises:
      ValueError: a size is not a positive integer; an initializer's name is unknown; the ids are
        not integers.
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
