import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxdl
from jaxdl import nn, tree
from jaxdl.jaxpr import equations, tracing
from jaxdl.nn import conv_cpu
from tests.nn.filled import normal

SHAPES = {
    "one channel": ((2, 6, 6, 1), (3, 3, 1, 4), ((0, 0), (0, 0))),
    "an odd number of images": ((3, 5, 4, 3), (3, 2, 3, 5), ((1, 1), (0, 1))),
    "a single image": ((1, 5, 4, 3), (3, 2, 3, 5), ((1, 1), (0, 1))),
    "many channels": ((2, 6, 5, 9), (3, 2, 9, 4), ((1, 1), (0, 1))),
    "one by one": ((2, 4, 4, 3), (1, 1, 3, 2), ((0, 0), (0, 0))),
    "widening": ((2, 4, 5, 9), (3, 2, 9, 10), ((1, 1), (0, 1))),
    "wide padding": ((1, 3, 3, 2), (2, 2, 2, 2), ((3, 2), (0, 4))),
    "1-d": ((2, 7, 9), (3, 9, 2), ((1, 1),)),
    "3-d": ((1, 4, 4, 4, 9), (2, 2, 2, 9, 2), ((0, 0), (1, 0), (0, 0))),
}


@pytest.fixture(scope="module", autouse=True)
def no_patches_of_few_positions():
    """Tests the algorithms for many positions, on small images; test_conv_patches has the other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conv_cpu, "POSITIONS", 0)
        forget()
        yield
    forget()


@pytest.mark.slow
@pytest.mark.parametrize("x, kernel, pads", SHAPES.values(), ids=SHAPES)
def test_the_forms_agree_in_every_derivative(x, kernel, pads):
    x, kernel = normal(0, *x), normal(1, *kernel)
    tangents = normal(2, *x.shape), normal(3, *kernel.shape)

    def of(form):
        f = lambda x, w: jnp.sum(
            jnp.sin(nn.functional.conv(x, w, padding=pads, implementation=form))
        )
        grad = jax.grad(f, (0, 1))
        return {
            "value": f(x, kernel),
            "reverse": jax.jit(grad)(x, kernel),
            "forward": jax.jvp(f, (x, kernel), tangents),
            "forward over reverse": jax.jvp(grad, (x, kernel), tangents),
            "reverse over reverse": jax.grad(lambda *a: jnp.sum(grad(*a)[1] ** 2), (0, 1))(
                x, kernel
            ),
            "mapped": jax.vmap(grad)(jnp.stack([x, 2 * x]), jnp.stack([kernel, kernel])),
            "mapped kernels": jax.vmap(grad, (None, 0))(x, jnp.stack([kernel, -kernel])),
        }

    cpu, xla = of("cpu"), of("xla")
    for name, value in xla.items():
        chex.assert_trees_all_close(cpu[name], value, atol=2e-3, rtol=2e-4)


@pytest.mark.parametrize("implementation", ["cpu", "xla"])
def test_gradient_with_more_zeros_than_the_window_covers(implementation):
    """XLA:CPU crops the wrong cells of such a gradient in float32, up to JAX 0.11."""
    x, kernel = normal(0, 1, 4, 4, 1), normal(1, 2, 3, 1, 2)
    pads = ((1, 1), (3, 1))

    def by_hand(x):
        wide = jnp.pad(x, ((0, 0), *pads, (0, 0)))
        return sum(wide[:, i : i + 5, j : j + 6] @ kernel[i, j] for i in (0, 1) for j in (0, 1, 2))

    def conv(x):
        return nn.functional.conv(x, kernel, padding=pads, implementation=implementation)

    actual, expected = (jax.grad(lambda x, f=f: jnp.sin(f(x)).sum())(x) for f in (conv, by_hand))
    chex.assert_trees_all_close(actual, expected, atol=1e-4)


@pytest.mark.slow
@given(
    st.integers(1, 3),
    st.integers(1, 6),
    st.integers(1, 6),
    st.lists(st.tuples(*[st.integers(1, 3)] * 3), min_size=1, max_size=3),
)
def test_any_number_of_channels_and_features(n, channels, features, axes):
    """Values and gradients, with windows of k cells and zeros before and after: (k, lo, hi)."""
    window, pads = [k for k, _, _ in axes], [pair for _, *pair in axes]
    x, kernel = normal(0, n, *[4] * len(axes), channels), normal(1, *window, channels, features)

    def of(form):
        f = lambda x, w: nn.functional.conv(x, w, padding=pads, implementation=form)
        y, pull = jax.vjp(f, x, kernel)
        return y, pull(jnp.cos(y))

    chex.assert_trees_all_close(of("cpu"), of("xla"), atol=1e-3, rtol=1e-4)


def operations(f, *args):
    """The names of what a program computes, in order, as it runs."""
    names = []

    def walk(jaxpr):
        for equation in jaxpr.eqns:
            names.append(equation.primitive.name)
            for inner in equations.inner_jaxprs(equation.params):
                walk(inner)

    walk(tracing.make_jaxpr(f, *args)[0].jaxpr)
    return names


@pytest.mark.parametrize(
    "channels, features, dtype, own",
    [
        (1, 16, jnp.float32, False),
        (16, 1, jnp.float32, False),
        (3, 16, jnp.float64, False),
        (16, 32, jnp.float32, True),
        (3, 64, jnp.float32, True),
        (1, 16, jnp.bfloat16, True),  # whose sum would be rounded at every term
        (16, 1, jnp.float16, True),
    ],
)
def test_few_channels_are_no_convolution_of_xlas(channels, features, dtype, own):
    with jax.enable_x64(dtype == jnp.float64):
        x = np.ones((2, 5, 5, channels), dtype)
        kernel = np.ones((3, 3, channels, features), dtype)
        form = lambda x, w: nn.functional.conv(x, w, implementation="cpu")
        assert ("conv_general_dilated" in operations(form, x, kernel)) == own


def test_a_sum_that_is_differentiated_is_kept_in_a_loop():
    """XLA would compute it again wherever the derivative needs it."""
    x, kernel = normal(0, 4, 5, 5, 1), normal(1, 3, 3, 1, 8)
    f = lambda x: jnp.sum(jnp.tanh(nn.functional.conv(x, kernel, implementation="cpu")))
    assert "scan" not in operations(f, x) and "scan" in operations(jax.grad(f), x)


@pytest.mark.parametrize("channels, features", [(1, 8), (8, 1), (8, 9)])
def test_a_batch_of_any_size(channels, features):
    """Values and gradients where the batch's size is left open, as in `jax.export`."""
    kernel = normal(1, 3, 3, channels, features)
    f = jax.value_and_grad(
        lambda w, x: jnp.sum(jnp.sin(nn.functional.conv(x, w, implementation="cpu"))), (0, 1)
    )
    f = jax.jit(f)
    (batch,) = jax.export.symbolic_shape("batch")
    spec = jax.ShapeDtypeStruct((batch, 5, 5, channels), jnp.float32)
    exported = jax.export.export(f)(kernel, spec)
    for n in (1, 4):
        x = normal(0, n, 5, 5, channels)
        chex.assert_trees_all_close(exported.call(kernel, x), f(kernel, x), atol=1e-4, rtol=1e-4)


def test_who_reads_programs_sees_a_convolution(key):
    model = jaxdl.serial(nn.conv(4, implementation="cpu"), jax.nn.relu, nn.flatten(), nn.dense(2))
    x = jnp.ones((1, 6, 6, 1))
    params, state = jaxdl.init(model, key, x)
    f = jax.jit(lambda x: model.apply(params, state, x)[0])
    assert "conv_general_dilated" not in operations(f, x)
    assert "conv_general_dilated" in str(tracing.make_standard_jaxpr(f, x)[0])
    assert "conv_general_dilated" not in operations(f, x)
    assert tree.summary(model, x).flops == 2 * (36 * 9 * 4 + 144 * 2)
    assert jaxdl.depth(model, x) == 2


@functools.cache
def of_six(channels, features):
    """Six examples, a kernel, and their gradients by XLA's own convolution."""
    x, kernel = normal(0, 6, 5, 4, channels), normal(1, 3, 2, channels, features)
    return x, kernel, jax.jit(slopes, static_argnums=2)(x, kernel, "xla")


def slopes(x, kernel, form):
    f = lambda x, w: jnp.sum(
        jnp.sin(nn.functional.conv(x, w, padding=[(2, 1), (0, 1)], implementation=form))
    )
    return jax.grad(f, (0, 1))(x, kernel)


def forget():
    """Drops the traces that depend on CHUNK and POSITIONS."""
    conv_cpu.convolution_on_cpu.clear_cache()
    conv_cpu._forward.clear_cache()
    conv_cpu._of_x.clear_cache()


@pytest.fixture(params=[1, 2000, 5 * 2**20], ids=["one", "some", "all"])
def chunk(request, monkeypatch):
    monkeypatch.setattr(conv_cpu, "CHUNK", request.param)
    forget()
    yield request.param
    forget()


def test_some_examples_at_a_time_or_all(chunk):
    """The gradients of six examples, by copies of the input or of the output."""
    for channels, features in [(1, 3), (9, 10), (4, 4), (5, 2)]:
        x, kernel, expected = of_six(channels, features)
        own = jax.jit(lambda x, w: slopes(x, w, "cpu"))(x, kernel)
        chex.assert_trees_all_close(own, expected, atol=1e-3, rtol=1e-4)
        turns = operations(lambda w, x=x: conv_cpu.products(x, w, ((2, 1), (0, 1))), kernel)
        assert ("scan" in turns) == (chunk < 2**20)


def test_the_forms_agree_inside_a_loop():
    x, kernel = normal(0, 2, 5, 5, 3), 0.1 * normal(1, 3, 3, 3, 3)

    def loss(kernel, form):
        body = lambda x, _: (jnp.tanh(nn.functional.conv(x, kernel, implementation=form)), None)
        return jnp.sum(jax.lax.scan(body, x, length=3)[0])

    grads = [jax.jit(jax.grad(loss), static_argnums=1)(kernel, form) for form in ("cpu", "xla")]
    chex.assert_trees_all_close(*grads, atol=1e-4, rtol=1e-4)
