import jax
import jax.numpy as jnp
import numpy as np

from jaxdl import nn


def identity(units):
    return nn.elman(units, activation=lambda a: a, use_bias=False)


def test_kept_units_are_divided_by_one_minus_the_rate():
    """h_t = x_t + m h_{t-1} with m = 0 or 4/3; with a rate of 1/2, 1 - rate would be the same."""
    params = {"kernel": jnp.ones((1, 50)), "recurrent_kernel": jnp.eye(50)}
    layer = nn.rnn(identity(50), recurrent_dropout=0.25)
    run = jax.jit(lambda x: layer.apply(params, {}, x, train=True, key=jax.random.key(3))[0])
    y = np.asarray(run(jnp.ones((2, 3, 1))))
    kept = 4 / 3
    values, counts = np.unique(y[:, -1].round(4), return_counts=True)
    np.testing.assert_allclose(values, [1, 1 + kept + kept**2], atol=1e-3)
    assert 10 <= counts[0] <= 40  # of 100


def test_shortcuts_bypass_the_dropout_between_layers():
    once = {"kernel": jnp.eye(40), "recurrent_kernel": jnp.zeros((40, 40))}
    model = nn.stacked_rnn(identity(40), identity(40), residual=True, dropout=0.5)
    params = {"elman_0": once, "elman_1": once}
    run = jax.jit(lambda x: model.apply(params, {}, x, train=True, key=jax.random.key(0))[0])
    assert set(np.unique(run(jnp.ones((1, 6, 40))))) == {1.0, 3.0}
