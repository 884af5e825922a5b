import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.interpret import evaluate
from tests.interpret.networks import array, new_key


def test_the_greatest_change_to_either_side():
    """Explanations that move below 2 alone, or above: of 2, by 0.1 at most."""
    of = lambda x, side: evaluate.sensitivity_max(
        lambda f, x, target: side(x, 2.0),
        lambda x: x.sum(1),
        x,
        key=new_key(),
        radius=0.1,
        samples=200,
    )
    actual = jax.jit(lambda x: [of(x, side) for side in (jnp.minimum, jnp.maximum)])
    for change in actual(np.full((1, 1), 2.0, np.float32)):
        assert 0.045 < float(change[0]) <= 0.0501


def test_agreement_is_one_of_sizes():
    a = jnp.asarray(array(0, 3, 7), jnp.float32)
    np.testing.assert_allclose(evaluate.agreement(a, -a), 1, rtol=1e-6)


def test_an_explanation_of_zeros_has_the_change_itself():
    """The explanation is max(x - 2, 0): 0 at x = 2, or for all near points, or 1 at x = 3."""
    method = lambda f, x, target: jnp.maximum(x - 2, 0)
    x = np.array([[2.0], [1.0], [3.0]], np.float32)
    options = {"key": new_key(), "radius": 0.1, "samples": 50}
    change = evaluate.sensitivity_max(method, lambda x: x.sum(1), x, **options)
    assert 0.09 < change[0] <= 0.1001 and change[1] == 0 and 0.09 < change[2] <= 0.1001
