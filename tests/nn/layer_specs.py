"""The layers' records: one for each variant that computes something else, not one an argument."""

import jax.numpy as jnp
import numpy as np

from jaxdl import nn
from tests.nn.layer_spec import LayerSpec

INTEGERS = (jnp.ones((2, 4), jnp.int32),)

SPECS = [
    LayerSpec(
        "dense",
        lambda: nn.dense(3),
        ((5, 4),),
        reference=lambda p, s, x: np.einsum("nd,df->nf", x, p["kernel"]) + p["bias"],
        bad=((INTEGERS, "dense: input is int32"),),
    ),
]
