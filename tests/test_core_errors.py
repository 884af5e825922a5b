"""What the core refuses, and what it says then."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

import jaxdl
from jaxdl import nn, train

X = jnp.linspace(-1.0, 1.0, 8).reshape(2, 4)


def test_a_misspelt_child_is_named_with_the_likely_one(key):
    model = jaxdl.compose("net", dict(hidden=nn.dense(2)), lambda call, x: call("hiden", x))
    with pytest.raises(ValueError, match="no child 'hiden' in net; did you mean 'hidden'?"):
        jaxdl.init(model, key, X)


def test_an_unused_child_is_an_error(key):
    children = dict(a=nn.dense(2), b=nn.dense(2))
    model = jaxdl.compose("net", children, lambda call, x: call("a", x))
    with pytest.raises(ValueError, match="net: forward never calls 'b'"):
        jaxdl.init(model, key, X)


@pytest.mark.parametrize("name", ["", "a/b", "a#1"])
def test_names_that_would_not_be_paths(name):
    with pytest.raises(ValueError, match=f"net: child name '{name}' is empty or holds"):
        jaxdl.compose("net", {name: nn.dense(2)}, lambda call, x: call(name, x))


def test_parameters_of_another_model(key):
    children = dict(hidden=nn.dense(3), logits=nn.dense(2))
    model = jaxdl.compose("mlp", children, lambda call, x: call("logits", call("hidden", x)))
    params, state = jaxdl.init(model, key, X)
    with pytest.raises(ValueError, match="child 'hidden' .dense. has no parameter.*'kernel'"):
        model.apply({"logits": params["logits"]}, state, X)
    with pytest.raises(
        ValueError, match="params contains 'logit', which is not a child; did you mean 'logits'"
    ):
        model.apply({"logit": params["logits"]}, state, X)
    with pytest.raises(
        ValueError, match="state contains 'dense_0', which is not a child; children: hidden, logits"
    ):
        model.apply(params, {"dense_0": {}}, X)


def test_a_model_is_built_outside_of_jit():
    with pytest.raises(ValueError, match="dense was built inside a function that jax.jit traces"):
        jax.jit(lambda x: nn.dense(3).apply({"kernel": x, "bias": x[0]}, {}, x)[0])(jnp.eye(3))


@pytest.mark.parametrize(
    "key", [0, None, "seed", np.int64(0), np.zeros(2), np.zeros((3, 2), np.uint32)]
)
def test_init_wants_a_key(key):
    with pytest.raises(ValueError, match=r"init: key is .*jax.random.key\(seed\)"):
        jaxdl.init(nn.dense(3), key, X)


def test_what_is_no_layer():
    with pytest.raises(ValueError, match="a layer is a Module or a function of arrays; got 3"):
        nn.serial(nn.dense(3), 3)


def test_dropout_in_train_mode_needs_a_key(key):
    model = nn.serial(nn.dense(3), nn.residual(nn.dropout(0.5)))
    params, state = jaxdl.init(model, key, X)
    assert model.apply(params, state, X)[0].shape == (2, 3)
    with pytest.raises(ValueError, match="dropout.*key"):
        model.apply(params, state, X, train=True)
    assert model.apply(params, state, X, train=True, key=key)[0].shape == (2, 3)


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(2)(x)


class Plain:
    pass


def predict(params, x):
    return x @ params


NO_MODULES = {
    "Linen": (lambda: Linen(), r"a Linen; .*jaxdl.interop.flax.from_linen\(model\)"),
    "class": (lambda: Linen, r"the class Linen; .*from_linen\(Linen\(...\)\)"),
    "NNX": (lambda: nnx.Linear(4, 2, rngs=nnx.Rngs(0)), r"a Linear; .*from_nnx\(model\)"),
    "NNX class": (
        lambda: nnx.Linear,
        r"the class Linear; .*from_nnx\(lambda rngs: Linear\(..., rngs=rngs\)\)",
    ),
    "function": (lambda: predict, r"the function predict; .*f\(params, x\) write jaxdl.Module\("),
    "factory": (lambda: nn.dense, r"the function dense; .*call it: dense\(...\)"),
    "own class": (lambda: Plain, r"the class Plain; .*make one: Plain\(...\)"),
    "list": (lambda: [nn.dense(2)], r"a list; .*jaxdl.serial\(\*layers\)"),
    "None": (lambda: None, "a NoneType; expected a jaxdl.Module"),
}
OTHERS = {
    "equinox": "from_equinox",
    "haiku": "'Bring your own data and model'",
    "torch.nn": "copy its weights",
    "keras.src.models": "stateless_call",
}


@pytest.mark.parametrize("make, words", NO_MODULES.values(), ids=NO_MODULES)
def test_errors_explain_how_to_make_a_module(make, words, key):
    with pytest.raises(ValueError, match=f"init: model is {words}"):
        jaxdl.init(make(), key, X)


def test_other_libraries_are_known_by_name_alone():
    for package, words in OTHERS.items():
        base = type("Base", (), {"__module__": f"{package}.module", "__call__": lambda self: 0})
        model = type("Net", (base,), {})()
        with pytest.raises(ValueError, match=f"a Net; expected a jaxdl.Module: .*{words}"):
            jaxdl.summary(model, X)
        with pytest.raises(ValueError, match=f"a layer is a Net; .*{words}"):
            jaxdl.serial(nn.dense(2), model)


def test_every_entry_checks_the_model_and_the_state(key):
    model, labels = nn.dense(2), np.zeros(2, np.int32)
    sgd = optax.sgd(0.1)
    state = train.init_state(model, sgd, key, X)
    options = {"loss": "cross_entropy", "optimizer": sgd}
    data = (X, labels)
    params = state.params
    for call in (
        lambda model: train.fit(model, data, **options),
        lambda model: train.train_many(model, data, seeds=[0], **options),
        lambda model: train.lr_find(model, data, loss="cross_entropy"),
        lambda model: train.evaluate(model, state, data, loss="cross_entropy"),
        lambda model: train.predict(model, state, X),
        lambda model: train.predictor(model, state),
        lambda model: train.init_state(model, sgd, key, X),
        lambda model: train.make_train_step(model, **options),
        lambda model: train.make_eval_step(model, "cross_entropy"),
        lambda model: jaxdl.init(model, key, X),
        lambda model: jaxdl.summary(model, X),
        lambda model: jaxdl.depth(model, X),
        lambda model: jaxdl.capture(model, params, {}, X),
        lambda model: jaxdl.intervene(model, params, {}, X, edits={}),
    ):
        with pytest.raises(ValueError, match=r"model is a Linen; .*from_linen\(model\)"):
            call(Linen())
    for call in (
        lambda state: train.fit(model, data, state=state, **options),
        lambda state: train.train_many(model, data, seeds=[0], states=state, **options),
        lambda state: train.evaluate(model, state, data, loss="cross_entropy"),
        lambda state: train.predict(model, state, X),
        lambda state: train.predictor(model, state),
    ):
        with pytest.raises(ValueError, match="is a dict; expected a train.TrainState.*init_state"):
            call(params)
    with pytest.raises(ValueError, match="fit returns a pair: state, history = train.fit"):
        train.predict(model, (state, {"loss": [1.0]}), X)
