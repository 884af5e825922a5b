import chex
import flax.linen as linen
import jax
import jax.numpy as jnp
import pytest

import jaxdl
from jaxdl import nn
from tests.parity.flax_parity import draw


class Net(linen.Module):
    @linen.compact
    def __call__(self, x, train):
        x = linen.Conv(4, (3, 3), name="conv")(x)
        x = linen.BatchNorm(use_running_average=not train, name="norm")(x)
        return linen.Dense(3, name="head")(linen.relu(x).mean((1, 2)))


def net():
    children = dict(conv=nn.conv(4), norm=nn.batch_norm(), head=nn.dense(3))

    def forward(call, x):
        return call("head", jax.nn.relu(call("norm", call("conv", x))).mean((1, 2)))

    return jaxdl.compose("net", children, forward)


@pytest.mark.slow
def test_a_net_of_the_same_names_is_flaxs_net():
    x = draw(5, 8, 8, 2)
    model, flax = net(), Net()
    variables = flax.init(jax.random.key(0), x, train=False)
    params, state = variables["params"], variables["batch_stats"]
    ours = jaxdl.init(model, jax.random.key(0), x)
    chex.assert_trees_all_equal_shapes_and_dtypes(ours, (params, state))

    def loss(params):
        y, new = model.apply(params, state, x, train=True)
        return jnp.sum(jnp.sin(y)), (y, new)

    def flax_loss(params):
        tree = {"params": params, "batch_stats": state}
        y, new = flax.apply(tree, x, train=True, mutable=["batch_stats"])
        return jnp.sum(jnp.sin(y)), (y, new["batch_stats"])

    mine, theirs = (jax.jit(jax.grad(f, has_aux=True))(params) for f in (loss, flax_loss))
    chex.assert_trees_all_close(mine, theirs, atol=1e-5, rtol=1e-5)
    back = flax.apply({"params": ours[0], "batch_stats": ours[1]}, x, train=False)
    chex.assert_trees_all_close(model.apply(*ours, x)[0], back, atol=1e-5)
