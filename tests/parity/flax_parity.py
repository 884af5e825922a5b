"""Holds a layer against its Flax twin: same tree, same numbers, same gradients, same statistics."""

import chex
import jax
import jax.numpy as jnp
import numpy as np


def draw(*shape, seed=7):
    """Normal numbers by NumPy, which compiles nothing."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _random_values(shapes, seed):
    """Normal values; around one for what is initialized to one, so that variances are positive."""
    rng = np.random.default_rng(seed)

    def values(path, leaf):
        near_one = path[-1].key in ("scale", "var")
        numbers = 1 + 0.1 * rng.random(leaf.shape) if near_one else rng.normal(size=leaf.shape)
        return numbers.astype(leaf.dtype)

    return jax.tree.map_with_path(values, shapes)


def assert_same_as_linen(
    model, linen, *inputs, train=None, atol=1e-5, rtol=1e-5, stats="batch_stats"
):
    """`train` is None for layers that have no such mode; `linen` takes `use_running_average`."""
    key = jax.random.key(0)
    params, state = jax.eval_shape(model.init, key, *inputs)
    kwargs = {} if train is None else {"use_running_average": not train}
    variables = jax.eval_shape(lambda key, *x: linen.init(key, *x, **kwargs), key, *inputs)
    chex.assert_trees_all_equal_shapes_and_dtypes(params, variables.get("params", {}))
    chex.assert_trees_all_equal_shapes_and_dtypes(state, variables.get(stats, {}))
    params, state = _random_values(params, 2), _random_values(state, 3)

    def ours(params, state, *inputs):
        y, new = model.apply(params, state, *inputs, train=bool(train))
        return jnp.sum(jnp.sin(y)), (y, new)

    def theirs(params, state, *inputs):
        y, new = linen.apply({"params": params, stats: state}, *inputs, mutable=[stats], **kwargs)
        return jnp.sum(jnp.sin(y)), (y, new.get(stats, {}))

    numbers = (0, *(i for i, x in enumerate(inputs, 2) if np.issubdtype(x.dtype, np.floating)))
    both = [jax.jit(jax.grad(f, numbers, has_aux=True)) for f in (ours, theirs)]
    (grads, values), (flax_grads, flax_values) = (f(params, state, *inputs) for f in both)
    chex.assert_trees_all_close(values, flax_values, atol=atol, rtol=rtol)
    chex.assert_trees_all_close(grads, flax_grads, atol=atol, rtol=rtol)
