"""jaxdl's side of `python -m benchmarks gpu`: what a user of `fit`, `train_many`, ... gets."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import _gpu_jax as common
from benchmarks._gpu_timing import Skipped, factors, matmul_error, median_ms
from benchmarks._gpu_works import CHUNK, CLASSES, IMAGES, WINDOWS
from jaxdl import interpret, nn, train
from jaxdl.zoo.vision import resnet as zoo

BLOCKS = {"basic": zoo.basic_block, "bottleneck": zoo.bottleneck}
TOLERANCE = 1e-4
"""Largest difference between cuDNN and the reference, relative to the reference's largest value;
in float32 without TF32 both round at about 1e-6."""


def machine() -> dict[str, Any]:
    return common.machine("optax", "numpy")


def kinds(library: str) -> dict[str, Callable[..., dict[str, Any]]]:
    """Returns the function that measures each kind of work."""
    del library
    return {
        "matmul": matmul,
        "check_cudnn": check_cudnn,
        "recurrent": recurrent,
        "epoch": epoch,
        "seeds": seeds,
        "resnet_step": resnet_step,
        "explain": explain,
    }


def matmul(n: int, dtype: str, seconds: float) -> dict[str, Any]:
    """Multiplies two square matrices of random numbers."""
    kind = jnp.bfloat16 if dtype == "bf16" else jnp.float32
    precision = "highest" if dtype == "f32" else None
    left, right = (jnp.asarray(part, kind) for part in factors(n))
    return common.pure(
        lambda left, right: jnp.matmul(left, right, precision=precision),
        *(left, right),
        seconds=seconds,
        note=lambda result: matmul_error(np.asarray(result[:16], np.float32), n),
    )


def recurrent(kind: str, shape: Any, implementation: str, seconds: float) -> dict[str, Any]:
    """Computes the gradient of mean(y^2) with respect to a layer's parameters."""
    if implementation == "cudnn" and jax.default_backend() != "gpu":
        raise Skipped("no GPU")
    rows, steps, width, units = shape
    cell: Any = getattr(nn, kind)(units)
    x = jnp.asarray(common.images(rows, steps, width)[0])
    params = _small(jax.eval_shape(cell.init, jax.random.key(0), x)[0])

    def loss(params, x):
        return jnp.mean(jnp.square(nn.unroll(cell, params, x, implementation=implementation)[1]))

    return common.pure(jax.grad(loss), params, x, seconds=seconds)


def _small(shapes: Any) -> Any:
    """Draws small random parameters of a recurrent layer, with which no gate saturates."""
    rng = np.random.default_rng(0)

    def draw(leaf):
        return jnp.asarray(0.1 * rng.standard_normal(leaf.shape), leaf.dtype)

    return jax.tree.map(draw, shapes)


def check_cudnn(seconds: float, shape: Any = (16, 40, 64, 128)) -> dict[str, Any]:
    """Compares outputs, last carry and gradients of cuDNN with those of the scan, without TF32."""
    del seconds
    if jax.default_backend() != "gpu":
        raise Skipped("no GPU")
    errors = cudnn_errors(shape)
    worst = max(errors, key=lambda name: errors[name])
    verdict = "pass" if errors[worst] < TOLERANCE else "FAIL"
    return {"note": f"{verdict}: largest relative error {errors[worst]:.1e} ({worst})"}


def cudnn_errors(shape: Any) -> dict[str, float]:
    """Returns the largest relative error of each output and gradient.

    For full sequences run forwards, and for ragged ones run backwards, including an empty one.
    """
    rows, steps, width, units = shape
    cell: Any = nn.lstm(units)
    x, _ = common.images(rows, steps, width)
    rng = np.random.default_rng(1)
    params = _small(jax.eval_shape(cell.init, jax.random.key(0), x)[0])
    carry = tuple(jnp.asarray(rng.standard_normal((rows, units), np.float32)) for _ in range(2))
    weight = jnp.asarray(rng.standard_normal((rows, steps, units), np.float32))
    ragged = jnp.asarray(np.linspace(0, steps, rows).astype(np.int32))

    def results(implementation, reverse, params, carry, x, lengths):
        def loss(params, carry, x):
            options = {"carry": carry, "lengths": lengths, "reverse": reverse}
            last, y = nn.unroll(cell, params, x, implementation=implementation, **options)
            return jnp.sum(y * weight) + sum(jnp.sum(part**2) for part in last), (last, y)

        grads, (last, y) = jax.grad(loss, (0, 1, 2), has_aux=True)(params, carry, x)
        return {"y": y, "carry": last, "gradient": grads}

    errors: dict[str, float] = {}
    # TF32's error of about 3e-4 would exceed the tolerance.
    with jax.default_matmul_precision("highest"):
        run = jax.jit(results, static_argnums=(0, 1))
        for what, reverse, lengths in (("full", False, None), ("ragged, reversed", True, ragged)):
            leaves = [
                jax.tree_util.tree_leaves_with_path(run(name, reverse, params, carry, x, lengths))
                for name in ("scan", "cudnn")
            ]
            for (path, expected), (_, result) in zip(*leaves, strict=True):
                gap = np.max(np.abs(np.asarray(result - expected))) / np.max(np.abs(expected))
                errors[f"{jax.tree_util.keystr(path)}, {what}"] = float(
                    # A NaN must fail the check, and `max` could lose it.
                    np.nan_to_num(gap, nan=np.inf)
                )
    return errors


def _network(name: str) -> Any:
    if name == "mlp":
        sigmoid = jax.nn.sigmoid
        return nn.serial(
            *(nn.flatten(), nn.dense(500), sigmoid, nn.dense(500), sigmoid, nn.dense(10))
        )
    return nn.serial(
        *(nn.conv(32, 3, padding="VALID"), jax.nn.relu, nn.max_pool(2)),
        *(nn.conv(64, 3, padding="VALID"), jax.nn.relu, nn.max_pool(2)),
        *(nn.flatten(), nn.dense(128), jax.nn.relu, nn.dense(10)),
    )


def epoch(network: str, rows: int, batch: int, seconds: float) -> dict[str, Any]:
    """Takes the median epoch of a `fit` after the first, in which `fit` adjusts its calls."""
    del seconds
    before = common.greatest()
    data = common.images(rows, *IMAGES)
    _, history = train.fit(
        _network(network),
        data,
        loss="cross_entropy",
        optimizer=optax.sgd(0.01),
        batch_size=batch,
        epochs=6,
        metrics=(),
        verbose=0,
    )
    return {
        # In the first epoch `fit` still finds out how many steps fill a call.
        "ms": statistics.median(history["seconds"][1:]) * 1e3,
        "compile_s": sum(history["compile_seconds"]),
        "peak_mb": common.peak_mb(before),
    }


def seeds(rows: int, batch: int, seeds: int, seconds: float) -> dict[str, Any]:
    """Trains all seeds for an epoch in one program; each call continues from the last."""
    before = common.greatest()
    data = jax.device_put(common.images(rows, *IMAGES))
    model, optimizer = _network("mlp"), optax.sgd(0.01)
    held: dict[str, Any] = {"states": None}

    def call():
        held["states"], history = train.train_many(
            model,
            data,
            seeds=range(seeds),
            loss="cross_entropy",
            optimizer=optimizer,
            batch_size=batch,
            epochs=1,
            metrics=(),
            states=held["states"],
            execution=train.Execution(check=False),
            verbose=0,
        )
        return history["loss"]

    began = time.perf_counter()
    call()
    first = time.perf_counter() - began
    # Nothing to wait for: `train_many` returns losses that are on the host.
    ms = median_ms(call, lambda loss: loss, seconds)
    return {
        "ms": ms,
        "compile_s": max(0.0, first - ms / 1e3),
        "peak_mb": common.peak_mb(before),
        "note": "compile: the first call less a later one",
    }


def resnet_step(
    block: str, depths: Any, batch: int, side: int, dtype: str, seconds: float
) -> dict[str, Any]:
    """Takes one step of `make_train_step` with momentum."""
    model = zoo.resnet(BLOCKS[block], depths, num_classes=CLASSES)
    optimizer = optax.sgd(0.01, momentum=0.9)
    precision = "bfloat16" if dtype == "bf16" else "float32"
    step = train.make_train_step(model, "cross_entropy", optimizer, precision=precision)
    x, y = common.images(batch, side, side, 3, classes=CLASSES)
    params, model_state = common.weights(jax.eval_shape(model.init, jax.random.key(0), x))
    state = train.TrainState(
        params,
        model_state,
        opt_state=common.zeros(jax.eval_shape(optimizer.init, params)),
        key=jax.random.key(0),
        step=jnp.zeros((), jnp.int32),
    )
    return common.measure_step(
        lambda state, *batch: step(state, batch), state, x, y, seconds=seconds
    )


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
    model = zoo.resnet(BLOCKS[block], depths, num_classes=CLASSES)
    x, target = map(jnp.asarray, common.images(batch, side, side, 3, classes=CLASSES))
    params, state = common.weights(jax.eval_shape(model.init, jax.random.key(0), x))
    smooth = interpret.average_over_noise(interpret.saliency, sigma=0.1, samples=points)
    size, stride = (window, window, 3), (window // 2, window // 2, 3)
    path: dict[str, Any] = {"steps": points, "batch_size": CHUNK}
    calls: dict[str, Callable[..., Any]] = {
        "saliency": lambda f, x: interpret.saliency(f, x, target=target),
        "integrated_gradients": lambda f, x: interpret.integrated_gradients(
            f, x, target=target, **path
        ),
        "smooth_grad": lambda f, x: smooth(
            f, x, target=target, key=jax.random.key(0), batch_size=CHUNK
        ),
        "lrp": lambda f, x: interpret.lrp(f, x, target=target, composite="epsilon_plus"),
        "deep_lift": lambda f, x: interpret.deep_lift(f, x, target=target),
        "occlusion": lambda f, x: interpret.occlusion(
            f, x, size, stride=stride, target=target, batch_size=WINDOWS
        ),
    }

    def run(params, state, x):
        return calls[method](lambda x: model.apply(params, state, x)[0], x)

    def note(a):
        return "" if np.isfinite(np.asarray(a)).all() else "NOT FINITE"

    return common.pure(run, params, state, x, seconds=seconds, note=note)
