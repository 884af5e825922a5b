"""Inputs that are trees: every method explains all floating-point arrays, and no integers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdl import interpret
from jaxdl.interpret import _input, evaluate
from tests.interpret.networks import array, double, new_key, run

A, B, SCALE = array(0, 3, 4), array(1, 2, 4), array(2, 6)


def scaled(x):
    """Linear in "a" and "b", times a number that the ids choose."""
    scores = x["a"] @ A + x["b"].reshape(len(x["b"]), 2) @ B
    return scores * jnp.asarray(SCALE)[x["ids"]]


def inputs():
    ids = np.array([[1], [5]], np.int32)
    return {"a": array(3, 2, 3), "b": array(4, 2, 2, 1), "ids": ids}


def shares(x, base=None, target=1):
    """The one right answer of all additive methods: weight times difference."""
    scale = SCALE[x["ids"]]
    a, b = (x[name] - (0 if base is None else base[name]) for name in "ab")
    return {"a": a * A[:, target] * scale, "b": b * B[:, target, None] * scale[..., None]}


LINEAR = {
    "input_x_gradient": {},
    "integrated_gradients": {"steps": np.int64(2)},
    "deep_lift": {},
    "lrp": {"eps": 1e-12},
    "ablation": {},
    "occlusion": {"window": {"a": (1,), "b": (1, 1), "ids": None}, "batch_size": 2},
    "shapley_values": {},
    "shapley_sampling": {"orders": 2},
    "kernel_shap": {"samples": 10},
    "lime": {"ridge": 0.0, "samples": 100},
}
RANDOM = ("shapley_sampling", "kernel_shap", "lime")


@pytest.mark.filterwarnings("ignore:guided_backprop. no ReLU")
def test_of_a_linear_function_every_method_gives_weight_times_difference():
    with double():
        x = inputs()
        base = {"a": array(5, 1, 3), "b": 0.5, "ids": 0}

        @jax.jit
        def explain(x):
            found = {}
            for name, options in LINEAR.items():
                if name in RANDOM:
                    options = options | {"key": new_key()}
                if name not in ("input_x_gradient", "lrp"):
                    options = options | {"baseline": base}
                found[name] = getattr(interpret, name)(scaled, x, target=1, **options)
            still = interpret.smooth(interpret.input_x_gradient, sigma=0.0, samples=np.int64(1))
            found["smooth"] = still(scaled, x, target=1, key=new_key())
            background = {"a": base["a"], "b": np.full((1, 2, 1), 0.5), "ids": x["ids"][:1]}
            found["expected_gradients"] = interpret.expected_gradients(
                scaled, x, background, target=1, key=new_key(), samples=2
            )
            averaged = interpret.expectation(interpret.ablation, background)
            found["expectation"] = averaged(scaled, x, target=1)
            cut = interpret.lrp(scaled, x, target=[1, 1], batch_size=1, eps=1e-12)
            return found, cut, interpret.guided_backprop(scaled, x, target=1)

        found, cut, slope = explain(x)
        for name, values in found.items():
            whole = name in ("input_x_gradient", "lrp", "smooth")
            expected = shares(x) if whole else shares(x, base)
            assert values["ids"] is None, name
            for part in "ab":
                np.testing.assert_allclose(
                    values[part], expected[part], rtol=2e-5, atol=1e-8, err_msg=name
                )
        np.testing.assert_allclose(cut["a"], shares(x)["a"], rtol=2e-5)
        np.testing.assert_allclose(slope["a"] * x["a"], shares(x)["a"], rtol=1e-6)


def meeting(x):
    """Features of two arrays meet in products."""
    return jnp.tanh(x[0] @ A[:, 0]) * (x[1] ** 2).sum(1) + x[1][:, 0]


@functools.cache
def by_features():
    masks = (np.array([4, 7, 7]), np.array([7, 9]))
    options = {"mask": masks, "baseline": (0.3, -0.2)}

    @jax.jit
    def explain(x):
        left_out = interpret.ablation(meeting, x, **options)
        exact = interpret.shapley_values(meeting, x, **options)
        regression = interpret.kernel_shap(meeting, x, key=new_key(), samples=6, **options)
        own = interpret.ablation(meeting, x, mask=(masks[0], None), baseline=(0.3, -0.2))
        return left_out, exact, regression, own

    return masks, explain


@settings(max_examples=5)
@given(st.integers(0, 99))
def test_a_number_in_two_arrays_is_one_feature(seed):
    with double():
        masks, explain = by_features()
        x = (array(seed, 2, 3), array(seed + 1, 2, 2))
        left_out, exact, regression, own = explain(x)
        without = lambda i: tuple(
            np.where(mask == i, b, leaf)
            for mask, b, leaf in zip(masks, (0.3, -0.2), x, strict=True)
        )
        value = lambda x: np.tanh(x[0] @ A[:, 0]) * (x[1] ** 2).sum(1) + x[1][:, 0]
        for i in (4, 7, 9):
            fall = value(x) - value(without(i))
            for leaf, mask in zip(left_out, masks, strict=True):
                for column in np.flatnonzero(mask == i):
                    np.testing.assert_allclose(leaf[:, column], fall, atol=1e-12)
        base = (np.full((2, 3), 0.3), np.full((2, 2), -0.2))
        total = exact[0][:, 0] + exact[0][:, 1] + exact[1][:, 1]
        np.testing.assert_allclose(total, value(x) - value(base), atol=1e-12)
        for ours, theirs in zip(jax.tree.leaves(regression), jax.tree.leaves(exact), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-9)
        alone = value(x) - value((x[0], np.where([True, False], -0.2, x[1])))
        np.testing.assert_allclose(own[1][:, 0], alone, atol=1e-12)


def test_windows_of_an_image_and_a_table_by_a_loop():
    with double():
        kernel, w = array(0, 3, 3, 1, 2), array(1, 3)

        def f(x):
            dims = ("NHWC", "HWIO", "NHWC")
            a = jax.lax.conv_general_dilated(x[0], kernel, (1, 1), "SAME", dimension_numbers=dims)
            return jnp.tanh(a).sum((1, 2, 3)) * jnp.tanh(x[1] @ w)

        x = (array(2, 2, 8, 8, 1), array(3, 2, 3))
        found = run(interpret.occlusion, f, x, ((2, 2, 1), (1,)), stride=((2, 2, 1), 1))
        score = jax.jit(f)
        for r, c in ((0, 0), (2, 6), (6, 4)):
            hidden = x[0].copy()
            hidden[:, r : r + 2, c : c + 2] = 0
            fall = np.asarray(score(x) - score((hidden, x[1])))
            np.testing.assert_allclose(found[0][:, r + 1, c, 0], fall, atol=1e-10)
        hidden = x[1] * [1, 0, 1]
        np.testing.assert_allclose(found[1][:, 1], score(x) - score((x[0], hidden)), atol=1e-10)
        both = run(interpret.ablation, f, x, mask=(np.arange(8)[:, None, None] // 4, [0, 1, 1]))
        rows = x[0].copy()
        rows[:, :4] = 0
        fall = score(x) - score((rows, x[1] * [0, 1, 1]))
        np.testing.assert_allclose(both[0][:, 0, 0, 0], fall, atol=1e-10)
        np.testing.assert_allclose(both[1][:, 0], fall, atol=1e-10)


def test_rise_masks_every_image_of_a_tree():
    with double():
        f = lambda x: x["one"].sum((1, 2, 3)) * x["two"][:, 1, 2, 0]
        x = {"one": array(0, 2, 4, 4, 1), "two": array(1, 2, 3, 5, 2)}
        options = {"key": new_key(), "cells": 2, "keep": 1 - 1e-12}
        found = run(interpret.rise, f, x, samples=np.int64(2), **options)
        for name, shape in (("one", (2, 4, 4)), ("two", (2, 3, 5))):
            expected = np.broadcast_to(f(x)[:, None, None], shape)
            np.testing.assert_allclose(found[name], expected, rtol=1e-6)
        with pytest.raises(ValueError, match="expected images"):
            interpret.rise(lambda x: f(x) + x["c"], x | {"c": np.ones(2)}, **options)


def test_metrics_of_a_linear_function():
    with double():
        x = inputs()
        parts = shares(x) | {"ids": None}

        @jax.jit
        def judge(x, parts):
            slope = interpret.saliency(scaled, x, target=1, absolute=False)
            keyed = {"target": 1, "key": new_key()}
            return {
                "gap": evaluate.completeness(scaled, x, parts, target=1),
                "infidelity": evaluate.infidelity(scaled, x, slope, samples=3, **keyed),
                "correlation": evaluate.faithfulness_correlation(
                    scaled, x, parts, size=2, samples=9, **keyed
                ),
                "change": evaluate.sensitivity_max(
                    interpret.saliency, scaled, x, samples=2, **keyed
                ),
                "invariance": evaluate.input_invariance(
                    interpret.saliency, scaled, x, 0.3, target=1
                ),
                "needless": evaluate.non_sensitivity(scaled, x, parts, target=1),
                "out": evaluate.deletion(scaled, x, parts, target=1, steps=5),
                "in": evaluate.insertion(scaled, x, parts, target=1, steps=5),
                "flip": evaluate.pixel_flipping(scaled, x, parts, target=1),
                "same": evaluate.agreement(parts, parts),
                "sparseness": evaluate.sparseness(parts),
            }

        found = judge(x, parts)
        whole = scaled(x)[:, 1]
        for name in ("gap", "infidelity", "change", "invariance", "needless"):
            np.testing.assert_allclose(found[name], 0, atol=1e-9, err_msg=name)
        for name in ("correlation", "same"):
            np.testing.assert_allclose(found[name], 1, atol=1e-9, err_msg=name)
        flat = np.concatenate([parts["a"], parts["b"][..., 0]], 1)
        lost = np.cumsum(-np.sort(-flat, axis=1), axis=1)  # one order over both arrays
        np.testing.assert_allclose(found["out"].scores[:, 1:], whole[:, None] - lost, atol=1e-9)
        np.testing.assert_allclose(found["in"].scores[:, 1:], lost, atol=1e-9)
        np.testing.assert_allclose(found["flip"].scores[:, -1], -whole, atol=1e-9)
        sizes = np.sort(np.abs(flat), axis=1)
        gini = ((2 * np.arange(1, 6) - 6) * sizes).sum(1) / (5 * sizes.sum(1))
        np.testing.assert_allclose(found["sparseness"], gini)


def test_noise_of_token_ids_is_at_their_embedding():
    with double():
        table = array(0, 6, 3)

        def f(ids):
            with jax.named_scope("embedding"):
                vectors = jnp.asarray(table)[ids]
            return (vectors**2).sum((1, 2))

        ids = np.array([[0, 5], [2, 2]])
        method = interpret.smooth(interpret.saliency, sigma=0.3, samples=2)
        options = {"key": new_key(), "absolute": False}
        of_ids, of_vectors = jax.jit(
            lambda ids, vectors: (
                method(f, ids, layer="embedding", **options),
                method(lambda v: (v**2).sum((1, 2)), vectors, **options),
            )
        )(ids, table[ids])
        np.testing.assert_allclose(of_ids, of_vectors)
        assert not np.allclose(of_ids, 2 * table[ids], atol=1e-3)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"a": np.ones((3, 3), np.float32)}, r"batches of \[2, 3\]; expected one size"),
        ({"a": np.float32(1)}, r"x holds 'float32'; expected floating-point arrays"),
        ({"a": "word"}, r"x holds 'str'; expected floating-point arrays"),
        ({"a": np.ones((2, 3), np.complex64)}, r"x holds complex64\[2, 3\]; expected floating"),
        ({"a": np.ones((2, 3), bool), "b": np.ones((2, 2, 1), int)}, r"x holds bool, int.* only"),
    ],
)
def test_bad_trees(change, words):
    with pytest.raises(ValueError, match=words):
        interpret.ablation(lambda x: x["b"].sum((1, 2)), inputs() | change)


def test_bad_arguments_of_trees():
    x = inputs()
    f = lambda x: x["a"].sum(1) + x["b"].sum((1, 2))
    of = functools.partial(interpret.ablation, f, x)
    with pytest.raises(ValueError, match="mask is .*; expected a tree like x"):
        of(mask=np.arange(3))
    with pytest.raises(ValueError, match="baseline is .*; expected a tree like x"):
        of(baseline={"a": 0.0})
    with pytest.raises(ValueError, match="window is .*; expected a tree like x"):
        interpret.occlusion(f, x, {"a": (1,)})
    with pytest.raises(ValueError, match=r"attributions of \[\(2, 3\), \(2, 2\)\] for x of"):
        parts = {"a": x["a"], "b": x["b"][..., 0], "ids": None}
        evaluate.infidelity(f, x, parts, key=new_key())
    for count in (0, -2, 1.0, True, None, np.float32(2)):
        with pytest.raises(ValueError, match="f: n is .*; expected an integer of at least 1"):
            _input.at_least("f", 1, n=count)
    assert _input.at_least("f", 1, n=np.uint8(2), m=jnp.int32(3)) == [2, 3]
