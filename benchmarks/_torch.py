"""PyTorch, eager, a thread for each core; batches are indexed from a tensor: no DataLoader."""

from __future__ import annotations

import os

import numpy as np
import torch
from torch import nn

from benchmarks import _inputs

torch.set_num_threads(os.cpu_count() or 1)


def _channels_first(x):
    return torch.tensor(np.ascontiguousarray(np.moveaxis(x, -1, 1)))


def _mlp():
    return nn.Sequential(
        *(nn.Linear(784, 500), nn.Sigmoid(), nn.Linear(500, 500), nn.Sigmoid()), nn.Linear(500, 10)
    )


def _network(kind, channels):
    if kind == "stack":
        layers = ((nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()) for _ in range(4))
        return nn.Sequential(*(part for layer in layers for part in layer))
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(1600, 128), nn.ReLU(), nn.Linear(128, 10)),
    )


def epoch(n):
    """Returns a call that trains one epoch."""
    model = _mlp()
    x, y = map(torch.tensor, _inputs.rows(n))
    y = y.long()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def run():
        # Shuffled by index: a DataLoader would add the time of its Python loop over rows.
        order = torch.randperm(len(x))
        for i in range(0, len(x), 100):
            rows = order[i : i + 100]
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()

    return run


def step(kind, shape):
    """Returns a call of one step of training."""
    x, y = _inputs.images(*shape)
    model = _network(kind, x.shape[-1])
    x, y = _channels_first(x), torch.tensor(y).long()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)

    def run():
        optimizer.zero_grad()
        output = model(x)
        loss = output.square().mean() if kind == "stack" else nn.functional.cross_entropy(output, y)
        loss.backward()
        optimizer.step()

    return run
