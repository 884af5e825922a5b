"""Tasks that only a network with a long memory can do. Lecture rows J16, J17.

Hochreiter and Schmidhuber 1997 (doi:10.1162/neco.1997.9.8.1735), sec. 5. Every task is a pure
function of a key, so that a compiled training loop can draw its own batches.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

__all__ = ["adding", "copying", "recall"]


def adding(key: jax.Array, n: int, length: int) -> tuple[jax.Array, jax.Array]:
    """Two marked numbers among many are to be added.

    Numbers are uniform in [0, 1); one is marked in each half of the sequence. Who always says 1 has
    a mean squared error of 1/6 = 0.167.

    Args:
      key: a PRNG key.
      n: sequences.
      length: T, at least 2.

    Returns:
      `(x (n, T, 2), y (n,))`: number and mark at each step, and the sum.

    Raises:
      ValueError: `length` is below 2.
    """
    _check("adding", length, 2)
    values, first, second = jax.random.split(key, 3)
    numbers = jax.random.uniform(values, (n, length))
    half = length // 2
    at = jnp.stack(
        [
            jax.random.randint(first, (n,), 0, half),
            jax.random.randint(second, (n,), half, length),
        ],
        axis=1,
    )
    marks = jnp.sum(jax.nn.one_hot(at, length), axis=1)
    return jnp.stack([numbers, marks], axis=-1), jnp.sum(numbers * marks, axis=1)


def recall(key: jax.Array, n: int, length: int, symbols: int = 8) -> tuple[jax.Array, jax.Array]:
    """The first symbol is to be named at the end, noise between. Chance is 1 / symbols.

    Args:
      key: a PRNG key.
      n: sequences.
      length: T, at least 2.
      symbols: how many there are to be told apart.

    Returns:
      `(x (n, T, 2 symbols), y (n,) int32)`: one-hot, the first symbol in the first half of the
      features and the noise in the second.

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
    """A word at the beginning is to be written again at the end, after a silence and a sign.

    Args:
      key: a PRNG key.
      n: sequences.
      length: T, at least 2 word + 1.
      word: symbols in the word.
      symbols: how many there are.

    Returns:
      `(x (n, T, symbols + 2), y (n, word) int32)`: one-hot symbols, then silence, a sign before the
      last `word` steps, in which the word is to be written.

    Raises:
      ValueError: `length` is below 2 word + 1.
    """
    _check("copying", length, 2 * word + 1)
    y = jax.random.randint(key, (n, word), 0, symbols)
    silence = jnp.full((n, length - word), symbols).at[:, length - 2 * word - 1].set(symbols + 1)
    return jax.nn.one_hot(jnp.concatenate([y, silence], axis=1), symbols + 2), y


def _check(task: str, length: int, least: int) -> None:
    if length < least:
        raise ValueError(f"{task}: length is {length}; expected at least {least}.")
