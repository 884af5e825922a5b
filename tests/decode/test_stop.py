import jax
import jax.numpy as jnp
import numpy as np

from jaxdl import decode


def test_a_finished_sequence_stays_as_it_is_whatever_symbol_ends_it():
    """Symbols of chances 0.2, 0.3 and 0.5, of which the last ends a sequence."""
    logits = np.log(np.float32([0.2, 0.3, 0.5]))
    step = lambda carry, tokens: (carry, jnp.broadcast_to(jnp.asarray(logits), (len(tokens), 3)))
    search = lambda start: decode.beam(step, (), start, width=3, length=2, stop=2)
    actual = jax.tree.map(np.asarray, jax.jit(search)(np.zeros(1, np.int32)))
    assert actual.tokens[0].tolist() == [[2, 2], [1, 2], [0, 2]]
    assert actual.lengths[0].tolist() == [0, 1, 1]
    np.testing.assert_allclose(np.exp(actual.scores[0]), [0.5, 0.15, 0.1], rtol=1e-5)
