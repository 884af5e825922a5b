import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import interpret
from tests.interpret.networks import array, double, linear, network, new_key, run


def smooth_saliency(**options):
    return interpret.smooth(interpret.saliency, **options)


def test_smoothing_is_the_mean_over_noisy_copies():
    with double():
        f, x = network(), array(0, 3, 5)
        slope = lambda x: interpret.saliency(f, x, target=1, absolute=False)

        @jax.jit
        def explain(x):
            copies = []
            for i in range(4):
                (own,) = jax.random.split(jax.random.fold_in(new_key(), i), 1)
                copies.append(slope(x + 0.3 * jax.random.normal(own, x.shape, x.dtype)))
            return copies, [
                smooth_saliency(sigma=0.3, samples=4, **kind)(
                    f, x, target=1, key=new_key(), absolute=False
                )
                for kind in ({}, {"kind": "square"}, {"kind": "variance"})
            ]

        copies, (mean, square, variance) = explain(x)
        np.testing.assert_allclose(mean, np.mean(copies, 0), atol=1e-12)
        np.testing.assert_allclose(square, np.mean(np.square(copies), 0), atol=1e-12)
        np.testing.assert_allclose(variance, np.var(copies, 0), atol=1e-12)


def test_without_noise_or_without_curvature_it_is_the_method_itself():
    with double():
        f, x = network(), array(0, 3, 5)
        for method in (interpret.saliency, interpret.integrated_gradients):
            still = interpret.smooth(method, sigma=0.0, samples=3)
            found = run(still, f, x, target=0, key=new_key())
            np.testing.assert_allclose(found, run(method, f, x, target=0), atol=1e-12)
        f, w = linear()
        noisy = smooth_saliency(sigma=2.0, samples=5)
        found = noisy(f, x, target=0, key=new_key(), absolute=False)
        np.testing.assert_allclose(found, np.broadcast_to(w[:, 0], x.shape), atol=1e-12)
        varied = smooth_saliency(sigma=2.0, samples=5, kind="variance")
        found = run(varied, f, x, target=0, key=new_key())
        np.testing.assert_allclose(found, 0, atol=1e-12)


def test_chunks_change_nothing():
    with double():
        f, x = network(), array(0, 3, 5)
        chunks = (None, 1, 2, 5, 9)

        @jax.jit
        def explain(x):
            smooth = smooth_saliency(sigma=0.3, samples=9)
            return [
                smooth(f, x, key=new_key(), target="argmax", batch_size=chunk) for chunk in chunks
            ]

        whole, *others = explain(x)
        for chunk, cut in zip(chunks[1:], others, strict=True):
            np.testing.assert_allclose(cut, whole, atol=1e-12, err_msg=f"chunk {chunk}")


@pytest.mark.parametrize("method", [interpret.integrated_gradients, interpret.ablation])
def test_expectation_over_baselines_is_their_mean(method):
    with double():
        f, x, bases = network(), array(0, 3, 5), array(1, 4, 5)
        explain = interpret.expectation(method, bases)
        found = explain(f, x, target="argmax", batch_size=3)
        target = np.argmax(f(x), 1)
        of_base = jax.jit(lambda x, base: method(f, x, target=target, baseline=base))
        loop = [of_base(x, base) for base in bases]
        np.testing.assert_allclose(found, np.mean(loop, 0), atol=1e-12)


@pytest.mark.parametrize(
    "bad, words",
    [
        ({"samples": 0}, "samples is 0; expected an integer of at least 1"),
        ({"sigma": -1}, "sigma is -1; expected a number of 0 or more"),
        ({"sigma": np.nan}, "sigma is nan"),
        ({"sigma": "a"}, "sigma is 'a'"),
        ({"kind": "median"}, "kind is 'median'; expected"),
    ],
)
def test_bad_arguments(bad, words):
    with pytest.raises(ValueError, match=words):
        interpret.smooth(interpret.saliency, **{"sigma": 0.1, **bad})


def test_sums_of_half_precision_do_not_depend_on_chunks():
    x = array(0, 2, 3).astype(jnp.bfloat16)
    w = jnp.asarray([300.0, -0.7, 500.0], jnp.float16)
    mean = functools.partial(interpret.integrated_gradients, lambda x: jnp.tanh(x).sum(1), x)
    smooth = smooth_saliency(sigma=0.5, samples=300, kind="square")
    noisy = lambda chunk: smooth(
        lambda x: x @ w, x.astype(jnp.float16), key=new_key(), batch_size=chunk
    )
    one, all_ = (
        np.asarray(mean(steps=600, rule="riemann_middle", batch_size=n), np.float32)
        for n in (1, 600)
    )
    np.testing.assert_allclose(one, all_, rtol=0.01)
    np.testing.assert_allclose(one.sum(1), np.tanh(np.float32(x)).sum(1), rtol=0.02)
    for square in map(noisy, (1, 300)):
        assert square.dtype == np.float32
        np.testing.assert_allclose(square, np.tile(np.square(np.float32(w)), (2, 1)), rtol=1e-5)


def test_methods_that_need_a_key_get_another_for_each_copy():
    f, x = network(), array(0, 3, 5).astype(np.float32)
    twice = interpret.smooth(smooth_saliency(sigma=0.1, samples=2), sigma=0.0, samples=3)
    found = np.asarray(twice(f, x, target=0, key=new_key()))
    once = [
        smooth_saliency(sigma=0.1, samples=2)(
            f, x, target=0, key=jax.random.fold_in(jax.random.fold_in(new_key(), i), 1)
        )
        for i in range(3)
    ]
    np.testing.assert_allclose(found, np.mean(once, 0), rtol=1e-4)
    for key in (0, None, np.random.default_rng(0), jax.random.split(new_key())):
        with pytest.raises(ValueError, match="expected one PRNG key"):
            twice(f, x, target=0, key=key)


@pytest.mark.parametrize(
    "bases",
    [
        np.zeros((3, 4)),
        np.zeros(3),
        np.zeros((0, 4, 3)),
        np.zeros((2, 3, 4), complex),
        0.5,
        None,
        "a",
        [],
    ],
)
def test_baselines_of_another_shape_are_refused(bases):
    x = np.ones((2, 3, 4), np.float32)
    f = lambda x: x.sum((1, 2))
    with pytest.raises(ValueError, match=r"^expectation: baselines (is|of) .*expected (a|\('M')"):
        interpret.expectation(interpret.ablation, bases)(f, x)
    with pytest.raises(ValueError, match=r"^expected_gradients: background (is|of) "):
        interpret.expected_gradients(f, x, bases, key=new_key())


def test_methods_that_cannot_be_averaged_are_refused():
    with pytest.raises(ValueError, match="method is 'saliency'; expected a function"):
        interpret.smooth("saliency", sigma=0.1)
    with pytest.raises(ValueError, match="the method has no baseline="):
        interpret.expectation(interpret.saliency, np.zeros((1, 3)))


def test_baselines_of_several_numbers_are_refused():
    x = {"a": np.ones((2, 3), np.float32), "b": np.ones((2,), np.float32)}
    bases = {"a": np.zeros((4, 3)), "b": np.zeros(2)}
    f = lambda x: x["a"].sum(1) + x["b"]
    with pytest.raises(ValueError, match="expected arrays of numbers"):
        interpret.expectation(interpret.ablation, bases)(f, x)
    with pytest.raises(ValueError, match="expected arrays of numbers"):
        interpret.expected_gradients(f, x, bases, key=new_key())
    with pytest.raises(ValueError, match="noise is nan"):
        bases["b"] = np.zeros(4)
        interpret.expected_gradients(f, x, bases, key=new_key(), noise=np.nan)
    for size in ("a", None, np.nan, np.inf, 0):
        with pytest.raises(ValueError, match="expected a number of bytes, 1 or more"):
            interpret.memory_budget(size)
