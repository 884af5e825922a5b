"""The networks of `real_networks` in torch, built of modules as Captum and Zennit want them."""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import Any

import torch
from torch import nn
from zennit.layer import Sum

from benchmarks import _real_weights as weights
from benchmarks._real_weights import WORDS

torch.set_num_threads(os.cpu_count() or 1)


def unit(n_in: int, n_out: int, size: int, stride: int = 1, conv: str = "conv") -> nn.Sequential:
    """A convolution without bias and its batch norm."""
    parts: Any = {
        conv: nn.Conv2d(n_in, n_out, size, stride, size // 2, bias=False),
        "norm": nn.BatchNorm2d(n_out),
    }
    return nn.Sequential(OrderedDict(parts))


class Bottleneck(nn.Module):
    """ResNet-50's block; Captum and Zennit need each use of an activation as its own module."""

    def __init__(self, n_in: int, width: int, stride: int):
        super().__init__()
        self.unit_1, self.relu_1 = unit(n_in, width, 1), nn.ReLU()
        self.unit_2, self.relu_2 = unit(width, width, 3, stride), nn.ReLU()
        self.unit_3 = unit(width, 4 * width, 1, conv="last")
        self.shortcut = unit(n_in, 4 * width, 1, stride) if n_in != 4 * width else nn.Identity()
        # Zennit needs the addition as a module, to give each summand its share.
        self.add, self.relu_3 = Sum(), nn.ReLU()

    def forward(self, x):
        y = self.relu_2(self.unit_2(self.relu_1(self.unit_1(x))))
        return self.relu_3(self.add(torch.stack([self.unit_3(y), self.shortcut(x)], -1)))


class ResNet50(nn.Module):
    """He et al. 2016, with the stride in the 3x3 convolutions."""

    def __init__(self):
        super().__init__()
        self.stem, self.relu, self.pool = unit(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        n, self.names = 64, []
        for stage, depth in enumerate((3, 4, 6, 3)):
            for i in range(depth):
                self.names.append(f"block_{stage}_{i}")
                block = Bottleneck(n, 64 * 2**stage, 2 if stage and not i else 1)
                setattr(self, self.names[-1], block)
                n = 256 * 2**stage
        self.mean, self.flatten, self.head = (
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(n, 1000),
        )

    def forward(self, x):
        x = self.pool(self.relu(self.stem(x)))
        for name in self.names:
            x = getattr(self, name)(x)
        return self.head(self.flatten(self.mean(x)))


class DenseUnit(nn.Module):
    """Norm, ReLU, 1x1 convolution, and again with a 3x3 convolution; 32 features are appended."""

    def __init__(self, n_in: int):
        super().__init__()
        self.norm_1, self.relu_1 = nn.BatchNorm2d(n_in), nn.ReLU()
        self.conv_1 = nn.Conv2d(n_in, 128, 1, bias=False)
        self.norm_2, self.relu_2 = nn.BatchNorm2d(128), nn.ReLU()
        self.conv_2 = nn.Conv2d(128, 32, 3, padding=1, bias=False)
        # Zennit would merge the next unit's norm into a convolution that comes right before it.
        self.joined = nn.Identity()

    def forward(self, x):
        y = self.conv_1(self.relu_1(self.norm_1(x)))
        return self.joined(torch.cat([x, self.conv_2(self.relu_2(self.norm_2(y)))], 1))


class Transition(nn.Module):
    def __init__(self, n_in: int):
        super().__init__()
        self.norm, self.relu = nn.BatchNorm2d(n_in), nn.ReLU()
        self.conv, self.pool = nn.Conv2d(n_in, n_in // 2, 1, bias=False), nn.AvgPool2d(2)

    def forward(self, x):
        return self.pool(self.conv(self.relu(self.norm(x))))


class DenseNet121(nn.Module):
    """Huang et al. 2017."""

    def __init__(self):
        super().__init__()
        self.stem, self.relu, self.pool = unit(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        n, self.names = 64, []
        for stage, depth in enumerate((6, 12, 24, 16)):
            for i in range(depth):
                self.names.append(f"block_{stage}_{i}")
                setattr(self, self.names[-1], DenseUnit(n))
                n += 32
            if stage < 3:
                self.names.append(f"transition_{stage}")
                setattr(self, self.names[-1], Transition(n))
                n //= 2
        self.norm, self.relu_2 = nn.BatchNorm2d(n), nn.ReLU()
        self.mean, self.flatten, self.head = (
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(n, 1000),
        )

    def forward(self, x):
        x = self.pool(self.relu(self.stem(x)))
        for name in self.names:
            x = getattr(self, name)(x)
        return self.head(self.flatten(self.mean(self.relu_2(self.norm(x)))))


class Twice(nn.Module):
    """Two 3x3 convolutions with bias and ReLU."""

    def __init__(self, n_in: int, n_out: int):
        super().__init__()
        self.conv_1, self.relu_1 = nn.Conv2d(n_in, n_out, 3, padding=1), nn.ReLU()
        self.conv_2, self.relu_2 = nn.Conv2d(n_out, n_out, 3, padding=1), nn.ReLU()

    def forward(self, x):
        return self.relu_2(self.conv_2(self.relu_1(self.conv_1(x))))


class UNet(nn.Module):
    """Ronneberger et al. 2015, padded; the scores are the means of the two maps."""

    def __init__(self):
        super().__init__()
        widths = 64, 128, 256, 512, 1024
        for i, (n_in, n_out) in enumerate(zip((3, *widths), widths, strict=False)):
            setattr(self, f"down_{i}", Twice(n_in, n_out))
            setattr(self, f"pool_{i}", nn.MaxPool2d(2))
        for i in reversed(range(4)):
            setattr(self, f"up_{i}", nn.ConvTranspose2d(widths[i + 1], widths[i], 2, 2))
            setattr(self, f"join_{i}", Twice(2 * widths[i], widths[i]))
        self.head, self.mean, self.flatten = (
            nn.Conv2d(64, 2, 1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )

    def forward(self, x):
        skips = []
        for i in range(5):
            x = getattr(self, f"down_{i}")(x if i == 0 else getattr(self, f"pool_{i - 1}")(x))
            skips.append(x)
        for i in reversed(range(4)):
            x = torch.cat([skips[i], getattr(self, f"up_{i}")(x)], 1)
            x = getattr(self, f"join_{i}")(x)
        return self.flatten(self.mean(self.head(x)))


class Lite0Block(nn.Module):
    """The inverted bottleneck, with the names of the weights' file."""

    def __init__(self, n_in: int, n_out: int, size: int, stride: int, expand: int):
        super().__init__()
        n = n_in * expand
        self.expand = expand > 1
        if self.expand:
            self._expand_conv = nn.Conv2d(n_in, n, 1, bias=False)
            self._bn0, self.relu_0 = nn.BatchNorm2d(n, eps=1e-3), nn.ReLU6()
        self.pad = same(size, stride)
        self._depthwise_conv = nn.Conv2d(n, n, size, stride, groups=n, bias=False)
        self._bn1, self.relu_1 = nn.BatchNorm2d(n, eps=1e-3), nn.ReLU6()
        self._project_conv = nn.Conv2d(n, n_out, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(n_out, eps=1e-3)
        self.add = Sum() if stride == 1 and n_in == n_out else None

    def forward(self, x):
        y = self.relu_0(self._bn0(self._expand_conv(x))) if self.expand else x
        y = self.relu_1(self._bn1(self._depthwise_conv(self.pad(y))))
        y = self._bn2(self._project_conv(y))
        return y if self.add is None else self.add(torch.stack([y, x], -1))


def same(size: int, stride: int) -> nn.Module:
    """TensorFlow's padding of an even side."""
    total = size - stride
    return nn.ZeroPad2d((total // 2, total - total // 2) * 2)


class Lite0(nn.Module):
    """EfficientNet-Lite0."""

    def __init__(self):
        super().__init__()
        self.pad, self._conv_stem = same(3, 2), nn.Conv2d(3, 32, 3, 2, bias=False)
        self._bn0, self.relu_0 = nn.BatchNorm2d(32, eps=1e-3), nn.ReLU6()
        blocks, n = [], 32
        for repeats, size, stride, expand, n_out in (
            *((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80)),
            *((3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)),
        ):
            for i in range(repeats):
                blocks.append(Lite0Block(n, n_out, size, 1 if i else stride, expand))
                n = n_out
        self._blocks = nn.Sequential(*blocks)
        self._conv_head = nn.Conv2d(n, 1280, 1, bias=False)
        self._bn1, self.relu_1 = nn.BatchNorm2d(1280, eps=1e-3), nn.ReLU6()
        self.mean, self.flatten, self._fc = (
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(1280, 1000),
        )

    def forward(self, x):
        x = self.relu_0(self._bn0(self._conv_stem(self.pad(x))))
        x = self.relu_1(self._bn1(self._conv_head(self._blocks(x))))
        return self._fc(self.flatten(self.mean(x)))


class Attention(nn.Module):
    """Multi-head attention with a softmax module."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        for name in ("query", "key", "value"):
            setattr(self, name, nn.Linear(width, width))
        self.softmax, self.out = nn.Softmax(-1), nn.Linear(width, width)

    def forward(self, x, mask=None):
        query, key, value = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        if mask is not None:
            # The smallest number and not -inf, whose product with a gradient of 0 would be NaN.
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        return self.out((self.softmax(scores) @ value).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """A transformer's block; with `last`, layer norm comes after the residual sums."""

    def __init__(self, width: int, heads: int, gelu: str, eps: float, last: bool = False):
        super().__init__()
        self.last = last
        self.norm_1, self.attention = nn.LayerNorm(width, eps), Attention(width, heads)
        self.norm_2, self.fc_1 = nn.LayerNorm(width, eps), nn.Linear(width, 4 * width)
        self.gelu, self.fc_2 = nn.GELU(gelu), nn.Linear(4 * width, width)

    def forward(self, x, mask=None):
        if self.last:
            x = self.norm_1(x + self.attention(x, mask))
            return self.norm_2(x + self.fc_2(self.gelu(self.fc_1(x))))
        x = x + self.attention(self.norm_1(x), mask)
        return x + self.fc_2(self.gelu(self.fc_1(self.norm_2(x))))


class ViT(nn.Module):
    """ViT-B/16: Dosovitskiy et al. 2021."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 768, 16, 16)
        self.token = nn.Parameter(torch.zeros(1, 1, 768))
        self.positions = nn.Parameter(torch.zeros(1, 197, 768))
        for i in range(12):
            setattr(self, f"block_{i}", Block(768, 12, "none", 1e-6))
        self.norm, self.head = nn.LayerNorm(768, 1e-6), nn.Linear(768, 1000)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        for i in range(12):
            x = getattr(self, f"block_{i}")(x)
        return self.head(self.norm(x)[:, 0])


class GPT2(nn.Module):
    """A decoder of GPT-2's size, from word embeddings (N, T, 768) to the next token's logits."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(WORDS, 768)
        self.positions = nn.Parameter(torch.zeros(1, weights.TOKENS, 768))
        for i in range(12):
            setattr(self, f"block_{i}", Block(768, 12, "tanh", 1e-5))
        self.norm = nn.LayerNorm(768, 1e-5)

    def forward(self, x):
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
        x = x + self.positions
        for i in range(12):
            x = getattr(self, f"block_{i}")(x, mask)
        return self.norm(x[:, -1]) @ self.embed.weight.T


class MiniLM(nn.Module):
    """MiniLM, from word embeddings (N, T, 384) to the cosine with the partner, (N, 1)."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(384, 1e-12)
        for i in range(6):
            setattr(self, f"block_{i}", Block(384, 12, "none", 1e-12, last=True))
        reference = weights.reference("minilm")
        self.mask = torch.tensor(reference["mask"])
        self.partners = torch.tensor(weights.partners())
        self.constants = torch.tensor(weights.minilm_constants(self.mask.shape[1]))

    def forward(self, x):
        # A batch can contain several copies of the sentences, as in integrated gradients.
        n = len(x) // len(self.mask)
        mask, partners = self.mask.repeat(n, 1), self.partners.repeat(n, 1)
        x = self.norm(x + self.constants)
        for i in range(6):
            x = getattr(self, f"block_{i}")(x, mask[:, None, None].bool())
        pooled = (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return (nn.functional.normalize(pooled) * partners).sum(1, keepdim=True)


NETWORKS: dict[str, type[nn.Module]] = {
    "resnet50": ResNet50,
    "densenet121": DenseNet121,
    "unet": UNet,
    "vit": ViT,
    "gpt2": GPT2,
    "lite0": Lite0,
    "minilm": MiniLM,
}


def build(name: str) -> tuple[nn.Module, torch.Tensor]:
    """Returns a network with its weights, and its input."""
    net = NETWORKS[name]().eval().requires_grad_(False)
    if name == "lite0":
        tensors = {key: torch.tensor(value) for key, value in weights.load_pretrained(name).items()}
        net.load_state_dict(tensors, strict=False)  # `num_batches_tracked` is not in the file
    else:
        _fill(net, weights.source(name))
    if name in ("gpt2", "minilm"):
        return net, torch.tensor(weights.embeddings(name))
    return net, torch.tensor(weights.images(name).transpose(0, 3, 1, 2).copy())


def _fill(net: nn.Module, source: Any) -> None:
    """Copies weights, drawn in Flax's layouts, to a network."""
    for name, layer in net.named_modules():
        path = name.replace(".", "/")
        for key, value in (
            *layer.named_parameters(recurse=False),
            *layer.named_buffers(recurse=False),
        ):
            if value.is_floating_point() and key not in ("partners", "constants"):
                value.copy_(torch.tensor(_weight(layer, path, key, tuple(value.shape), source)))


def _weight(layer: nn.Module, path: str, key: str, shape: tuple[int, ...], source: Any):
    names = {"running_mean": "mean", "running_var": "var"}
    attention = path.rpartition("/")[0].endswith("attention")
    if key != "weight":
        full = f"{path}/{names.get(key, key)}".lstrip("/")
        return source(full, shape)
    if isinstance(layer, nn.ConvTranspose2d):
        kernel = source(f"{path}/kernel", (*shape[2:], *shape[:2]))
        # torch's transposed convolution is the adjoint, whose window is mirrored against Flax's.
        return kernel[::-1, ::-1].transpose(2, 3, 0, 1).copy()
    if isinstance(layer, nn.Conv2d):
        kernel = source(f"{path}/kernel", (*shape[2:], *shape[1::-1]))
        return kernel.transpose(3, 2, 0, 1).copy()
    if isinstance(layer, nn.Linear):
        flax = shape[::-1]
        if attention:
            split = 12, shape[1] // 12
            flax = (*split, shape[0]) if path.endswith("out") else (shape[1], *split)
        return source(f"{path}/kernel", flax).reshape(shape[::-1]).T.copy()
    return source(f"{path}/{'embedding' if isinstance(layer, nn.Embedding) else 'scale'}", shape)
