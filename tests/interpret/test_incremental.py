"""Incremental evaluation against evaluation of the whole function."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from jaxdl import interpret, nn
from jaxdl.jaxpr.incremental import Box, rerun, rules
from tests.interpret.networks import array, double, fill, run


def make_windows(shape, size, stride=1):
    """Returns a box of this size at every position of the inner axes."""
    places = [range(0, n - k + 1, stride) for n, k in zip(shape[1:-1], size, strict=True)]
    starts = np.array([(0, *place, 0) for place in itertools.product(*places)])
    return Box(starts, (shape[0], *size, shape[-1]))


def check(f, x, box, key=7):
    """Compares the output of every change with that of the whole function."""
    new = array(key, *box.sizes).astype(x.dtype)

    @jax.jit
    def outputs(x, new):
        output, recompute = rerun(f, x, box)
        results = jax.vmap(recompute, (0, None))(jnp.arange(len(box.starts)), new)
        put = lambda start: f(lax.dynamic_update_slice(x, new, tuple(start)))
        return (output, results), (f(x), lax.map(put, jnp.asarray(box.starts)))

    for result, expected in zip(*outputs(x, new), strict=True):
        np.testing.assert_allclose(result, expected, atol=1e-12)


def share_of_operations(f, x, box):
    """Returns the cost of one change as a fraction of the operations of f."""
    new = array(7, *box.sizes)

    def once_more(x, new):
        output, recompute = rerun(f, x, box)
        return output, recompute(0, new)

    operations = lambda f, *args: jax.jit(f).lower(*args).cost_analysis()["flops"]
    whole = operations(f, x)
    return (operations(once_more, x, new) - whole) / whole


def scanned(x):
    """Returns a decaying sum along the rows, computed by `scan`."""
    step = lambda h, row: (0.5 * h + row, 0.5 * h + row)
    return jnp.moveaxis(lax.scan(step, x[:, 0] * 0, jnp.moveaxis(x, 1, 0))[1], 0, 1)


def kernel(*shape):
    return array(sum(shape), *shape) / 3


def conv(x, window, features=3, **options):
    groups = options.get("groups", 1)
    return nn.functional.conv(x, kernel(*window, x.shape[-1] // groups, features), **options)


def pool(x, operation, start, window, stride, padding="SAME"):
    return lax.reduce_window(x, start, operation, (1, *window, 1), (1, *stride, 1), padding)


NHWC = ("NHWC", "HWIO", "NHWC")
LAYERS = {
    "conv": lambda x: conv(x, (3, 3)),
    "conv of three rows by stride 2": lambda x: conv(x, (3, 1), stride=2),
    "conv without padding": lambda x: conv(x, (2, 3), padding="VALID"),
    "conv dilated": lambda x: conv(x, (3, 2), dilation=2),
    "conv by channel": lambda x: conv(x, (3, 3), groups=3),
    "conv by long stride": lambda x: conv(x, (2, 2), stride=3, padding=1),
    "conv channels first": lambda x: jnp.moveaxis(
        lax.conv_general_dilated(
            jnp.moveaxis(x, -1, 1), kernel(4, 3, 3, 3), (1, 2), [(0, 1), (1, 1)]
        ),
        1,
        -1,
    )[..., :3],
    "conv transposed": lambda x: nn.functional.conv_transpose(x, kernel(2, 2, 3, 3), stride=2),
    "conv of its own input": lambda x: lax.conv_general_dilated(
        x, x[0, :2, :2, :, None] * jnp.ones(3), (1, 1), "SAME", dimension_numbers=NHWC
    ),
    "max pool": lambda x: nn.functional.max_pool(x, 2),
    "max pool with overlap": lambda x: pool(x, lax.max, -jnp.inf, (3, 2), (2, 1)),
    "min pool": lambda x: pool(x, lax.min, jnp.inf, (2, 3), (2, 2)),
    "mean pool with overlap": lambda x: pool(x, lax.add, 0.0, (3, 3), (2, 2)) / 9,
    "pool with holes": lambda x: lax.reduce_window(
        x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 1, 1, 1), "VALID", window_dilation=(1, 2, 3, 1)
    ),
    "scale and shift": lambda x: x * array(0, 3) + array(1, 1, x.shape[1], 1, 1),
    "by its own mean channel": lambda x: jnp.tanh(x) * x.mean(-1, keepdims=True),
    "by its own mean": lambda x: x - x.mean((1, 2), keepdims=True),
    "chosen": lambda x: jnp.where(x > 0, array(3, 3), jnp.clip(x, -1, 1) ** 3),
    "standardized": lambda x: jax.nn.standardize(x),
    "softmax of channels": lambda x: jax.nn.softmax(x, -1),
    "softmax of columns": lambda x: jax.nn.softmax(x, 2),
    "dense of channels": lambda x: jnp.tanh(x @ array(2, 3, 3)),
    "product from the left": lambda x: jnp.einsum("dc,nhwc->nhwd", array(2, 3, 3), x),
    "dense by row": lambda x: jnp.einsum("nhwc,hcd->nhwd", x, array(2, x.shape[1], 3, 3)),
    "attention": lambda x: jnp.einsum("nhwc,nvwc,nvwd->nhwd", x, x, x),
    "residual": lambda x: x + jax.nn.relu(conv(x, (3, 3))),
    "branches": lambda x: jnp.concatenate(
        [conv(x, (3, 3), 1), array(5, *x.shape[:3], 1), x[..., :1]], -1
    ),
    "rows appended": lambda x: jnp.concatenate([x, 2 * x], 1),
    "parts": lambda x: sum(
        part * k for k, part in enumerate(jnp.split(conv(x, (1, 2), 6), 2, axis=-1), 1)
    ),
    "cut": lambda x: x[:, 1:, ::2],
    "turned": lambda x: jnp.flip(x, 1).swapaxes(1, 2),
    "padded": lambda x: jnp.pad(x, ((0, 0), (1, 0), (2, 1), (0, 0)), constant_values=0.5),
    "cropped": lambda x: lax.pad(x, 0.0, ((0, 0, 0), (-1, 0, 0), (0, 0, 1), (0, 0, 0))),
    "merged": lambda x: jnp.sin(x.reshape(len(x), -1, x.shape[2] * 3)).reshape(x.shape),
    "rows and columns merged": lambda x: jnp.cos(x.reshape(len(x), -1, 3)).reshape(x.shape),
    "an axis more": lambda x: jnp.squeeze(jnp.exp(-(x[:, None] ** 2)), 1),
    "repeated": lambda x: jnp.broadcast_to(x[:, :, :, None], (*x.shape[:3], 2, 3)).mean(3),
    "sums on the way": lambda x: jnp.cumsum(x, 1),
    "a loop": scanned,
    # Weighted, because a standardized x sums to 0 up to rounding, which has no sign.
    "a condition": lambda x: lax.cond((x @ array(9, 3)).sum() > 0, jnp.sin, jnp.cos, x),
    "largest channel": lambda x: jnp.where(jnp.argmax(x, -1)[..., None] == 1, x, -x),
}


def record_shares(monkeypatch):
    """Returns a list that collects the changed fraction of each output."""
    shares, plan = [], rules.plan

    def spy(operation, changed, values, outs):
        change = plan(operation, changed, values, outs)
        shares.append([box.share(out.shape) for box, out in zip(change.outs, outs, strict=True)])
        return change

    monkeypatch.setattr(rules, "plan", spy)
    return shares


WHOLE = {
    "conv of its own input",
    "attention",
    "by its own mean",
    "cropped",
    "sums on the way",
    "a loop",
    "a condition",
}


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_has_the_values_of_the_whole(name, monkeypatch):
    """Layers in `WHOLE` mix all cells; a change reaches only part of the others."""
    shares = record_shares(monkeypatch)
    monkeypatch.setattr(rules, "MOST", 1.0)
    with double():
        x = array(0, 2, 9, 8, 3)
        check(LAYERS[name], x, make_windows(x.shape, (2, 3)))
        assert (name in WHOLE) == (max(shares[-1]) == 1)


@pytest.mark.slow
@settings(max_examples=15)
@given(
    st.lists(st.sampled_from(sorted(set(LAYERS) - {"attention"})), min_size=2, max_size=5),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.integers(1, 3),
    st.booleans(),
)
def test_any_network_has_the_values_of_the_whole(names, size, stride, total):
    def f(x):
        for name in names:
            if min(x.shape[1:3]) > 4:
                x = LAYERS[name](x)
        return x.sum((1, 2)) if total else x[:, 0]

    with double():
        x = array(0, 2, 11, 10, 3)
        check(f, x, make_windows(x.shape, size, stride))


@pytest.mark.parametrize(("axes", "size"), [((12,), (2,)), ((5, 6, 4), (2, 1, 2))])
def test_signals_and_volumes(axes, size):
    def f(x):
        x = jax.nn.relu(conv(x, (3,) * len(axes), 4))
        return nn.functional.avg_pool(x, 2).reshape(len(x), -1) @ kernel(
            4 * int(np.prod([n // 2 for n in axes])), 2
        )

    with double():
        x = array(0, 2, *axes, 2)
        check(f, x, make_windows(x.shape, size))


def test_a_small_window_of_a_deep_network_costs_a_small_part():
    def f(x):
        for features in (8, 8, 8):
            x = jax.nn.relu(conv(x, (3, 3), features))
        return x.mean((1, 2))

    with double():
        x = array(0, 1, 64, 64, 3)
        box = make_windows(x.shape, (4, 4), 20)
        check(f, x, box)
        assert share_of_operations(f, x, box) < 0.06


def test_boxes_that_reach_nothing_and_those_that_have_all():
    with double():
        x = array(0, 2, 6, 6, 3)
        check(lambda x: x[:, 5:, 5:].sum((1, 2)), x, make_windows(x.shape, (2, 2)))
        check(lambda x: jnp.ones(2), x, make_windows(x.shape, (2, 2)))
        check(lambda x: x.sum((1, 2)), x, make_windows(x.shape, (6, 6)))
        check(lambda x: x.sum((1, 2)), x, make_windows(x.shape, (5, 6)))


def segments():
    """Returns (2, 9, 8, 1): patches of up to 3x2 cells, different in both examples."""
    rows, columns = np.arange(9)[:, None], np.arange(8) // 2
    return np.stack([(rows + k) // 3 * 4 + columns for k in range(2)])[..., None]


METHODS = {
    "occlusion with edges": lambda f, x: interpret.occlusion(
        f, x, (4, 3, 1), stride=(3, 2, 1), target="argmax", baseline=0.3, batch_size=4
    ),
    "occlusion of a channel": lambda f, x: interpret.occlusion(f, x, (2, 2, 1), target=[0, 1]),
    "ablation of cells": lambda f, x: interpret.ablation(f, x, target=1, batch_size=50),
    "ablation of rows": lambda f, x: interpret.ablation(
        f, x, target=1, baseline=array(3, 1, 1, 8, 2), mask=np.arange(9)[:, None, None]
    ),
    "ablation of own segments": lambda f, x: interpret.ablation(f, x, target=2, mask=segments()),
    "permutation of cells": lambda f, x: interpret.permutation(
        f, x, key=jax.random.key(0), target=0, mask=np.arange(72).reshape(9, 8, 1)
    ),
}


@pytest.mark.parametrize("name", METHODS)
def test_methods_and_derivatives_are_those_of_whole_runs(name, monkeypatch):
    def explained(weight):
        def f(x):
            x = nn.functional.max_pool(jax.nn.relu(nn.functional.conv(x, weight)), 2)
            return nn.functional.conv(x, kernel(3, 3, 4, 3)).sum((1, 2)) ** 2

        return METHODS[name](f, x)

    with double():
        x, weight = array(0, 2, 9, 8, 2), kernel(3, 3, 2, 4)
        derived = name in ("occlusion with edges", "ablation of own segments")

        def size_and_values(weight):
            values = explained(weight)
            return (values**2).sum(), values

        explain = jax.value_and_grad(size_and_values, has_aux=True) if derived else size_and_values
        shares = record_shares(monkeypatch)

        @jax.jit
        def by_boxes_and_whole(weight):
            by_boxes = explain(weight)
            monkeypatch.setattr(rules, "MOST", 0.0)
            return by_boxes, explain(weight)

        result, expected = by_boxes_and_whole(weight)
        assert min(map(min, shares)) < 0.5
        jax.tree.map(
            lambda own, whole: np.testing.assert_allclose(own, whole, rtol=1e-9, atol=1e-10),
            result,
            expected,
        )


def test_occlusion_of_flax_networks():
    from flax import linen

    class Net(linen.Module):
        @linen.compact
        def __call__(self, x):
            y = linen.relu(linen.Conv(8, (3, 3))(x))
            y = linen.BatchNorm(use_running_average=True)(y)
            y = linen.max_pool(y + linen.Conv(8, (3, 3))(y), (2, 2), strides=(2, 2))
            return linen.Dense(3)(y.reshape(len(y), -1))

    x = array(0, 2, 12, 12, 1).astype(np.float32)
    net = Net()
    weights = fill(jax.eval_shape(net.init, jax.random.key(0), x))
    f = jax.jit(lambda x: net.apply(weights, x))
    result = run(interpret.occlusion, f, x, (4, 4, 1), stride=(4, 4, 1), target=1)
    whole = np.asarray(f(x))
    for r, c in itertools.product(range(0, 12, 4), repeat=2):
        drop = whole - f(occlude(x, r, c))
        expected = np.broadcast_to(drop[:, 1, None, None, None], (2, 4, 4, 1))
        np.testing.assert_allclose(result[:, r : r + 4, c : c + 4], expected, atol=1e-6)


def occlude(x, r, c):
    x = x.copy()
    x[:, r : r + 4, c : c + 4] = 0
    return x
