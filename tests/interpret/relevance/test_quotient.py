import jax
import numpy as np

from jaxdl import interpret
from tests.interpret.networks import double, draw


def test_deep_lift_of_a_quotient_is_the_mean_of_both_ways():
    """a / b changes by a first or by b first; each input has the mean of its two effects."""
    with double():
        x, base = draw(0, 4, 2) + 5, draw(1, 1, 2) + 5
        explain = lambda x: interpret.deep_lift(lambda x: x[:, 0] / x[:, 1], x, baseline=base)
        found = jax.jit(explain)(x)
        (a, b), (a0, b0) = np.asarray(x).T, np.asarray(base).T
        of_a = ((a - a0) / b0 + (a - a0) / b) / 2
        of_b = ((a0 / b - a0 / b0) + (a / b - a / b0)) / 2
        np.testing.assert_allclose(found, np.stack([of_a, of_b], 1), atol=1e-12)
        np.testing.assert_allclose(found.sum(1), a / b - a0 / b0, atol=1e-12)
