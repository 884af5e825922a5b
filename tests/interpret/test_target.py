"""Targets, outputs and batches that do not fit are refused by every public function alike."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import interpret
from jaxdl.interpret import evaluate
from tests.interpret.networks import array, new_key, run

W = array(0, 4, 3).astype(np.float32)
AVERAGES = ("average_over_noise", "average_over_baselines")
X = array(1, 2, 5, 5, 4).astype(np.float32)


def network(x):
    with jax.named_scope("h"):
        h = jnp.tanh(x)
    return h.mean((1, 2)) @ W


def callers():
    """Every public function that takes f, x and a target, as a function of these."""
    more = {
        "layer": "h",
        "key": new_key(),
        "window": (1, 1, 4),
        "background": X,
        "attributions": X,
        "shift": 0.0,
        "num_classes": 3,
        "method": interpret.saliency,
    }
    smooth = interpret.average_over_noise(interpret.saliency, sigma=0.1)
    actual = {
        "average_over_noise": lambda f, x, **options: smooth(f, x, key=new_key(), **options),
        "average_over_baselines": interpret.average_over_baselines(interpret.ablation, X[:1]),
    }
    for module in (interpret, evaluate):
        for name in module.__all__:
            function = getattr(module, name)
            if not callable(function):
                continue
            parameters = inspect.signature(function).parameters
            if {"f", "x", "target"} <= set(parameters):
                needed = {
                    key: more[key]
                    for key, p in parameters.items()
                    if key in more and p.default is p.empty
                }
                actual[name] = lambda f, x, function=function, needed=needed, **options: function(
                    f=f, x=x, **needed, **options
                )
    assert len(actual) > 35
    return actual


@pytest.mark.parametrize(
    "target", [99, -1, [0, 99], np.array([3, 0]), np.int64(3), np.array([[0, 1], [2, -1]])]
)
def test_a_class_out_of_range_is_refused_before_any_trace_hides_it(target):
    for name, of in callers().items():
        with pytest.raises(ValueError, match=r"target is (99|-1|3); expected a class of 0 to 2"):
            of(network, X, target=target)
            pytest.fail(name)


def test_batches_are_verified_and_hide_no_class_out_of_range():
    divided = 0
    for name, of in callers().items():
        parameters = inspect.signature(getattr(interpret, name, of)).parameters
        parameters = parameters | inspect.signature(getattr(evaluate, name, of)).parameters
        if "batch_size" not in parameters and name not in AVERAGES:
            continue
        divided += 1
        options = {"mask": np.array([0, 1, 1, 1])} if "mask" in parameters else {}
        for batch_size in (0, 2.0, "auto", True, np.ones(2, int)):
            with pytest.raises(
                ValueError, match=r"batch_size is .*; expected an integer of at least 1"
            ):
                of(network, X, target=0, batch_size=batch_size, **options)
                pytest.fail(f"{name}, batch_size {batch_size}")
        for target in (3, [0, 3]):
            with pytest.raises(ValueError, match="target is 3; expected a class of 0 to 2"):
                of(network, X, target=target, batch_size=np.int8(1), **options)
                pytest.fail(name)
    assert divided > 30


@pytest.mark.parametrize(
    "f, target, words",
    [
        (lambda x: (network(x), {}), 0, r"f returns a tuple; .* Pass lambda x: f\(x\)\[0\]"),
        (lambda x: {"logits": network(x)}, None, r"f returns a dict; .*f\(x\)\['logits'\]"),
        (lambda x: network(x).mean(), None, r"f returns \(\) for a batch of 2; expected a row"),
        (lambda x: network(x)[0], 1, r"f returns \(3,\) for a batch of 2.*x\[None\]"),
        (lambda x: network(x)[:1], [0, 1], r"f returns \(1, 3\) for a batch of 2"),
        (lambda x: np.asarray(x).sum((1, 2)), 0, r"jax.pure_callback\(f"),
        (lambda x: network(x) if x.sum() > 0 else x, 0, r"jax.pure_callback\(f"),
        (lambda x: x.__dlpack_device__(), 0, r"jax.pure_callback\(f"),
        (network, 1.0, "target is 1.0; expected ints"),
        (network, np.array([True, False]), "expected ints"),
        (network, [[0, 1], [2]], "expected rows of one length"),
        (network, [0, 1, 2], r"target has shape \(3,\) for 2 examples"),
        (network, "max", "the only valid string is 'argmax'"),
        (network, None, r"f returns \(2, 3\) and target is None"),
        (network, lambda scores: scores, r"target\(output\) has shape \(2, 3\); expected \(N,\)"),
        (lambda x: network(x)[:, 0], 1, "returns one score per example; expected 0. Omit target"),
    ],
)
def test_what_is_no_score_of_each_example_is_refused_alike(f, target, words):
    for name, of in callers().items():
        if name == "random_label" and (target is None or callable(target)):
            continue
        with pytest.raises(ValueError, match=words):
            of(f, X, target=target)
            pytest.fail(name)


def test_one_example_without_a_batch_axis():
    with pytest.raises(ValueError, match=r"f returns \(3,\) for a batch of 4.*x\[None\]"):
        interpret.kernel_shap(lambda x: x @ W, X[0, 0, 0], target=0, key=new_key())


def test_one_score_is_the_same_in_every_form():
    row = lambda x: network(x)[:, 1]
    column = lambda x: row(x)[:, None]
    state = lambda x: (row(x), {"state": x})
    forms = [(row, None), (row, 0), (row, "argmax"), (column, None), (column, [0, 0])]
    forms += [(state, lambda output: output[0]), (state, lambda output: output[0][:, None])]

    @jax.jit
    def explain(x):
        actual = [interpret.input_x_gradient(f, x, target=target) for f, target in forms]
        several = interpret.input_x_gradient(network, x, target=np.array([[1, 1], [0, 2]]))
        return actual, several

    actual, several = explain(X)
    for (_, target), values in zip(forms, actual, strict=True):
        np.testing.assert_allclose(values, actual[0], err_msg=str(target))
    np.testing.assert_allclose(several[0], actual[0], rtol=1e-5)
    assert several.shape == (2, *X.shape)


def test_several_places_are_explained_each_by_itself():
    """The second depends on the first: both have what a call of its own gives."""

    def f(x):
        with jax.named_scope("first"):
            x = jnp.tanh(x)
        with jax.named_scope("second"):
            x = jnp.sin(x)
        return x.mean((1, 2)) @ W

    @jax.jit
    def explain(x):
        of = lambda at: interpret.input_x_gradient(f, x, target=[[0, 1], [2, 1]], layer=at)
        return of(("first", "second")), of({"h": "second"}), of("first"), of("second")

    both, named, first, second = explain(X)
    np.testing.assert_array_equal(both[0], first)
    np.testing.assert_array_equal(both[1], second)
    np.testing.assert_array_equal(named["h"], second)
    assert not np.allclose(first, second)


def test_what_f_closes_over_may_change_between_calls():
    held = {"w": jnp.ones((4, 3)), "class": 7}
    f = lambda x: x[:, 0, 0] @ held["w"]
    scored = lambda scores: scores[:, held["class"]]
    with pytest.raises(ValueError, match="expected a class of 0 to 2"):
        interpret.saliency(f, X, target=7)
    held["w"] = jnp.arange(40.0).reshape(4, 10)
    actual = interpret.saliency(f, X, target=7)
    np.testing.assert_array_equal(actual[:, 0, 0], [[7, 17, 27, 37]] * 2)
    np.testing.assert_array_equal(interpret.saliency(f, X, target=scored), actual)
    held["w"], held["class"] = jnp.ones((4, 3)), slice(None)
    with pytest.raises(ValueError, match=r"target\(output\) has shape \(2, 3\)"):
        interpret.saliency(f, X, target=scored)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_narrow_integers_name_classes_that_they_cannot_count(dtype):
    slopes = np.random.default_rng(0).uniform(size=(4, 300)).astype(np.float32)
    explain = lambda x, target: interpret.saliency(lambda x: x[:, 0, 0] @ slopes, x, target=target)
    classes = jnp.array([0, 127], dtype)
    for actual in (explain(X, classes), jax.jit(explain)(X, classes)):
        np.testing.assert_array_equal(actual[:, 0, 0], slopes[:, [0, 127]].T)


def test_counts_and_truth_values_are_scores_without_a_gradient():
    """The one value of an example decides its score, of the baseline 1 as of what is positive."""
    x = jnp.array([[0.5], [-0.5]])
    count = lambda x: 2 * (x > 0).astype(jnp.uint8)
    for f, full in ((count, 2), (lambda x: x[:, 0] > 0, 1)):
        for method in (interpret.ablation, interpret.shapley_values):
            np.testing.assert_array_equal(method(f, x, baseline=1.0)[:, 0], [0, -full])
    without = ("ablation", "occlusion", "permutation", "shapley_", "kernel_shap", "lime", "rise")
    without += ("score_cam", "average_over_baselines")
    for name, of in callers().items():
        if not hasattr(interpret, name) or name.startswith(without):
            continue
        with pytest.raises(ValueError, match="f returns int32 scores, which have no gradient"):
            of(lambda x: network(x).astype(int), X, target=1)
            pytest.fail(name)
    for name, of in callers().items():
        with pytest.raises(ValueError, match="f returns complex64 scores; expected real numbers"):
            of(lambda x: jax.lax.complex(network(x), network(x)), X, target=1)
            pytest.fail(name)


@pytest.mark.parametrize("batch_size, words", [(1, r"shape \(3,\)"), (2, "incompatible shapes")])
def test_what_f_closes_over_is_no_example(batch_size, words):
    x, c = jnp.ones((3, 2)), jnp.arange(3.0)
    f = lambda x: x.sum(1) * c
    np.testing.assert_array_equal(interpret.saliency(f, x)[:, 0], c)
    with pytest.raises(
        ValueError, match=f"f does not accept {batch_size} of the 3 examples.*{words}"
    ):
        interpret.saliency(f, x, batch_size=batch_size)
    with pytest.raises(ValueError, match="Pass arrays that belong to the examples"):
        interpret.saliency(lambda x: x, x, target=lambda x: x.sum(1) * c, batch_size=batch_size)
    with (
        interpret.memory_budget(1),
        pytest.raises(ValueError, match="f does not accept 1 of"),
    ):
        interpret.ablation(f, x)


def test_a_function_outside_of_jax_by_a_callback():
    """As the message says: scores of NumPy, in every method without a derivative."""
    w = np.arange(1.0, 4.0, dtype=np.float32)
    numpy_f = lambda x: np.asarray(x) @ w
    f = lambda x: jax.pure_callback(
        numpy_f, jax.ShapeDtypeStruct((len(x),), x.dtype), x, vmap_method="sequential"
    )
    x = array(0, 2, 3).astype(np.float32)
    for name, options in {
        "ablation": {},
        "occlusion": {"window": (1,)},
        "shapley_values": {"batch_size": 3},
        "shapley_sampling": {"orders": 1, "key": new_key()},
        "kernel_shap": {"key": new_key()},
        "lime": {"key": new_key(), "ridge": 0.0, "samples": 30},
    }.items():
        actual = run(getattr(interpret, name), f, x, **options)
        np.testing.assert_allclose(actual, x * w, atol=1e-4, err_msg=name)
