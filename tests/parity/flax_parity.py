"""Holds a layer against its Flax twin: same tree, same numbers, same gradients, same statistics."""

import chex
import jax
import jax.numpy as jnp

import jaxdl


def assert_same_as_linen(
    model, linen, *inputs, train=None, atol=1e-5, rtol=1e-5, stats="batch_stats"
):
    """`train` is None for layers that have no such mode; `linen` takes `use_running_average`."""
    params, state = jaxdl.init(model, jax.random.key(0), *inputs)
    kwargs = {} if train is None else {"use_running_average": not train}
    variables = linen.init(jax.random.key(1), *inputs, **kwargs)
    chex.assert_trees_all_equal_shapes_and_dtypes(params, variables.get("params", {}))
    chex.assert_trees_all_equal_shapes_and_dtypes(state, variables.get(stats, {}))
    noise = lambda tree, seed: jax.tree.map(
        lambda a: a + 0.1 * jax.random.uniform(jax.random.key(seed), a.shape, a.dtype), tree
    )
    params, state = noise(params, 2), noise(state, 3)

    def ours(params, *inputs):
        y, new = model.apply(params, state, *inputs, train=bool(train))
        return jnp.sum(jnp.sin(y)), (y, new)

    def theirs(params, *inputs):
        y, new = linen.apply({"params": params, stats: state}, *inputs, mutable=[stats], **kwargs)
        return jnp.sum(jnp.sin(y)), (y, new.get(stats, {}))

    float_inputs = [i for i, x in enumerate(inputs, 1) if jnp.issubdtype(x.dtype, jnp.floating)]
    grads, values = jax.grad(ours, (0, *float_inputs), has_aux=True)(params, *inputs)
    flax_grads, flax_values = jax.grad(theirs, (0, *float_inputs), has_aux=True)(params, *inputs)
    chex.assert_trees_all_close(values, flax_values, atol=atol, rtol=rtol)
    chex.assert_trees_all_close(grads, flax_grads, atol=atol, rtol=rtol)
