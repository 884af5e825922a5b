import functools

import chex
import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

import jaxdl
from jaxdl import interpret, nn, train
from jaxdl.interop.flax import from_linen, from_nnx, to_linen
from tests.nn.filled import filled

X = np.random.default_rng(7).normal(size=(6, 8, 8, 1)).astype(np.float32)
Y = np.arange(6, dtype=np.int32) % 3


class LinenNet(linen.Module):
    @linen.compact
    def __call__(self, x, train: bool):
        x = linen.relu(linen.Conv(4, (3, 3))(x))
        x = linen.BatchNorm(use_running_average=not train, momentum=0.9)(x)
        x = linen.Dropout(0.5, deterministic=not train)(x.reshape(len(x), -1))
        return linen.Dense(3)(x)


class NnxNet(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(1, 4, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Sequential(nnx.Linear(256, 5, rngs=rngs), nnx.Linear(5, 3, rngs=rngs))

    def __call__(self, x):
        x = self.norm(jax.nn.relu(self.conv(x)))
        return self.head(self.drop(x.reshape(len(x), -1)))


MAKERS = [lambda: from_linen(LinenNet()), lambda: from_nnx(NnxNet)]
LAST = ["Dense_0", "head"]
each = pytest.mark.parametrize(
    "make, last", list(zip(MAKERS, LAST, strict=True)), ids=["linen", "nnx"]
)


@each
def test_eval_and_train_modes(make, last):
    model = make()
    params, state = jaxdl.init(model, jax.random.key(0), X)
    apply = jax.jit(model.apply, static_argnames="train")
    out, same = apply(params, state, X)
    chex.assert_trees_all_equal(same, state)
    run = lambda seed: apply(params, state, X, train=True, key=jax.random.key(seed))
    (first, new), (again, _), (other, _) = run(1), run(1), run(2)
    chex.assert_trees_all_equal(first, again)
    assert not np.array_equal(first, other) and not np.array_equal(first, out)
    chex.assert_trees_all_equal_shapes_and_dtypes(new, state)
    means = [jax.tree.leaves(s)[0] for s in (state, new)]
    assert not np.array_equal(*means)


@each
def test_capture_and_intervention_under_jit_and_grad(make, last):
    model = make()
    params, state = jaxdl.init(model, jax.random.key(0), X)
    plain = np.asarray(jax.jit(model.apply)(params, state, X)[0])
    out, seen = jax.jit(lambda x: jaxdl.capture(model, params, state, x))(X)
    chex.assert_trees_all_close(out, plain, atol=1e-5)
    chex.assert_trees_all_close(seen[last], plain, atol=1e-5)
    ablated = lambda x: jaxdl.intervene(model, params, state, x, edits={last: lambda v: 2 * v})
    chex.assert_trees_all_close(jax.jit(ablated)(X), 2 * plain, atol=1e-5)
    with pytest.raises(ValueError, match="no path 'nowhere'"):
        jaxdl.capture(model, params, state, X, paths="nowhere")


@each
def test_fit_trains_it_and_saliency_explains_it(make, last):
    model = make()
    state, history = train.fit(
        model,
        (X, Y),
        loss="cross_entropy",
        optimizer=optax.sgd(0.05, momentum=0.9),
        batch_size=6,
        epochs=15,
        verbose=0,
    )
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    f = train.predictor(model, state)
    saliency = jax.jit(lambda x: interpret.saliency(f, x, target=1))(X)
    expected = jax.jit(jax.grad(lambda x: f(x)[:, 1].sum()))(X)
    chex.assert_trees_all_close(saliency, np.abs(expected), atol=1e-6)


def test_linen_variables_go_back_unchanged():
    net, model = LinenNet(), from_linen(LinenNet())
    params, state = jaxdl.init(model, jax.random.key(0), X)
    back = jax.jit(functools.partial(net.apply, train=False))({"params": params, **state}, X)
    chex.assert_trees_all_equal(jax.jit(model.apply)(params, state, X)[0], back)
    assert sorted(params) == ["BatchNorm_0", "Conv_0", "Dense_0"]
    assert sorted(state) == ["batch_stats"]


def test_nnx_trees_go_back_unchanged():
    network = NnxNet(nnx.Rngs(3))
    model = from_nnx(network)
    params, state = jaxdl.init(model, jax.random.key(0), X)
    changed = jax.tree.map(lambda a: jnp.asarray(np.asarray(a) + np.float32(0.1)), params)
    ours, _ = jax.jit(model.apply)(changed, state, X)
    nnx.update(network, nnx.State(changed))
    network.eval()
    chex.assert_trees_all_close(ours, network(X), atol=1e-6)


def test_an_nnx_network_is_never_changed():
    network = NnxNet(nnx.Rngs(3))
    model = from_nnx(network)
    params, state = jaxdl.init(model, jax.random.key(0), X)
    model.apply(params, state, X, train=True, key=jax.random.key(1), tap=lambda path, v: v)
    assert type(network.conv) is nnx.Conv
    chex.assert_trees_all_equal(network.norm.mean[...], jnp.zeros(4))


class Block(nnx.Module):
    def __init__(self, rngs):
        self.inner = nnx.Linear(3, 3, rngs=rngs)

    def __call__(self, x):
        return x + jnp.tanh(self.inner(x))


class Nested(nnx.Module):
    run = staticmethod(lambda block, x: block(x))

    def __init__(self, rngs):
        self.blocks = nnx.List([Block(rngs), Block(rngs)])
        self.tail = nnx.Sequential(nnx.Linear(3, 3, rngs=rngs), nnx.relu, Block(rngs))
        self.again = self.blocks[1].inner

    def __call__(self, x):
        for block in self.blocks:
            x = self.run(block, x)
        return self.again(self.tail(x))


class Rematerialized(Nested):
    run = staticmethod(nnx.remat(Nested.run))


def test_parts_of_an_nnx_network_have_names():
    """As places of `interpret`, the same values as by tap; the network keeps its classes."""
    network = Nested(nnx.Rngs(3))
    model = from_nnx(network)
    x = X[0, 0, :, :1] * np.ones(3, np.float32)
    params, state = jaxdl.init(model, jax.random.key(0), x)
    f = lambda x: model.apply(params, state, x)[0]
    remat = from_nnx(Rematerialized)
    g = lambda x: remat.apply(params, state, x)[0]

    @jax.jit
    def both(x):
        values = jaxdl.capture(model, params, state, x)[1]
        places = {path: interpret.intermediate(f, x, path) for path in (*values, "blocks/1/again")}
        return f(x), values, places, interpret.intermediate(g, x, "blocks/0/inner")

    y, values, places, inside = both(x)
    # The shared part has one path, and is called by `blocks/1` and last by the network itself.
    assert not np.allclose(places.pop("blocks/1/again"), y)
    chex.assert_trees_all_close(places["again"], y, atol=1e-6)
    chex.assert_trees_all_close(inside, values["blocks/0/inner"], atol=1e-6)
    assert set(places) >= {"blocks/0", "blocks/0/inner", "tail", "tail/layers/0", "tail/layers/2"}
    for path, value in places.items():
        chex.assert_trees_all_close(value, values[path], atol=1e-6)
    assert type(network.tail) is nnx.Sequential and type(network.blocks[0]) is Block
    plain = nnx.eval_shape(lambda: Nested(nnx.Rngs(0)))
    assert jax.tree.structure(nnx.state(plain)) == jax.tree.structure(nnx.state(network))
    with pytest.raises(ValueError, match="no layer 'tail'.*from_nnx"):
        interpret.saliency(network, x, target=0, layer="tail")


@pytest.mark.parametrize("argument", ["deterministic", "training", None])
def test_the_train_mode_by_any_name(argument):
    def body(x, off):
        return linen.Dropout(0.5, deterministic=off)(x)

    class Deterministic(linen.Module):
        @linen.compact
        def __call__(self, x, deterministic):
            return body(x, deterministic)

    class Training(linen.Module):
        @linen.compact
        def __call__(self, x, training):
            return body(x, not training)

    class Plain(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.Dense(3)(x)

    net = {"deterministic": Deterministic, "training": Training, None: Plain}[argument]()
    model = from_linen(net)
    x = np.ones((4, 50), np.float32)
    params, state = jaxdl.init(model, jax.random.key(0), x)
    evaluated, _ = model.apply(params, state, x)
    trained, _ = model.apply(params, state, x, train=True, key=jax.random.key(1))
    assert np.array_equal(evaluated, trained) == (argument is None)


def test_bad_arguments():
    with pytest.raises(ValueError, match="from_linen: got a NnxNet.*from_nnx"):
        from_linen(NnxNet(nnx.Rngs(0)))
    with pytest.raises(ValueError, match="from_nnx: got a int"):
        from_nnx(3)


class Twice(linen.Module):
    """A Linen network around a `Module`."""

    inner: linen.Module

    @linen.compact
    def __call__(self, x, train: bool = False):
        return 2 * self.inner(x, train=train)


def test_a_module_is_a_linen_network_with_the_same_trees():
    model = jaxdl.serial(
        norm=nn.batch_norm(momentum=0.9),
        flatten=nn.flatten(),
        drop=nn.dropout(0.5),
        out=nn.dense(3),
    )
    params, state = filled(model, X, seed=1)
    network = to_linen(model)
    variables = {"params": params, "batch_stats": state}
    shapes = jax.eval_shape(network.init, jax.random.key(0), X)
    chex.assert_trees_all_equal_shapes_and_dtypes(shapes, variables)

    @functools.partial(jax.jit, static_argnames="train")
    def run(variables, key, train):
        return network.apply(
            variables, X, train=train, rngs={"dropout": key}, mutable=["batch_stats"]
        )

    apply = jax.jit(model.apply, static_argnames="train")
    y, new = run(variables, jax.random.key(0), train=False)
    np.testing.assert_array_equal(y, apply(params, state, X)[0])
    chex.assert_trees_all_equal(new, {"batch_stats": state})
    (y, new), (again, _), (other, _) = (
        run(variables, jax.random.key(seed), train=True) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(y, again)
    assert not np.array_equal(y, other)
    expected = apply(params, state, X, train=True, key=jax.random.key(0))[1]
    chex.assert_trees_all_close(new["batch_stats"], expected, rtol=1e-6)
    # And inside of another network, and back.
    outer = {name: {"inner": tree} for name, tree in variables.items()}
    twice, _ = jax.jit(from_linen(Twice(network)).apply)(
        outer["params"], {"batch_stats": outer["batch_stats"]}, X
    )
    np.testing.assert_allclose(twice, 2 * apply(params, state, X)[0], rtol=1e-6)


def test_running_statistics_must_be_mutable_in_training():
    network = to_linen(nn.batch_norm())
    variables = network.init(jax.random.key(0), X)
    with pytest.raises(flax.errors.ModifyScopeVariableError, match="batch_stats"):
        network.apply(variables, X, train=True)
    with pytest.raises(ValueError, match="to_linen: "):
        to_linen(network)
