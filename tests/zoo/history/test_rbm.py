"""The machine against all its states one by one, and what its weights begin."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdl
from jaxdl import data, nn, train
from jaxdl.zoo.history.rbm import (
    RBM,
    contrastive_divergence,
    deep_belief_net,
    free_energy,
    initialized,
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
    return x, deep_belief_net(jax.random.key(0), x, (64, 32), epochs=20, batch_size=20)


@pytest.mark.row("A11")
def test_training_lowers_the_reconstruction_error_and_tells_digits_from_noise(digits, net):
    x, machines = net
    test = digits.test.x.reshape(len(digits.test.y), -1)
    untrained = rbm(jax.random.key(0), x, 64, epochs=1, rate=0.0)
    error = jax.jit(lambda m: jnp.mean((reconstruct(m, test) - test) ** 2))
    assert error(machines[0]) < 0.5 * error(untrained)
    shuffled = np.random.default_rng(1).permuted(test, axis=1)
    gap = jax.jit(lambda m: jnp.mean(free_energy(m, shuffled) - free_energy(m, test)))
    assert gap(machines[0]) > gap(untrained) + 5


@pytest.mark.row("A11", "D19")
@pytest.mark.slow
def test_a_belief_net_begins_a_network_that_learns_from_few_labels(digits, net):
    """Sigmoid layers from random weights stand still; begun by the machines, they learn."""
    x, _ = net
    widths = (64, 64, 64, 64)
    machines = deep_belief_net(jax.random.key(0), x, widths, epochs=40, batch_size=20)
    layers = [part for w in widths for part in (nn.dense(w), jax.nn.sigmoid)]
    model = jaxdl.serial(*layers, nn.dense(10))
    optimizer = optax.sgd(0.1, momentum=0.9)
    few = (x[:200], digits.train.y[:200])
    test = (digits.test.x.reshape(-1, 64), digits.test.y)
    plain = train.init_state(model, optimizer, jax.random.key(0), x[:1])
    begun = plain.replace(params=initialized(plain.params, machines))
    accuracy = []
    for state in (plain, begun):
        state, _ = train.fit(
            model,
            few,
            loss="cross_entropy",
            optimizer=optimizer,
            batch_size=20,
            epochs=60,
            state=state,
            verbose=0,
        )
        accuracy.append(train.evaluate(model, state, test)["accuracy"])
    assert accuracy[0] < 0.4 and accuracy[1] > 0.7


def test_bad_input():
    with pytest.raises(ValueError, match="numbers in .0, 1."):
        rbm(jax.random.key(0), np.full((200, 3), 2.0), 2)
    with pytest.raises(ValueError, match="batch_size is 100 for 3 rows"):
        rbm(jax.random.key(0), np.ones((3, 3), np.float32), 2)
    with pytest.raises(ValueError, match="dense_0 has a kernel"):
        initialized({"dense_0": {"kernel": jnp.ones((4, 5))}}, [machine()])
