"""Eager calls: one compilation for a program, and nothing stale."""

import gc
import re
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import _cache, interpret

X = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
W = np.random.default_rng(1).normal(size=(2, 4, 5)).astype(np.float32)


def linear(w, target):
    """The slopes of x @ w in closed form."""
    return np.broadcast_to(w[:, target], X.shape)


def compilations(run):
    before = _cache.EXPLANATIONS.cache_info().misses
    run()
    return _cache.EXPLANATIONS.cache_info().misses - before


def test_loops_compile_once_and_follow_what_f_closes_over():
    params = {"w": jnp.asarray(W[0])}

    class Model:
        w = params["w"]

    def fresh():
        w = params["w"]
        return jax.jit(lambda x: x @ w)

    cases = {
        "bound again": lambda: lambda x: x @ params["w"],
        "object changed in place": lambda: lambda x: x @ Model.w,
        "NumPy": lambda: lambda x: x @ np.asarray(params["w"]),
        "compiled by the user": fresh,
    }
    for case, make in cases.items():

        def loop(case=case, make=make):
            for w in np.concatenate([W, W + 1]):
                params["w"] = Model.w = jnp.asarray(w)
                slope = interpret.saliency(make(), X, target=2, absolute=False)
                np.testing.assert_allclose(slope, linear(w, 2), rtol=1e-6, err_msg=case)

        assert compilations(loop) <= 1, case


def test_arrays_of_a_compiled_function_within_a_loop():
    """JAX keeps them in the body of the loop, out of sight."""
    for w in W:
        small = jnp.asarray(w[:, :4])
        square = jax.jit(lambda x, w=small: x @ w)
        f = lambda x, g=square: jax.lax.scan(lambda x, _: (g(x), None), x, None, 2)[0]
        given = interpret.ablation(f, X, target=1, batch_size=2)
        both = w[:, :4] @ w[:, :4]
        np.testing.assert_allclose(given, X * both[:, 1], rtol=1e-4, atol=1e-5)


def test_options_and_structure_are_part_of_the_program():
    w = W[0]
    for shift, target in ((0.5, 1), (0.25, 1), (0.25, 2), (-0.0, 2), (0.0, 2)):
        given = interpret.integrated_gradients(
            lambda x, s=shift: (x - s) ** 2 @ w, X, target=target, steps=2
        )
        expected = ((X - shift) ** 2 - shift**2) * w[:, target]
        np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-5)


def test_arrays_given_as_options_compile_once():
    def loop():
        for i in range(3):
            base, target = np.full_like(X, i), np.array([i, 0, 4])
            given = interpret.integrated_gradients(
                lambda x: x @ W[0], X, target=target, baseline=base, steps=2
            )
            np.testing.assert_allclose(given, (X - i) * W[0].T[target], rtol=1e-4, atol=1e-5)

    assert compilations(loop) == 1
    with pytest.raises(ValueError, match="target is 5"):
        interpret.saliency(lambda x: x @ W[0], X, target=np.array([0, 5, 0]))


def test_weights_are_released():
    def explain():
        w = jnp.asarray(W[1])
        interpret.saliency(jax.jit(lambda x: jax.nn.relu(x @ w)), X, target=1)
        interpret.saliency(lambda x: jax.nn.relu(x @ w), X, target=1)
        return weakref.ref(w)

    alive = explain()
    gc.collect()
    assert alive() is None


def test_values_of_x_in_python_and_effects(capfd):
    def by_value(x):
        return x[:, 0] * (2.0 if x.sum() > X.sum() - 1 else 3.0)

    with pytest.raises(ValueError, match="f needs the values of x while JAX traces it"):
        interpret.saliency(by_value, X)

    def printing(x):
        jax.debug.print("mean {}", x.mean())
        return x @ W[0]

    interpret.saliency(printing, X, target=0)
    jax.effects_barrier()
    assert capfd.readouterr().out.count("mean") == 1


def test_traced_calls_are_inlined():
    def total(w):
        return interpret.saliency(lambda x: x @ w, X, target=1, absolute=False).sum()

    def loop():
        np.testing.assert_allclose(jax.grad(total)(W[0])[:, 1], np.full(4, 3.0))
        np.testing.assert_allclose(jax.jit(total)(W[0]), 3 * W[0][:, 1].sum(), rtol=1e-5)

    assert compilations(loop) == 0


def test_memory_budget_cuts_examples_and_evaluations():
    x = np.random.default_rng(2).normal(size=(5, 3, 16)).astype(np.float32)
    w = np.random.default_rng(3).normal(size=(16, 16)).astype(np.float32)
    target = np.arange(5)
    key = jax.random.key(0)

    def f(x):
        sizes.append(len(x))
        return jnp.tanh(x @ w).sum(1)

    methods = {
        "saliency": lambda: interpret.saliency(f, x, target=target),
        "integrated_gradients": lambda: interpret.integrated_gradients(
            f, x, target=target, baseline=x[::-1], steps=6
        ),
        "expected_gradients": lambda: interpret.expected_gradients(
            f, x, 2 * x, key=key, target=target, samples=6, noise=0.1
        ),
    }
    for name, method in methods.items():
        whole, parts = [], []
        sizes = whole
        expected = method()
        sizes = parts
        with interpret.memory_budget(2500):  # one example's forward and backward pass: 1.5 KB
            given = method()
        assert set(whole) == {5} and min(parts) < 5, name
        np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-5, err_msg=name)
    with pytest.raises(ValueError, match="memory_budget: size is 0"):
        interpret.memory_budget(0)


IMAGES = np.random.default_rng(6).normal(size=(5, 4, 4, 2)).astype(np.float32)
QUARTERS = np.arange(4)[:, None, None] // 2 * 2 + np.arange(4)[:, None] // 2
MASKS = np.stack([QUARTERS, 3 - QUARTERS, QUARTERS // 2, QUARTERS % 2, QUARTERS])
BASE = {"images": IMAGES[::-1] / 2, "scales": 0}
KEY = {"key": jax.random.key(0)}
COALITIONS = {"baseline": BASE, "mask": {"images": MASKS, "scales": None}}
PERTURBATIONS = {
    "ablation": COALITIONS,
    "kernel_shap": KEY | COALITIONS,
    "rise": KEY | {"baseline": BASE, "samples": 6, "cells": 2},
    "occlusion": {"window": (2, 2, 2), "stride": 2, "baseline": BASE},
    "permutation at": KEY | {"mask": MASKS, "at": "hidden"},
    "score_cam": {"at": "hidden", "resize": False},
}


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_memory_budget_cuts_examples_of_perturbations(name):
    """Masks, baselines and integers go with their examples; draws do not depend on the division."""
    scales = np.arange(1, 6) if name != "score_cam" else np.ones(5, np.float32)
    x = {"images": IMAGES, "scales": scales}
    method = getattr(interpret, name.split()[0])
    sizes = []

    def f(x):
        sizes.append(len(x["images"]))
        with jax.named_scope("hidden"):
            h = jnp.tanh(x["images"] @ W[0, :2, :3])
        return (h * h).mean((1, 2)) * x["scales"][:, None].astype(h.dtype)

    def explain():
        sizes.clear()
        explained = method(f, x, target="argmax", **PERTURBATIONS[name])
        return explained["images"] if isinstance(explained, dict) else explained

    expected = explain()
    assert set(sizes) == {5}
    with interpret.memory_budget(2000):
        given = explain()
    assert min(sizes) < 5
    np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-5)


def test_values_without_a_row_for_each_example_are_not_divided():
    """With as many steps as examples at a time, shapes alone look like those of examples."""
    w = jnp.asarray(W[0])

    def f(x):
        with jax.named_scope("joined"):
            h = jnp.tanh(x).reshape(-1, 4)
        with jax.named_scope("steps"):
            h = jnp.swapaxes((h @ w).reshape(*x.shape[:2], 5), 0, 1)
        return (h**2).sum((0, 2))

    x = np.stack([X, X - 1, X + 1], 1)
    for at, batch in (("joined", x), ("steps", x), ("steps", x[:, :2])):
        explain = lambda at=at, x=batch, **options: interpret.saliency(f, x, layer=at, **options)
        with interpret.memory_budget(1):
            np.testing.assert_array_equal(explain(), explain(batch_size=3), err_msg=at)
        with pytest.raises(ValueError, match="no row for each of the 3 examples"):
            explain(batch_size=2)
    base = np.linspace(-1, 1, 36, dtype=np.float32).reshape(9, 4)
    explain = lambda: interpret.integrated_gradients(f, x, layer="joined", baseline=base, steps=2)
    expected = explain()
    with interpret.memory_budget(400):
        np.testing.assert_allclose(explain(), expected, rtol=1e-4, atol=1e-5)


def test_constants_are_not_evaluated_while_compiling():
    """The matrix product of two constants is left for the run, also in the user's own `jit`."""
    f = lambda x: x @ (jnp.asarray(W[0]) @ W[0].T) @ W[0]
    run = jax.jit(lambda x: interpret.saliency(f, x, target=0))
    text = run.lower(X).compile().as_text() or ""
    assert text.count(" dot(") + text.count("custom-call") >= 2, text


def test_convolutions_in_loops_have_the_layout_that_is_fast_on_a_cpu():
    kernel = np.random.default_rng(4).normal(size=(3, 3, 2, 4)).astype(np.float32)

    @jax.jit
    def f(x):
        dims = ("NHWC", "HWIO", "NHWC")
        return jnp.tanh(
            jax.lax.conv_general_dilated(x, jnp.asarray(kernel), (2, 1), "SAME", None, None, dims)
        )

    def explain(x, chunk):
        score = lambda y: y.sum((1, 2, 3))
        return interpret.integrated_gradients(f, x, target=score, steps=4, batch_size=chunk)

    x = np.random.default_rng(5).normal(size=(2, 6, 6, 2)).astype(np.float32)
    text = str(jax.make_jaxpr(lambda x: explain(x, 2))(x))
    layouts = set(re.findall(r"(?<=ConvDimensionNumbers)\(.*?\)\)", text))
    assert len(layouts) == 1 or jax.default_backend() != "cpu", layouts
    np.testing.assert_allclose(explain(x, 2), explain(x, 4), rtol=1e-4, atol=1e-5)
