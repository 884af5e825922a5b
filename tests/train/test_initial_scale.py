import chex
import jax
import optax

from jaxdl import nn, serial, train
from tests.train import toy


def test_initial_scales_multiply_kernels_alone():
    """Steps of length 0 leave what training began with."""
    model, (x, y), still = serial(nn.dense(3), nn.batch_norm()), toy.data(8), optax.sgd(0.0)
    options = {"loss": "cross_entropy", "optimizer": still, "batch_size": 8, "verbose": 0}
    scales = {"initial_scale": [0.5, 3.0]}
    states, _ = train.train_many(model, (x, y), seeds=[4], hyper=scales, **options)
    plain = train.init_state(model, still, jax.random.key(4), x).params
    for run, scale in enumerate(scales["initial_scale"]):
        actual = jax.tree.map(lambda leaf, run=run: leaf[run], states.params)
        expected = plain | {
            "dense_0": plain["dense_0"] | {"kernel": scale * plain["dense_0"]["kernel"]}
        }
        chex.assert_trees_all_close(actual, expected, rtol=1e-6)
