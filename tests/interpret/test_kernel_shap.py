import jax
import jax.numpy as jnp
import numpy as np

from jaxdl import interpret
from tests.interpret.networks import double, new_key


def test_sizes_are_drawn_so_that_features_without_effect_have_no_value():
    """A product of six: with all sizes alike the other six would have 0.03 each, the six 0.136."""
    with double():
        f = lambda x: jnp.prod(x[:, :6], axis=1)
        explain = lambda x: interpret.kernel_shap(f, x, key=new_key(), samples=2000)
        found = np.asarray(jax.jit(explain)(jnp.ones((1, 12))))[0]
        np.testing.assert_allclose(found[:6].mean(), 1 / 6, atol=0.012)
        np.testing.assert_allclose(found[6:].mean(), 0, atol=0.012)
