"""Attributions: time and memory against Captum and Zennit, on the same weights.

Why: people wait for explanations, and perturbation methods run a network thousands of times. Two
convolutional networks, of 28x28 grey and 224x224 colour images, explain a batch of 16, compiled and
warm; only the random networks of the sanity check have their compilation counted.
"""

from __future__ import annotations

import pathlib
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxdl
from benchmarks._measure import Row, alternate, python, ratio, row
from jaxdl import interpret, nn
from jaxdl.interpret import evaluate

TARGETS = {
    "saliency": 0.15,
    "saliency's forward pass": None,
    "integrated gradients, 50": 0.65,
    "SmoothGrad, 50": 0.75,
    "occlusion, 4x4 by 2": 0.12,
    "occlusion, 32x32 by 16": None,
    "exact Shapley, 6 features": 0.1,
    "Shapley, 10 features": None,
    "LRP, epsilon plus": 0.6,
}
SMALL = ("occlusion, 4x4 by 2", "exact Shapley, 6 features", "Shapley, 10 features")
"""What is measured on the small network only."""
LARGE = ("occlusion, 32x32 by 16",)
"""What is measured on the large network only."""
SIZES = {"28x28": (28, 1, (16, 32)), "224x224": (224, 3, (16, 32, 64))}
ZENNIT = ("LRP, epsilon plus",)
PEAK = "from benchmarks.attribution import peak; print(peak({!r}, {!r}))"


def run(config) -> list[Row]:
    """All works of the table, or those chosen by `only`."""
    works = {"methods": methods, "memory": memory, "sanity": sanity}
    print(f"{'work':44s} {'peer':30s} {'ratio':>8s} {'target':>7s}")
    return [line for name, work in works.items() if config.only in name for line in work(config)]


def network(channels: tuple[int, ...]) -> jaxdl.Module:
    """Convolutions of 3x3 with ReLU and pooling, then one dense layer."""
    layers = [layer for n in channels for layer in (nn.conv(n, 3), jax.nn.relu, nn.max_pool(2))]
    return jaxdl.serial(*layers, nn.flatten(), nn.dense(10))


def made(size: str, batch: int = 16):
    """The network as a function, its weights, and images."""
    side, depth, channels = SIZES[size]
    x = np.random.default_rng(0).normal(size=(batch, side, side, depth)).astype(np.float32)
    model = network(channels)
    params, state = jaxdl.init(model, jax.random.key(0), x)
    return (lambda params, x: model.apply(params, state, x)[0]), params, jnp.asarray(x)


def in_torch(size: str, params: Any) -> Any:
    """The same network with the same weights, channels first."""
    import torch

    side, depth, channels = SIZES[size]
    layers: list[Any] = []
    for i, n in enumerate(channels):
        conv: Any = torch.nn.Conv2d(depth, n, 3, padding=1)
        kernel = np.array(params[f"conv_{i}"]["kernel"]).transpose(3, 2, 0, 1)
        conv.weight.data = torch.tensor(kernel.copy())
        conv.bias.data = torch.tensor(np.array(params[f"conv_{i}"]["bias"]))
        layers += [conv, torch.nn.ReLU(), torch.nn.MaxPool2d(2)]
        depth, side = n, side // 2
    dense: Any = torch.nn.Linear(side * side * depth, 10)
    kernel = np.array(params["dense_0"]["kernel"]).reshape(side, side, depth, 10)
    kernel = kernel.transpose(3, 2, 0, 1).reshape(10, -1)
    dense.weight.data = torch.tensor(kernel.copy())
    dense.bias.data = torch.tensor(np.array(params["dense_0"]["bias"]))
    return torch.nn.Sequential(*layers, torch.nn.Flatten(), dense).eval()


def ours(size: str) -> dict[str, Callable[[], Any]]:
    apply, params, x = made(size)
    target = jnp.arange(len(x)) % 10
    key = jax.random.key(0)
    smooth = interpret.smooth(interpret.saliency, sigma=0.1, samples=50)
    depth = x.shape[-1]

    def occlusion(window, stride):
        size, steps = (window, window, depth), (stride, stride, depth)
        return lambda f, x: interpret.occlusion(f, x, size, stride=steps, target=target, chunk=16)

    calls = {
        "saliency": lambda f, x: interpret.saliency(f, x, target=target),
        "saliency's forward pass": lambda f, x: f(x),
        "integrated gradients, 50": lambda f, x: interpret.integrated_gradients(
            f, x, target=target, steps=50, chunk=5
        ),
        "SmoothGrad, 50": lambda f, x: smooth(f, x, target=target, key=key, chunk=5),
        "occlusion, 4x4 by 2": occlusion(4, 2),
        "occlusion, 32x32 by 16": occlusion(32, 16),
        "exact Shapley, 6 features": lambda f, x: interpret.shapley_values(
            f, x, target=target, mask=bands(size, 6), chunk=16
        ),
        "Shapley, 10 features": lambda f, x: interpret.shapley_values(
            f, x, target=target, mask=bands(size, 10), chunk=16
        ),
        "LRP, epsilon plus": lambda f, x: interpret.lrp(
            f, x, target=target, composite="epsilon_plus"
        ),
    }

    def ready(call):
        compiled = jax.jit(lambda params, x: call(lambda x: apply(params, x), x))
        return lambda: jax.block_until_ready(compiled(params, x))

    return {name: ready(call) for name, call in calls.items()}


def theirs(size: str) -> dict[str, dict[str, Callable[[], Any]]]:
    """By method and peer; Captum's perturbations one at a time, as it comes, and 16 at a time."""
    import torch
    from captum import attr
    from zennit.attribution import Gradient
    from zennit.composites import EpsilonPlus

    _, params, x = made(size)
    net = in_torch(size, params)
    images = torch.tensor(np.array(x).transpose(0, 3, 1, 2).copy())
    target = torch.arange(len(x)) % 10
    six, ten = (torch.tensor(bands(size, n)).permute(2, 0, 1)[None] for n in (6, 10))
    depth = images.shape[1]
    onehot = torch.eye(10)[target]

    def zennit():
        attributor: Any
        with Gradient(model=net, composite=EpsilonPlus()) as attributor:
            return attributor(images, lambda output: onehot * output)[1]

    def captum(method, **options):
        return lambda: method(net).attribute(images, target=target, **options)

    def smooth():
        tunnel = attr.NoiseTunnel(attr.Saliency(net))
        options = {"nt_samples": 50, "nt_samples_batch_size": 5, "stdevs": 0.1}
        return tunnel.attribute(images, target=target, **options)

    def windows(size, stride):
        return {"sliding_window_shapes": (depth, size, size), "strides": (depth, stride, stride)}

    orders = {"feature_mask": ten, "n_samples": 25}
    path = {"n_steps": 50, "internal_batch_size": 80}
    sixteen = {"perturbations_per_eval": 16}
    return {
        "saliency": {"Captum": captum(attr.Saliency)},
        "saliency's forward pass": {"Captum": captum(attr.Saliency)},
        "integrated gradients, 50": {"Captum": captum(attr.IntegratedGradients, **path)},
        "SmoothGrad, 50": {"Captum": smooth},
        "occlusion, 4x4 by 2": {
            "Captum": captum(attr.Occlusion, **windows(4, 2)),
            "Captum, 16 at a time": captum(attr.Occlusion, **windows(4, 2), **sixteen),
        },
        "occlusion, 32x32 by 16": {"Captum": captum(attr.Occlusion, **windows(32, 16))},
        "exact Shapley, 6 features": {"Captum": captum(attr.ShapleyValues, feature_mask=six)},
        "Shapley, 10 features": {
            "Captum": captum(attr.ShapleyValueSampling, **orders),
            "Captum, 16 at a time": captum(attr.ShapleyValueSampling, **orders, **sixteen),
        },
        "LRP, epsilon plus": {"Zennit": zennit},
    }


def bands(size: str, n: int) -> np.ndarray:
    """(H, W, 1), n bands of rows."""
    side = SIZES[size][0]
    return np.broadcast_to((np.arange(side) * n // side)[:, None, None], (side, side, 1)).copy()


def methods(config) -> Iterator[Row]:
    """Each method on both networks; the long ones on one of them."""
    for size in ("28x28",) if config.smoke else SIZES:
        mine = ours(size)
        try:
            peers: dict[str, Any] = theirs(size)
            missing = ""
        except ImportError as error:
            peers, missing = {}, f"not installed: {error.name}"
        for name, target in TARGETS.items():
            if name in (LARGE if size == "28x28" else SMALL):
                continue
            work = f"{name} ({size})"
            if missing:
                yield row(work, "Zennit" if name in ZENNIT else "Captum", None, target, missing)
                continue
            rounds = config.rounds if size == "28x28" else max(1, config.rounds // 3)
            seconds = alternate({"ours": mine[name]} | peers[name], rounds, warm=1)
            middle = {peer: statistics.median(times) * 1e3 for peer, times in seconds.items()}
            for peer in peers[name]:
                note = f"{middle['ours']:.1f} ms against {middle[peer]:.1f} ms"
                if name.startswith("Shapley"):  # its exact values would take 10! orders
                    note += "; ours exact, theirs 25 random orders"
                goal = target if peer in ("Captum", "Zennit") else None
                yield row(work, peer, ratio(seconds["ours"], seconds[peer]), goal, note)


def peak(side: str, name: str) -> float:
    """Megabytes by which a method's first call on the small network raises the greatest memory."""
    call = ours("28x28")[name] if side == "ours" else theirs("28x28")[name]["Captum"]
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the greatest so far is forgotten

    def megabytes(field: str) -> float:
        lines = pathlib.Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024

    before = megabytes("VmRSS")
    call()
    return megabytes("VmHWM") - before


def memory(config) -> Iterator[Row]:
    """The greatest memory of integrated gradients, compilation included."""
    if config.smoke or not pathlib.Path("/proc/self/clear_refs").exists():
        return
    name = "integrated gradients, 50"
    mine, peer = (
        python(PEAK.format(side, name), missing_is_none=True) for side in ("ours", "theirs")
    )
    if peer is None:
        yield row(f"{name}, peak memory", "Captum", None, None, "not installed")
    else:
        note = f"{mine:.0f} MB against {peer:.0f} MB"
        yield row(f"{name}, peak memory", "Captum", mine / peer, None, note)


def sanity(config) -> Iterator[Row]:
    """Explanations of random networks: all in one program, or one after the other."""
    models = 3 if config.smoke else 100
    apply, params, x = made("28x28", batch=4)
    target = jnp.arange(len(x)) % 10
    model = network(SIZES["28x28"][2])
    redraw = lambda key: model.init(key, x)[0]  # noqa: E731
    explain = lambda p: interpret.saliency(lambda x: apply(p, x), x, target=target)  # noqa: E731

    jax.clear_caches()
    start = time.perf_counter()
    found = evaluate.random_parameters(
        explain, params, redraw, key=jax.random.key(1), models=models
    )
    jax.block_until_ready(found)
    together = time.perf_counter() - start
    work = f"sanity check, {models} random networks"
    for peer, wrap, goal in (
        ("a loop", lambda f: f, 0.5),
        ("a loop, compiled once", jax.jit, None),
    ):
        jax.clear_caches()
        start = time.perf_counter()
        given, one, draw = explain(params), wrap(explain), wrap(redraw)
        for key in jax.random.split(jax.random.key(1), models):
            jax.block_until_ready(evaluate.agreement(one(draw(key)), given))
        loop = time.perf_counter() - start
        note = f"{together:.2f} s against {loop:.2f} s, compilation included"
        yield row(work, peer, together / loop, goal, note)
