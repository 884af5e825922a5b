"""Forward and backward passes of one recurrent layer, by library: mean of y^2 over (N, T, H).

Each `make` gives a call that runs one pass and, for JAX, the seconds to compile it and the bytes of
its temporaries. `alone` measures one library by itself in a process.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

Shape = tuple[int, int, int, int]
"""(N, T, D, H): rows, steps, inputs, units."""


def _input(shape: Shape) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape[:3]).astype(np.float32)


def _compiled(loss: Callable[..., Any], params: Any, *inputs: Any):
    import jax

    return _ready(jax.grad(loss), params, *inputs)


def _ready(f: Callable[..., Any], *inputs: Any):
    """The compiled call, the median seconds of three compilations, the bytes of its temporaries."""
    import jax

    seconds = []
    for _ in range(3):
        jax.clear_caches()
        start = time.perf_counter()
        compiled = jax.jit(f).lower(*inputs).compile()
        seconds.append(time.perf_counter() - start)
    memory: Any = compiled.memory_analysis()
    run = lambda: jax.block_until_ready(compiled(*inputs))  # noqa: E731
    return run, statistics.median(seconds), memory.temp_size_in_bytes


def products(kind: str, shape: Shape):
    """Nothing but the matrix products of our pass, by XLA, in loops like its own."""
    import jax
    import jax.numpy as jnp

    rows, steps, width, units = shape
    columns = {"lstm": 4, "gru": 3}[kind] * units
    draw = np.random.default_rng(1).standard_normal
    kernel, recurrent = (draw((n, columns)).astype(np.float32) / n for n in (width, units))

    def run(x, kernel, recurrent):
        z = jnp.swapaxes(x, 0, 1) @ kernel

        def forward(h, _):
            return (h @ recurrent)[:, :units], h

        def backward(da, _):
            return jnp.tile(da @ recurrent.T, columns // units), da

        zeros = jnp.zeros((rows, columns))
        hs = jax.lax.scan(forward, z[0, :, :units], length=steps)[1]
        das = jax.lax.scan(backward, zeros + z[-1], length=steps)[1].reshape(-1, columns)
        by_time = jnp.swapaxes(x, 0, 1).reshape(-1, width)
        return z[-1], by_time.T @ das, hs.reshape(-1, units).T @ das

    return _ready(run, *map(jnp.asarray, (_input(shape), kernel, recurrent)))


def ours(kind: str, shape: Shape, lengths: Any = None, devices: int = 1, form: str = "auto"):
    """jaxdl; on several devices the rows are shared out, and XLA sums the gradients."""
    import jax
    import jax.numpy as jnp

    import jaxdl
    from jaxdl import nn

    cell: Any = getattr(nn, kind)(shape[3])
    x = jnp.asarray(_input(shape))
    params, _ = jaxdl.init(cell, jax.random.key(0), x)
    if devices > 1:
        mesh = jax.make_mesh((devices,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
        spec = jax.sharding.PartitionSpec
        x = jax.device_put(x, jax.sharding.NamedSharding(mesh, spec("rows")))
        params = jax.device_put(params, jax.sharding.NamedSharding(mesh, spec()))

    def loss(params, x, lengths=None):
        return jnp.mean(jnp.square(nn.recurrence(cell, params, x, lengths=lengths, form=form)[1]))

    return _compiled(loss, params, x, *(() if lengths is None else (jnp.asarray(lengths),)))


def two_devices(kind: str, shape: Shape):
    """jaxdl with the rows shared between two devices made of the CPU's two cores."""
    from jaxdl import train

    train.use_cpu_devices(2)
    return ours(kind, shape, devices=2)


def memory_kept(kind: str, shape: Shape):
    """jaxdl in a process that keeps freed memory."""
    from jaxdl import train

    train.keep_memory()
    return ours(kind, shape)


def both_helpers(kind: str, shape: Shape):
    """jaxdl on two devices in a process that keeps freed memory."""
    from jaxdl import train

    train.keep_memory()
    return two_devices(kind, shape)


def pytorch(kind: str, shape: Shape):
    """torch.nn.LSTM and GRU, eager, two threads."""
    import torch

    torch.set_num_threads(2)
    layer = getattr(torch.nn, kind.upper())(shape[2], shape[3], batch_first=True)
    x = torch.tensor(_input(shape))

    def run():
        layer.zero_grad()
        layer(x)[0].square().mean().backward()

    return run, None, None


def flax(kind: str, shape: Shape):
    """flax.linen.RNN over the cell that its documentation calls optimized, or GRUCell."""
    import jax
    import jax.numpy as jnp
    from flax import linen

    cell = {"lstm": linen.OptimizedLSTMCell, "gru": linen.GRUCell}[kind](shape[3])
    layer, x = linen.RNN(cell), jnp.asarray(_input(shape))
    params = layer.init(jax.random.key(0), x)
    apply: Any = layer.apply
    return _compiled(lambda p, x: jnp.mean(jnp.square(apply(p, x))), params, x)


def equinox(kind: str, shape: Shape):
    """Equinox's cell under `lax.scan`, `vmap` over rows, as its documentation has it."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    cell = {"lstm": eqx.nn.LSTMCell, "gru": eqx.nn.GRUCell}[kind](*shape[2:], key=jax.random.key(0))
    params, static = eqx.partition(cell, eqx.is_array)

    def loss(params, x):
        cell, zeros = eqx.combine(params, static), jnp.zeros(shape[3])
        start = (zeros, zeros) if kind == "lstm" else zeros

        def step(carry, x):
            carry = cell(x, carry)
            return carry, carry[0] if kind == "lstm" else carry

        return jnp.mean(jnp.square(jax.vmap(lambda row: jax.lax.scan(step, start, row)[1])(x)))

    return _compiled(loss, params, jnp.asarray(_input(shape)))


def keras(kind: str, shape: Shape):
    """Keras's layer on its JAX backend, called without state inside of `jax.jit`."""
    os.environ["KERAS_BACKEND"] = "jax"
    import jax.numpy as jnp
    import keras

    layer = getattr(keras.layers, kind.upper())(shape[3], return_sequences=True)
    x = jnp.asarray(_input(shape))
    layer.build(x.shape)
    values = [variable.value for variable in layer.trainable_variables]
    others = [variable.value for variable in layer.non_trainable_variables]

    def loss(values, x):
        return jnp.mean(jnp.square(layer.stateless_call(values, others, x)[0]))

    return _compiled(loss, values, x)


MAKE: dict[str, Callable[..., Any]] = {
    "ours": ours,
    "ours, two devices": two_devices,
    "ours, memory kept": memory_kept,
    "ours, both helpers": both_helpers,
    "its products alone": products,
    "torch": pytorch,
    "Flax": flax,
    "Equinox": equinox,
    "Keras on JAX": keras,
}


def alone(name: str, kind: str, shape: Shape, rounds: int) -> float:
    """Median seconds of one library's pass, measured in a process that runs nothing else."""
    run = MAKE[name](kind, shape)[0]
    for _ in range(3):
        run()
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)
