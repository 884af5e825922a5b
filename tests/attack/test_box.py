"""The box of an attack, of a linear function: where every step goes is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import attack

W = jnp.array([[1.0, -2.0], [0.5, 0.0], [-1.0, 3.0]])
UP = np.array([[-1.0, -1.0, 1.0], [1.0, 1.0, -1.0]])  # sign of dL/dx for labels 0 and 1
X = jnp.array([[0.05, 0.5, 0.9], [0.95, 0.5, 0.2]])
LABELS = jnp.array([0, 1])
linear = lambda x: x @ W


@pytest.mark.row("R02", "T14")
@pytest.mark.parametrize("bounds", [(0.0, 1.0), None])
def test_steps_that_lead_out_of_the_box_end_on_its_corner(bounds):
    options = {"step": 0.2, "steps": 5, "bounds": bounds}
    found = jax.jit(lambda x: attack.pgd(linear, x, LABELS, 0.3, **options))(X)
    low, high = bounds or (-np.inf, np.inf)
    np.testing.assert_allclose(found, np.clip(X + 0.3 * UP, low, high), rtol=1e-6, atol=1e-7)


@pytest.mark.row("R02", "T14")
def test_by_default_every_corner_is_reached_from_anywhere_in_the_box():
    def begun(seed):
        run = lambda **options: attack.pgd(
            linear, X, LABELS, 0.3, steps=5, key=jax.random.key(seed), **options
        )
        return run(step=0.0), run()

    starts, ends = map(np.asarray, jax.jit(jax.vmap(begun))(jnp.arange(20)))
    assert np.abs(starts - X).max() <= 0.3 + 1e-6 and np.abs(starts - X).max() > 0.25
    assert 0 <= starts.min() and starts.max() <= 1
    corners = np.broadcast_to(np.clip(X + 0.3 * UP, 0, 1), ends.shape)
    np.testing.assert_allclose(ends, corners, rtol=1e-6, atol=1e-7)
