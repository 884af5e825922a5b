import jax
import numpy as np

from jaxdl import interpret
from tests.interpret.networks import double, draw


def test_deep_lift_of_a_quotient_is_a_mean_of_both_ways():
    """a / b changes by a first or by b first; the way by b counts b / (b + b') of the whole."""
    with double():
        x, base = draw(0, 4, 2) + 5, draw(1, 1, 2) + 5
        explain = lambda x: interpret.deep_lift(lambda x: x[:, 0] / x[:, 1], x, baseline=base)
        actual = jax.jit(explain)(x)
        (a, b), (a0, b0) = np.asarray(x).T, np.asarray(base).T
        share = b / (b + b0)
        of_a = 2 * (a - a0) / (b + b0)
        of_b = share * (a0 / b - a0 / b0) + (1 - share) * (a / b - a / b0)
        np.testing.assert_allclose(actual, np.stack([of_a, of_b], 1), atol=1e-12)
        np.testing.assert_allclose(actual.sum(1), a / b - a0 / b0, atol=1e-12)
