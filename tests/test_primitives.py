"""Readers of primitives' parameters, against the calls that were traced."""

import ast
import pathlib
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import lax

import jaxdl
from jaxdl.jaxpr import equations
from jaxdl.jaxpr.primitives import examples, parameters, readers

primitives = readers()


def array(*shape, dtype=np.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


X = array(2, 3, 4)
CUBE = array(2, 3, 4, dtype=np.int32)
IMAGES, KERNEL = array(2, 7, 8, 4), array(3, 3, 2, 6)


def equation(name, f, *args):
    """Returns the one equation of the primitive `name` in the jaxpr of f."""
    (one,) = [e for e in jax.make_jaxpr(f)(*args).eqns if e.primitive.name == name]
    return one


def read(name, f, *args):
    return primitives.axes(equation(name, f, *args))


@given(*[st.integers(0, 3)] * 4, st.integers(1, 4), st.booleans())
def test_scan(consts, carry, sequences, outputs, length, reverse):
    def loop(fixed, first, xs):
        def body(carry, xs):
            total = sum((a.sum() for a in (*fixed, *carry, *xs)), np.float32(0))
            return [a + total for a in carry], [total] * outputs

        return lax.scan(body, first, xs, length, reverse)

    trees = [array(2, i + 1) for i in range(consts)], [array(3, i) for i in range(carry)]
    scan = primitives.scan(
        equation("scan", loop, *trees, [array(length, 5, i) for i in range(sequences)])
    )
    assert scan[1:] == (length, reverse, consts, carry)
    shapes = [a.shape for tree in trees for a in tree] + [(5, i) for i in range(sequences)]
    assert [aval.shape for aval in scan.body.in_avals] == shapes
    assert len(scan.body.out_avals) == carry + outputs


def test_scans_of_transformations():
    def loop(w, h, xs):
        return lax.scan(lambda h, x: (lax.tanh(h * w + x), h), h, xs)

    args = array(3), array(3), array(5, 3)
    batched = primitives.scan(equation("scan", jax.vmap(loop), *[array(2, *a.shape) for a in args]))
    assert batched[1:] == (5, False, 1, 1)
    gradient = jax.grad(lambda *args: loop(*args)[0].sum())
    loops = [e for e in jax.make_jaxpr(gradient)(*args).eqns if e.primitive.name == "scan"]
    forward, backward = map(primitives.scan, loops)
    assert (forward.reverse, backward.reverse) == (False, True)
    assert forward.length == backward.length == 5
    for equation_, scan in zip(loops, (forward, backward), strict=True):
        apart = scan.num_consts + scan.num_carry
        whole, parts = equation_.invars, scan.body.in_avals
        assert [v.aval.shape for v in whole[:apart]] == [a.shape for a in parts[:apart]]
        assert [v.aval.shape[1:] for v in whole[apart:]] == [a.shape for a in parts[apart:]]


@pytest.mark.parametrize("index", [bool, np.int32])
def test_cond(index):
    by_bool, by_int = lax.cond, lambda i, *rest: lax.switch(i, rest[:2], *rest[2:])
    f = by_bool if index is bool else by_int
    one = equation("cond", lambda i, x: f(i, lax.sin, lax.cos, x), array(dtype=index), X)
    names = [branch.jaxpr.eqns[0].primitive.name for branch in primitives.branches(one)]
    assert names == (["cos", "sin"] if index is bool else ["sin", "cos"])  # false is the first


@jax.custom_jvp
def own_jvp(x):
    return lax.sin(x)


@jax.custom_vjp
def own_vjp(x):
    return lax.sin(x)


own_jvp.defjvp(lambda x, t: (lax.sin(*x), lax.cos(*t)))
own_vjp.defvjp(lambda x: (lax.sin(x), x), lambda x, g: (lax.cos(g),))


@pytest.mark.parametrize("custom", [False, True])
@pytest.mark.parametrize("f", [jax.jit(lax.sin), jax.checkpoint(lax.sin), own_jvp, own_vjp])
def test_calls(f, custom):
    (one,) = jax.make_jaxpr(f)(X).eqns
    inner = primitives.called_function(one, custom)
    if f in (own_jvp, own_vjp) and not custom:
        assert inner is None
    else:
        assert [e.primitive.name for e in inner.jaxpr.eqns] == ["sin"]


def test_no_call():
    assert primitives.called_function(equation("sin", lax.sin, X)) is None


def test_linear_call_stores_no_transpose():
    """`train.epoch` searches all stored jaxprs for slow convolutions."""

    def f(x):
        forward, back = (lambda _, x: lax.neg(x)), (lambda _, y: lax.sin(y))
        return jax.custom_derivatives.linear_call(forward, back, (), x)

    one = equation("linear_call", f, X)
    (callee,) = equations.inner_jaxprs(one.params)
    assert [e.primitive.name for e in callee.eqns] == ["neg"]


@pytest.mark.parametrize(
    "sum_, shapes, contracting, batch",
    [
        ("abc,dc->abd", ((2, 3, 4), (5, 4)), ((2,), (1,)), ((), ())),
        ("abc,acd->abd", ((2, 3, 4), (2, 4, 5)), ((2,), (1,)), ((0,), (0,))),
    ],
)
def test_dot_general(sum_, shapes, contracting, batch):
    left, right = (array(*shape) for shape in shapes)
    f = lambda x, y: lax.dot_general(x, y, (contracting, batch))
    numbers = primitives.dot_general(equation("dot_general", f, left, right))
    assert numbers == (contracting, batch)
    assert jax.eval_shape(f, left, right) == jax.eval_shape(
        lambda x, y: jax.numpy.einsum(sum_, x, y), left, right
    )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"window_strides": (2, 1), "rhs_dilation": (1, 2)},
        {"lhs_dilation": (2, 3), "padding": ((1, 0), (0, 2))},
        {"padding": "SAME", "preferred_element_type": np.dtype(np.float64)},
    ],
)
def test_convolution(options):
    def f(x, kernel):
        given = {"window_strides": (1, 1), "padding": "VALID", **options}
        order = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(
            x, kernel, dimension_numbers=order, feature_group_count=2, **given
        )

    with jax.enable_x64(True):
        p = primitives.convolution(equation("conv_general_dilated", f, IMAGES, KERNEL))
    pads = {"SAME": ((1, 1), (1, 1)), "VALID": ((0, 0), (0, 0))}
    given = options.get("padding", "VALID")
    assert p.strides == options.get("window_strides", (1, 1))
    assert tuple(p.padding) == pads.get(given, given)
    assert p.lhs_dilation == options.get("lhs_dilation", (1, 1))
    assert p.rhs_dilation == options.get("rhs_dilation", (1, 1))
    assert (p.feature_groups, p.batch_groups) == (2, 1)
    assert p.preferred_element_type == options.get("preferred_element_type")
    assert p.dimension_numbers.lhs_spec == p.dimension_numbers.out_spec == (0, 3, 1, 2)
    assert p.dimension_numbers.rhs_spec == (3, 2, 0, 1)


def test_convolution_with_batch_groups():
    f = lambda x, kernel: lax.conv_general_dilated(
        x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"), batch_group_count=2
    )
    p = primitives.convolution(
        equation("conv_general_dilated", f, array(2, 7, 8, 2), array(3, 3, 2, 6))
    )
    assert (p.feature_groups, p.batch_groups) == (1, 2)


@pytest.mark.parametrize(
    "name, start, monoid",
    [
        ("reduce_window_sum", 0.0, lax.add),
        ("reduce_window_max", -np.inf, lax.max),
        ("reduce_window_min", np.inf, lax.min),
    ],
)
def test_pooling(name, start, monoid):
    over = (1, 2, 3), (1, 2, 1), ((0, 0), (1, 0), (0, 2)), (1, 1, 2), (1, 2, 1)
    f = lambda x: lax.reduce_window(x, np.float32(start), monoid, *over)
    assert primitives.window(equation(name, f, X)) == over


@pytest.mark.parametrize("strides", [None, (1, 2, 1)])
def test_slice(strides):
    f = lambda x: lax.slice(x, (0, 1, 2), (2, 3, 4), strides)
    assert primitives.static_slice(equation("slice", f, X)) == ((0, 1, 2), strides or (1, 1, 1))


def test_pad():
    pads = ((0, 1, 0), (2, 0, 1), (-1, 3, 0))
    f = lambda x, fill: lax.pad(x, fill, pads)
    assert primitives.padding(equation("pad", f, X, array())) == pads


@pytest.mark.parametrize("order", [None, (2, 0, 1)])
def test_reshape(order):
    one = equation("reshape", lambda x: lax.reshape(x, (4, 6), order), X)
    assert primitives.reshape_order(one) == order


@pytest.mark.parametrize("name", parameters.REDUCTIONS)
def test_reductions(name):
    assert read(name, lambda x: getattr(lax, name)(x, (0, 2)), CUBE) == (0, 2)


@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_position_of_an_extreme(name):
    assert read(name, lambda x: getattr(lax, name)(x, 1, np.int32), X) == (1,)


def test_axes():
    assert read("transpose", lambda x: lax.transpose(x, (1, 2, 0)), X) == (1, 2, 0)
    assert read("squeeze", lambda x: lax.squeeze(x, (1,)), array(2, 1, 4)) == (1,)
    assert read("rev", lambda x: lax.rev(x, (0, 2)), X) == (0, 2)
    spread = lambda x: lax.broadcast_in_dim(x, (2, 5, 3, 4), (0, 2, 3))
    assert read("broadcast_in_dim", spread, X) == (0, 2, 3)
    assert read("concatenate", lambda x: lax.concatenate([x, x], 2), X) == (2,)
    assert read("split", lambda x: lax.split(x, (1, 3), axis=2), X) == (2,)


def test_other_padding():
    x, kernel = np.ones((1, 5, 1), np.float32), np.ones((3, 1, 1), np.float32)

    def conv(x, kernel, pads=((1, 1),)):
        return lax.conv_general_dilated(
            x, kernel, (1,), pads, dimension_numbers=("NWC", "WIO", "NWC")
        )

    def pool(x, pads=((0, 0), (1, 1), (0, 0))):
        return lax.reduce_window(x, np.float32(0), lax.add, (1, 3, 1), (1, 1, 1), pads)

    def pad(x, fill, pads=((0, 0, 0), (1, 1, 0), (0, 0, 0))):
        return lax.pad(x, fill, pads)

    for name, f, args, pads in (
        ("conv_general_dilated", conv, (x, kernel), ((2, 0),)),
        ("reduce_window_sum", pool, (x,), ((0, 0), (2, 0), (0, 0))),
        ("pad", pad, (x, np.float32(7)), ((0, 0, 0), (2, 0, 1), (0, 0, 0))),
    ):
        (out,) = primitives.with_padding(equation(name, f, *args), pads)(*args)
        np.testing.assert_array_equal(out, f(*args, pads))


@pytest.mark.parametrize(
    "dtype, wide",
    [("int8", "float32"), ("bool", "float32"), ("bfloat16", "float32"), ("float16", "float32")]
    + [(same, same) for same in ("float32", "float64", "complex64", "complex128")],
)
def test_widened_types(dtype, wide):
    with jax.enable_x64(True):
        cast = equation(
            "convert_element_type",
            lambda x: lax.convert_element_type(x, dtype),
            array(2, dtype=np.int16),
        )
    params = primitives.widen_params(cast)
    assert params["new_dtype"] == np.dtype(wide)
    assert {**params, "new_dtype": None} == {**cast.params, "new_dtype": None}


def test_every_read_primitive_has_an_example():
    assert set(parameters.NAMES) <= set(examples.EXAMPLES)


def program_with(name, **changes):
    """Returns `jax.make_jaxpr` of a JAX that stores other parameters of one primitive.

    `changes` maps a parameter to its new name.
    """
    make = jax.make_jaxpr

    def changed(f, **options):
        if options:  # by another caller
            return make(f, **options)

        def record(*args):
            closed = make(f)(*args)
            equations = [
                e.replace(params={changes.get(key, key): value for key, value in e.params.items()})
                if e.primitive.name == name
                else e
                for e in closed.eqns
            ]
            return closed.replace(jaxpr=closed.jaxpr.replace(eqns=equations))

        return record

    return changed


@pytest.mark.parametrize(
    "name, parameter", [(name, one) for name, names in parameters.NAMES.items() for one in names]
)
def test_a_renamed_parameter(monkeypatch, name, parameter):
    monkeypatch.setattr(jax, "make_jaxpr", program_with(name, **{parameter: "renamed"}))
    monkeypatch.setattr(jax, "__version__", "99.1.2")
    with pytest.raises(ImportError, match=rf"JAX 99\.1\.2 .*'{name}'.*'renamed'.*'{parameter}'"):
        examples.check()


def test_it_is_checked_at_first_use(monkeypatch):
    readers.cache_clear()
    with monkeypatch.context() as other_jax:
        other_jax.setattr(jax, "make_jaxpr", program_with("scan", reverse="backwards"))
        other_jax.setattr(jax, "__version__", "99.1.2")
        with pytest.raises(ImportError, match=r"JAX 99\.1\.2 .*'scan'"):
            jaxdl.interpret.lrp(lambda x: x.sum(1), np.ones((2, 3), np.float32))
    assert readers() is parameters


def test_another_meaning(monkeypatch):
    """A parameter with its old name and another meaning fails the check too."""
    name = "transpose"
    program, args, _ = examples.EXAMPLES[name]
    other = lambda x: lax.transpose(x, (1, 0, 2))
    monkeypatch.setitem(examples.EXAMPLES, name, (other, args, (2, 0, 1)))
    with pytest.raises(ImportError, match=rf"{re.escape(jax.__version__)} .*'transpose'"):
        examples.check()


def test_it_is_checked_in_any_context():
    with jax.disable_jit():
        examples.check()
    with jax.enable_x64(True):
        examples.check()
    jax.make_jaxpr(lambda x: (examples.check(), x))(X)


def test_parameters_are_read_in_one_place():
    """Nowhere else is `.params` subscripted by a name."""
    package = pathlib.Path(jaxdl.__file__).parent
    lines = []
    for path in package.rglob("*.py"):
        if path.is_relative_to(package / "jaxpr" / "primitives"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
                if isinstance(node.value, ast.Attribute) and node.value.attr == "params":
                    lines.append(f"{path}:{node.lineno}")
    assert not lines


BARE = """
import importlib.abc, sys
import jax, numpy as np, optax

class Absent(importlib.abc.MetaPathFinder):
    names = "orbax pooch matplotlib tyro rich safetensors flax tensorboardX skimage".split()
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
import jaxdl
from jaxdl import nn, train
from jaxdl.jaxpr.primitives import readers

assert "jaxdl.jaxpr.primitives.parameters" not in sys.modules
readers()
jax.config.update("jax_num_cpu_devices", 2)  # an error once a device is in use
model = jaxdl.serial(nn.dense(2))
rows = np.ones((8, 3), np.float32), np.zeros(8, np.int32)
train.fit(model, rows, loss="cross_entropy", optimizer=optax.sgd(0.1), batch_size=4)
assert jax.device_count() == 2
assert jaxdl.depth(nn.rnn(nn.elman(3)), jax.ShapeDtypeStruct((2, 7, 4), np.float32)) == 7
print("done")
"""


def test_jax_optax_and_numpy_are_enough_to_train():
    """`import jaxdl` neither checks the parameters nor initializes a device."""
    done = subprocess.run([sys.executable, "-c", BARE], capture_output=True, text=True)
    assert done.stdout.strip().endswith("done"), done.stderr


def test_channels_last_is_the_same_convolution():
    rng = np.random.default_rng(0)
    x = rng.integers(-3, 4, (2, 5, 6, 4)).astype(np.float32)
    kernel = rng.integers(-3, 4, (3, 2, 2, 6)).astype(np.float32)
    orders = ("NHWC", "HWIO", "NHWC"), ("NCHW", "OIHW", "NHWC"), ("HWNC", "IHWO", "CWHN")

    def place(value, standard, order):
        return np.transpose(value, [standard.index(letter) for letter in order])

    for order in orders:
        operands = place(x, "NHWC", order[0]), place(kernel, "HWIO", order[1])
        f = lambda *operands, order=order: lax.conv_general_dilated(
            *operands,
            (2, 1),
            ((1, 0), (2, 1)),
            lhs_dilation=(1, 2),
            dimension_numbers=order,
            feature_group_count=2,
        )
        compute = primitives.channels_last(equation("conv_general_dilated", f, *operands))
        if order is orders[0]:
            assert compute is None
            continue
        np.testing.assert_array_equal(compute(*operands)[0], f(*operands))
