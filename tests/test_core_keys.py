"""Random numbers hang on names: not on positions, other layers, or the process."""

import os
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np

import jaxdl
from jaxdl import nn

X = jnp.asarray(np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4))


def noise():
    """Adds random numbers in train mode, a stand-in for any random layer."""

    def apply(params, state, x, *, train=False, key=None, **_):
        return (x + jax.random.normal(key, x.shape, x.dtype) if train else x), state

    return jaxdl.Module(lambda key, x: ({}, {}), apply, "noise")


def drawn(model, key):
    """What each part added to its input."""
    _, seen = jaxdl.capture(model, {}, {}, X, train=True, key=key)
    values = [X, *seen.values()]
    return {path: np.asarray(b - a) for path, a, b in zip(seen, values, values[1:], strict=False)}


def test_another_layer_leaves_the_initial_values_of_the_others(key):
    small = nn.serial(a=nn.dense(4), c=nn.dense(4))
    large = nn.serial(a=nn.dense(4), b=nn.dense(4), c=nn.dense(4))
    before, _ = jaxdl.init(small, key, X)
    after, _ = jaxdl.init(large, key, X)
    chex.assert_trees_all_equal(before, {name: after[name] for name in before})
    assert not np.array_equal(after["a"]["kernel"], after["b"]["kernel"])


def test_another_layer_leaves_the_random_numbers_of_the_others():
    small = drawn(nn.serial(a=noise(), c=noise()), jax.random.key(3))
    large = drawn(nn.serial(a=noise(), b=noise(), c=noise()), jax.random.key(3))
    chex.assert_trees_all_close(small, {name: large[name] for name in small}, atol=1e-6)
    assert not np.allclose(large["a"], large["b"])


def test_the_same_names_at_other_places_differ(key):
    model = nn.serial(left=nn.serial(nn.dense(4)), right=nn.serial(nn.dense(4)))
    params, _ = jaxdl.init(model, key, X)
    left, right = params["left"]["dense_0"], params["right"]["dense_0"]
    assert not np.array_equal(left["kernel"], right["kernel"])


def test_a_second_use_draws_numbers_of_its_own():
    twice = jaxdl.compose("twice", dict(a=noise()), lambda call, x: call("a", call("a", x)))
    uses = drawn(twice, jax.random.key(3))
    assert list(uses) == ["a", "a#1"]
    assert not np.allclose(uses["a"], uses["a#1"])


def test_the_key_alone_decides(key):
    model = nn.serial(nn.dense(4), noise())
    params, state = jaxdl.init(model, key, X)
    chex.assert_trees_all_equal(params, jaxdl.init(model, jax.random.key(0), X)[0])
    run = lambda seed: model.apply(params, state, X, train=True, key=jax.random.key(seed))[0]
    chex.assert_trees_all_equal(run(1), run(1))
    assert not np.array_equal(run(1), run(2))


def test_no_key_is_no_key():
    assert jaxdl.named_key(None, "dense_0") is None


def test_many_keys_at_once_are_an_ensemble():
    model, keys = nn.serial(nn.dense(4)), lambda: jax.random.split(jax.random.key(0), 3)
    many, _ = jax.jit(jax.vmap(lambda k: jaxdl.init(model, k, X)))(keys())
    for i, key in enumerate(keys()):
        one = jax.tree.map(lambda leaf, i=i: np.asarray(leaf)[i], many)
        chex.assert_trees_all_close(one, jaxdl.init(model, key, X)[0], atol=1e-6)


SCRIPT = """
import jax, jax.numpy as jnp, jaxdl
from jaxdl import nn
params, _ = jaxdl.init(nn.serial(nn.dense(3)), jax.random.key(0), jnp.ones((1, 4)))
print(params["dense_0"]["kernel"].tolist())
"""


def test_initial_values_are_the_same_in_another_process(key):
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    other = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True
    )
    here, _ = jaxdl.init(nn.serial(nn.dense(3)), key, jnp.ones((1, 4)))
    assert other.stdout.strip() == str(here["dense_0"]["kernel"].tolist())
