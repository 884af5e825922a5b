"""Networks for images: their sizes, their depths, and their outputs from given weights."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdl
from jaxdl import interop, tree
from jaxdl.zoo.vision import resnet
from jaxdl.zoo.vision.alexnet import alexnet, local_response_normalization
from jaxdl.zoo.vision.cifar_resnet import cifar_resnet, plain_block, zero_padding_shortcut
from jaxdl.zoo.vision.densenet import densenet121
from jaxdl.zoo.vision.efficientnet import efficientnet, image_size
from jaxdl.zoo.vision.googlenet import googlenet, googlenet_with_heads
from jaxdl.zoo.vision.resnet import resnet18, resnet34, resnet50, resnet101, resnet152
from jaxdl.zoo.vision.senet import se_resnet50, squeeze_excite
from jaxdl.zoo.vision.vgg import vgg11, vgg13, vgg16, vgg19
from tests import docs_code
from tests.nn.filled import filled as random_parameters

# Tracing a deep network takes seconds: one model and one image size for each, shared by all tests.
MODELS = {
    "alexnet": (alexnet, 227),
    "vgg11": (vgg11, 224),
    "vgg13": (vgg13, 224),
    "vgg16": (vgg16, 224),
    "vgg19": (vgg19, 224),
    "vgg16 with norm": (lambda: vgg16(norm=True), 224),
    "vgg19 with norm": (lambda: vgg19(norm=True), 224),
    "googlenet": (googlenet, 224),
    "alexnet torchvision": (lambda: alexnet(variant="torchvision"), 224),
    "googlenet torchvision": (lambda: googlenet(variant="torchvision"), 64),
    "resnet18": (resnet18, 64),
    "resnet34": (resnet34, 64),
    "resnet50": (resnet50, 64),
    "resnet101": (resnet101, 64),
    "resnet152": (resnet152, 64),
    **{f"efficientnet b{n}": (functools.partial(efficientnet, f"b{n}"), 64) for n in range(8)},
}


@functools.cache
def built(name):
    """The model and the image that it is traced with; `jax.eval_shape` caches by the model."""
    make, size = MODELS[name]
    return make(), image(size)


def image(size):
    return jax.ShapeDtypeStruct((1, size, size, 3), np.float32)


def init_shapes(model, image):
    return jax.eval_shape(model.init, jax.random.key(0), image)


def parameters(model, image):
    return tree.count(init_shapes(model, image)[0])


def counted(module, channels):
    """`(parameters, channels)` of a chain of layers from its configuration, without a trace."""
    config = module.config
    if module.kind in ("conv", "dense"):
        features, bias = config["features"], config["use_bias"] * config["features"]
        window = config.get("kernel_size", 1) ** 2 * channels // config.get("groups", 1)
        return window * features + bias, features
    if module.kind == "batch_norm":
        return 2 * channels, channels
    total, first = 0, channels
    for name, child in module.children.items():
        count, after = counted(child, first if name == "shortcut" else channels)
        total, channels = total + count, channels if name == "shortcut" else after
    return total, first + channels if module.kind == "dense_layer" else channels


@pytest.mark.row("G01", "G02", "G03", "G04")
@pytest.mark.parametrize(
    "name, expected",
    [
        ("alexnet", 60_965_224),
        ("vgg11", 132_863_336),
        ("vgg13", 133_047_848),
        ("vgg16", 138_357_544),
        ("vgg19", 143_667_240),
        ("vgg16 with norm", 138_365_992),
        ("vgg19 with norm", 143_678_248),
        ("googlenet", 6_998_552),
        ("alexnet torchvision", 61_100_840),
        ("googlenet torchvision", 6_624_904),
        ("resnet18", 11_689_512),
        ("resnet34", 21_797_672),
        ("resnet50", 25_557_032),
        ("resnet101", 44_549_160),
        ("resnet152", 60_192_808),
    ],
)
def test_numbers_of_parameters(name, expected):
    model, x = built(name)
    if name.startswith("resnet"):
        assert counted(model, 3) == (expected, 1000)
    if name != "resnet101":  # one trace less, of a second
        assert parameters(model, x) == expected


@pytest.mark.row("G05", "T11")
def test_plain_and_residual_networks_for_small_images_are_of_one_size():
    sizes = {20: 269_722, 32: 464_154, 44: 658_586, 56: 853_018, 110: 1_727_962}
    for depth, expected in sizes.items():
        for plain in (False, True):
            model = cifar_resnet(depth, plain=plain)
            assert counted(model, 3) == (expected, 10), (depth, plain)
            if depth == 20:
                assert parameters(model, image(32)) == expected


def test_a_depth_that_is_none():
    with pytest.raises(ValueError, match=r"depth is 21; expected 6n \+ 2"):
        cifar_resnet(21)


@pytest.mark.row("T08", "G04")
@pytest.mark.parametrize(
    "name, expected",
    [
        ("alexnet", 8),
        ("vgg11", 11),
        ("vgg19", 19),
        ("googlenet", 22),
        ("resnet18", 18),
        ("resnet152", 152),
        ("efficientnet b0", 82),
        pytest.param("efficientnet b7", 274, marks=pytest.mark.slow),
    ],
)
def test_depths_as_the_lectures_table_has_them(name, expected):
    model, x = built(name)
    assert jaxdl.depth(model, x) == expected


def published(heading):
    """Returns the table of docs/zoo/vision.md with a heading: `{network: (number, percent)}`."""
    text = (docs_code.DOCS / "zoo" / "vision.md").read_text("utf-8")
    lines = text.partition(f"| network | {heading} |\n")[2].partition("\n\n")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]
    return {name: (int(number.replace(",", "")), float(part)) for name, number, part in rows}


@pytest.mark.row("T08")
def test_the_published_errors_fall_with_the_depth():
    table = published("depth | top-5 error (%)")
    assert table == {
        "AlexNet (2012)": (8, 16.4),
        "VGG-19 (2014)": (19, 7.3),
        "GoogLeNet (2014)": (22, 6.7),
        "ResNet-152 (2015)": (152, 3.57),
    }
    depths, errors = zip(*table.values(), strict=True)
    assert sorted(depths) == list(depths) and sorted(errors, reverse=True) == list(errors)


@pytest.mark.row("T17")
def test_an_efficient_network_is_smaller_and_more_accurate_than_a_residual_one():
    table = published("parameters | top-1 accuracy (%)")
    for name, (parameters, _) in table.items():
        family, _, size = name.lower().rpartition("-")
        model, _ = built(f"resnet{size}" if family == "resnet" else f"{family} {size}")
        assert counted(model, 3) == (parameters, 1000), name
    millions = {name: round(parameters / 1e6, 2) for name, (parameters, _) in table.items()}
    assert millions["EfficientNet-B0"] == 5.29 and millions["ResNet-50"] == 25.56
    assert round(millions["EfficientNet-B7"], 1) == 66.3
    for small, large in (("B0", "50"), ("B1", "152")):
        efficient, residual = table[f"EfficientNet-{small}"], table[f"ResNet-{large}"]
        assert 4 * efficient[0] < residual[0] and efficient[1] > residual[1]


@pytest.mark.row("G12", "T17")
@pytest.mark.parametrize(
    "size, expected",
    [
        ("b0", 5_288_548),
        ("b1", 7_794_184),
        ("b2", 9_109_994),
        ("b3", 12_233_232),
        ("b4", 19_341_616),
        ("b5", 30_389_784),
        ("b6", 43_040_704),
        ("b7", 66_347_960),
    ],
)
def test_efficient_networks_grow_by_their_factors(size, expected):
    model, x = built(f"efficientnet {size}")
    assert counted(model, 3) == (expected, 1000)
    if size == "b0":  # the lectures: more accurate than ResNet-50, and a fifth of it
        assert parameters(model, x) == expected
        assert 4.5 < 25_557_032 / expected < 5


def multiplications(module, channels, side):
    """`(multiplications, channels, side)` of a chain of layers for one image."""
    config = module.config
    if module.kind == "conv":
        side = -(-side // config["stride"])
        weights = config["kernel_size"] ** 2 * channels // config["groups"] * config["features"]
        return weights * side**2, config["features"], side
    if module.kind == "dense":
        return channels * config["features"], config["features"], 1
    total, inner = 0, side
    for child in module.children.values():
        count, channels, inner = multiplications(child, channels, inner)
        total += count
    return total, channels, side if module.kind == "squeeze_excite" else inner


@pytest.mark.row("G12")
def test_depth_width_and_resolution_grow_together():
    """alpha beta^2 gamma^2 = 1.920; the paper's table 2 has the multiplications, in 10^9."""
    alpha, beta, gamma = 1.2, 1.1, 1.15
    assert alpha * beta**2 * gamma**2 == pytest.approx(1.920, abs=5e-4)
    published = {
        # phi, pixels, blocks, channels before the mean, multiplications
        "b0": (0, 224, 16, 1280, 0.39),
        "b1": (0.5, 240, 23, 1280, 0.70),
        "b2": (1, 260, 23, 1408, 1.0),
        "b3": (2, 300, 26, 1536, 1.8),
        "b4": (3.5, 380, 32, 1792, 4.2),
        "b5": (5, 456, 39, 2048, 9.9),
        "b6": (6, 528, 45, 2304, 19),
        "b7": (7, 600, 55, 2560, 37),
    }
    for size, (phi, pixels, blocks, channels, cost) in published.items():
        model = built(f"efficientnet {size}")[0]
        assert image_size(size) == pixels, size
        kinds = [child.kind for child in model.children.values()]
        assert kinds.count("inverted_residual") == blocks, size
        convs = [child for child in model.children.values() if child.kind == "conv"]
        assert convs[-1].config["features"] == channels, size
        count, _, side = multiplications(model, 3, pixels)
        assert count / 1e9 == pytest.approx(cost, rel=0.06), size
        # The authors rounded, depth more than the others.
        assert pixels == pytest.approx(224 * gamma**phi, rel=0.05), size
        assert channels == pytest.approx(1280 * beta**phi, rel=0.06), size
        assert blocks == pytest.approx(16 * alpha**phi, rel=0.35), size


def test_a_size_that_is_none():
    for call in (efficientnet, image_size):
        with pytest.raises(ValueError, match="size is 'b8'; expected one of b0, b1"):
            call("b8")


def draw(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.row("G11")
def test_a_gate_multiplies_whole_channels():
    gate = squeeze_excite(6, 2, activation=jax.nn.silu)
    x = draw(3, 4, 5, 6)
    params, _ = random_parameters(gate, x)
    ratio = np.asarray(jax.jit(gate.apply)(params, {}, x)[0]) / x
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:, :1, :1], x.shape), rtol=1e-5)
    affine = lambda x, p: x @ np.asarray(p["kernel"]) + np.asarray(p["bias"])
    inner = affine(x.mean((1, 2)), params["reduce"])
    outer = affine(inner / (1 + np.exp(-inner)), params["expand"])
    np.testing.assert_allclose(ratio[:, 0, 0], 1 / (1 + np.exp(-outer)), rtol=1e-4)
    assert tree.count(params) == 2 * 6 * 2 + 2 + 6


@pytest.mark.row("T09")
def test_alexnet_in_numbers():
    """The lectures' 630 million connections do not follow from the figure; 724 million do."""
    model, x = built("alexnet")
    params = init_shapes(model, x)[0]
    names = [*(f"conv{i}" for i in range(1, 6)), "dense1", "dense2", "logits"]
    weights = [params[name] for name in names]
    counts = [34_944, 307_456, 885_120, 663_936, 442_624, 37_752_832, 16_781_312, 4_097_000]
    assert [tree.count(part) for part in weights] == counts and sum(counts) == 60_965_224
    summary = jaxdl.summary(model, x)
    layers = [row for row in summary.rows if row.kind in ("conv", "dense")]
    assert sum(row.flops for row in layers) // 2 == 724_406_816
    shapes = [re.findall(r"\d+", row.shape.partition("[")[2]) for row in layers]
    units = [math.prod(map(int, shape)) for shape in shapes]
    assert sum(units) == 659_272 and units[-2] == 4096


@pytest.mark.row("G01", "G03")
def test_local_response_normalization_is_the_papers_sum():
    a = np.random.default_rng(0).normal(size=(1, 2, 2, 7))
    expected = np.empty_like(a)
    for c in range(7):
        near = a[..., max(0, c - 2) : c + 3]
        expected[..., c] = a[..., c] / (2 + 1e-4 * (near**2).sum(-1)) ** 0.75
    x = np.float32(a)
    np.testing.assert_allclose(local_response_normalization(x), expected, rtol=1e-5)
    gradient = jax.jit(jax.grad(lambda x: local_response_normalization(x).sum()))(x)
    assert np.isfinite(gradient).all()


@pytest.mark.row("G04")
def test_a_residual_block_is_relu_of_x_and_f_of_x():
    block = resnet.basic_block(4, 1, False)
    x = draw(2, 5, 5, 4)
    params, state = random_parameters(block, x)
    f = jaxdl.serial(**{name: block.children[name] for name in list(block.children)[:-1]})
    inner = jax.jit(f.apply)(params, state, x)[0]
    apply = jax.jit(block.apply)
    np.testing.assert_allclose(
        apply(params, state, x)[0], np.maximum(x + inner, 0), rtol=1e-5, atol=1e-6
    )
    zeroed = jax.tree.map(np.zeros_like, params)
    np.testing.assert_array_equal(apply(zeroed, state, x)[0], np.maximum(x, 0))


@pytest.mark.row("G05")
def test_a_plain_network_has_no_way_around_its_layers():
    def kinds(module):
        return [module.kind, *(kind for part in module.children.values() for kind in kinds(part))]

    counts = [kinds(cifar_resnet(56, plain=plain)).count("residual") for plain in (False, True)]
    assert counts == [27, 0]
    block, x = plain_block(4, 1, False), draw(2, 5, 5, 4)
    params, state = jax.tree.map(np.zeros_like, random_parameters(block, x))
    assert not np.asarray(jax.jit(block.apply)(params, state, x)[0]).any()


def test_channels_of_zeros_stand_on_both_sides():
    x = np.arange(2 * 4 * 4 * 2, dtype=np.float32).reshape(2, 4, 4, 2)
    found = np.asarray(zero_padding_shortcut(4, 2)(jnp.asarray(x)))
    assert found.shape == (2, 2, 2, 4)
    np.testing.assert_array_equal(found[..., 1:3], x[:, ::2, ::2])
    assert not found[..., 0].any() and not found[..., 3].any()


def u(k, count):
    """Numbers in [0, 1) by a formula, so that two libraries can be given the same."""
    x = np.arange(1.0, count + 1)  # in place: AlexNet and VGG have 17 million in one layer
    x *= 12.9898
    x += 78.233 * (k + 1)
    np.abs(np.sin(x, out=x), out=x)
    x *= 43758.5453
    x -= np.floor(x)
    return x


def filled(model, x):
    """Weights by the formula, in the order in which a PyTorch model lists its own."""
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), init_shapes(model, x))
    arrays = interop.export_torch_state_dict(model, *zeros, inputs=x)
    for k, (name, array) in enumerate(arrays.items()):
        values = u(k, array.size).reshape(array.shape)
        if array.ndim > 1:
            values = (values - 0.5) * np.sqrt(12) * np.sqrt(2 / np.prod(array.shape[1:]))
        else:
            around = 1 if name.endswith(("weight", "running_var")) else 0
            values = around + 0.1 * (2 * values - 1)
        arrays[name] = values
    return interop.load(model, arrays, inputs=x)


GOLDEN = {
    "alexnet": (
        lambda: alexnet(num_classes=10),
        67,
        ([-1.05760135754, -0.342637429309, 1.33390951184], 2.37317480786, 2.9808268799),
    ),
    "vgg11": (
        lambda: vgg11(num_classes=10),
        32,
        ([0.0443093208184, 0.391421615209, 1.09366052518], 2.57398313015, 2.57204704991),
    ),
    "googlenet": (
        lambda: googlenet_with_heads(num_classes=10),
        80,
        ([-1.3870185214, 0.633640211852, -0.676048025187], -2.63292591727, 2.88998757877),
        ([0.451391607509, 0.336328688458, 0.85754272816], 9.10789601292, 4.97419648911),
        ([0.948254042445, -1.61735116589, 0.242371469103], 0.743491642676, 2.12245658959),
    ),
    "cifar_resnet20": (
        lambda: cifar_resnet(20),
        32,
        ([0.551254906331, 0.273238846612, -17.7092191806], -61.1284778217, 38.1150657849),
    ),
    "resnet18": (
        resnet18,
        64,
        ([0.694206753372, 5.5989574124, 3.67664071481], -59.7123338598, 424.629601152),
    ),
    "vgg11 of 224 pixels": (
        vgg11,
        224,
        ([2.5868554132, 0.639084613966, 0.793371258502], -42.8052861829, 64.3358780044),
    ),
    "resnet34": (
        resnet34,
        64,
        ([97.7676909686, 128.337227023, -94.6163993802], -932.228537835, 4897.4706674),
    ),
    "resnet50": (
        resnet50,
        64,
        ([75.3666513312, -116.336947959, 415.025240447], -8893.66029459, 9121.25228661),
    ),
    "efficientnet_b0": (
        efficientnet,
        64,
        ([-0.0132014700821, -0.127830247494, -0.040364164421], -3.03106293359, 3.80410028775),
    ),
    "alexnet torchvision": (
        lambda: alexnet(variant="torchvision"),
        224,
        ([-4.14339054656, -3.89138669865, 3.08821707295], -191.966551469, 77.3722622744),
    ),
    "googlenet torchvision": (
        lambda: googlenet(variant="torchvision"),
        64,
        ([-0.807107716712, -1.75555027324, 1.22805136259], 25.3858310827, 79.6986194317),
    ),
    "densenet121": (
        densenet121,
        64,
        ([-0.216596237872, -0.554479929651, 0.538193728661], -15.3651826424, 23.8129484736),
    ),
    "se_resnet50": (
        se_resnet50,
        64,
        ([-32.0633937098, 18.8473048163, -22.8392771645], -372.789344197, 778.725393645),
    ),
}
"""For each output the first three numbers, the sum of all and their norm, in double precision from
the weights of `filled`: by torchvision, for CIFAR by akamaster/pytorch_resnet_cifar10, for
SE-ResNet by Cadene/pretrained-models.pytorch; for the paper's AlexNet and GoogLeNet and for VGG of
32 pixels by the papers' layers in torch.nn.functional."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("alexnet", marks=pytest.mark.row("G01")),
        pytest.param("vgg11", marks=pytest.mark.row("G02")),
        pytest.param("googlenet", marks=pytest.mark.row("G03")),
        pytest.param("cifar_resnet20", marks=pytest.mark.row("G04")),
        pytest.param("resnet18", marks=pytest.mark.row("G04")),
        pytest.param("vgg11 of 224 pixels", marks=[pytest.mark.row("G02"), pytest.mark.slow]),
        pytest.param("resnet34", marks=[pytest.mark.row("G04"), pytest.mark.slow]),
        pytest.param("resnet50", marks=[pytest.mark.row("G04"), pytest.mark.slow]),
        pytest.param("efficientnet_b0", marks=[pytest.mark.row("G12"), pytest.mark.slow]),
        pytest.param("alexnet torchvision", marks=[pytest.mark.row("G01"), pytest.mark.slow]),
        pytest.param("googlenet torchvision", marks=[pytest.mark.row("G03"), pytest.mark.slow]),
        pytest.param("densenet121", marks=[pytest.mark.row("G10"), pytest.mark.slow]),
        pytest.param("se_resnet50", marks=[pytest.mark.row("G11"), pytest.mark.slow]),
    ],
)
def test_the_outputs_are_those_of_the_pytorch_models(name):
    make, size, *expected = GOLDEN[name]
    with jax.enable_x64(True):
        model = make()
        x = 2 * u(-1, 3 * size * size).reshape(1, 3, size, size) - 1
        x = x.transpose(0, 2, 3, 1)
        params, state = filled(model, x)
        outputs = jax.tree.leaves(jax.device_get(jax.jit(model.apply)(params, state, x)[0]))
    for (y,), (first, total, norm) in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(y[:3], first, rtol=1e-6)
        np.testing.assert_allclose([y.sum(), np.linalg.norm(y)], [total, norm], rtol=1e-6)


@pytest.mark.row("G03")
def test_the_heads_that_help_to_train_googlenet():
    model = googlenet_with_heads()
    *main, low, high = model.children
    assert main == list(googlenet().children)
    sizes = {low: (512, 3_188_840), high: (528, 3_190_888)}
    for name, (channels, expected) in sizes.items():
        x = jax.ShapeDtypeStruct((1, 14, 14, channels), np.float32)
        assert parameters(model.children[name], x) == expected, name
        rates = [layer.config.get("rate") for layer in model.children[name].children.values()]
        assert rates.count(0.7) == 1, name
    assert sum(size for _, size in sizes.values()) + 6_998_552 == 13_378_280
    with pytest.raises(ValueError, match=r"window of \(5, 5\) does not fit"):  # images of 64 pixels
        init_shapes(model.children[low], jax.ShapeDtypeStruct((1, 4, 4, 512), np.float32))
