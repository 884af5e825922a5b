"""The machine against all its states one by one, and what its weights begin."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdl
from jaxdl import data, losses, nn
from jaxdl.zoo.classic.rbm import (
    RBM,
    contrastive_divergence,
    deep_belief_net,
    free_energy,
    initialize_network,
    rbm,
    reconstruct,
)


def machine(v=4, h=3, seed=0):
    rng = np.random.default_rng(seed)
    return RBM(*(jnp.asarray(rng.normal(size=s)) for s in ((v, h), (v,), (h,))))


def states(n):
    return np.array(list(itertools.product([0.0, 1.0], repeat=n)))


@pytest.mark.row("A11")
def test_free_energy_and_conditionals_by_enumeration():
    with jax.enable_x64(True):
        m = jax.tree.map(np.asarray, machine())
        v, h = states(4), states(3)
        energy = -(v @ m.visible)[:, None] - h @ m.hidden - v @ m.weights @ h.T
        joint = np.exp(-energy) / np.exp(-energy).sum()
        m = jax.tree.map(jnp.asarray, m)
        found = np.exp(-np.asarray(free_energy(m, jnp.asarray(v))))
        np.testing.assert_allclose(found / found.sum(), joint.sum(1), rtol=1e-10)
        np.testing.assert_allclose(
            m.up(jnp.asarray(v)), joint @ h / joint.sum(1, keepdims=True), rtol=1e-10
        )
        np.testing.assert_allclose(
            m.down(jnp.asarray(h)), joint.T @ v / joint.T.sum(1, keepdims=True), rtol=1e-10
        )


@pytest.mark.row("A11")
def test_many_gibbs_steps_come_to_the_gradient_of_the_likelihood():
    m = jax.tree.map(lambda a: 0.3 * np.asarray(a), machine())
    v = np.tile(np.array([[1, 0, 1, 0], [1, 1, 0, 0]], np.float32), (20_000, 1))
    every = states(4).astype(np.float32)

    def likelihood(m):
        return jnp.mean(-free_energy(m, v)) - jax.nn.logsumexp(-free_energy(m, every))

    exact = jax.jit(jax.grad(likelihood))(m)
    found = contrastive_divergence(m, jax.random.key(0), jnp.asarray(v), steps=12)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True):
        np.testing.assert_allclose(a, b, atol=0.01)


@pytest.fixture(scope="module")
def digits():
    return data.digits()


@pytest.fixture(scope="module")
def net(digits):
    x = digits.train.x.reshape(len(digits.train.y), -1)
    return x, deep_belief_net(jax.random.key(0), x, (32,) * 4, epochs=40, batch_size=20)


@pytest.mark.row("A11")
def test_training_lowers_the_reconstruction_error_and_tells_digits_from_noise(digits, net):
    x, machines = net
    test = digits.test.x.reshape(len(digits.test.y), -1)
    untrained = rbm(jax.random.key(0), x, 32, epochs=1, rate=0.0)
    error = jax.jit(lambda m: jnp.mean((reconstruct(m, test) - test) ** 2))
    assert error(machines[0]) < 0.5 * error(untrained)
    shuffled = np.random.default_rng(1).permuted(test, axis=1)
    gap = jax.jit(lambda m: jnp.mean(free_energy(m, shuffled) - free_energy(m, test)))
    assert gap(machines[0]) > gap(untrained) + 5


def accuracy_of(activation, params, rate, digits):
    """Trains deep networks of one shape on 200 labels; returns (networks,) test accuracies."""
    x, test = (split.x.reshape(len(split.y), -1) for split in (digits.train, digits.test))
    x, y = jnp.asarray(x[:200]), jnp.asarray(digits.train.y[:200])
    optimizer = optax.sgd(rate, momentum=0.9)
    model = jaxdl.serial(*[part for _ in range(4) for part in (nn.dense(32), activation)])
    model = jaxdl.serial(hidden=model, scores=nn.dense(10))

    def step(carry, rows):
        params, opt = carry

        def loss(params):
            scores = model.apply(params, {}, x[rows])[0]
            return losses.reduce(losses.cross_entropy(scores, y[rows]))

        updates, opt = optimizer.update(jax.grad(loss)(params), opt)
        return (optax.apply_updates(params, updates), opt), None

    @jax.jit
    @jax.vmap
    def train(params):
        rows = np.concatenate([np.random.default_rng(i).permutation(200) for i in range(60)])
        (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), rows.reshape(-1, 20))
        return model.apply(params, {}, test)[0].argmax(-1)

    return (np.asarray(train(params)) == digits.test.y).mean(-1)


@pytest.mark.row("A11", "D19")
def test_where_a_random_start_is_good_enough_and_where_it_is_not(digits, net):
    """The lectures say that random values are usually good enough; it depends on the network.

    Four layers of sigmoids and 200 labels: from random values (Glorot's) they stay at chance, from
    Boltzmann machines they learn. Of ReLUs from random values (He's): these learn as well.
    """
    _, machines = net

    def drawn(kernel_init, seed):
        sizes = (64, 32, 32, 32, 32, 10)
        keys = jax.random.split(jax.random.key(seed), 5)
        make = nn.initializer(kernel_init)
        layers = [
            {"kernel": make(key, shape, np.float32), "bias": np.zeros(shape[1], np.float32)}
            for key, shape in zip(keys, zip(sizes, sizes[1:], strict=False), strict=True)
        ]
        hidden = {f"dense_{i}": layer for i, layer in enumerate(layers[:4])}
        return {"hidden": hidden, "scores": layers[4]}

    stack = lambda *trees: jax.tree.map(lambda *leaves: np.stack(leaves), *trees)
    plain = drawn("glorot_uniform", 0)
    begun = plain | {"hidden": initialize_network(plain["hidden"], machines)}
    random, pretrained = accuracy_of(jax.nn.sigmoid, stack(plain, begun), 0.1, digits)
    (relu,) = accuracy_of(jax.nn.relu, stack(drawn("he_normal", 0)), 0.02, digits)
    assert random < 0.4 and pretrained > 0.7 and relu > 0.7


def test_bad_input():
    with pytest.raises(ValueError, match="numbers in .0, 1."):
        rbm(jax.random.key(0), np.full((200, 3), 2.0), 2)
    with pytest.raises(ValueError, match="batch_size is 100 for 3 rows"):
        rbm(jax.random.key(0), np.ones((3, 3), np.float32), 2)
    with pytest.raises(ValueError, match="dense_0 has a kernel"):
        initialize_network({"dense_0": {"kernel": jnp.ones((4, 5))}}, [machine()])
