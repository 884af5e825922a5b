"""oneDNN's products and convolutions against XLA's in float64, and in whole programs."""

import functools
import platform
import re
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

jaxdl_cpu = pytest.importorskip("jaxdl_cpu")
_library = pytest.importorskip("jaxdl_cpu._library")
try:
    jaxdl_cpu.info()
except RuntimeError as error:
    pytest.skip(str(error), allow_module_level=True)

RNG = np.random.default_rng(0)


def draw(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def calls(f, *args):
    """Returns the number of calls of oneDNN in a function."""
    with jaxdl_cpu.enabled():
        text = jax.jit(f).lower(*args).as_text()
    return len(re.findall("@jaxdl_(multiply|convolve)", text))


def compare(f, *args, least=1, tolerance=2e-5):
    """Compares a function with oneDNN to the same function in float64 by XLA."""
    assert calls(f, *args) >= least
    with jaxdl_cpu.enabled():
        actual = jax.jit(f)(*args)
    with jax.enable_x64(True):
        expected = jax.jit(f)(*(np.asarray(a, np.float64) for a in args))
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.shape == e.shape and a.dtype == np.float32
        np.testing.assert_allclose(a, e, rtol=0, atol=tolerance * max(np.abs(e).max(), 1e-3))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_products_with_any_dimensions_equal_those_of_float64(data):
    sizes = {name: data.draw(st.sampled_from((1, 2, 3, 40, 64))) for name in "abcdefg"}
    # Batch a; contracted b, c; free d, e of the first operand and f, g of the second.
    first = "".join(data.draw(st.permutations("abcde")))
    second = "".join(data.draw(st.permutations("abcfg")))
    while np.prod([sizes[d] for d in {*first, *second}]) > 2e6:
        sizes[max(sizes, key=lambda d: sizes[d])] = 2
    x, y = (draw(*(sizes[d] for d in dims)) for dims in (first, second))
    numbers = (
        (tuple(first.index(d) for d in "bc"), tuple(second.index(d) for d in "bc")),
        ((first.index("a"),), (second.index("a"),)),
    )
    compare(lambda x, y: lax.dot_general(x, y, numbers), x, y, least=0)


@pytest.mark.parametrize(
    ("f", "shapes"),
    [
        (lambda a, b: a @ b, ((65, 300), (300, 70))),
        (lambda a, b: a.T @ b, ((300, 65), (300, 70))),
        (lambda a, b: a @ b.T, ((65, 300), (70, 300))),
        (lambda a, b: a @ b, ((1, 900), (900, 70))),
        (lambda a, b: a @ b, ((900,), (900, 70))),
        (lambda a, b: a @ b, ((65, 900), (900,))),
        (lambda a, b: jnp.einsum("bqhd,bkhd->bhqk", a, b), ((2, 64, 4, 32), (2, 64, 4, 32))),
        (lambda a, b: jnp.einsum("abc,cbd->ad", a, b), ((20, 30, 40), (40, 30, 50))),
        (lambda a, b: jnp.einsum("mbk,bkn->bmn", a, b), ((70, 5, 40), (5, 40, 50))),
    ],
)
def test_products_and_their_derivatives(f, shapes):
    args = [draw(*shape) for shape in shapes]
    compare(f, *args)
    compare(jax.grad(lambda a, b: jnp.sum(jnp.sin(f(a, b) / 30)), (0, 1)), *args, least=2)


def make_conv(
    strides=1, padding="SAME", dilation=1, groups=1, numbers=("NHWC", "HWIO", "NHWC"), batch=1
):
    n = len(numbers[0]) - 2
    return functools.partial(
        lax.conv_general_dilated,
        window_strides=(strides,) * n,
        padding=padding,
        rhs_dilation=(dilation,) * n,
        feature_group_count=groups,
        batch_group_count=batch,
        dimension_numbers=numbers,
    )


def gradients(conv):
    return jax.grad(lambda x, w: jnp.sum(jnp.sin(conv(x, w))), (0, 1))


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_convolutions_and_their_gradients_equal_those_of_float64(data):
    pick = lambda *values: data.draw(st.sampled_from(values))  # noqa: E731
    numbers = pick(
        ("NHWC", "HWIO", "NHWC"), ("NCHW", "OIHW", "NCHW"), ("NWC", "WIO", "NWC"),
        ("NDHWC", "DHWIO", "NDHWC"), ("NHWC", "OHWI", "NCHW"),
    )  # fmt: skip
    n = len(numbers[0]) - 2
    groups, kernel = pick(1, 1, 4), [pick(1, 2, 3, 5) for _ in range(n)]
    side = {1: 60, 2: 17, 3: 9}[n]
    channels, features = groups * pick(1, 4), groups * pick(2, 8)
    sizes = {"N": pick(1, 2, 3, 5), "C": channels, "O": features, "I": channels // groups}
    sizes |= {d: side + i for i, d in enumerate("DHW")}
    x = draw(*(sizes[d] for d in numbers[0]))
    sizes |= dict(zip([d for d in numbers[0] if d not in "NC"], kernel, strict=True))
    w = draw(*(sizes[d] for d in numbers[1]))
    padding = pick("SAME", "VALID", [(2, 1)] * n, [(0, 3)] * n)
    conv = make_conv(pick(1, 2, 3), padding, pick(1, 2), groups, numbers)
    compare(conv, x, w, least=0)
    compare(gradients(conv), x, w, least=0, tolerance=5e-5)


@pytest.mark.parametrize(
    ("x", "w", "options"),
    [
        ((8, 14, 14, 32), (3, 3, 32, 16), {}),
        ((1, 40, 40, 8), (3, 3, 8, 16), {"strides": 2}),
        ((3, 40, 40, 8), (5, 5, 8, 16), {"padding": "VALID"}),
        ((4, 28, 28, 32), (3, 3, 1, 32), {"groups": 32}),
        ((4, 28, 28, 32), (3, 3, 1, 64), {"groups": 32, "strides": 2}),
        ((4, 14, 14, 32), (1, 1, 32, 64), {}),
        ((4, 14, 14, 32), (1, 1, 32, 64), {"strides": 2}),
        ((8, 9, 9, 8), (9, 9, 8, 16), {"padding": "VALID"}),
        ((8, 20, 20, 4), (3, 3, 4, 8), {"batch": 2}),
        # Few positions, by patches.
        ((2, 7, 7, 64), (3, 3, 64, 128), {}),
        ((1, 11, 13, 64), (3, 5, 64, 96), {"strides": 2, "dilation": 2}),
        ((2, 5, 6, 7, 16), (2, 3, 3, 16, 256), {"numbers": ("NDHWC", "DHWIO", "NDHWC")}),
    ],
)
def test_convolutions_call_onednn_with_every_derivative(x, w, options):
    conv, x, w = make_conv(**options), draw(*x), draw(*w)
    compare(conv, x, w)
    compare(gradients(conv), x, w, least=2, tolerance=5e-5)


def test_second_derivatives_and_maps_over_each_operand():
    conv, x, w = make_conv(), draw(3, 2, 11, 9, 8), draw(3, 3, 3, 8, 16)
    hessian_product = lambda x, w: jax.jvp(gradients(conv), (x, w), (x, w))[1]  # noqa: E731
    compare(hessian_product, x[0], w[0], least=2, tolerance=1e-4)
    compare(jax.vmap(conv, (0, None)), x, w[0])
    compare(jax.vmap(conv, (None, 0)), x[0], w)
    compare(jax.vmap(conv), x, w)


def test_loops_and_recomputation():
    a, h = draw(64, 64) / 8, draw(16, 64)

    def scan(h, a):
        return lax.scan(lambda h, _: (jnp.tanh(h @ a), None), h, length=7)[0]

    def loop(h, a):
        return lax.fori_loop(0, 7, lambda _, h: jnp.tanh(h @ a), h)

    compare(scan, h, a)
    compare(loop, h, a)
    compare(jax.grad(lambda h, a: jnp.sum(jax.checkpoint(scan)(h, a)), (0, 1)), h, a, least=2)


def test_a_function_is_compiled_again_when_the_state_changes():
    f, a = jax.jit(lambda a: a @ a), draw(64, 64)
    has_call = lambda: "jaxdl_multiply" in f.lower(a).as_text()  # noqa: E731
    before = f(a)
    assert not has_call()
    jaxdl_cpu.enable()
    jaxdl_cpu.enable()
    try:
        assert has_call() and jaxdl_cpu.info().enabled
        counted = jaxdl_cpu.info().replaced["dot_general"]
        np.testing.assert_allclose(f(a), before, rtol=1e-5, atol=1e-5)
        assert jaxdl_cpu.info().replaced["dot_general"] >= counted
        with jaxdl_cpu.enabled(False):
            assert not has_call()
        assert has_call()
    finally:
        jaxdl_cpu.disable()
    assert not has_call() and not jaxdl_cpu.info().enabled


def test_results_are_equal_from_run_to_run():
    conv, x, w = gradients(make_conv()), draw(7, 14, 14, 32), draw(3, 3, 32, 16)
    with jaxdl_cpu.enabled():
        f = jax.jit(conv)
        first = f(x, w)
        for _ in range(5):
            for a, b in zip(first, f(x, w), strict=True):
                np.testing.assert_array_equal(a, b)


def test_nan_and_infinity_pass_through():
    a, b = draw(64, 64), draw(64, 64)
    a[3, 5], a[7, 1] = np.nan, np.inf
    x, w = draw(2, 12, 12, 8), draw(3, 3, 8, 16)
    x[0, 4, 4, 2], x[1, 0, 0, 0] = np.nan, -np.inf
    for f, args in ((lambda a, b: a @ b, (a, b)), (make_conv(), (x, w))):
        assert calls(f, *args) == 1
        expected = jax.jit(f)(*args)
        with jaxdl_cpu.enabled():
            actual = jax.jit(f)(*args)
        np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected))
        np.testing.assert_array_equal(np.isinf(actual), np.isinf(expected))


def test_the_rest_remains_xlas_and_is_counted():
    half = jnp.asarray(draw(64, 64), jnp.bfloat16)
    conv = make_conv(padding=[(-1, 2), (0, 0)])
    cases = {
        "bfloat16": (lambda: half @ half),
        "small": (lambda: jnp.ones((3, 4)) @ jnp.ones((4, 5))),
        "negative padding": (lambda: conv(jnp.ones((2, 20, 20, 8)), jnp.ones((3, 3, 8, 16)))),
        "empty": (lambda: jnp.ones((0, 64)) @ jnp.ones((64, 64))),
    }
    for reason, f in cases.items():
        assert calls(f) == 0
        assert any(reason in key[1] for key in jaxdl_cpu.info().left), reason


def test_exported_modules_do_not_need_jaxdl_cpu():
    f, a = jax.jit(lambda a: a @ a), draw(64, 64)
    with jaxdl_cpu.enabled():
        exported = jax.export.export(f)(a)
    assert "jaxdl_multiply" not in exported.mlir_module()
    np.testing.assert_allclose(exported.call(a), a @ a, rtol=1e-4, atol=1e-4)


def test_handlers_refuse_buffers_of_other_sizes():
    """As a module made by hand could have them."""
    a = jnp.ones((8, 8))
    ints = lambda *values: np.array(values, np.int64)  # noqa: E731
    call = jax.ffi.ffi_call("jaxdl_multiply", jax.ShapeDtypeStruct((8, 8), jnp.float32))
    strides = {"a_strides": ints(64, 8, 1), "b_strides": ints(64, 8, 1)}
    with pytest.raises(Exception, match="do not have its sizes"):
        jax.block_until_ready(call(a, a, sizes=ints(1, 8, 8, 9), **strides))
    with pytest.raises(Exception, match="below 1"):
        jax.block_until_ready(call(a, a, sizes=ints(1, 8, 0, 8), **strides))
    call = jax.ffi.ffi_call("jaxdl_convolve", jax.ShapeDtypeStruct((1, 6, 6, 4), jnp.float32))
    window = {"strides": ints(1, 1), "dilations": ints(1, 1), "low": ints(0, 0)}
    numbers = {"kind": np.int64(0), "groups": np.int64(1)}
    with pytest.raises(Exception, match="do not agree"):
        x, w = jnp.ones((1, 8, 8, 3)), jnp.ones((3, 3, 2, 4))
        jax.block_until_ready(call(x, w, **window, **numbers))
    with pytest.raises(Exception, match="agree with its padding"):
        x, w = jnp.ones((1, 30, 30, 3)), jnp.ones((3, 3, 3, 4))
        jax.block_until_ready(call(x, w, **window, **numbers))


def test_other_machines_are_refused(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    with pytest.raises(RuntimeError, match="expected Linux x86_64"):
        _library.load.__wrapped__()


def test_networks_of_other_libraries_train_to_the_same_losses():
    linen = pytest.importorskip("flax.linen")
    eqx = pytest.importorskip("equinox")
    x, y = draw(16, 12, 12, 8), RNG.integers(0, 5, 16)

    class Linen(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = linen.relu(linen.Conv(16, (3, 3), strides=2)(x))
            return linen.Dense(5)(linen.relu(linen.Conv(16, (3, 3))(x)).reshape(len(x), -1))

    model = Linen()
    variables = model.init(jax.random.key(0), x)
    keys = jax.random.split(jax.random.key(1))
    network = eqx.nn.Sequential(
        [
            eqx.nn.Conv2d(8, 16, 3, padding=1, key=keys[0]),
            eqx.nn.Lambda(jax.nn.relu),
            eqx.nn.Lambda(jnp.ravel),
            eqx.nn.Linear(16 * 144, 5, key=keys[1]),
        ]
    )
    arrays, static = eqx.partition(network, eqx.is_array)

    def equinox(arrays, x):
        return jax.vmap(eqx.combine(arrays, static))(jnp.moveaxis(x, -1, 1))

    for params, apply in ((variables, model.apply), (arrays, equinox)):

        def train(params, apply=apply):
            def loss(params):
                return optax.softmax_cross_entropy_with_integer_labels(apply(params, x), y).mean()

            def step(params, _):
                value, grads = jax.value_and_grad(loss)(params)
                return jax.tree.map(lambda p, g: p - 0.05 * g, params, grads), value

            return lax.scan(step, params, length=20)[1]

        assert calls(train, params) >= 4
        expected = jax.jit(train)(params)
        with jaxdl_cpu.enabled():
            actual = jax.jit(train)(params)
        np.testing.assert_allclose(actual, expected, rtol=1e-4)


STRESS = """
import os, sys, threading
os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[: int(sys.argv[1])]))
import jax, jax.numpy as jnp
from jax import lax
import jaxdl_cpu
jaxdl_cpu.enable()
x, a = jnp.ones((4, 96, 96)) / 96, jnp.eye(96)

def body(_, x):
    parts = [jnp.tanh(x @ a) for _ in range(6)]  # which may run at the same time
    inner = lax.fori_loop(0, 3, lambda _, y: y @ a, x)
    return (sum(parts) + inner) / 7

f = jax.jit(lambda x: lax.fori_loop(0, 40, body, x).sum())
results = []
threads = [threading.Thread(target=lambda: results.append(float(f(x)))) for _ in range(8)]
[t.start() for t in threads]
[t.join() for t in threads]
assert len(set(results)) == 1 and len(results) == 8
print(results[0])
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_many_calls_at_once_do_not_wait_for_each_other(threads):
    command = [sys.executable, "-c", STRESS, str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]


def test_several_devices_remain_xlas():
    code = """
import jax
jax.config.update("jax_num_cpu_devices", 4)
import jax.numpy as jnp, numpy as np, jaxdl_cpu
from jax.sharding import NamedSharding, PartitionSpec as P
jaxdl_cpu.enable()
mesh = jax.make_mesh((4,), ("data",))
x = jax.device_put(jnp.arange(64.0 * 64).reshape(64, 64), NamedSharding(mesh, P("data")))
f = jax.jit(lambda x: x @ jnp.ones((64, 64)))
assert "jaxdl" not in f.lower(x).as_text()
np.testing.assert_allclose(f(x), np.asarray(x) @ np.ones((64, 64)), rtol=1e-5)
assert jaxdl_cpu.info().left == {("dot_general", "several devices"): 1}, jaxdl_cpu.info()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]


def test_calls_from_several_threads_of_python():
    conv, x, w = make_conv(), draw(4, 20, 20, 8), draw(3, 3, 8, 16)
    with jaxdl_cpu.enabled():
        f = jax.jit(conv).lower(x, w).compile()
    expected, results = f(x, w), []
    threads = [threading.Thread(target=lambda: results.append(f(x, w))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    for result in results:
        np.testing.assert_array_equal(result, expected)
