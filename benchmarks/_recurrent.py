"""Forward and backward passes of one recurrent layer, by library: mean of y^2 over (N, T, H).

For each JAX library a function returns the gradient to compile and its inputs; torch runs eagerly.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

Shape = tuple[int, ...]
"""(N, T, D, H): rows, steps, inputs, units."""
Program = tuple[Callable[..., Any], tuple[Any, ...]]
"""A function for `jax.jit`, and its inputs."""


def _input(shape: Shape) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape[:3]).astype(np.float32)


def _gradient(loss: Callable[..., Any], *inputs: Any) -> Program:
    import jax

    return jax.grad(loss), inputs


def products(kind: str, shape: Shape) -> Program:
    """The matrix products of our pass alone, by XLA, in loops like its own: a lower bound."""
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
            # The size of the gates' gradient, so that each step's product has the size of the real
            # one.
            return jnp.tile(da @ recurrent.T, columns // units), da

        zeros = jnp.zeros((rows, columns))
        hs = jax.lax.scan(forward, z[0, :, :units], length=steps)[1]
        das = jax.lax.scan(backward, zeros + z[-1], length=steps)[1].reshape(-1, columns)
        by_time = jnp.swapaxes(x, 0, 1).reshape(-1, width)
        return z[-1], by_time.T @ das, hs.reshape(-1, units).T @ das

    return run, tuple(map(jnp.asarray, (_input(shape), kernel, recurrent)))


def ours(kind: str, shape: Shape, padded: bool = False, devices: int = 1) -> Program:
    """jaxdl; on several devices the rows are split among them, and XLA sums the gradients.

    With `padded`, the rows end at steps evenly spaced from 0 to T: half of all steps are padding.
    """
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

    lengths = [jnp.linspace(0, shape[1], shape[0]).astype(jnp.int32)] if padded else []

    def loss(params, x, lengths=None):
        return jnp.mean(jnp.square(nn.unroll(cell, params, x, lengths=lengths)[1]))

    return _gradient(loss, params, x, *lengths)


def two_devices(kind: str, shape: Shape) -> Program:
    """jaxdl with the rows split between two devices made of the CPU's two cores."""
    from jaxdl import train

    train.use_cpu_devices(2)
    return ours(kind, shape, devices=2)


def memory_kept(kind: str, shape: Shape) -> Program:
    """jaxdl in a process that keeps freed memory."""
    from jaxdl import train

    train.keep_memory()
    return ours(kind, shape)


def both_helpers(kind: str, shape: Shape) -> Program:
    """jaxdl on two devices in a process that keeps freed memory."""
    from jaxdl import train

    train.keep_memory()
    return two_devices(kind, shape)


def pytorch(kind: str, shape: Shape):
    """`torch.nn.LSTM` and `GRU`, eager, a thread for each core: a call runs the pass once."""
    import torch

    # A thread for each CPU, as XLA has.
    torch.set_num_threads(os.cpu_count() or 1)
    layer = getattr(torch.nn, kind.upper())(shape[2], shape[3], batch_first=True)
    x = torch.tensor(_input(shape))

    def run():
        layer.zero_grad()
        layer(x)[0].square().mean().backward()

    return run


def flax(kind: str, shape: Shape) -> Program:
    """flax.linen.RNN over the cell that its documentation calls optimized, or GRUCell."""
    import jax
    import jax.numpy as jnp
    from flax import linen

    cell = {"lstm": linen.OptimizedLSTMCell, "gru": linen.GRUCell}[kind](shape[3])
    layer, x = linen.RNN(cell), jnp.asarray(_input(shape))
    params = layer.init(jax.random.key(0), x)
    apply: Any = layer.apply
    return _gradient(lambda p, x: jnp.mean(jnp.square(apply(p, x))), params, x)


def equinox(kind: str, shape: Shape) -> Program:
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

    return _gradient(loss, params, jnp.asarray(_input(shape)))


def keras(kind: str, shape: Shape) -> Program:
    """Keras's layer on its JAX backend, called without state inside of `jax.jit`."""
    os.environ["KERAS_BACKEND"] = "jax"
    import jax.numpy as jnp
    import keras

    layer = getattr(keras.layers, kind.upper())(shape[3], return_sequences=True)
    x = jnp.asarray(_input(shape))
    # Built outside of `jit`, so that its variables are inputs and not constants.
    layer.build(x.shape)
    values = [variable.value for variable in layer.trainable_variables]
    others = [variable.value for variable in layer.non_trainable_variables]

    def loss(values, x):
        return jnp.mean(jnp.square(layer.stateless_call(values, others, x)[0]))

    return _gradient(loss, values, x)


PROGRAMS: dict[str, Callable[..., Program]] = {
    "ours": ours,
    "memory kept": memory_kept,
    "two devices": two_devices,
    "both helpers": both_helpers,
    "its products alone": products,
    "Flax": flax,
    "Equinox": equinox,
    "Keras on JAX": keras,
}


def _compile(library: str, kind: str, shape: list[int], **options: Any) -> tuple[Any, Any]:
    import jax

    function, inputs = PROGRAMS[library](kind, tuple(shape), **options)
    return jax.jit(function).lower(*inputs).compile(), inputs


def forward_backward(library: str, kind: str, shape: list[int], **options: Any):
    """Returns a call that runs the pass once."""
    if library == "torch":
        return pytorch(kind, tuple(shape))
    import jax

    compiled, inputs = _compile(library, kind, shape, **options)
    return lambda: jax.block_until_ready(compiled(*inputs))


def compilation(library: str, kind: str, shape: list[int]):
    """Returns a call that traces and compiles the pass, without anything cached."""
    import jax

    function, inputs = PROGRAMS[library](kind, tuple(shape))

    def run():
        # Otherwise the second call would find its trace and its program.
        jax.clear_caches()
        jax.jit(function).lower(*inputs).compile()

    return run


def temporary_bytes(library: str, kind: str, shape: list[int]) -> int:
    """Returns the bytes of the compiled pass's temporaries."""
    compiled, _ = _compile(library, kind, shape)
    return compiled.memory_analysis().temp_size_in_bytes
