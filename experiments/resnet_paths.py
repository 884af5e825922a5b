"""A residual network is many paths of few layers: delete a block and see. Lecture row G06.

Veit et al. 2016 (arXiv 1605.06431): n blocks, around each of which x may go, are 2^n paths. That is
exact for the gradient, which is the sum of those along all paths; three blocks show it. If so, a
block less takes half of the paths away and does little harm, where a plain network has one path
and breaks; and what is learned comes along the short ones. The networks are those of
`plain_56`, three of each kind where they have 20 layers.
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
from experiments._claim import Claim, metrics, numbers
from jaxdl import losses
from jaxdl.zoo.vision.resnet import cifar_resnet

CLAIM = Claim(
    rows=("G06",),
    step="set",
    english="A residual network works like an ensemble of many shallow ones.",
    chinese="残差网络如同许多浅层网络的集成。",
    deck={"residual, one block less": None, "plain, one block less": None},
    words={
        "residual, whole": "残差网络，完整",
        "residual, one block less": "残差网络，去掉一块",
        "plain, whole": "普通网络，完整",
        "plain, one block less": "普通网络，去掉一块",
    },
    source="zoo/vision/resnet.py",
    minutes=13,
)


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    images: int = 500
    """Training images to count the errors on."""
    draws: int = 10
    """Sets of blocks deleted at a time, and paths of each length."""
    seeds: int = 3
    """Networks of 20 layers of each kind; of 56 there is one."""


def lesioned(model: jaxdl.Module) -> Callable[..., jax.Array]:
    """`f(params, state, x, keep)`: the scores with block i left out where `keep[i]` is 0.

    Of a residual block the way around is left. A plain block hands on its input, unless it changes
    the shape.
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
    """`f(params, state, x, through)`: the scores, whose gradient by x is that of one path.

    The path goes through block i where `through[i]` is 1, and around it where it is 0.
    """

    def scores(params, state, x, through):
        last = {}

        def only(share, value):
            return share * value + (1 - share) * lax.stop_gradient(value)

        def tap(path, value):
            top, _, rest = path.partition("/")
            if top.startswith("block_"):
                share = through[int(top[6:])]
                if rest == "sum/shortcut":
                    return only(1 - share, value)
                if rest == "sum/block":
                    value = only(share, value)
                    around = last["value"]
                    if around.shape == value.shape:  # the way around has no name of its own
                        value = value + only(1 - share, around) - around
                    return value
            if rest == "":
                last["value"] = value
            return value

        return model.apply(params, state, x, tap=tap)[0]

    return scores


def gradients(model: jaxdl.Module, params: Any, state: Any, x: Any, y: Any) -> Callable[..., Any]:
    """`f(through)`: the gradient of the loss by the images, along a path."""
    scores = along_path(model)

    def loss(x, through):
        return losses.cross_entropy(scores(params, state, x, through), y).sum()

    gradient = jax.jit(jax.grad(loss))
    return lambda through: gradient(x, through)


def all_paths(x: jax.Array, y: jax.Array) -> float:
    """The largest difference of a gradient from its sum over the eight paths of three blocks."""
    model = cifar_resnet(8)
    params, state = jaxdl.init(model, jax.random.key(0), x)
    along = gradients(model, params, state, x, y)
    paths = [along(jnp.array(path, x.dtype)) for path in itertools.product((0, 1), repeat=3)]

    def loss(x):
        return losses.cross_entropy(model.apply(params, state, x)[0], y).sum()

    whole = jax.grad(loss)(x)
    return float(jnp.abs(sum(paths) - whole).max() / jnp.abs(whole).max())


def run(config: Config) -> dict:
    count, draws = (16, 2) if config.smoke else (config.images, config.draws)
    before = plain_56.Config(seed=config.seed, smoke=config.smoke, results=config.results)
    dataset = plain_56.images(before)
    x, y = jnp.asarray(dataset.train.x[:count]), np.asarray(dataset.train.y[:count])
    sum_of_paths = all_paths(x[:8], jnp.asarray(y[:8]))
    print(f"gradient less the sum over eight paths: {sum_of_paths:.1e} of its largest value")
    deep = plain_56.network(before, dataset, *plain_56.KINDS["residual, 56"])
    several = dataclasses.replace(before, seeds=config.seeds)
    found, error = {}, {}
    for kind in ("residual", "plain"):
        trained = plain_56.network(several, dataset, *plain_56.KINDS[f"{kind}, 20"])
        rows = [less_one(trained, i, x, y) for i in range(len(trained))]
        less = [[error for block, error in row.items() if block != "none"] for row in rows]
        found[f"{kind}, whole"] = _seeds.spread([row["none"] for row in rows])
        found[f"{kind}, one block less"] = _seeds.spread([np.mean(row) for row in less])
        error[kind] = {block: float(np.mean([row[block] for row in rows])) for block in rows[0]}
    error["by deleted"] = less_several(deep, x, y, config.seed, draws)
    lengths = by_length(deep, x[:16], jnp.asarray(y[:16]), draws)
    for name, spread in found.items():
        print(f"{name:26s} error {_seeds.said(spread)}")
    harm = {
        kind: found[f"{kind}, one block less"]["mean"] - found[f"{kind}, whole"]["mean"]
        for kind in ("residual", "plain")
    }
    short, blocks = effective(lengths), count_blocks(deep.model)
    result = metrics(
        found,
        holds=sum_of_paths < 1e-4 and harm["residual"] < harm["plain"] and short < blocks / 2,
        said=(
            f"one block less raises the error of 20 residual layers by {harm['residual']:.3f} on "
            f"average, of 20 plain ones by {harm['plain']:.3f}; the gradient is the sum over 2^n "
            f"paths to {sum_of_paths:.0e}; in 56 layers of {blocks} blocks the mean path "
            f"goes through {blocks / 2:g} blocks, and weighed by its gradient through "
            f"{short:.1f}"
        ),
        chinese=(
            f"去掉一块，20 层残差网络的误差平均增加 {harm['residual']:.3f}，普通网络增加 "
            f"{harm['plain']:.3f}；56 层网络有 {blocks} 块，"
            f"路径平均经过 {blocks / 2:g} 块，而梯度平均只经过 {short:.1f} 块"
        ),
        error=error,
        sum_of_paths=sum_of_paths,
        lengths={name: numbers(values) for name, values in lengths.items()},
        three_blocks={str(2 * k): math.comb(3, k) for k in range(4)},
    )
    _figure.save(draw(result), config, "resnet_paths", "resnet_paths")
    return result


def count_blocks(model: jaxdl.Module) -> int:
    return sum(child.startswith("block_") for child in model.children)


def nth(trained: _seeds.Trained, i: int) -> tuple[Any, Any]:
    """The parameters and the state of one network."""
    return jax.tree.map(lambda a: a[i], (trained.params, trained.model_state))


def errors(trained: _seeds.Trained, i: int, x: jax.Array, y: np.ndarray) -> Callable[[Any], float]:
    """`f(keep)`: the share of the images that a network gets wrong without some blocks."""
    answer, trees = jax.jit(lesioned(trained.model)), nth(trained, i)
    return lambda keep: float(
        (answer(*trees, x, jnp.asarray(keep, x.dtype)).argmax(-1) != y).mean()
    )


def less_one(trained: _seeds.Trained, i: int, x: jax.Array, y: np.ndarray) -> dict[str, float]:
    """The error with no block deleted, and without each that keeps the shape.

    Those that halve the map stay: no plain network can do without them.
    """
    wrong, blocks = errors(trained, i, x, y), count_blocks(trained.model)
    inside = [block for block in range(blocks) if block == 0 or block % (blocks // 3)]
    keep = 1 - np.eye(blocks)
    return {"none": wrong(np.ones(blocks))} | {str(b): wrong(keep[b]) for b in inside}


def less_several(
    trained: _seeds.Trained, x: jax.Array, y: np.ndarray, seed: int, draws: int
) -> dict[str, list]:
    """The errors without more and more blocks drawn by lot, several draws for each number."""
    wrong, blocks = errors(trained, 0, x, y), count_blocks(trained.model)
    rng = np.random.default_rng(seed)
    deleted = sorted({round(n) for n in np.linspace(0, blocks, 10)})
    rows = [
        [wrong(rng.permutation(np.arange(blocks) >= out)) for _ in range(draws)] for out in deleted
    ]
    return {"deleted": deleted, "error": rows}


def by_length(
    trained: _seeds.Trained, x: jax.Array, y: jax.Array, draws: int
) -> dict[str, np.ndarray]:
    """How many paths there are of each length, and how large the gradient along one of them is."""
    along, blocks = gradients(trained.model, *nth(trained, 0), x, y), count_blocks(trained.model)
    rng = np.random.default_rng(0)
    sizes = np.zeros(blocks + 1)
    for length in range(blocks + 1):
        paths = [rng.permutation(np.arange(blocks) < length) for _ in range(draws)]
        found = np.stack([along(jnp.asarray(path, x.dtype)) for path in paths])
        sizes[length] = np.linalg.norm(found.reshape(draws * len(x), -1), axis=1).mean()
    shares = np.array([math.comb(blocks, length) / 2**blocks for length in range(blocks + 1)])
    return {"share of the paths": shares, "size of the gradient": sizes}


def effective(lengths: dict[str, np.ndarray]) -> float:
    """The mean length, each path weighed by the size of its gradient."""
    weights = lengths["share of the paths"] * lengths["size of the gradient"]
    return float(weights @ np.arange(len(weights)) / weights.sum())


def draw(result: dict) -> Any:
    """The error without each block, without several, and where the gradient comes from."""
    plt = _figure.pyplot()
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.5), layout="constrained")
    for i, kind in enumerate(("residual", "plain")):
        less = dict(result["error"][kind])
        axes[0].axhline(less.pop("none"), color=f"C{i}", ls=":", lw=1)
        axes[0].plot([int(block) for block in less], list(less.values()), "o-", label=kind)
    axes[0].set(xlabel="block deleted, of 20 layers", ylabel="training error", ylim=(0, 1))
    axes[0].legend(frameon=False)
    several = result["error"]["by deleted"]
    means, deviations = np.mean(several["error"], 1), np.std(several["error"], 1)
    axes[1].errorbar(several["deleted"], means, deviations, marker="o", capsize=3)
    axes[1].set(xlabel="blocks deleted, of 56 residual layers", ylim=(0, 1))
    for name, values in result["lengths"].items():
        shown = np.array(values) / np.sum(values)
        axes[2].plot(shown, marker=".", label=name)
    both = np.prod([np.array(values) for values in result["lengths"].values()], axis=0)
    axes[2].plot(both / both.sum(), marker=".", label="both together")
    axes[2].set(xlabel="blocks that a path goes through", ylabel="share")
    axes[2].legend(frameon=False, fontsize=8)
    return figure
