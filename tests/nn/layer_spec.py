"""One record a layer, which drives the generic tests of `test_layer_specs.py`.

After PyTorch's OpInfo: a new layer adds one `LayerSpec` to `layer_specs.SPECS` and is held to
shape = eval_shape, jit = eager, vmap = batch, rows independent, gradients = finite differences,
dtypes kept, one trace, the NumPy reference, and its own bad inputs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl import Module


@dataclasses.dataclass(frozen=True, eq=False)
class LayerSpec:
    """`make()` builds the layer; `shapes` are the inputs' shapes, batch first.

    `reference(params, state, *inputs)` is the eval-mode output in NumPy, written independently.
    `bad` holds (inputs, words of the error) pairs that init must reject with a ValueError.
    `ids` marks integer inputs below that bound instead of floating ones.
    """

    name: str
    make: Callable[[], Module]
    shapes: tuple[tuple[int, ...], ...]
    reference: Callable[..., Any] | None = None
    bad: tuple[tuple[tuple[Any, ...], str], ...] = ()
    ids: int | None = None
    rows_independent: bool = True
    random: bool = False
    dtypes: tuple[Any, ...] = (jnp.float32, jnp.bfloat16, jnp.float16)

    def inputs(self, seed: int = 0, dtype: Any = jnp.float32) -> tuple[jax.Array, ...]:
        draw = np.random.default_rng(seed)
        if self.ids is not None:
            return tuple(
                jnp.asarray(draw.integers(self.ids, size=shape, dtype=np.int32))
                for shape in self.shapes
            )
        return tuple(jnp.asarray(draw.normal(size=shape), dtype) for shape in self.shapes)
