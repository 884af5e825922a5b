"""PyTorch's side of `python -m benchmarks gpu`, eager and by `torch.compile`.

Set as NVIDIA advises for speed: TF32 and cuDNN's own tuning on, ResNets in channels-last memory,
bfloat16 by autocast.
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

# The older names: torch.compile fails in some releases after the new ones (pytorch issue 166387).
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
    """Returns the function that measures each kind of work."""
    from benchmarks import _gpu_torch_explain

    wrap = compile_model if library == "torch.compile" else lambda model: model
    return {
        "matmul": matmul,
        "recurrent": recurrent,
        "epoch": lambda **size: epoch(wrap, **size),
        "seeds": seeds,
        "resnet_step": lambda **size: resnet_step(wrap, **size),
        "explain": _gpu_torch_explain.explain,
    }


def compile_model(model: nn.Module) -> Any:
    """Compiles a model with fixed shapes."""
    # Without it, shapes that differ from those of an earlier model are compiled as dynamic ones.
    torch.compiler.reset()
    return torch.compile(model)


def wait(result: Any = None) -> None:
    """Blocks until the card is idle."""
    del result
    if CUDA:
        torch.cuda.synchronize()


def first(call: Callable[[], Any]) -> float:
    """Returns the seconds of the first call, and resets the memory statistics before it."""
    if CUDA:
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    call()
    wait()
    return time.perf_counter() - began


def row(call: Callable[[], Any], seconds: float) -> dict[str, Any]:
    """Returns the fields of the table for a call."""
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
    """Multiplies two square matrices of random numbers."""
    kind = torch.bfloat16 if dtype == "bf16" else torch.float32
    left, right = (tensor(part).to(kind) for part in factors(n))
    # For this product alone: the peak of plain float32 is measured without TF32.
    torch.backends.cuda.matmul.allow_tf32 = dtype != "f32"
    try:
        few = (left @ right)[:16].float().cpu().numpy()
        return row(lambda: left @ right, seconds) | {"note": matmul_error(few, n)}
    finally:
        torch.backends.cuda.matmul.allow_tf32 = True


def recurrent(kind: str, shape: Any, seconds: float) -> dict[str, Any]:
    """Computes the gradient of mean(y^2) of torch.nn.LSTM or GRU, which use cuDNN on a card."""
    rows, steps, width, units = shape
    layer = getattr(nn, kind.upper())(width, units, batch_first=True).to(DEVICE)
    x = random(rows, steps, width)

    def call():
        layer.zero_grad()
        layer(x)[0].square().mean().backward()

    return row(call, seconds)


def build_network(name: str) -> nn.Module:
    """Returns the MLP or the LeNet-like network for images (N, 1, 28, 28)."""
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
    """Returns `epoch(steps)`, a loop over shuffled batches of data on the device."""
    optimizer = torch.optim.SGD(model.parameters(), 0.01)

    def epoch(steps: int = len(x) // batch) -> None:
        # On the device, so that an epoch copies nothing from the host.
        order = torch.randperm(len(x), device=DEVICE)
        for i in range(steps):
            rows = order[i * batch : (i + 1) * batch]
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()

    return epoch


def epoch(wrap, network: str, rows: int, batch: int, seconds: float) -> dict[str, Any]:
    """Trains for some epochs after a first step, and takes their median."""
    run = epoch_of(
        wrap(build_network(network)), random(rows, 1, *IMAGES[:2]), labels(rows, 10), batch
    )
    spent = first(lambda: run(1))
    ms = statistics.median(_time_call(run) for _ in range(5)) * 1e3
    return {"ms": ms, "compile_s": spent, "peak_mb": peak_mb()}


def _time_call(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    wait()
    return time.perf_counter() - began


def seeds(rows: int, batch: int, seeds: int, seconds: float) -> dict[str, Any]:
    """Trains several networks for an epoch, one after the other."""
    x, y = random(rows, 1, *IMAGES[:2]), labels(rows, 10)
    runs = [epoch_of(build_network("mlp"), x, y, batch) for _ in range(seeds)]
    # One step of one network: the kernels are the same for all seeds.
    spent = first(lambda: runs[0](1))
    ms = _time_call(lambda: [run() for run in runs]) * 1e3
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
            layers += [*conv_norm(*size), nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*layers[:-1])
        shortcut = [] if channels == out else conv_norm(channels, out, 1, stride)
        self.shortcut = nn.Sequential(*shortcut)
        self.out = out

    def forward(self, x):
        return torch.relu(self.body(x) + self.shortcut(x))


def conv_norm(channels: int, features: int, size: int, stride: int) -> list[nn.Module]:
    kernel = nn.Conv2d(channels, features, size, stride, padding=size // 2, bias=False)
    return [kernel, nn.BatchNorm2d(features)]


def resnet(block: str, depths: Any) -> nn.Module:
    """Returns the network of `jaxdl.zoo.vision.resnet`, in channels-last memory."""
    layers: list[nn.Module] = [*conv_norm(3, 64, 7, 2), nn.ReLU(inplace=True)]
    layers.append(nn.MaxPool2d(3, 2, padding=1))
    channels = 64
    for stage, depth in enumerate(depths):
        for i in range(depth):
            made = Block(block, channels, 64 * 2**stage, 2 if stage and not i else 1)
            layers.append(made)
            channels = made.out
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES)]
    net: Any = nn.Sequential(*layers)
    # The tensor cores' convolutions read channels last; in the default layout cuDNN transposes.
    return net.to(DEVICE, memory_format=torch.channels_last)


def images(batch: int, side: int) -> torch.Tensor:
    return random(batch, 3, side, side).contiguous(memory_format=torch.channels_last)


def resnet_step(
    wrap, block: str, depths: Any, batch: int, side: int, dtype: str, seconds: float
) -> dict[str, Any]:
    """Takes one step of SGD with momentum."""
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
