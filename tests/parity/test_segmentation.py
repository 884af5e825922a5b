"""Networks for segmentation against torchvision, and against the layers of torch.nn.functional."""

import jax
import numpy as np
import pytest

from jaxdl import interop
from jaxdl.zoo.segmentation import fcn
from jaxdl.zoo.segmentation.fcn_resnet import fcn_resnet50
from jaxdl.zoo.segmentation.unet import padded_unet, unet
from tests.nn.filled import normal

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")
F = torch.nn.functional


def randomized(network, seed):
    """Draws the running statistics and the scales of batch normalizations, too."""
    torch.manual_seed(seed)
    for name, value in network.state_dict().items():
        if name.endswith(("running_mean", "bias")):
            value.normal_(0, 0.1)
        elif name.endswith("running_var") or (value.ndim == 1 and value.is_floating_point()):
            value.uniform_(0.8, 1.2)
    return network.eval()


def tensor(x):
    return torch.from_numpy(np.array(x).transpose(0, 3, 1, 2))


def compare(y, expected, tolerance=1e-4):
    expected = expected.detach().numpy().transpose(0, 2, 3, 1)
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())


def test_fcn_over_resnet_50_and_its_auxiliary_head():
    from torchvision.models.segmentation import fcn_resnet50 as reference

    network = randomized(reference(weights=None, weights_backbone=None, aux_loss=True), 0)
    arrays = {name: value.numpy() for name, value in network.state_dict().items()}
    x = normal(0, 2, 65, 72, 3)
    model = fcn_resnet50(auxiliary_head=True)
    params, state = interop.load(model, arrays, inputs=x)
    main, auxiliary = jax.jit(model.apply)(params, state, x)[0]
    with torch.no_grad():
        expected = network(tensor(x))
    compare(main, expected["out"])
    compare(auxiliary, expected["aux"])
    exported = interop.export_torch_state_dict(model, params, state, inputs=x)
    network.load_state_dict({k: torch.from_numpy(v) for k, v in exported.items()}, strict=False)
    assert set(exported) == {k for k in arrays if not k.endswith("num_batches_tracked")}


def drawn(model, x):
    """Random parameters and statistics, and the same as tensors with PyTorch's names."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        name = path[-1].key
        if name == "kernel":
            return np.float32(rng.normal(size=leaf.shape) * np.sqrt(2 / np.prod(leaf.shape[:-1])))
        return np.float32(rng.uniform(0.8, 1.2, leaf.shape) - (name in ("bias", "mean")))

    params, state = jax.tree_util.tree_map_with_path(draw, shapes)
    exported = interop.export_torch_state_dict(model, params, state, inputs=x)
    return params, state, {k: torch.from_numpy(v) for k, v in exported.items()}


def torch_fcn(stride, w, x):
    """wkentaro/pytorch-fcn, from its description: padding of 100, ceiling pools, fixed crops."""

    def conv(y, name, **options):
        return F.conv2d(y, w[f"{name}.weight"], w[f"{name}.bias"], **options)

    def up(y, name, factor):
        return F.conv_transpose2d(y, w[f"{name}.weight"], stride=factor)

    def cut(y, offset, like):
        height, width = like.shape[2:]
        return y[:, :, offset : offset + height, offset : offset + width]

    y, pools = x, {}
    for stage, depth in enumerate((2, 2, 3, 3, 3), start=1):
        for i in range(1, depth + 1):
            padding = 100 if (stage, i) == (1, 1) else 1
            y = F.relu(conv(y, f"conv{stage}_{i}", padding=padding))
        y = pools[stage] = F.max_pool2d(y, 2, ceil_mode=True)
    y = conv(F.relu(conv(F.relu(conv(y, "fc6")), "fc7")), "score_fr")
    if stride == 32:
        return cut(up(y, "upscore", 32), 19, x)
    y = up(y, "upscore2", 2)
    y = y + cut(conv(pools[4], "score_pool4"), 5, y)
    if stride == 16:
        return cut(up(y, "upscore16", 16), 27, x)
    y = up(y, "upscore_pool4", 2)
    y = y + cut(conv(pools[3], "score_pool3"), 9, y)
    return cut(up(y, "upscore8", 8), 31, x)


@pytest.mark.parametrize("stride", [32, 16, 8])
def test_fcn(stride):
    model = fcn.fcn(stride, 5, channels=(8,) * 5, hidden=6)
    x = normal(0, 1, 37, 70, 3)
    params, state, weights = drawn(model, x)
    compare(jax.jit(model.apply)(params, state, x)[0], torch_fcn(stride, weights, tensor(x)))


def torch_unet(w, x, depth, padded, bilinear=False):
    """milesial/Pytorch-UNet with names of our layers, and its valid form without normalization."""

    def block(y, name):
        for i in (1, 2):
            conv = f"{name}.conv{i}"
            y = F.conv2d(y, w[f"{conv}.weight"], w.get(f"{conv}.bias"), padding=int(padded))
            if padded:
                norm = [w[f"{name}.norm{i}.{part}"] for part in PARTS]
                y = F.batch_norm(y, *norm)
            y = F.relu(y)
        return y

    y, skips = block(x, "down0"), []
    for level in range(1, depth + 1):
        skips.append(y)
        y = block(F.max_pool2d(y, 2), f"down{level}")
    for level in reversed(range(depth)):
        name, skip = f"upsample{level}", skips[level]
        if bilinear:
            y = F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=True)
        else:
            y = F.conv_transpose2d(y, w[f"{name}.weight"], w[f"{name}.bias"], stride=2)
        rows, columns = (skip.shape[a] - y.shape[a] for a in (2, 3))
        edges = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
        if padded:
            y = F.pad(y, edges)
        else:
            skip = F.pad(skip, [-edge for edge in edges])
        y = block(torch.cat([skip, y], 1), f"up{level}")
    return F.conv2d(y, w["logits.weight"], w["logits.bias"])


PARTS = ("running_mean", "running_var", "weight", "bias")


@pytest.mark.parametrize("form", ["valid", "padded", "bilinear"])
def test_unet(form):
    if form == "valid":
        model, x = unet(width=8, depth=2), normal(0, 1, 44, 52, 1)
    else:
        model = padded_unet(width=8, depth=2, bilinear=form == "bilinear")
        x = normal(0, 1, 27, 34, 3)
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    params, state, _ = drawn(model, x)
    own = interop.export_torch_state_dict(model, params, state, inputs=x, names="own names")
    weights = {name: torch.from_numpy(value) for name, value in own.items()}
    expected = torch_unet(weights, tensor(x), 2, form != "valid", form == "bilinear")
    compare(jax.jit(model.apply)(params, state, x)[0], expected)
    assert len(weights) == len(jax.tree.leaves(shapes))
