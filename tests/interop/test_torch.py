"""PyTorch's weights: layouts against NumPy's sums, names, and what is refused."""

import functools
import itertools

import chex
import jax
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

import jaxdl
from jaxdl import interop, nn, tree
from jaxdl.zoo.vision import cifar_resnet, efficientnet, resnet, vgg
from tests import docs_code
from tests.nn.filled import filled, normal


def network(flip=False):
    """Every layout: grouped, transposed and flattened."""
    return jaxdl.serial(
        conv1=nn.conv(6, 3, padding=1, groups=2, flip=flip),
        norm1=nn.batch_norm(),
        conv2=nn.conv_transpose(3, 2, stride=2, padding=0, flip=not flip),
        relu=jax.nn.relu,
        flatten=nn.flatten(),
        norm2=nn.layer_norm(eps=1e-5),
        dropout=nn.dropout(0.5),
        logits=nn.dense(5),
    )


X = np.asarray(normal(0, 2, 3, 2, 4))  # (N, H, W, C): features of a flattened map change places
MODEL = network()
apply = jax.jit(MODEL.apply)


SHAPES = {
    "conv1.weight": (6, 2, 3, 3),
    "conv1.bias": (6,),
    **{f"norm1.{part}": (6,) for part in ("weight", "bias", "running_mean", "running_var")},
    "conv2.weight": (6, 3, 2, 2),
    "conv2.bias": (3,),
    **{f"norm2.{part}": (72,) for part in ("weight", "bias")},
    "logits.weight": (5, 72),
    "logits.bias": (5,),
}


def draw_state_dict(seed):
    rng = np.random.default_rng(seed)
    arrays = {name: rng.uniform(-1, 1, shape) for name, shape in SHAPES.items()}
    arrays["norm1.running_var"] += 1.5
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def run_like_pytorch(a, x):
    """The network in NumPy, channels first, by the definitions in PyTorch's documentation."""
    a = {name: np.float64(array) for name, array in a.items()}
    x = np.float64(x).transpose(0, 3, 1, 2)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    cells = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
    groups = [
        np.einsum("nchwij,fcij->nfhw", cells[:, 2 * g : 2 * g + 2], kernel)
        for g, kernel in enumerate(np.split(a["conv1.weight"], 2))
    ]
    column = lambda name: a[name][:, None, None]
    x = np.concatenate(groups, 1) + column("conv1.bias")
    x = (x - column("norm1.running_mean")) / np.sqrt(column("norm1.running_var") + 1e-5)
    x = x * column("norm1.weight") + column("norm1.bias")
    n, _, height, width = x.shape
    y = np.zeros((n, 3, 2 * height, 2 * width)) + column("conv2.bias")
    for i, j in itertools.product(range(height), range(width)):
        cell = np.einsum("nc,cfij->nfij", x[:, :, i, j], a["conv2.weight"])
        y[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2] += cell
    x = np.maximum(y, 0).reshape(n, -1)
    x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    x = x * a["norm2.weight"] + a["norm2.bias"]
    return x @ a["logits.weight"].T + a["logits.bias"]


@given(seed=st.integers(0, 2**32 - 1))
def test_a_loaded_network_computes_what_pytorch_defines(seed):
    arrays = draw_state_dict(seed)
    params, state = interop.load(MODEL, arrays, inputs=X)
    y = apply(params, state, X)[0]
    np.testing.assert_allclose(y, run_like_pytorch(arrays, X), rtol=1e-3, atol=1e-3)
    again = interop.export_torch_state_dict(MODEL, params, state, inputs=X)
    assert list(again) == list(arrays)
    chex.assert_trees_all_equal(again, arrays)


def test_flipped_windows_are_flipped_back():
    arrays = draw_state_dict(0)
    plain, flipped = (interop.load(m, arrays, inputs=X)[0] for m in (MODEL, network(flip=True)))
    for name in ("conv1", "conv2"):
        turned = np.asarray(plain[name]["kernel"])[::-1, ::-1]
        np.testing.assert_array_equal(flipped[name]["kernel"], turned)


def test_a_file_is_read_in_the_dtype_of_the_model(tmp_path):
    arrays = draw_state_dict(0) | {"norm1.num_batches_tracked": np.array(7)}
    for dtype in (np.float16, ml_dtypes.bfloat16, np.float64):
        path = tmp_path / f"{np.dtype(dtype).name}.safetensors"
        low = {name: a.astype(dtype) if a.ndim else a for name, a in arrays.items()}
        save_file(low, path)
        params, state = interop.load(MODEL, path, inputs=X)
        chex.assert_trees_all_equal_dtypes((params, state), filled(MODEL, X))
        mean = low["norm1.running_mean"].astype(np.float32)
        np.testing.assert_array_equal(state["norm1"]["mean"], mean)


def test_features_that_are_in_pytorchs_order_stay_in_it():
    """A model that moves channels to the front, or that averages before the dense layer."""
    moved = jaxdl.serial(
        conv=nn.conv(3), turn=lambda x: x.transpose(0, 3, 1, 2).reshape(len(x), -1), out=nn.dense(2)
    )
    mean = jaxdl.serial(conv=nn.conv(3), mean=nn.global_avg_pool(), out=nn.dense(2))
    each_step = jaxdl.serial(conv=nn.conv(3), out=nn.dense(2))
    for model in (moved, mean, each_step):
        params, state = filled(model, X)
        arrays = interop.export_torch_state_dict(model, params, state, inputs=X)
        np.testing.assert_array_equal(arrays["out.weight"], params["out"]["kernel"].T)


def test_a_map_that_a_forward_function_flattens():
    children = {"conv": nn.conv(3), "out": nn.dense(2)}
    forward = lambda call, x: call("out", jax.nn.relu(call("conv", x)).reshape(len(x), -1))
    model = jaxdl.compose("net", children, forward)
    params, state = filled(model, X)
    weight = interop.export_torch_state_dict(model, params, state, inputs=X)["out.weight"]
    kernel = np.asarray(params["out"]["kernel"]).reshape(3, 2, 3, 2)
    np.testing.assert_array_equal(weight, kernel.transpose(3, 2, 0, 1).reshape(2, -1))


@functools.cache
def small(family):
    """A small network of a family, and its input."""
    # Two stages of a network have all names, and most of the time is tracing.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vgg, "CHANNELS", (2, 2))
        patch.setattr(efficientnet, "STAGES", efficientnet.STAGES[:2])
        model = {
            "vgg": lambda: vgg.vgg((1, 2), num_classes=3, norm=True),
            "resnet": lambda: resnet.resnet(resnet.bottleneck, (1, 2), num_classes=3),
            "cifar_resnet": lambda: cifar_resnet.cifar_resnet(14),
            "plain": lambda: cifar_resnet.cifar_resnet(8, plain=True),
            "efficientnet": lambda: efficientnet.efficientnet(num_classes=3),
        }[family]()
    if family == "vgg":  # without its 4096 units
        units = {f"dense{i}": nn.dense(4) for i in (1, 2)}
        model = jaxdl.serial(**{**model.children, **units})
    x = jax.ShapeDtypeStruct((1, 8, 8, 3), np.float32)
    return model, x, filled(model, x)


NAMES = {
    ("vgg", None): {
        "conv1_1/kernel": "features.0.weight",
        "norm1_1/scale": "features.1.weight",
        "conv2_2/bias": "features.7.bias",
        "norm2_2/var": "features.8.running_var",
        "dense1/kernel": "classifier.0.weight",
        "dense2/bias": "classifier.3.bias",
        "logits/bias": "classifier.6.bias",
    },
    ("resnet", None): {
        "conv1/kernel": "conv1.weight",
        "layer2_1/conv3/kernel": "layer2.1.conv3.weight",
        "layer2_0/norm2/mean": "layer2.0.bn2.running_mean",
        "layer1_0/shortcut/conv/kernel": "layer1.0.downsample.0.weight",
        "layer1_0/shortcut/norm/bias": "layer1.0.downsample.1.bias",
        "logits/kernel": "fc.weight",
    },
    ("resnet", "resnet_hugging_face"): {
        "norm1/scale": "resnet.embedder.embedder.normalization.weight",
        "layer2_1/conv3/kernel": "resnet.encoder.stages.1.layers.1.layer.2.convolution.weight",
        "layer1_0/shortcut/conv/kernel": (
            "resnet.encoder.stages.0.layers.0.shortcut.convolution.weight"
        ),
        "logits/kernel": "classifier.1.weight",
    },
    ("cifar_resnet", None): {
        "norm/var": "bn1.running_var",
        "block_3/sum/block/conv_1/kernel": "layer2.1.conv2.weight",
        "block_4/sum/block/norm_0/scale": "layer3.0.bn1.weight",
        "logits/bias": "linear.bias",
    },
    ("plain", None): {"block_2/layers/conv_0/kernel": "layer3.0.conv1.weight"},
    ("efficientnet", None): {
        "conv1/kernel": "features.0.0.weight",
        "stage1_0/depthwise/kernel": "features.1.0.block.0.0.weight",
        "stage1_0/norm3/bias": "features.1.0.block.2.1.bias",
        "stage2_1/expand/kernel": "features.2.1.block.0.0.weight",
        "stage2_1/gate/expand/bias": "features.2.1.block.2.fc2.bias",
        "norm2/mean": "features.8.1.running_mean",
        "logits/kernel": "classifier.1.weight",
    },
    ("efficientnet", "efficientnet_timm"): {
        "stage1_0/project/kernel": "blocks.0.0.conv_pw.weight",
        "stage1_0/norm2/scale": "blocks.0.0.bn1.weight",
        "stage2_1/norm2/mean": "blocks.1.1.bn2.running_mean",
        "stage2_1/gate/reduce/kernel": "blocks.1.1.se.conv_reduce.weight",
        "conv2/kernel": "conv_head.weight",
    },
}


@pytest.mark.parametrize("family, names", NAMES)
def test_each_family_has_its_names_and_comes_back(family, names):
    model, x, values = small(family)
    arrays = interop.export_torch_state_dict(model, *values, names=names, inputs=x)
    flat = {**tree.flatten(values[0]), **tree.flatten(values[1])}
    assert len(arrays) == sum(len(tree.flatten(part)) for part in values)
    for path, name in NAMES[family, names].items():
        np.testing.assert_array_equal(np.sort(flat[path].ravel()), np.sort(arrays[name].ravel()))
    loaded = interop.load(model, arrays, inputs=x)  # which chooses the family by the names
    chex.assert_trees_all_equal(loaded, values)
    if family == "efficientnet":  # a dense layer here is a convolution there
        gates = [a for name, a in arrays.items() if name.endswith(("fc1.weight", "reduce.weight"))]
        assert len(gates) == 3 and all(a.ndim == 4 for a in gates)


def test_a_table_of_ones_own():
    model = jaxdl.serial(stem=nn.conv(2), blocks=jaxdl.serial(*[nn.conv(2)] * 2))
    params, state = filled(model, X)
    table = {"stem": "backbone.0", r"blocks/conv_(\d)": r"backbone.\1.conv"}
    for names in (
        table,
        list(table.items()),
        lambda paths: [(p, p.replace("/", ".")) for p in paths],
    ):
        arrays = interop.export_torch_state_dict(model, params, state, names=names, inputs=X)
        expected = {"stem.weight"} if callable(names) else {"backbone.0.weight"}
        assert expected < set(arrays)
        loaded = interop.load(model, arrays, names=names, inputs=X)
        chex.assert_trees_all_equal(loaded, (params, state))


def test_all_names_that_do_not_fit_are_reported_at_once():
    arrays = draw_state_dict(0)
    del arrays["conv1.bias"], arrays["norm1.running_var"]
    arrays |= {"logits.weight": np.zeros((5, 7)), "fc.bias": np.zeros(3)}
    with pytest.raises(ValueError) as error:
        interop.load(MODEL, arrays, inputs=X)
    assert str(error.value).splitlines()[1:] == [
        "  missing conv1.bias (6,) for params/conv1/bias (6,)",
        "  missing norm1.running_var (6,) for state/norm1/var (6,)",
        "  misshapen logits.weight (5, 7); expected (5, 72) for params/logits/kernel (72, 5)",
        "  unexpected fc.bias (3,)",
    ]


def test_bad_input(tmp_path):
    arrays, (params, state) = draw_state_dict(0), filled(MODEL, X)
    text = tmp_path / "text.safetensors"
    text.write_text("no weights")
    frozen = jaxdl.serial(conv=jaxdl.frozen(nn.conv(2)))
    cell = jaxdl.serial(rnn=nn.rnn(nn.gru(3)))
    steps = np.zeros((1, 2, 4), np.float32)
    load, export = interop.load, interop.export_torch_state_dict
    for call, message in {
        "pickle": (lambda: load(MODEL, "net.pth"), "'net.pth' is a pickle.*save_file"),
        "text": (lambda: load(MODEL, text), "text.safetensors' is not a safetensors file"),
        "family": (lambda: load(MODEL, arrays, names="resnets", inputs=X), "mean 'resnet'"),
        "rule": (lambda: load(MODEL, arrays, names=[("a", 3)], inputs=X), r"\('a', 3\); expected"),
        "pattern": (lambda: load(MODEL, arrays, names=[("(", "a")], inputs=X), r"\('\(', 'a'\)"),
        "uncovered": (
            lambda: load(MODEL, arrays, names={"conv1": "a"}, inputs=X),
            "layers norm1, conv2",
        ),
        "twice": (lambda: load(MODEL, arrays, names={".*": "a"}, inputs=X), "a.weight for params/"),
        "frozen": (
            lambda: load(frozen, {}, inputs=X),
            r"counterpart .* state/conv/params/kernel; expected",
        ),
        "recurrent": (lambda: load(cell, {}, inputs=steps), "no counterpart .* params/rnn/"),
        "model": (lambda: load(3, arrays), "model is"),
        "other input": (
            lambda: export(MODEL, params, state, inputs=X[:, :2]),
            r"logits/kernel is \(72, 5\), expected \(48, 5\).* Pass the input",
        ),
        "no state": (lambda: export(MODEL, params, {}, inputs=X), "missing state/norm1/mean"),
    }.values():
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(FileNotFoundError):
        load(MODEL, tmp_path / "none.safetensors", inputs=X)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_page_of_the_docs_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with jax.numpy_dtype_promotion("standard"), jax.debug_key_reuse(False):
        docs_code.run("interop/torch.md")
