"""Synthetic tasks that require long memory: adding, recall, copying.

Hochreiter and Schmidhuber 1997 (doi:10.1162/neco.1997.9.8.1735), sec. 5. Every task is a pure
function of a key, so that a compiled training loop can draw its own batches.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

__all__ = ["adding", "copying", "recall"]


def adding(key: jax.Array, n: int, length: int) -> tuple[jax.Array, jax.Array]:
    """Draws the adding task: the target is the sum of two marked numbers.

    Numbers are uniform in [0, 1); one is marked in each half of the sequence. The constant
    prediction 1 has a mean squared error of 1/6 = 0.167.

    Args:
      key: a PRNG key.
      n: number of sequences.
      length: T, at least 2.

    Returns:
      `(x (n, T, 2), y (n,))`: the number and the mark at each step, and the sum.

    Raises:
      ValueError: `length` is below 2.
    """
    _check("adding", length, 2)
    values, first, second = jax.random.split(key, 3)
    numbers = jax.random.uniform(values, (n, length))
    half = length // 2
    marked = jnp.stack(
        [
            jax.random.randint(first, (n,), 0, half),
            jax.random.randint(second, (n,), half, length),
        ],
        axis=1,
    )
    marks = jnp.sum(jax.nn.one_hot(marked, length), axis=1)
    return jnp.stack([numbers, marks], axis=-1), jnp.sum(numbers * marks, axis=1)


def recall(key: jax.Array, n: int, length: int, symbols: int = 8) -> tuple[jax.Array, jax.Array]:
    """Draws the recall task: the target is the first symbol, which noise follows.

    Chance accuracy is 1 / symbols.

    Args:
      key: a PRNG key.
      n: number of sequences.
      length: T, at least 2.
      symbols: number of symbols.

    Returns:
      `(x (n, T, 2 symbols), y (n,) int32)`: one-hot; the first symbol uses the first half of the
      features, the noise the second half.

    Raises:
      ValueError: `length` is below 2.
    """
    _check("recall", length, 2)
    first, rest = jax.random.split(key)
    y = jax.random.randint(first, (n,), 0, symbols)
    noise = jax.random.randint(rest, (n, length - 1), symbols, 2 * symbols)
    return jax.nn.one_hot(jnp.concatenate([y[:, None], noise], axis=1), 2 * symbols), y


def copying(
    key: jax.Array, n: int, length: int, *, word: int = 5, symbols: int = 8
) -> tuple[jax.Array, jax.Array]:
    """Draws the copying task: the target is the first `word` symbols, at the end.

    Args:
      key: a PRNG key.
      n: number of sequences.
      length: T, at least 2 word + 1.
      word: number of symbols to copy.
      symbols: number of different symbols.

    Returns:
      `(x (n, T, symbols + 2), y (n, word) int32)`: one-hot symbols, then blanks, with a marker
      before the last `word` steps, at which the symbols are the targets.

    Raises:
      ValueError: `length` is below 2 word + 1.
    """
    _check("copying", length, 2 * word + 1)
    y = jax.random.randint(key, (n, word), 0, symbols)
    blanks = jnp.full((n, length - word), symbols).at[:, length - 2 * word - 1].set(symbols + 1)
    return jax.nn.one_hot(jnp.concatenate([y, blanks], axis=1), symbols + 2), y


def _check(task: str, length: int, least: int) -> None:
    if length < least:
        raise ValueError(f"{task}: length is {length}; expected at least {least}.")
