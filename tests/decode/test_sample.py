import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import decode


@pytest.mark.row("K12")
def test_each_step_draws_anew():
    """Of three equal symbols two successive ones agree by chance, once in three."""
    n, p = 3000, 1 / 3
    step = lambda carry, tokens: (carry, jnp.zeros((n, 3)))
    draw = lambda start: decode.sample(step, (), start, jax.random.key(0), length=3).tokens
    tokens = np.asarray(jax.jit(draw)(jnp.zeros(n, jnp.int32)))
    for first, second in ((0, 1), (1, 2), (0, 2)):
        same = np.mean(tokens[:, first] == tokens[:, second])
        assert abs(same - p) < 5 * np.sqrt(p * (1 - p) / n)
