"""FractalNet: very deep networks without residuals. Larsson et al. 2017, arXiv 1605.07648.

    f_1(x) = relu(norm(conv3x3(x)))
    f_{C+1}(x) = join((f_C o f_C)(x), f_1(x)),   join = mean of its inputs

Joins that follow one another are one join (figure 1), so a block is a table of C columns: column c,
from 1, has 2^(c-1) layers, and a join follows wherever two or more columns end together. A block
has 2^C - 1 convolutions, and its longest path 2^(C-1).

Drop-path (section 3.1) drops inputs of joins in training, for a whole batch:

    local    each input with a fixed probability, but never all inputs of a join
    global   all but one column, the same in the whole network
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl._check import require_ints, require_number
from jaxdl.combine import serial
from jaxdl.core import Module, compose
from jaxdl.nn import dense, global_avg_pool, max_pool
from jaxdl.zoo.vision.resnet import conv_norm

__all__ = ["column_paths", "drop_path", "fractal_block", "fractalnet", "join"]


def column_ends(columns: int) -> np.ndarray:
    """Returns (2^(C-1), C) bools: whether a layer of column c ends at step t."""
    steps = np.arange(1, 2 ** (columns - 1) + 1)[:, None]
    return steps % 2 ** np.arange(columns - 1, -1, -1) == 0


def join(values: Sequence[jax.Array], paths: jax.Array) -> jax.Array:
    """Averages the values whose path is alive.

    Args:
      values: arrays of one shape.
      paths: (len(values),) bools, at least one true.

    Returns:
      An array of that shape.
    """
    share = paths.astype(values[0].dtype) / paths.sum().astype(values[0].dtype)
    # Not a plain product with the share: 0 times inf is NaN.
    return sum(jnp.where(paths[i], share[i] * value, 0) for i, value in enumerate(values))  # pyright: ignore


def column_paths(blocks: int, columns: int, column: int) -> np.ndarray:
    """Returns the paths of a network that runs a single column, counted from 1.

    A join that the column does not pass averages all of its inputs; the output does not depend on
    it. To evaluate one column: `jaxdl.intervene(model, params, state, x, edits={"paths": paths})`.

    Args:
      blocks, columns: as for `fractalnet`.
      column: the column, 1 .. columns; the last is the deepest.

    Returns:
      (blocks, 2^(columns - 1), columns) bools: block, step, and column that ends there.

    Raises:
      ValueError: `column` is not one of the columns.
    """
    require_ints("column_paths", 1, column=column, blocks=blocks, columns=columns)
    if column > columns:
        raise ValueError(f"column_paths: column is {column}; expected one of 1 .. {columns}.")
    ends = column_ends(columns)
    only = ends & (np.arange(columns) == column - 1)
    return np.tile(np.where(only.any(1, keepdims=True), only, ends), (blocks, 1, 1))


def drop_path(blocks: int, columns: int, rate: float, global_rate: float) -> Module:
    """Creates the layer that draws the paths of a batch in training, and keeps all otherwise.

    Args:
      blocks, columns: as for `fractalnet`.
      rate: the probability of dropping an input of a join, in local drop-path.
      global_rate: the share of batches with global drop-path.

    Returns:
      A `Module` from any input to paths as `column_paths` returns them.

    Raises:
      ValueError: a rate is outside [0, 1]; with `train=True`, the key is missing.
    """
    for name, value in (("rate", rate), ("global_rate", global_rate)):
        require_number("drop_path", "a probability", lambda p: 0 <= p <= 1, **{name: value})
    ends = np.tile(column_ends(columns), (blocks, 1, 1))
    single = np.stack([column_paths(blocks, columns, c) for c in range(1, columns + 1)])

    def apply(params, state, x, *, train=False, key=None, **_):
        if not train:
            return jnp.asarray(ends), state
        if key is None:
            raise ValueError(
                "drop_path: no key with train=True; expected a PRNG key: "
                "model.apply(params, state, x, train=True, key=key)."
            )
        local_key, column_key, kind_key = jax.random.split(key, 3)
        # The input with the largest number always survives. It changes joins only where all others
        # fall below the rate, too, and then one of the inputs at random is kept.
        numbers = jnp.where(ends, jax.random.uniform(local_key, ends.shape), -1)
        local = (numbers >= rate) | (numbers == numbers.max(-1, keepdims=True))
        column = jax.random.randint(column_key, (), 0, columns)
        is_global = jax.random.bernoulli(kind_key, global_rate)
        return jnp.where(is_global, jnp.asarray(single)[column], local & ends), state

    config = {"rate": rate, "global_rate": global_rate}
    return Module(lambda key, x: ({}, {}), apply, "drop_path", config)


def fractal_block(features: int, columns: int) -> Module:
    """Builds f_C, a block of `columns` columns.

    Args:
      features: channels of every convolution.
      columns: C, the number of columns.

    Returns:
      A `Module` from x (N, H, W, C) and paths (2^(C-1), C) to (N, H, W, features).
    """
    ends = column_ends(columns)
    layers = {
        f"column{c + 1}_{i}": serial(**conv_norm(features, 3), relu=jax.nn.relu)
        for c in range(columns)
        for i in range(1, 2**c + 1)
    }

    def forward(call, x, paths):
        inputs, layer = [x] * columns, [0] * columns
        for t, ending in enumerate(ends):
            (here,) = np.nonzero(ending)
            outputs = []
            for c in here:
                layer[c] += 1
                outputs.append(call(f"column{c + 1}_{layer[c]}", inputs[c]))
            value = outputs[0] if len(here) == 1 else join(outputs, paths[t, here])
            for c in here:
                inputs[c] = value
        return inputs[0]

    return compose("fractal_block", layers, forward, features=features, columns=columns)


def fractalnet(
    widths: Sequence[int] = (64, 128, 256, 512, 512),
    columns: int = 3,
    *,
    num_classes: int = 10,
    drop_rate: float = 0.15,
    global_rate: float = 0.5,
) -> Module:
    """Builds FractalNet: fractal blocks, each followed by a max pooling, and a dense layer.

    Five blocks of three columns are the network of 20 layers for 32x32 images: 33,724,618
    parameters for colour images. Four columns give 40 layers.

    Args:
      widths: the channels of each block.
      columns: C, the number of columns; the depth is `len(widths) * 2**(C - 1)`.
      num_classes: the number of classes.
      drop_rate: the probability of local drop-path.
      global_rate: the share of batches with global drop-path, 1/2 in the paper.

    Returns:
      A `Module` from (N, H, W, C) to logits (N, num_classes). With `train=True` it requires a key.

    Raises:
      ValueError: `columns` is not a positive integer; `widths` is empty; a rate is outside [0, 1].
    """
    require_ints("fractalnet", 1, columns=columns, blocks=len(widths))
    children: dict[str, Module | Callable] = {
        "paths": drop_path(len(widths), columns, drop_rate, global_rate)
    }
    for i, features in enumerate(widths, start=1):
        children |= {f"block{i}": fractal_block(features, columns), f"pool{i}": max_pool(2)}
    children |= {"mean": global_avg_pool(), "logits": dense(num_classes)}

    def forward(call, x):
        paths = call("paths", x)
        for i in range(len(widths)):
            x = call(f"pool{i + 1}", call(f"block{i + 1}", x, paths[i]))
        return call("logits", call("mean", x))

    return compose("fractalnet", children, forward, widths=tuple(widths), columns=columns)
