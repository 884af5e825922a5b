import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdl import interpret
from tests.interpret.networks import array, double, run

K, W, B = (
    np.random.default_rng(i).normal(size=s) for i, s in enumerate([(3, 3, 1, 5), (5, 3), (3,)])
)
METHODS = ["cam", "grad_cam", "grad_cam_plus_plus", "layer_cam", "score_cam"]


def f(x):
    with jax.named_scope("features"):
        x = jax.nn.relu(
            jax.lax.conv_general_dilated(
                x, K, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
        )
    return x.mean((1, 2)) @ W + B


def features_and_scores(f, x):
    return interpret.intermediate(f, x, "features"), f(x)


@pytest.mark.row("Q07")
def test_cam_is_the_weighted_sum_of_features_and_its_mean_the_score():
    with double():
        x = array(0, 2, 6, 6, 1)
        a, y = run(features_and_scores, f, x)
        found = interpret.cam(f, x, layer="features", target=2)
        np.testing.assert_allclose(found, a @ W[:, 2], atol=1e-12)
        np.testing.assert_allclose(np.mean(found, (1, 2)), y[:, 2] - B[2], atol=1e-12)
        grad_cam = interpret.grad_cam(f, x, layer="features", target=2)
        np.testing.assert_allclose(grad_cam, np.maximum(found, 0) / 36, atol=1e-12)


def test_the_others_by_their_equations():
    with double():
        x = array(0, 2, 6, 6, 1)
        a, _ = run(features_and_scores, f, x)
        g = np.broadcast_to(W[:, 1] / 36, (2, 6, 6, 5))
        alpha = g**2 / (2 * g**2 + a.sum((1, 2), keepdims=True) * g**3)
        weights = (alpha * np.maximum(g, 0)).sum((1, 2), keepdims=True)
        found = interpret.grad_cam_plus_plus(f, x, layer="features", target=1)
        np.testing.assert_allclose(found, np.maximum((weights * a).sum(-1), 0), atol=1e-10)
        found = interpret.layer_cam(f, x, layer="features", target=1)
        np.testing.assert_allclose(found, (np.maximum(g, 0) * a).sum(-1), atol=1e-12)
        masks = a - a.min((1, 2), keepdims=True)
        masks = masks / masks.max((1, 2), keepdims=True)
        compiled = jax.jit(f)
        scores = [compiled(x * masks[..., c, None])[:, 1] for c in range(5)]
        shares = np.exp(np.stack(scores, 1))
        shares /= shares.sum(1, keepdims=True)
        expected = np.maximum((a * shares[:, None, None]).sum(-1), 0)
        found = interpret.score_cam(f, x, layer="features", target=1)
        np.testing.assert_allclose(found, expected, atol=1e-10)
        found = run(interpret.score_cam, f, x, layer="features", target=1, batch_size=2)
        np.testing.assert_allclose(found, expected, atol=1e-10)


@pytest.mark.parametrize("name", METHODS)
def test_maps_have_the_images_size(name):
    def half(x):
        with jax.named_scope("features"):
            x = jnp.concatenate([x, -x], -1)[:, ::2, ::2]
        return x.sum((1, 2))

    @jax.jit
    def explain(x):
        of = functools.partial(getattr(interpret, name), half, x, layer="features")
        return (
            of(target=0),
            of(target=0, resize=False),
            of(target="argmax"),
            of(target="argmax", batch_size=1),
            of(target=np.array([[0, 0], [1, 1]])),
        )

    found, small, whole, cut, both = explain(array(0, 2, 8, 6, 1).astype(np.float32))
    assert found.shape == (2, 8, 6) and small.shape == (2, 4, 3) and both.shape == (2, 2, 8, 6)
    np.testing.assert_allclose(cut, whole, atol=1e-5)


def test_guided_grad_cam_and_sequences():
    with double():
        x = array(0, 2, 6, 6, 1)
        fine = run(interpret.guided_backprop, f, x, target=1)
        found = interpret.guided_grad_cam(f, x, layer="features", target=1)
        where = run(interpret.grad_cam, f, x, layer="features", target=1)
        np.testing.assert_allclose(found, fine * where[..., None], atol=1e-12)

        def g(x):
            with jax.named_scope("steps"):
                x = jnp.tanh(x @ W.T)
            return x.mean(1)

        of_steps = run(interpret.grad_cam, g, array(1, 2, 7, 3), layer="steps", target=0)
        assert of_steps.shape == (2, 7)


HALF = np.float32([[1, -1], [0.5, 2], [-2, 1], [1, 1], [0, 1], [3, -1]])


def halved(x, feature_axis=-1, input_axis=-1):
    """Features with half of x's sizes, (N, ..., 6), to two scores; any number of axes."""
    x = jnp.moveaxis(x, input_axis, -1)
    for axis in range(1, x.ndim - 1):
        x = jax.lax.slice_in_dim(x, 0, None, 2, axis)
    with jax.named_scope("features"):
        x = jnp.moveaxis(jnp.concatenate([jax.nn.relu(x), jax.nn.relu(-x)], -1), -1, feature_axis)
    x = jnp.moveaxis(x, feature_axis, -1)
    return (x * x).mean(tuple(range(1, x.ndim - 1))) @ HALF.astype(x.dtype)


def test_channels_may_be_first():
    """In the features, in x, and in both: the same maps as with channels last."""
    x = array(0, 2, 8, 6, 3).astype(np.float32)
    names = [*METHODS, "guided_grad_cam"]

    @jax.jit
    def explain(x, first):
        def each(x, feature_axis, input_axis, **axes):
            f = functools.partial(halved, feature_axis=feature_axis, input_axis=input_axis)
            of = lambda name: getattr(interpret, name)(f, x, layer="features", target=1, **axes)
            return {name: of(name) for name in names}

        return each(x, -1, -1), {
            "both": each(first, 1, 1, channel_axis=1),
            "x": each(first, -1, 1, input_channel_axis=1),
            "features": each(x, 1, -1, channel_axis=1, input_channel_axis=-1),
        }

    last, others = explain(x, np.moveaxis(x, -1, 1))
    for case, maps in others.items():
        for name, found in maps.items():
            if name == "guided_grad_cam" and case != "features":
                found = np.moveaxis(found, 1, -1)
            np.testing.assert_allclose(found, last[name], atol=1e-6, err_msg=f"{case} {name}")
    assert all(np.abs(found).max() > 0 for found in last.values())


@given(
    rank=st.sampled_from([1, 2, 3]),
    axes=st.sampled_from([(-1, -1), (1, 1), (-1, 1), (1, -1)]),
    name=st.sampled_from(METHODS),
    resize=st.sampled_from([True, False, 5]),
)
def test_maps_of_signals_images_and_volumes_have_the_size_asked_for(rank, axes, name, resize):
    size = (8, 6, 4)[:rank]
    x = jax.ShapeDtypeStruct((2, *size, 3) if axes[1] < 0 else (2, 3, *size), jnp.float32)
    expected = {True: size, False: tuple(n // 2 for n in size), 5: (5,) * rank}[resize]
    found = jax.eval_shape(
        lambda x: getattr(interpret, name)(
            functools.partial(halved, feature_axis=axes[0], input_axis=axes[1]),
            x,
            layer="features",
            target=0,
            channel_axis=axes[0],
            input_channel_axis=axes[1],
            resize=expected if resize == 5 else resize,
        ),
        x,
    )
    assert found.shape == (2, *expected)


def tokens_of(x):
    """Patches of 2 x 2 pixels after two tokens that are none, (N, 2 + h w, 3), to two scores."""
    n, h, w, c = x.shape
    patches = x.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4)).reshape(n, -1, c)
    with jax.named_scope("tokens"):
        x = jnp.concatenate(
            [jnp.ones((n, 2, c), x.dtype) * x.mean((1, 2), keepdims=True)[:, 0], patches], 1
        )
    return (x**2).sum(1) @ HALF[:3]


def test_tokens_of_a_transformer_are_a_grid():
    x = array(0, 2, 8, 6, 3).astype(np.float32)
    found = run(
        interpret.grad_cam, tokens_of, x, layer="tokens", target=1, tokens=(4, 3), resize=False
    )
    a = x.reshape(2, 4, 2, 3, 2, 3).mean((2, 4))
    weights = (2 * a * HALF[:3, 1]).mean((1, 2), keepdims=True)
    np.testing.assert_allclose(found, np.maximum((weights * a).sum(-1), 0), atol=1e-5)
    for name in (*METHODS, "guided_grad_cam"):
        method = functools.partial(getattr(interpret, name), tokens_of, layer="tokens", target=1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # guided_grad_cam: no ReLU
            shape = jax.eval_shape(functools.partial(method, tokens=(4, 3)), x).shape
        assert shape[:3] == (2, 8, 6), name
    per_token = functools.partial(interpret.cam, tokens_of, layer="tokens", target=1, tokens=(14,))
    assert jax.eval_shape(functools.partial(per_token, resize=False), x).shape == (2, 14)


def test_trees_half_precision_and_maps_of_zeros():
    tree = {"image": array(0, 1, 8, 6, 3), "age": array(1, 1, 2)}
    f = lambda x: halved(x["image"])[:, :1] + x["age"][:, :1]

    @jax.jit
    def explain(tree):
        maps = [getattr(interpret, name)(f, tree, layer="features") for name in METHODS]
        return maps, interpret.guided_grad_cam(f, tree, layer="features")

    cast = lambda kind: jax.tree.map(lambda a: a.astype(kind), tree)
    exact, fine = explain(cast(np.float32))
    assert fine["image"].shape == (1, 8, 6, 3) and fine["age"].shape == (1, 2)
    for name, expected, found in zip(METHODS, exact, explain(cast(jnp.bfloat16))[0], strict=True):
        assert found.dtype == jnp.bfloat16, name
        limit = 0.05 * np.abs(expected).max()
        np.testing.assert_allclose(found.astype(np.float32), expected, atol=limit, err_msg=name)
    zeros = explain(jax.tree.map(np.zeros_like, cast(np.float32)))
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(zeros[0]))


def identity(*shape):
    """A function whose features have a shape, whatever x."""

    def f(x):
        total = sum(jnp.sum(leaf, tuple(range(1, leaf.ndim))) for leaf in jax.tree.leaves(x))
        with jax.named_scope("features"):
            y = total.reshape(-1, *[1] * (len(shape) - 1)) * jnp.ones(shape)
        return y.reshape(len(y), -1)

    return f


IMAGE = np.ones((2, 8, 6, 3), np.float32)


@pytest.mark.parametrize(
    "f, x, options, message",
    [
        (identity(2, 5, 8, 6), np.ones((2, 3, 8, 6), "f"), {}, "Pass channel_axis=1"),
        (identity(2, 512, 2, 2), np.ones((2, 3, 8, 8), "f"), {}, "Pass channel_axis=1"),
        (identity(2, 8, 6, 5), np.ones((2, 3, 8, 6), "f"), {}, "input_channel_axis=1"),
        (identity(2, 2, 2, 5), np.ones((2, 3, 8, 8), "f"), {}, "input_channel_axis=1"),
        (identity(2, 5, 4, 3), np.ones((2, 32, 24, 3), "f"), {"channel_axis": 1}, "axis=3, or"),
        (identity(1, 5, 3, 3), np.ones((1, 3, 3, 3), "f"), {}, "Pass channel_axis=1"),
        (identity(2, 9, 4), np.ones((2, 3, 8), "f"), {"resize": False}, "Pass channel_axis=1"),
        (identity(2, 13, 5), IMAGE, {}, "Pass tokens="),
        (identity(2, 13, 5), IMAGE, {"resize": False}, "Pass tokens="),
        (identity(2, 13, 5), IMAGE, {"tokens": (5, 3)}, "T of 15 to 23"),
        (identity(2, 12, 5), IMAGE, {"tokens": (2, 2)}, "T of 4 to 11"),
        (identity(2, 30, 5), IMAGE, {"tokens": (4, 3)}, "T of 12 to 20"),
        (identity(2, 12, 5), IMAGE, {"tokens": (3, 4)}, "a grid of x's aspect"),
        (identity(2, 12, 5), IMAGE, {"tokens": 12}, "tokens is 12; expected the grid"),
        (identity(2, 12, 5), IMAGE, {"tokens": "ab"}, "tokens is 'ab'"),
        (identity(2, 4, 3, 5), IMAGE, {"channel_axis": None}, "channel_axis is None; expected an"),
        (identity(2, 4, 3, 5), IMAGE, {"input_channel_axis": 1.0}, "input_channel_axis is 1.0"),
        (identity(2, 4, 3, 5), IMAGE, {"resize": "a"}, "resize is 'a'; expected True, False"),
        (identity(2, 4, 3, 5), IMAGE, {"resize": None}, "resize is None"),
        (identity(2, 50, 16), np.ones((2, 3, 99), "f"), {}, "Pass input_channel_axis=1, or chan"),
        (
            identity(2, 4, 4, 4, 6),
            np.ones((2, 3, 8, 8, 8), "f"),
            {},
            "Pass input_channel_axis=1, or channel_axis=1 and input_channel_axis=1, or",
        ),
        (
            identity(2, 16, 50),
            np.ones((2, 99, 3), "f"),
            {"channel_axis": 1},
            "Pass input_channel_axis=2, or chan",
        ),
        (
            identity(2, 13, 5),
            IMAGE,
            {"tokens": (0, 3)},
            "tokens is .0, 3.; expected the grid of the patches",
        ),
        (identity(2, 4, 3, 5), IMAGE, {"channel_axis": 0}, "channel_axis=0"),
        (identity(2, 4, 3, 5), IMAGE, {"channel_axis": 4}, "channel_axis=4"),
        (identity(2, 4, 3, 5), IMAGE, {"input_channel_axis": 4}, "input_channel_axis is 4"),
        (identity(2, 4, 3, 5), IMAGE, {"resize": (4,)}, "2 sizes of at least 1"),
        (identity(2, 4, 3, 5), (IMAGE, IMAGE), {}, "2 arrays of x have as many"),
        (identity(2, 4, 3, 5), np.ones((2, 9), "f"), {}, "0 arrays of x have as many"),
    ],
)
def test_axes_that_do_not_fit_are_refused(f, x, options, message):
    for method in (interpret.grad_cam, interpret.score_cam):
        with pytest.raises(ValueError, match=message):
            explain = functools.partial(method, f, layer="features", target=0, **options)
            jax.eval_shape(explain, x)


def test_flat_features_have_no_map():
    def g(x):
        with jax.named_scope("flat"):
            x = x.reshape(len(x), -1)
        return x

    with pytest.raises(ValueError, match=r"the features have shape \(2, 36\)"):
        interpret.grad_cam(g, jnp.ones((2, 6, 6, 1)), layer="flat", target=0)
