"""`depth` against hand counts, on networks with loops and branches."""

import jax
import jax.numpy as jnp
import pytest

import jaxdl
from jaxdl import nn

X = jnp.ones((2, 4))


@pytest.mark.row("T08")
@pytest.mark.parametrize(
    "model, expected",
    [
        (jaxdl.serial(nn.dense(4)), 1),
        (jaxdl.serial(nn.dense(4), jax.nn.relu, nn.dense(4)), 2),
        (jaxdl.serial(jnp.tanh), 0),
        (jaxdl.residual(jaxdl.serial(nn.dense(4), jax.nn.relu, nn.dense(4)), nn.dense(4)), 2),
        (jaxdl.scan_layers(jaxdl.serial(nn.dense(4), jax.nn.relu, nn.dense(4)), 5), 10),
        (jaxdl.serial(nn.dense(4), lambda x: jax.checkpoint(jnp.sin)(x), nn.dense(3)), 2),
        (
            jaxdl.serial(nn.dense(4), lambda x: x @ x.T),
            1,
        ),  # no weights in a product of inputs with inputs
        (jaxdl.serial(lambda x: jax.lax.cond(x.sum() > 0, jnp.sin, jnp.cos, x), nn.dense(3)), 1),
    ],
)
def test_by_hand(model, expected):
    assert jaxdl.depth(model, X) == expected


def test_a_step_in_time_is_a_layer():
    model = nn.rnn(nn.elman(3))
    # The first step adds the input layer, the other six the recurrent one: the initial carry does
    # not depend on the input.
    assert jaxdl.depth(model, jnp.ones((2, 7, 4))) == 7


@pytest.mark.parametrize("first", [True, False])
def test_of_two_branches_the_deeper_counts(first):
    def apply(params, state, x, **_):
        one = lambda x: x @ params["a"]
        two = lambda x: one(x) @ params["b"]
        branches = (two, one) if first else (one, two)
        return jax.lax.cond(x.sum() > 0, *branches, x), state

    weights = {"a": jnp.ones((4, 4)), "b": jnp.ones((4, 4))}
    assert jaxdl.depth(jaxdl.Module(lambda key, x: (weights, {}), apply), X) == 2


def test_a_loop_of_unknown_length():
    endless = jaxdl.serial(
        nn.dense(4), lambda x: jax.lax.while_loop(lambda a: a.sum() < 9, lambda a: a + 1, x)
    )
    with pytest.raises(ValueError, match="while"):
        jaxdl.depth(endless, X)
