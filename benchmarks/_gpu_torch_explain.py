"""PyTorch's side of the explanations in `python -m benchmarks gpu`: plain loops over autograd.

Captum is not needed. Batches have the same number of points, copies or windows as ours.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from benchmarks._gpu_torch import images, labels, resnet, row
from benchmarks._gpu_works import CHUNK, CLASSES, WINDOWS


def explain(
    method: str,
    block: str,
    depths: Any,
    batch: int,
    side: int,
    points: int,
    window: int,
    seconds: float,
) -> dict[str, Any]:
    """Explains a batch, with fixed batch statistics and weights."""
    # Without gradients of the weights, which an explanation does not need.
    net = resnet(block, depths).eval().requires_grad_(False)
    x, target = images(batch, side), labels(batch, CLASSES)

    def gradient(x: torch.Tensor) -> torch.Tensor:
        x = x.detach().requires_grad_()
        chosen = net(x).gather(1, target.repeat(len(x) // batch)[:, None])
        return torch.autograd.grad(chosen.sum(), x)[0]

    def gradients(several: list[torch.Tensor]) -> torch.Tensor:
        """Returns the gradients at several batches, (batches, N, C, H, W), in one backward pass."""
        # `cat` loses the memory format, and convolutions would transpose every batch.
        joined = torch.cat(several).contiguous(memory_format=torch.channels_last)
        return gradient(joined).unflatten(0, (len(several), batch))

    def integrated_gradients() -> torch.Tensor:
        nodes, weights = np.polynomial.legendre.leggauss(points)
        total = torch.zeros_like(x)
        for i in range(0, points, CHUNK):
            grads = gradients([x * float((node + 1) / 2) for node in nodes[i : i + CHUNK]])
            for weight, grad in zip(weights[i : i + CHUNK], grads, strict=True):
                total += float(weight / 2) * grad
        return x * total

    def smooth_grad() -> torch.Tensor:
        total = torch.zeros_like(x)
        for i in range(0, points, CHUNK):
            copies = range(i, min(i + CHUNK, points))
            total += gradients([x + 0.1 * torch.randn_like(x) for _ in copies]).abs().sum(0)
        return total / points

    # Scores alone: autograd would keep every activation of every window.
    @torch.no_grad()
    def occlusion() -> torch.Tensor:
        def score(x: torch.Tensor) -> torch.Tensor:
            return net(x).gather(1, target.repeat(len(x) // batch)[:, None])

        whole, stride = score(x)[:, 0], window // 2
        firsts = range(0, side - window + stride, stride)
        corners = [(top, left) for top in firsts for left in firsts]
        total, count = torch.zeros_like(x), torch.zeros_like(x)
        for i in range(0, len(corners), WINDOWS):
            some = corners[i : i + WINDOWS]
            covered = x.repeat(len(some), 1, 1, 1)
            for j, (top, left) in enumerate(some):
                part = covered[j * batch : (j + 1) * batch]
                part[:, :, top : top + window, left : left + window] = 0
            falls = whole - score(covered).view(len(some), batch)
            for fall, (top, left) in zip(falls, some, strict=True):
                place = np.s_[:, :, top : top + window, left : left + window]
                total[place] += fall[:, None, None, None]
                count[place] += 1
        return total / count

    calls = {
        "saliency": lambda: gradient(x).abs(),
        "integrated_gradients": integrated_gradients,
        "smooth_grad": smooth_grad,
        "occlusion": occlusion,
    }
    return row(calls[method], seconds)
