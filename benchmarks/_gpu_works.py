"""Works of `python -m benchmarks gpu`: names, sizes and floating-point operations.

Imports nothing but the standard library: the parent process must not open the card. FLOPs are
those of the mathematics, 2 a multiplication and addition, counted alike for every library: a
training step is three forward passes, a gradient with respect to the input alone is two.
"""

from __future__ import annotations

import dataclasses
from typing import Any

LIBRARIES = ("ours", "torch", "Flax", "torch.compile")
"""In the order in which they run; `torch.compile` last, since it compiles longest."""
DEPTHS = {"ResNet-18": ("basic", (2, 2, 2, 2)), "ResNet-50": ("bottleneck", (3, 4, 6, 3))}
TINY_DEPTHS = {"ResNet-18": ("basic", (1, 1)), "ResNet-50": ("bottleneck", (1, 1))}
CLASSES = 1000
CHUNK = 5
"""Points of a path, or noisy copies, that are computed in one batch."""
WINDOWS = 16
"""Covered windows that are computed in one batch."""
IMAGES = (28, 28, 1)


@dataclasses.dataclass(frozen=True)
class Work:
    """One work, measured by one library or by several.

    Attributes:
      name: as in the table.
      kind: the name of the function that measures it, in the module of each library.
      size: that function's arguments.
      libraries: those that measure it.
      variant: where one library has several implementations, which; else "".
      flops: of one call, or None where there is no fair count.
      dtype: what the matrix units compute in: "bf16", "tf32" or "f32".
      images: those of one call, for the column of images per second, or None.
    """

    name: str
    kind: str
    size: dict[str, Any]
    libraries: tuple[str, ...] = LIBRARIES
    variant: str = ""
    flops: float | None = None
    dtype: str = "tf32"
    images: int | None = None

    @property
    def key(self) -> str:
        return f"{self.name}|{self.variant}"

    def label(self, library: str) -> str:
        """Returns the library's name in the table."""
        return f"{library}, {self.variant}" if self.variant else library


def works(smoke: bool) -> list[Work]:
    """Returns all works, the most important first; tiny ones with `smoke`."""
    return [
        *_matmuls(128 if smoke else 8192),
        *_recurrent((2, 5, 4, 8) if smoke else (64, 200, 256, 512)),
        *_training(smoke),
        *_explanations(smoke),
    ]


def _matmuls(n: int) -> list[Work]:
    """Returns the products that measure the card's peak, for the column "share of peak"."""
    two = ("ours", "torch")
    return [
        Work(f"matmul {n}, {dtype}", "matmul", {"n": n, "dtype": dtype}, two, "", 2 * n**3, dtype)
        for dtype in ("bf16", "tf32", "f32")
    ]


def _recurrent(shape: tuple[int, int, int, int]) -> list[Work]:
    """Returns the check of cuDNN, then a layer's forward and backward pass, by implementation."""
    check = Work("LSTM, cuDNN equals the reference", "check_cudnn", {}, ("ours",), dtype="f32")
    made = [check]
    for kind, gates in (("lstm", 4), ("gru", 3)):
        name, flops = f"{kind.upper()} {shape}", 3 * recurrent_flops(gates, *shape)
        size = {"kind": kind, "shape": shape}
        for implementation in ("scan", "fused", "cudnn")[: 3 if kind == "lstm" else 2]:
            arguments = size | {"implementation": implementation}
            made.append(Work(name, "recurrent", arguments, ("ours",), implementation, flops))
        made.append(Work(name, "recurrent", size, ("torch", "Flax"), "", flops))
    return made


def _training(smoke: bool) -> list[Work]:
    """Returns epochs by `fit`, steps of residual networks, and many seeds in one program."""
    depths = TINY_DEPTHS if smoke else DEPTHS
    rows, batch, side, seeds = (200, 4, 32, 2) if smoke else (60_000, 256, 64, 16)
    epoch = {"rows": rows, "batch": 100}
    forward = {name: mlp_flops() if name == "mlp" else lenet_flops() for name in ("mlp", "lenet")}

    def resnet(name: str, dtype: str) -> Work:
        block, counts = depths[name]
        size = {"block": block, "depths": counts, "batch": batch, "side": side, "dtype": dtype}
        # A training step is about three forward passes: the gradient by weights and by activations
        # is two.
        flops = 3 * batch * resnet_flops(block, counts, side)
        title = f"{name} step, {'f32' if dtype == 'tf32' else dtype}"
        return Work(title, "resnet_step", size, LIBRARIES, "", flops, dtype, batch)

    def network(name: str, title: str) -> Work:
        flops = 3 * rows * forward[name]
        return Work(title, "epoch", epoch | {"network": name}, LIBRARIES, "", flops)

    many = epoch | {"seeds": seeds}
    flops = 3 * rows * seeds * forward["mlp"]
    small = () if smoke else (resnet("ResNet-18", "bf16"),)
    large = () if smoke else (resnet("ResNet-50", "tf32"),)
    return [
        network("mlp", "784-500-500-10, epoch"),
        resnet("ResNet-50", "bf16"),
        *small,
        network("lenet", "LeNet-like CNN, epoch"),
        *large,
        resnet("ResNet-18", "tf32"),
        Work(f"784-500-500-10, {seeds} seeds", "seeds", many, ("ours", "torch"), "", flops),
    ]


def _explanations(smoke: bool) -> list[Work]:
    """Returns explanations of ResNet-50; torch alone has no LRP and no DeepLIFT."""
    block, depths = (TINY_DEPTHS if smoke else DEPTHS)["ResNet-50"]
    batch, side, points, window = (2, 32, 4, 8) if smoke else (16, 224, 50, 32)
    size = {"block": block, "depths": depths, "batch": batch, "side": side}
    size |= {"points": points, "window": window}
    # Without the gradient by weights: a forward pass and one backward pass of the same size.
    gradient = 2 * batch * resnet_flops(block, depths, side)
    both = ("ours", "torch")
    methods: dict[str, tuple[str, tuple[str, ...], float | None]] = {
        "saliency": ("saliency", both, gradient),
        "integrated_gradients": (f"integrated gradients, {points}", both, points * gradient),
        "smooth_grad": (f"SmoothGrad, {points}", both, points * gradient),
        "lrp": ("LRP, epsilon plus", ("ours",), None),
        "deep_lift": ("DeepLIFT", ("ours",), None),
        "occlusion": (f"occlusion, {window}x{window} by {window // 2}", both, None),
    }
    return [
        Work(f"{title} (ResNet-50)", "explain", size | {"method": method}, who, "", flops)
        for method, (title, who, flops) in methods.items()
    ]


def mlp_flops() -> float:
    """Returns the FLOPs of one example's forward pass through 784-500-500-10."""
    return 2.0 * (784 * 500 + 500 * 500 + 500 * 10)


def lenet_flops() -> float:
    """Returns those of 3x3 convolutions to 32 and 64 channels and dense layers of 128 and 10."""
    return 2.0 * (26 * 26 * 9 * 32 + 11 * 11 * 9 * 32 * 64 + 1600 * 128 + 128 * 10)


def recurrent_flops(gates: int, rows: int, steps: int, width: int, units: int) -> float:
    """Returns those of a layer's forward pass over (rows, steps, width)."""
    return 2.0 * rows * steps * gates * units * (width + units)


def resnet_flops(block: str, depths: tuple[int, ...], side: int) -> float:
    """Returns those of one image's forward pass."""
    side = -(-side // 2)
    products = side**2 * 7 * 7 * 3 * 64
    side, channels = -(-side // 2), 64
    for stage, depth in enumerate(depths):
        width = 64 * 2**stage
        out = width if block == "basic" else 4 * width
        for i in range(depth):
            before, side = side, -(-side // 2) if stage and not i else side
            if block == "basic":
                products += side**2 * 9 * (channels * width + width * width)
            else:
                products += before**2 * channels * width
                products += side**2 * (9 * width * width + width * out)
            if channels != out:
                products += side**2 * channels * out
            channels = out
    return 2.0 * (products + channels * CLASSES)
