"""Receptive fields against published sizes and against the pixels with a gradient."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdl
from jaxdl import nn, receptive_field, serial
from jaxdl.nn import avg_pool, conv, conv_transpose, global_avg_pool, max_pool
from jaxdl.zoo.vision.alexnet import alexnet
from jaxdl.zoo.vision.resnet import bottleneck, resnet
from jaxdl.zoo.vision.vgg import vgg16
from tests.nn.filled import filled


def image(size, channels=3):
    return jax.ShapeDtypeStruct((1, size, size, channels), np.float32)


@pytest.mark.row("F15")
def test_three_small_kernels_see_as_much_as_a_large_one():
    small = receptive_field(serial(*(conv(2, 3) for _ in range(3))), image(16))
    large = receptive_field(conv(2, 7), image(16))
    assert small == large == ((7, 7), (1, 1), (0, 0))


@pytest.mark.row("F15")
def test_published_sizes():
    """AlexNet and VGG-16 from Araujo et al. 2019; ResNet-50 with both places of its strides."""
    for model, size, layer, expected in (
        (alexnet(), 227, "conv5", (163, 16)),
        (alexnet(), 227, "pool5", (195, 32)),
        (vgg16(), 224, "pool5", (212, 32)),
    ):
        field = receptive_field(model, image(size), layer=layer)
        assert (field.size[0], field.stride[0]) == expected, layer


def windows(depths):
    """Kernel sizes and strides along the longest path of a ResNet of bottlenecks."""
    path = [(7, 2), (3, 2)]
    for stage, depth in enumerate(depths):
        path += [(3, 2 if stage else 1), *[(3, 1)] * (depth - 1)]
    return path


@pytest.mark.row("F15")
def test_of_two_branches_the_longer_counts():
    """The recursion r += (k - 1) j, j *= s by hand, along the longest path."""
    depths, size, step = (1, 2, 1, 1), 1, 1
    for kernel, stride in windows(depths):
        size, step = size + (kernel - 1) * step, step * stride
    field = receptive_field(resnet(bottleneck, depths), image(64), layer="layer4_0")
    assert (field.size[0], field.stride[0]) == (size, step)


@pytest.mark.row("F15")
def test_resnet_50_for_both_places_of_its_strides():
    """427 with the stride in the 3x3 convolution, 483 in the 1x1 before it, as in the paper."""
    path = windows((3, 4, 6, 3))
    pairs = [[(1, stride), (3, 1)] for _, stride in path[2:]]
    for layers, expected in ((path, 427), (sum(pairs, path[:2]), 483)):
        model = serial(*(conv(1, k, stride=s) for k, s in layers))
        assert receptive_field(model, image(64, 1)).size == (expected, expected)


def space_to_depth(x):
    n, h, w, c = x.shape
    x = x.reshape(n, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, h // 2, w // 2, 4 * c)


def two_paths(call, x):
    return jnp.concatenate([call("wide", x), call("narrow", x)], -1)


small = functools.partial(conv, 2, 3)
CASES = {
    "dilated": serial(small(dilation=2, padding=0), avg_pool(3, stride=2, padding=1)),
    "transposed": serial(small(stride=2), small(), conv_transpose(2, 3, stride=2)),
    "crooked": serial(small(stride=2), small(stride=2), conv_transpose(2, 4, stride=2, padding=1)),
    "depth": serial(space_to_depth, small()),
    "repeated": serial(small(stride=2), lambda x: jnp.repeat(x, 2, 1), small()),
    "rolled": serial(lambda x: jnp.roll(x, 1, 1), small()),
    "sliced": serial(lambda x: x[:, ::2, 1::3], small()),
    "causal": serial(lambda x: x.mean(2), nn.rnn(nn.elman(3))),
    "everything": serial(small(), global_avg_pool()),
    "looped": jaxdl.scan_layers(small(), 2),
    "grouped": serial(conv(4, 3, groups=2), conv(4, (5, 1))),
    "skipped": nn.residual(serial(small(), small())),
    "branches": serial(
        jaxdl.compose("pair", {"wide": small(), "narrow": conv(2, 1)}, two_paths),
        conv(4, 3, groups=2),
    ),
}


@pytest.mark.row("F15")
def test_the_field_is_where_the_gradient_is():
    """With positive weights no gradient cancels."""
    x = np.random.default_rng(0).uniform(0.5, 1, (1, 24, 24, 2)).astype(np.float32)
    params = {name: jax.tree.map(abs, filled(model, x)[0]) for name, model in CASES.items()}

    def middle(x, params, model):
        y = model.apply(params, {}, x)[0]
        unit = tuple(size // 2 for size in y.shape[1:-1])
        return y[:, *unit].sum()

    @jax.jit
    def slopes(x, params):
        slope = jax.grad(middle)
        return {name: slope(x, params[name], model) for name, model in CASES.items()}

    slopes = jax.tree.map(lambda slope: np.asarray(slope)[0].any(-1), slopes(x, params))
    for name, model in CASES.items():
        shape = jax.eval_shape(model.apply, params[name], {}, x)[0].shape
        field = receptive_field(model, jax.ShapeDtypeStruct(x.shape, x.dtype))
        for axis, (size, stride, offset) in enumerate(zip(*field, strict=True)):
            unit = shape[1 + axis] // 2 if stride else 0
            centre = offset + stride * unit
            ends = centre - (size - 1) / 2, centre + (size - 1) / 2
            where = np.flatnonzero(slopes[name].any(1 - axis))
            assert ends == (where[0], where[-1]), (name, axis, field)


def test_what_is_not_known_raises():
    x = image(8)
    with pytest.raises(ValueError, match=r"gather .* moves values along a spatial axis"):
        receptive_field(serial(lambda x: jnp.take(x, jnp.array([0, 3, 1]), axis=1)), x)
    with pytest.raises(ValueError, match="at least one spatial axis"):
        receptive_field(nn.dense(2), np.zeros((2, 3), np.float32))
    with pytest.raises(ValueError, match="conv_1"):
        receptive_field(serial(small(), max_pool(2)), x, layer="conv_1")
    with pytest.raises(ValueError, match="does not depend on x"):
        receptive_field(serial(jnp.zeros_like), x)
    with pytest.raises(ValueError, match="returns 2 arrays"):
        receptive_field(serial(lambda x: (x, x)), x)
