"""The networks of `real_networks` in Flax Linen, as a user would write them."""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from benchmarks import _real_weights as weights
from benchmarks._real_weights import WORDS

Norm: Any = functools.partial(nn.BatchNorm, use_running_average=True)
Conv: Any = functools.partial(nn.Conv, use_bias=False)


class Unit(nn.Module):
    """A convolution without bias and its batch norm."""

    features: int
    size: int
    stride: int = 1
    conv: str = "conv"

    @nn.compact
    def __call__(self, x):
        pad = [(self.size // 2, self.size // 2)] * 2
        conv = Conv(self.features, (self.size,) * 2, self.stride, padding=pad, name=self.conv)
        return Norm(name="norm")(conv(x))


class Bottleneck(nn.Module):
    """ResNet-50's block."""

    width: int
    stride: int

    @nn.compact
    def __call__(self, x):
        y = nn.relu(Unit(self.width, 1, name="unit_1")(x))
        y = nn.relu(Unit(self.width, 3, self.stride, name="unit_2")(y))
        y = Unit(4 * self.width, 1, conv="last", name="unit_3")(y)
        if x.shape[-1] != 4 * self.width:
            x = Unit(4 * self.width, 1, self.stride, name="shortcut")(x)
        return nn.relu(y + x)


def stem(x):
    """Begins ResNet-50 and DenseNet-121."""
    x = nn.relu(Unit(64, 7, 2, name="stem")(x))
    edges: Any = ((1, 1), (1, 1))
    return nn.max_pool(x, (3, 3), (2, 2), padding=edges)


class ResNet50(nn.Module):
    """He et al. 2016, with the stride in the 3x3 convolutions."""

    @nn.compact
    def __call__(self, x):
        x = stem(x)
        for stage, depth in enumerate((3, 4, 6, 3)):
            for i in range(depth):
                stride = 2 if stage and not i else 1
                x = Bottleneck(64 * 2**stage, stride, name=f"block_{stage}_{i}")(x)
        return nn.Dense(1000, name="head")(x.mean((1, 2)))


class DenseUnit(nn.Module):
    """Norm, ReLU, 1x1 convolution, and again with a 3x3 convolution; 32 features are appended."""

    @nn.compact
    def __call__(self, x):
        y = Conv(128, (1, 1), name="conv_1")(nn.relu(Norm(name="norm_1")(x)))
        y = Conv(32, (3, 3), name="conv_2")(nn.relu(Norm(name="norm_2")(y)))
        return jnp.concatenate([x, y], -1)


class Transition(nn.Module):
    """Halves the features and the sides."""

    @nn.compact
    def __call__(self, x):
        y = nn.relu(Norm(name="norm")(x))
        return nn.avg_pool(Conv(x.shape[-1] // 2, (1, 1), name="conv")(y), (2, 2), (2, 2))


class DenseNet121(nn.Module):
    """Huang et al. 2017."""

    @nn.compact
    def __call__(self, x):
        x = stem(x)
        for stage, depth in enumerate((6, 12, 24, 16)):
            for i in range(depth):
                x = DenseUnit(name=f"block_{stage}_{i}")(x)
            if stage < 3:
                x = Transition(name=f"transition_{stage}")(x)
        x = nn.relu(Norm(name="norm")(x))
        return nn.Dense(1000, name="head")(x.mean((1, 2)))


class Twice(nn.Module):
    """Two 3x3 convolutions with bias and ReLU."""

    features: int

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(self.features, (3, 3), name="conv_1")(x))
        return nn.relu(nn.Conv(self.features, (3, 3), name="conv_2")(x))


class UNet(nn.Module):
    """Ronneberger et al. 2015, padded; the scores are the means of the two maps."""

    @nn.compact
    def __call__(self, x):
        widths, skips = (64, 128, 256, 512, 1024), []
        for i, width in enumerate(widths):
            x = Twice(width, name=f"down_{i}")(nn.max_pool(x, (2, 2), (2, 2)) if i else x)
            skips.append(x)
        for i in reversed(range(4)):
            x = nn.ConvTranspose(widths[i], (2, 2), (2, 2), name=f"up_{i}")(x)
            x = Twice(widths[i], name=f"join_{i}")(jnp.concatenate([skips[i], x], -1))
        return nn.Conv(2, (1, 1), name="head")(x).mean((1, 2))


class Block(nn.Module):
    """A transformer's block, layer norm first."""

    approximate: bool
    eps: float

    @nn.compact
    def __call__(self, x, mask=None):
        norm = functools.partial(nn.LayerNorm, self.eps)
        attention = nn.MultiHeadDotProductAttention(12, deterministic=True, name="attention")
        x = x + attention(norm(name="norm_1")(x), mask=mask)
        y = nn.Dense(4 * x.shape[-1], name="fc_1")(norm(name="norm_2")(x))
        y = nn.gelu(y, approximate=self.approximate)
        return x + nn.Dense(x.shape[-1], name="fc_2")(y)


class ViT(nn.Module):
    """ViT-B/16: Dosovitskiy et al. 2021."""

    @nn.compact
    def __call__(self, x):
        zeros = nn.initializers.zeros
        x = nn.Conv(768, (16, 16), 16, name="patches")(x)
        x = x.reshape(len(x), -1, 768)
        token = jnp.broadcast_to(self.param("token", zeros, (1, 1, 768)), (len(x), 1, 768))
        x = jnp.concatenate([token, x], 1) + self.param("positions", zeros, (1, 197, 768))
        for i in range(12):
            x = Block(False, 1e-6, name=f"block_{i}")(x)
        return nn.Dense(1000, name="head")(nn.LayerNorm(1e-6, name="norm")(x)[:, 0])


class GPT2(nn.Module):
    """A decoder of GPT-2's size, from word embeddings (N, T, 768) to the next token's logits."""

    @nn.compact
    def __call__(self, x):
        mask = nn.make_causal_mask(jnp.ones(x.shape[:2]))
        x = x + self.param("positions", nn.initializers.zeros, (1, x.shape[1], 768))
        for i in range(12):
            x = Block(True, 1e-5, name=f"block_{i}")(x, mask)
        x = nn.LayerNorm(1e-5, name="norm")(x[:, -1])
        return nn.Embed(WORDS, 768, name="embed").attend(x)


NETWORKS = {
    "resnet50": ResNet50,
    "densenet121": DenseNet121,
    "unet": UNet,
    "vit": ViT,
    "gpt2": GPT2,
}


def build(name: str) -> tuple[Any, Any, jax.Array]:
    """Returns a network as a function of weights and input, its weights, and its input."""
    x = jnp.asarray(weights.embeddings(name) if name == "gpt2" else weights.images(name))
    model: Any = NETWORKS[name]()

    def draw(path, leaf):
        keys = [key.key for key in path[1:]]  # without "params" or "batch_stats"
        return jnp.asarray(weights.draw("/".join(keys), leaf.shape))

    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    return model.apply, jax.tree_util.tree_map_with_path(draw, shapes), x
