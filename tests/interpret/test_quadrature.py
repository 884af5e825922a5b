"""The nodes of integrated gradients, one by one."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl import interpret
from tests.interpret.networks import double, draw, network, new_key


def test_left_sums_begin_at_the_baseline_and_right_sums_end_at_the_input():
    with double():
        f, x, base = network(), draw(2, 3, 5), draw(3, 1, 5)
        options = {"target": 0, "baseline": base}
        slope = jax.jit(jax.grad(lambda x: jnp.sum(f(x)[:, 0])))

        def mean_slope(*places):
            points = [base + place * (x - base) for place in places]
            return (x - base) * sum(map(slope, points)) / len(places)

        nodes = {
            "riemann_left": (0, 0.5),
            "riemann_middle": (0.25, 0.75),
            "riemann_right": (0.5, 1),
            "trapezoid": (0, 1),
        }
        of = lambda x, rule: interpret.integrated_gradients(f, x, steps=2, rule=rule, **options)
        found = jax.jit(lambda x: {rule: of(x, rule) for rule in nodes})(x)
        for rule, places in nodes.items():
            np.testing.assert_allclose(found[rule], mean_slope(*places), atol=1e-12)


def test_gradient_shap_multiplies_by_the_noisy_difference():
    """Of a linear function each sample is weight times (x + noise - x'): the noise shows."""
    with double():
        w = draw(0, 5)
        x, base = draw(1, 4000, 5), draw(2, 1, 5)
        explain = lambda x: interpret.expected_gradients(
            lambda x: x @ w, x, base, key=new_key(), samples=1, noise=0.5
        )
        noise = np.asarray(jax.jit(explain)(x)) / w - (x - base)
        np.testing.assert_allclose(noise.mean(0), 0, atol=0.04)
        np.testing.assert_allclose(noise.std(0), 0.5, rtol=0.06)
