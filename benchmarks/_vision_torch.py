"""torchvision's side of `vision`, and a U-Net, eager, with a thread for each core."""

from __future__ import annotations

import os

import numpy as np
import torch
import torchvision
from torch import nn

from benchmarks import _inputs

torch.set_num_threads(os.cpu_count() or 1)


def _block(channels: int, features: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for size in (channels, features):
        kernel = nn.Conv2d(size, features, 3, padding=1, bias=False)
        layers += [kernel, nn.BatchNorm2d(features), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """The network of `jaxdl.zoo.segmentation.padded_unet`."""

    def __init__(self):
        super().__init__()
        widths = [64, 128, 256, 512, 1024]
        pairs = list(zip(widths, widths[1:], strict=False))
        self.down = nn.ModuleList([_block(3, 64), *(_block(*pair) for pair in pairs)])
        # Read from the bottom upwards.
        self.upsample = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, 2) for a, b in pairs[::-1])
        self.up = nn.ModuleList(_block(b, a) for a, b in pairs[::-1])
        self.logits = nn.Conv2d(64, 2, 1)

    def forward(self, x):
        skips = [self.down[0](x)]
        for block in self.down[1:]:
            skips.append(block(nn.functional.max_pool2d(skips[-1], 2)))
        y = skips.pop()
        for upsample, block in zip(self.upsample, self.up, strict=True):
            y = block(torch.cat([skips.pop(), upsample(y)], 1))
        return self.logits(y)


def _model_and_batch(name, batch, side, channels_last):
    model = UNet() if name == "unet" else getattr(torchvision.models, name)()
    x, y = _inputs.vision(name, batch, side)
    x = torch.tensor(np.ascontiguousarray(np.moveaxis(x, -1, 1)))
    if channels_last:
        x, model = (a.to(memory_format=torch.channels_last) for a in (x, model))
    return model, x, torch.tensor(y).long()


def forward(name, batch, side, channels_last):
    """Returns a call that computes the logits."""
    model, x, _ = _model_and_batch(name, batch, side, channels_last)
    model.eval()

    def run():
        with torch.inference_mode():
            return model(x)

    return run


def step(name, batch, side, channels_last):
    """Returns a call of one step of training."""
    model, x, y = _model_and_batch(name, batch, side, channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)

    def run():
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    return run
