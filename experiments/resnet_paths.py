"""Removes blocks of residual networks and measures the gradient by path. Lecture row G06.

Veit et al. 2016 (arXiv 1605.06431): n residual blocks have 2^n paths, through or around each block.
This is exact for the gradient, the sum of the gradients along all paths, which is checked on three
blocks. If it explains residual networks, removing a block removes half of the paths and does little
harm, while a plain network has one path and fails; the accuracy falls gradually with the number of
removed blocks; and most of the gradient comes along short paths. The networks are those of
`plain_56`. Blocks that change the shape are never removed, because plain networks need them.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import jaxdl
from experiments import _figure, _run, _seeds, plain_56
from experiments._claim import Claim, Verdict, numbers
from jaxdl import losses
from jaxdl.zoo.vision.cifar_resnet import cifar_resnet

CLAIM = Claim(
    rows=("G06",),
    step="set",
    statement="A residual network works like an ensemble of many shallow ones.",
    deck={"residual, one block less": None, "plain, one block less": None},
    source="zoo/vision/cifar_resnet.py",
    minutes=13,
)


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    images: int = 500
    """Training images to count the errors on."""
    draws: int = 10
    """Sets of blocks of each size to remove, and paths of each length."""
    seeds: int = 3
    """Networks of each kind."""
    epochs: int = plain_56.Config.epochs
    """Epochs of their training."""


def without_blocks(model: jaxdl.Module) -> Callable[..., jax.Array]:
    """Returns `f(params, state, x, keep)`, the scores without the blocks i where `keep[i]` is 0.

    Of a removed residual block the shortcut remains. A removed plain block returns its input,
    unless it changes the shape.
    """

    def scores(params, state, x, keep):
        last = {}

        def tap(path, value):
            top, _, rest = path.partition("/")
            if top.startswith("block_"):
                kept = keep[int(top[6:])]
                if rest == "sum/block":
                    return kept * value
                if rest == "" and "sum" not in model.children[top].children:
                    before = last["value"]
                    if before.shape == value.shape:
                        value = kept * value + (1 - kept) * before
            if rest == "":
                last["value"] = value
            return value

        return model.apply(params, state, x, tap=tap)[0]

    return scores


def along_path(model: jaxdl.Module) -> Callable[..., jax.Array]:
    """Returns `f(params, state, x, through)`, the scores with a gradient by x along one path.

    The path leads through block i where `through[i]` is 1, and around it where it is 0.
    """

    def scores(params, state, x, through):
        last = {}

        def scale_gradient(share, value):
            return share * value + (1 - share) * lax.stop_gradient(value)

        def tap(path, value):
            top, _, rest = path.partition("/")
            if top.startswith("block_"):
                # "block_12" to 12.
                share = through[int(top[6:])]
                if rest == "sum/shortcut":
                    return scale_gradient(1 - share, value)
                if rest == "sum/block":
                    value = scale_gradient(share, value)
                    around = last["value"]
                    if around.shape == value.shape:  # this shortcut has no path
                        value = value + scale_gradient(1 - share, around) - around
                    return value
            if rest == "":
                last["value"] = value
            return value

        return model.apply(params, state, x, tap=tap)[0]

    return scores


def path_gradients(
    model: jaxdl.Module, params: Any, state: Any, x: Any, y: Any
) -> Callable[..., Any]:
    """Returns `f(through)`, the gradient of the loss by the images along a path."""
    scores = along_path(model)

    def loss(x, through):
        return losses.cross_entropy(scores(params, state, x, through), y).sum()

    gradient = jax.jit(jax.grad(loss))
    return lambda through: gradient(x, through)


@jax.default_matmul_precision("highest")  # in TF32, a GPU's default, they differ by 4 %
def check_sum_of_paths(x: jax.Array, y: jax.Array) -> float:
    """Returns the largest error of the sum over all paths of three blocks.

    It is the difference from the gradient, relative to the gradient's largest value.
    """
    model = cifar_resnet(8)
    params, state = jaxdl.init(model, jax.random.key(0), x)
    along = path_gradients(model, params, state, x, y)
    paths = [along(jnp.array(path, x.dtype)) for path in itertools.product((0, 1), repeat=3)]

    def loss(x):
        return losses.cross_entropy(model.apply(params, state, x)[0], y).sum()

    whole = jax.grad(loss)(x)
    return float(jnp.abs(sum(paths) - whole).max() / jnp.abs(whole).max())


def run(config: Config) -> dict:
    count, draws = (16, 2) if config.smoke else (config.images, config.draws)
    before = plain_56.Config(
        seed=config.seed,
        smoke=config.smoke,
        results=config.results,
        seeds=config.seeds,
        epochs=config.epochs,
    )
    dataset = plain_56.load_images(before)
    x, y = jnp.asarray(dataset.train.x[:count]), np.asarray(dataset.train.y[:count])
    sum_of_paths = check_sum_of_paths(x[:8], jnp.asarray(y[:8]))
    print(f"gradient less the sum over eight paths: {sum_of_paths:.1e} of its largest value")
    networks = {
        name: plain_56.train_networks(before, dataset, *kind)
        for name, kind in plain_56.KINDS.items()
    }
    measured, error = {}, {}
    for kind in ("residual", "plain"):
        trained = networks[f"{kind}, 20"]
        rows = [errors_without_one(trained, i, x, y) for i in range(len(trained))]
        less = [[error for block, error in row.items() if block != "none"] for row in rows]
        measured[f"{kind}, whole"] = _seeds.summarize([row["none"] for row in rows])
        measured[f"{kind}, one block less"] = _seeds.summarize([np.mean(row) for row in less])
        error[kind] = {block: float(np.mean([row[block] for row in rows])) for block in rows[0]}
    for name, spread in measured.items():
        print(f"{name:26s} error {_seeds.format_summary(spread)}")
    left = {
        name: accuracy_without_several(net, x, y, config.seed, draws)
        for name, net in networks.items()
    }
    for name, row in left.items():
        print(f"{name:12s} accuracy left", np.mean(row["accuracy"], (1, 2)).round(3), flush=True)
    deep = networks["residual, 56"]
    lengths = gradients_by_length(deep, x[:16], jnp.asarray(y[:16]), draws)
    result = {
        "measured": measured,
        "error": error,
        "left": left,
        "sum_of_paths": sum_of_paths,
        "blocks": count_blocks(deep.model),
        "lengths": {name: numbers(values) for name, values in lengths.items()},
        "three_blocks": {str(2 * k): math.comb(3, k) for k in range(4)},
    }
    _figure.save(draw(result), config, "resnet_paths", "resnet_paths")
    return result


def judge(result: dict) -> Verdict:
    """Requires the sum over paths, short paths, and an accuracy that falls gradually.

    Removing one block must cost the residual network less than the plain one, by more than the
    larger deviation over the seeds. Without a quarter of the blocks, half of its accuracy above
    chance must remain, in 20 layers and in 56.
    """
    measured = result["measured"]
    harm = {
        kind: measured[f"{kind}, one block less"]["mean"] - measured[f"{kind}, whole"]["mean"]
        for kind in ("residual", "plain")
    }
    noise = max(spread["deviation"] for spread in measured.values())
    short, blocks = (
        mean_length(result["lengths"]),
        len(result["lengths"]["size of the gradient"]) - 1,
    )
    paths = result["sum_of_paths"] < 1e-4 and short < blocks / 2
    one = harm["plain"] - harm["residual"] > noise

    def quarter(name: str) -> tuple[int, np.ndarray, np.ndarray]:
        removed, accuracy = (np.array(result["left"][name][key]) for key in ("removed", "accuracy"))
        i = int(np.abs(removed - removed[-1] / 4).argmin())
        return int(removed[i]), accuracy[0], accuracy[i]

    parts = {name: quarter(name) for name in result["left"]}

    def graceful(name: str) -> bool:
        _, whole, left = parts[name]
        return bool(left.mean() - 0.1 > (whole.mean() - 0.1) / 2)

    several = graceful("residual, 20") and graceful("residual, 56")
    outcome = "holds" if paths and one and several else "holds in part"
    english = "; ".join(
        f"{name} layers keep {left.mean():.3f} ± {left.std():.3f} of {whole.mean():.3f} without "
        f"{removed} blocks"
        for name, (removed, whole, left) in parts.items()
    )
    return Verdict(
        outcome if paths and one else "does not hold",
        f"one block less raises the error of 20 residual layers by {harm['residual']:.3f} on "
        f"average, of 20 plain ones by {harm['plain']:.3f}; of several, accuracy: {english}; the "
        f"gradient is the sum over 2^n paths to {result['sum_of_paths']:.0e}; in 56 layers of "
        f"{blocks} blocks the mean path goes through {blocks / 2:g} blocks, and weighted by its "
        f"gradient through {short:.1f}",
        {
            "harm": harm,
            "parts": [
                {
                    "name": name,
                    "removed": removed,
                    "whole": whole.mean(),
                    "left": left.mean(),
                    "deviation": left.std(),
                }
                for name, (removed, whole, left) in parts.items()
            ],
            "blocks": blocks,
            "half": blocks / 2,
            "short": short,
        },
    )


def count_blocks(model: jaxdl.Module) -> int:
    return sum(child.startswith("block_") for child in model.children)


def take_network(trained: _seeds.Networks, i: int) -> tuple[Any, Any]:
    """Returns the parameters and the state of network i."""
    return jax.tree.map(lambda a: a[i], (trained.params, trained.model_state))


def error_function(
    trained: _seeds.Networks, i: int, x: jax.Array, y: np.ndarray
) -> Callable[[Any], float]:
    """Returns `f(keep)`, the error of network i without some blocks."""
    answer, trees = jax.jit(without_blocks(trained.model)), take_network(trained, i)
    return lambda keep: float(
        (answer(*trees, x, jnp.asarray(keep, x.dtype)).argmax(-1) != y).mean()
    )


def removable(blocks: int) -> list[int]:
    """Returns the blocks that keep the shape: all but the first of the second and third stage."""
    return [block for block in range(blocks) if block == 0 or block % (blocks // 3)]


def errors_without_one(
    trained: _seeds.Networks, i: int, x: jax.Array, y: np.ndarray
) -> dict[str, float]:
    """Returns the error of network i with all blocks, and without each removable one."""
    wrong, blocks = error_function(trained, i, x, y), count_blocks(trained.model)
    keep = 1 - np.eye(blocks)
    return {"none": wrong(np.ones(blocks))} | {str(b): wrong(keep[b]) for b in removable(blocks)}


def accuracy_without_several(
    trained: _seeds.Networks, x: jax.Array, y: np.ndarray, seed: int, draws: int
) -> dict[str, list]:
    """Returns the accuracy without 0, 1, ... random blocks, (removed, seeds, draws).

    There are up to 8 numbers of blocks, from none to all removable ones.
    """
    blocks = count_blocks(trained.model)
    inside = removable(blocks)
    removed = sorted({round(n) for n in np.linspace(0, len(inside), 8)})
    accuracy = np.zeros((len(removed), len(trained), draws))
    for i in range(len(trained)):
        wrong, rng = error_function(trained, i, x, y), np.random.default_rng(seed + i)
        for j, count in enumerate(removed):
            # Without or with all blocks there is only one choice.
            for k in range(draws if 0 < count < len(inside) else 1):
                keep = np.ones(blocks)
                keep[rng.permutation(inside)[:count]] = 0
                accuracy[j, i, k:] = 1 - wrong(keep)
    return {"removed": removed, "accuracy": numbers(accuracy)}


def gradients_by_length(
    trained: _seeds.Networks, x: jax.Array, y: jax.Array, draws: int
) -> dict[str, np.ndarray]:
    """Returns the share of the paths of each length, and the mean gradient norm along one."""
    along, blocks = (
        path_gradients(trained.model, *take_network(trained, 0), x, y),
        count_blocks(trained.model),
    )
    rng = np.random.default_rng(0)
    sizes = np.zeros(blocks + 1)
    for length in range(blocks + 1):
        # There are up to 2^27 paths: a sample of each length, weighted by the number of paths.
        paths = [rng.permutation(np.arange(blocks) < length) for _ in range(draws)]
        gradients = np.stack([along(jnp.asarray(path, x.dtype)) for path in paths])
        sizes[length] = np.linalg.norm(gradients.reshape(draws * len(x), -1), axis=1).mean()
    shares = np.array([math.comb(blocks, length) / 2**blocks for length in range(blocks + 1)])
    return {"share of the paths": shares, "size of the gradient": sizes}


def mean_length(lengths: dict[str, Any]) -> float:
    """Returns the mean length of paths, weighted by the norm of their gradients."""
    weights = np.multiply(lengths["share of the paths"], lengths["size of the gradient"])
    return float(weights @ np.arange(len(weights)) / weights.sum())


def draw(result: dict) -> Any:
    """Draws the error without each block, without several, and the gradient by path length."""
    plt = _figure.pyplot()
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.5), layout="constrained")
    for i, kind in enumerate(("residual", "plain")):
        less = dict(result["error"][kind])
        axes[0].axhline(less.pop("none"), color=f"C{i}", ls=":", lw=1)
        axes[0].plot([int(block) for block in less], list(less.values()), "o-", label=kind)
    axes[0].set(xlabel="block removed, of 20 layers", ylabel="training error", ylim=(0, 1))
    axes[0].legend(frameon=False)
    for name, row in result["left"].items():
        share = np.array(row["removed"]) / row["removed"][-1]
        means, deviations = np.mean(row["accuracy"], (1, 2)), np.std(row["accuracy"], (1, 2))
        style = {"color": f"C{name.startswith('plain'):d}", "ls": "--" if "20" in name else "-"}
        axes[1].errorbar(share, means, deviations, marker="o", capsize=3, label=name, **style)
    axes[1].axhline(0.1, color="0.5", ls=":", lw=1)
    axes[1].set(xlabel="share of the blocks removed", ylabel="accuracy left", ylim=(0, 1.02))
    axes[1].legend(frameon=False, fontsize=8)
    for name, values in result["lengths"].items():
        shown = np.array(values) / np.sum(values)
        axes[2].plot(shown, marker=".", label=name)
    both = np.prod([np.array(values) for values in result["lengths"].values()], axis=0)
    axes[2].plot(both / both.sum(), marker=".", label="both together")
    axes[2].set(xlabel="blocks that a path goes through", ylabel="share")
    axes[2].legend(frameon=False, fontsize=8)
    return figure
