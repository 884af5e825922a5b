"""Operations and explanations of the benchmark `cpu`."""

from __future__ import annotations

from typing import Any

import numpy as np


def _draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def _compile(f: Any, *arrays: np.ndarray) -> Any:
    """Returns a call of the compiled function."""
    import jax

    inputs = [jax.numpy.asarray(a) for a in arrays]
    compiled = jax.jit(f).lower(*inputs).compile()
    return lambda: jax.block_until_ready(compiled(*inputs))


def product(sizes: list[int]):
    """Returns a call of a product (M, K) by (K, N)."""
    m, k, n = sizes
    return _compile(lambda a, b: a @ b, _draw(m, k), _draw(k, n))


def _convolve(x, w, groups):
    import jax

    return jax.lax.conv_general_dilated(
        x,
        w,
        (1, 1),
        "SAME",
        feature_group_count=groups,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def convolution(batch: int, side: int, channels: int, kernel: int, groups: int = 1):
    """Returns a call of a convolution that keeps the number of channels."""
    x, w = _draw(batch, side, side, channels), _draw(kernel, kernel, channels // groups, channels)
    return _compile(lambda x, w: _convolve(x, w, groups), x, w)


def weight_gradient(batch: int, side: int, channels: int, kernel: int):
    """Returns a call of the gradient of that convolution by its weights."""
    import jax

    x, w = _draw(batch, side, side, channels), _draw(kernel, kernel, channels, channels)

    def gradient(x, g):
        return jax.linear_transpose(lambda w: _convolve(x, w, 1), w)(g)

    return _compile(gradient, x, _draw(batch, side, side, channels))


def explain(side: str, network: str, method: str):
    """Returns a call of a prediction, "forward", or of a method of `real_networks`."""
    if side == "torch":
        from benchmarks import _real_peers, _real_torch

        if method == "forward":
            net, x = _real_torch.build(network)
            return lambda: net(x)
        return _real_peers.prepare(network)(method)[0]
    from benchmarks import _real_ours

    if method == "forward":
        f, params, x, _ = _real_ours.build(network)
        return _compile_with(f, params, x)
    return _real_ours.prepare(network)(method)[0]


def _compile_with(f: Any, params: Any, x: Any) -> Any:
    import jax

    compiled = jax.jit(f).lower(params, x).compile()
    return lambda: jax.block_until_ready(compiled(params, x))
