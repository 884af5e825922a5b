"""A square float32 matrix product by each library: the best is the machine's measured peak."""

from __future__ import annotations

import os

LIBRARIES = {"XLA": "xla", "torch": "pytorch", "NumPy": "blas"}


def flops(size: int) -> int:
    """Floating-point operations of one product."""
    return 2 * size**3


def xla(size: int):
    """`jnp.matmul`, compiled."""
    import jax
    import jax.numpy as jnp

    a = jnp.ones((size, size), jnp.float32)
    product = jax.jit(jnp.matmul)
    return lambda: jax.block_until_ready(product(a, a))


def pytorch(size: int):
    """`torch.mm` into a given matrix."""
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    a, out = torch.ones(size, size), torch.empty(size, size)
    return lambda: torch.mm(a, a, out=out)


def blas(size: int):
    """`numpy.matmul` into a given matrix, by the BLAS library that NumPy has."""
    import numpy as np

    # Into a given matrix, because allocating the result would count too.
    a, out = np.ones((size, size), np.float32), np.empty((size, size), np.float32)
    return lambda: np.matmul(a, a, out=out)
