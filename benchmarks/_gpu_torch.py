"""PyTorch's side of `python -m benchmarks gpu`, eager and by `torch.compile`.

Set as NVIDIA advises for speed: TF32 and cuDNN's own tuning on, ResNets in channels-last memory,
bfloat16 by autocast. Explanations are written plainly with autograd, as many points side by side
as ours: Captum is not needed.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks._gpu_timing import factors, matmul_error, median_ms
from benchmarks._gpu_works import CLASSES, IMAGES

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
CHUNK = 5
"""Points of a path, or noisy copies, that are computed side by side."""
WINDOWS = 16
"""Covered windows that are computed side by side."""

torch.backends.cuda.matmul.allow_tf32 = True
torch.backends.cudnn.allow_tf32 = True
torch.backends.cudnn.benchmark = True


def machine() -> dict[str, Any]:
    cudnn = torch.backends.cudnn.version() if CUDA else None
    return {
        "device": torch.cuda.get_device_name() if CUDA else "cpu",
        "versions": {"torch": torch.__version__, "cuda": torch.version.cuda, "cudnn": cudnn},
        "allow_tf32": {"matmul": True, "cudnn": True},
        "cudnn_benchmark": True,
    }


def kinds(library: str) -> dict[str, Callable[..., dict[str, Any]]]:
    """The measuring function of each kind of work."""
    wrap = compiled if library == "torch.compile" else lambda model: model
    return {
        "matmul": matmul,
        "recurrent": recurrent,
        "epoch": lambda **size: epoch(wrap, **size),
        "seeds": seeds,
        "resnet_step": lambda **size: resnet_step(wrap, **size),
        "explain": explain,
    }


def compiled(model: nn.Module) -> Any:
    """`torch.compile`, as if it were the process's first: shapes that it sees to differ from those
    of an earlier network it would compile as variable ones."""
    torch.compiler.reset()
    return torch.compile(model)


def wait(result: Any = None) -> None:
    """Blocks until the card is idle."""
    del result
    if CUDA:
        torch.cuda.synchronize()


def first(call: Callable[[], Any]) -> float:
    """Seconds of the first call, with what it compiles and tunes; counts memory from here on."""
    if CUDA:
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    call()
    wait()
    return time.perf_counter() - began


def row(call: Callable[[], Any], seconds: float) -> dict[str, Any]:
    """The fields of the table for a call."""
    spent = first(call)
    return {"ms": median_ms(call, wait, seconds), "compile_s": spent, "peak_mb": peak_mb()}


def peak_mb() -> float | None:
    return torch.cuda.max_memory_allocated() / 1e6 if CUDA else None


def tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array).to(DEVICE)


def random(*shape: int) -> torch.Tensor:
    return tensor(np.random.default_rng(0).standard_normal(shape, np.float32))


def labels(rows: int, classes: int) -> torch.Tensor:
    return tensor(np.random.default_rng(1).integers(0, classes, rows))


def matmul(n: int, dtype: str, seconds: float) -> dict[str, Any]:
    """A square product of random numbers."""
    kind = torch.bfloat16 if dtype == "bf16" else torch.float32
    left, right = (tensor(part).to(kind) for part in factors(n))
    torch.backends.cuda.matmul.allow_tf32 = dtype != "f32"
    try:
        few = (left @ right)[:16].float().cpu().numpy()
        return row(lambda: left @ right, seconds) | {"note": matmul_error(few, n)}
    finally:
        torch.backends.cuda.matmul.allow_tf32 = True


def recurrent(kind: str, shape: Any, seconds: float) -> dict[str, Any]:
    """torch.nn.LSTM or GRU, which are cuDNN's on a card: the gradient of mean(y^2)."""
    rows, steps, width, units = shape
    layer = getattr(nn, kind.upper())(width, units, batch_first=True).to(DEVICE)
    x = random(rows, steps, width)

    def call():
        layer.zero_grad()
        layer(x)[0].square().mean().backward()

    return row(call, seconds)


def network(name: str) -> nn.Module:
    """Of images (N, 1, 28, 28)."""
    if name == "mlp":
        first, second = nn.Linear(784, 500), nn.Linear(500, 500)
        layers = [nn.Flatten(), first, nn.Sigmoid(), second, nn.Sigmoid(), nn.Linear(500, 10)]
        return nn.Sequential(*layers).to(DEVICE)
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(1600, 128), nn.ReLU(), nn.Linear(128, 10)),
    ).to(DEVICE)


def epoch_of(model: Any, x: torch.Tensor, y: torch.Tensor, batch: int) -> Callable[..., None]:
    """`epoch(steps)`: a loop over batches of a permutation, with the data on the device."""
    optimizer = torch.optim.SGD(model.parameters(), 0.01)

    def epoch(steps: int = len(x) // batch) -> None:
        order = torch.randperm(len(x), device=DEVICE)
        for i in range(steps):
            rows = order[i * batch : (i + 1) * batch]
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()

    return epoch


def epoch(wrap, network: str, rows: int, batch: int, seconds: float) -> dict[str, Any]:
    """Median of some epochs after a first step."""
    run = epoch_of(wrap(_network(network)), random(rows, 1, *IMAGES[:2]), labels(rows, 10), batch)
    spent = first(lambda: run(1))
    ms = statistics.median(_timed(run) for _ in range(5)) * 1e3
    return {"ms": ms, "compile_s": spent, "peak_mb": peak_mb()}


_network = network


def _timed(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    wait()
    return time.perf_counter() - began


def seeds(rows: int, batch: int, seeds: int, seconds: float) -> dict[str, Any]:
    """An epoch of as many networks, one after the other."""
    x, y = random(rows, 1, *IMAGES[:2]), labels(rows, 10)
    runs = [epoch_of(network("mlp"), x, y, batch) for _ in range(seeds)]
    spent = first(lambda: runs[0](1))
    ms = _timed(lambda: [run() for run in runs]) * 1e3
    note = "one after the other, measured once"
    return {"ms": ms, "compile_s": spent, "peak_mb": peak_mb(), "note": note}


class Block(nn.Module):
    """A basic block or bottleneck: He et al. 2016, figure 5."""

    def __init__(self, block: str, channels: int, width: int, stride: int):
        super().__init__()
        out = width if block == "basic" else 4 * width
        if block == "basic":
            sizes = [(channels, width, 3, stride), (width, width, 3, 1)]
        else:
            sizes = [(channels, width, 1, 1), (width, width, 3, stride), (width, out, 1, 1)]
        layers: list[nn.Module] = []
        for size in sizes:
            layers += [*convolved(*size), nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*layers[:-1])
        shortcut = [] if channels == out else convolved(channels, out, 1, stride)
        self.shortcut = nn.Sequential(*shortcut)
        self.out = out

    def forward(self, x):
        return torch.relu(self.body(x) + self.shortcut(x))


def convolved(channels: int, features: int, size: int, stride: int) -> list[nn.Module]:
    kernel = nn.Conv2d(channels, features, size, stride, padding=size // 2, bias=False)
    return [kernel, nn.BatchNorm2d(features)]


def resnet(block: str, depths: Any) -> nn.Module:
    """The network of `jaxdl.zoo.vision.resnet`, in channels-last memory."""
    layers: list[nn.Module] = [*convolved(3, 64, 7, 2), nn.ReLU(inplace=True)]
    layers.append(nn.MaxPool2d(3, 2, padding=1))
    channels = 64
    for stage, depth in enumerate(depths):
        for i in range(depth):
            made = Block(block, channels, 64 * 2**stage, 2 if stage and not i else 1)
            layers.append(made)
            channels = made.out
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES)]
    return nn.Sequential(*layers).to(DEVICE, memory_format=torch.channels_last)


def images(batch: int, side: int) -> torch.Tensor:
    return random(batch, 3, side, side).contiguous(memory_format=torch.channels_last)


def resnet_step(
    wrap, block: str, depths: Any, batch: int, side: int, dtype: str, seconds: float
) -> dict[str, Any]:
    """A step of SGD with momentum."""
    made = resnet(block, depths)
    model, x, y = wrap(made), images(batch, side), labels(batch, CLASSES)
    optimizer = torch.optim.SGD(made.parameters(), 0.01, momentum=0.9)
    bf16 = dtype == "bf16"

    def call():
        optimizer.zero_grad()
        with torch.autocast(DEVICE.type, torch.bfloat16) if bf16 else contextlib.nullcontext():
            loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()

    return row(call, seconds)


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
    """One explanation of a batch, with fixed statistics and weights."""
    net = resnet(block, depths).eval().requires_grad_(False)
    x, target = images(batch, side), labels(batch, CLASSES)

    def gradient(x: torch.Tensor) -> torch.Tensor:
        x = x.detach().requires_grad_()
        chosen = net(x).gather(1, target.repeat(len(x) // batch)[:, None])
        return torch.autograd.grad(chosen.sum(), x)[0]

    def beside(several: list[torch.Tensor]) -> torch.Tensor:
        """The points of several batches, gradients (points, N, C, H, W)."""
        joined = torch.cat(several).contiguous(memory_format=torch.channels_last)
        return gradient(joined).unflatten(0, (len(several), batch))

    def integrated_gradients() -> torch.Tensor:
        nodes, weights = np.polynomial.legendre.leggauss(points)
        total = torch.zeros_like(x)
        for i in range(0, points, CHUNK):
            grads = beside([x * float((node + 1) / 2) for node in nodes[i : i + CHUNK]])
            for weight, grad in zip(weights[i : i + CHUNK], grads, strict=True):
                total += float(weight / 2) * grad
        return x * total

    def smooth_grad() -> torch.Tensor:
        total = torch.zeros_like(x)
        for i in range(0, points, CHUNK):
            copies = range(i, min(i + CHUNK, points))
            total += beside([x + 0.1 * torch.randn_like(x) for _ in copies]).abs().sum(0)
        return total / points

    @torch.no_grad()
    def occlusion() -> torch.Tensor:
        score = lambda x: net(x).gather(1, target.repeat(len(x) // batch)[:, None])  # noqa: E731
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
