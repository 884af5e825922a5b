"""Programs end with their model, and models of one structure share them."""

import gc
import weakref

import jax
import numpy as np
import optax

from jaxdl import _cache, interpret, losses, nn, serial, train

X = np.random.default_rng(0).normal(size=(8, 3, 2)).astype(np.float32)
Y = (X[:, 0, 0] > 0).astype(np.int32)


def network():
    return serial(nn.rnn(nn.gru(3), returns="last"), nn.dense(2))


def work(model, optimizer, loss):
    """Trains, evaluates and predicts; returns a state."""
    options = {"loss": loss, "optimizer": optimizer, "batch_size": 4, "verbose": 0}
    state, _ = train.fit(model, (X, Y), eval_data=(X, Y), **options)
    train.evaluate(model, state, (X, Y), loss=loss)
    train.predict(model, state, X)
    return state


def references():
    """Weak references to all that a model, its training and its explanation consist of."""
    model, optimizer, weights = network(), optax.adam(0.1), np.ones(2, np.float32)

    def loss(output, y):
        return losses.cross_entropy(output * weights, y)

    state = work(model, optimizer, loss)
    options = {"loss": loss, "optimizer": optimizer, "batch_size": 4, "verbose": 0}
    states, _ = train.train_many(model, (X, Y), seeds=[0, 1], **options)
    train.predict_many(model, states, X)
    interpret.saliency(train.predictor(model, state), X, target=0)
    parts = [model, *model.children.values(), model.apply, optimizer.update, loss, weights]
    parts += [*model.programs.values(), *jax.tree.leaves((state.params, state.opt_state))]
    return [weakref.ref(part) for part in parts]


def test_a_model_is_released_with_its_programs():
    ends = references()
    gc.collect()
    alive = [end() for end in ends if end() is not None]
    assert not alive


def compilations(run):
    events = []

    def listen(event, duration_secs, **_):
        if event.endswith("backend_compile_duration"):
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    run()
    return len(events)


def test_the_second_model_of_a_structure_compiles_nothing():
    run = lambda: work(network(), optax.adam(0.2), losses.cross_entropy)
    run()
    assert compilations(run) == 0


def test_other_programs_and_arrays_are_not_mixed_up():
    def product(w):
        return _cache.Compiled(lambda x: x @ w)

    first, second = np.eye(2, dtype=np.float32), np.full((2, 2), 3, np.float32)
    x = X[:, 0]
    np.testing.assert_array_equal(product(first)(x), x @ first)
    np.testing.assert_allclose(product(second)(x), x @ second, rtol=1e-6)
    np.testing.assert_array_equal(product(first)(x[:2]), x[:2])
    for scale in (1.0, -1.0, 0.0, -0.0):
        out = _cache.Compiled(lambda x, scale=scale: scale * x)(np.ones(2, np.float32))
        np.testing.assert_array_equal(out, np.full(2, scale, np.float32))
        np.testing.assert_array_equal(np.signbit(out), np.signbit(np.full(2, scale)))
    tree = _cache.Compiled(lambda x: {"a": x, "b": (x, x + 1)})(np.float32(1))
    assert list(tree) == ["a", "b"] and tree["b"][1] == 2


def test_derivatives_are_those_of_the_function():
    def ruled(slope):
        f = jax.custom_jvp(lambda x: x * 1.5)
        f.defjvp(lambda x, dx: (x[0] * 1.5, slope * dx[0]))
        return _cache.Compiled(f)

    values = [jax.grad(ruled(slope))(2.0) for slope in (1.0, 7.0)]
    assert values == [1.0, 7.0] and ruled(7.0)(2.0) == 3.0


def test_donated_arguments_are_consumed():
    f = _cache.Compiled(lambda a, b: a + b, donate_argnums=(0,))
    a, b = jax.numpy.ones(5), jax.numpy.ones(5)
    assert f(a, b).sum() == 10
    assert a.is_deleted() and not b.is_deleted()
