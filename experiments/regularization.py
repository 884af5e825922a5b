"""Four cures for overfitting: stop early, decay the weights, drop units, turn images. Row E04.

784-500-500-10 with ReLUs, on so few of the digits that it learns them by heart. Dropout's scaled
network is compared with the mean of many thinned ones, which it stands for; the decay is the
lectures' own, w <- (1 - lambda) (w - eta g), after the step, with a lambda of 0.0005 where the
slide has 0.01; and five networks are asked together. Early stopping watches the loss, and is judged
by it.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdl
from experiments import _figure, _lecture, _run, _seeds
from experiments._claim import Claim, metrics, numbers
from jaxdl import data, nn, optim, train
from jaxdl.data import augment

CLAIM = Claim(
    rows=("E04", "E03", "E05", "E06", "E07", "E09", "S22"),
    step="best",
    english="Early stopping, weight decay, dropout and turned images help against overfitting.",
    chinese="早停、权重衰减、Dropout 和旋转图像（数据增强）能减轻过拟合。",
    deck=dict.fromkeys(
        ("nothing", "early stopping", "weight decay", "dropout", "turned images", "ensemble")
    ),
    words={
        "nothing": "不做正则化",
        "early stopping": "早停",
        "weight decay": "权重衰减",
        "dropout": "Dropout",
        "turned images": "旋转图像",
        "ensemble": "五个网络的集成",
        "loss, nothing": "测试损失，不做正则化",
        "loss, early stopping": "测试损失，早停",
    },
    source="optim.py",
    minutes=6,
)
DECAY = 0.0005
TOGETHER = 5


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    seeds: int = 5
    """Networks of each kind, and ensembles."""
    rows: int = 500
    """Training images, and as many to stop by."""
    epochs: int = 100
    """Epochs; for early stopping, at most."""


def network(width: int, dropout: bool = False) -> jaxdl.Module:
    parts: list[Any] = [nn.flatten()]
    for _ in range(2):
        parts += [nn.dense(width, kernel_init="he_normal"), jax.nn.relu]
        parts += [nn.dropout(0.5)] if dropout else []
    return jaxdl.serial(*parts, nn.dense(10))


def run(config: Config) -> dict:
    seeds, rows, epochs, width = config.seeds, config.rows, config.epochs, _lecture.WIDTH
    if config.smoke:
        seeds, rows, epochs, width = 2, 100, 2, 16
    dataset = _lecture.images(config.smoke)
    seen, other = (
        data.Split(dataset.train.x[part], dataset.train.y[part])
        for part in (slice(0, rows), slice(rows, 2 * rows))
    )
    test = dataset.test
    plain, dropped = network(width), network(width, dropout=True)
    sgd = optax.sgd(_lecture.RATE)
    options = {"loss": "cross_entropy", "batch_size": 50, "metrics": ["accuracy"]}

    def trained(model=plain, optimizer=sgd, networks=seeds, **more) -> _seeds.Trained:
        return _seeds.trained(
            config,
            model,
            seen,
            optimizer=optimizer,
            seeds=networks,
            epochs=epochs,
            eval_data=other,
            **options | more,
        )

    many = {
        "nothing": trained(networks=seeds * TOGETHER),
        "weight decay": trained(optimizer=optax.chain(sgd, optim.decay_after_step(DECAY))),
        "dropout": trained(dropped),
        "turned images": trained(augment=augment.rotate),
    }
    accuracy = {name: found.accuracy(test.x, test.y) for name, found in many.items()}
    shares = jax.nn.softmax(many["nothing"].predict(test.x))
    together = shares.reshape(seeds, TOGETHER, *shares.shape[1:]).mean(1)
    accuracy["ensemble"] = np.asarray((together.argmax(-1) == test.y).mean(-1))
    stopped = [
        stop_early(plain, seen, other, seed, epochs, options)
        for seed in range(config.seed, config.seed + seeds)
    ]
    at_stop = [
        train.evaluate(plain, state, test, loss="cross_entropy", metrics=["accuracy"])
        for state, _ in stopped
    ]
    accuracy["early stopping"] = np.array([row["accuracy"] for row in at_stop])
    found = {name: _seeds.spread(accuracy[name]) for name in CLAIM.deck}
    of_true = np.take_along_axis(np.asarray(shares), test.y[None, :, None], 2)
    found["loss, nothing"] = _seeds.spread(-np.log(of_true.clip(1e-30)).mean((1, 2)))
    found["loss, early stopping"] = _seeds.spread([row["loss"] for row in at_stop])
    for name, values in found.items():
        print(f"{name:20s} {_seeds.said(values)}")
    thinned = against_thinned(dropped, many["dropout"], test, 3 if config.smoke else 100)
    border = unused_weights(seen, many)
    print(f"dropout: scaled {thinned['scaled']:.3f}, mean of thinned {thinned['mean']:.3f}")
    mean = {name: values["mean"] for name, values in found.items()}
    result = metrics(
        found,
        holds=min(mean[name] for name in many if name != "nothing") > mean["nothing"]
        and mean["ensemble"] > mean["nothing"]
        and mean["loss, early stopping"] < mean["loss, nothing"],
        said=(
            f"with {rows} training images the test accuracy is {mean['nothing']:.3f}; stopped "
            f"early {mean['early stopping']:.3f} (the loss is {mean['loss, early stopping']:.3f}, "
            f"not {mean['loss, nothing']:.3f}), with decay {mean['weight decay']:.3f}, dropout "
            f"{mean['dropout']:.3f}, turned images {mean['turned images']:.3f}, five networks "
            f"together {mean['ensemble']:.3f}; dropout's scaled network has "
            f"{thinned['scaled']:.3f}, the mean of {thinned['networks']} thinned ones "
            f"{thinned['mean']:.3f}, one of them {thinned['one']:.3f}; weights of pixels that are "
            f"never inked shrink to {border['weight decay']:.2f} of what they were, "
            f"without decay {border['nothing']:.2f}"
        ),
        chinese=(
            f"{rows} 张训练图像：不做正则化 {mean['nothing']:.3f}，早停 "
            f"{mean['early stopping']:.3f}（损失 {mean['loss, early stopping']:.3f}，不做为 "
            f"{mean['loss, nothing']:.3f}），权重衰减 {mean['weight decay']:.3f}，Dropout "
            f"{mean['dropout']:.3f}，旋转图像 {mean['turned images']:.3f}，集成 "
            f"{mean['ensemble']:.3f}；Dropout 的缩放网络 {thinned['scaled']:.3f}，"
            f"{thinned['networks']} 个子网络的平均 {thinned['mean']:.3f}"
        ),
        curves=numbers({name: f.history["eval_accuracy"] for name, f in many.items()}),
        stops=[epochs for _, epochs in stopped],
        thinned=thinned,
        never_inked=border,
        **_seeds.times(many),
    )
    _figure.save(draw(result), config, "regularization", "regularization")
    return result


def stop_early(model, seen, other, seed: int, epochs: int, options: dict) -> tuple[Any, int]:
    """The network where its loss on other images was least, and the epochs that it took."""
    state, history = train.fit(
        model,
        seen,
        optimizer=optax.sgd(_lecture.RATE),
        epochs=epochs,
        eval_data=other,
        seed=seed,
        callbacks=[train.EarlyStopping("eval_loss", patience=5)],
        verbose=0,
        **options,
    )
    return state, len(history["loss"])


def against_thinned(
    model: jaxdl.Module, trained: _seeds.Trained, test: data.Split, networks: int
) -> dict[str, float]:
    """The first network scaled, as it answers; thinned ones, each by itself and all together."""
    params = jax.tree.map(lambda a: a[0], trained.params)
    x = jnp.asarray(test.x[:2000])

    @jax.jit
    def thin(key):
        return jax.nn.softmax(model.apply(params, {}, x, train=True, key=key)[0])

    keys = jax.random.split(jax.random.key(0), networks)
    shares = np.stack([thin(key) for key in keys])
    right = lambda p: (p.argmax(-1) == test.y[:2000]).mean(-1)  # noqa: E731
    return {
        "scaled": float(right(trained.predict(x)[0])),
        "mean": float(right(shares.mean(0))),
        "one": float(right(shares).mean()),
        "networks": networks,
    }


def unused_weights(seen: data.Split, many: dict[str, _seeds.Trained]) -> dict[str, float]:
    """How large the weights of the pixels without ink in all training images are left."""
    empty = ~np.any(seen.x.reshape(len(seen.x), -1), 0)
    found = {}
    for name in ("nothing", "weight decay"):
        model, seed = many[name].model, int(many[name].history["seed"][0])
        start = jaxdl.init(model, jax.random.key(seed), seen.x[:1])[0]["dense_0"]["kernel"]
        end = many[name].params["dense_0"]["kernel"][0]
        found[name] = float(jnp.linalg.norm(end[empty]) / jnp.linalg.norm(start[empty]))
    return found


def draw(result: dict) -> Any:
    """The accuracy on other images by epoch, and that of each cure on the test images."""
    plt = _figure.pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    _figure.curves(left, result["curves"], {})
    worst = min(np.array(values)[:, 5:].min(initial=1) for values in result["curves"].values())
    left.set(ylabel="accuracy on other images", ylim=(worst, None))
    means, deviations = (
        [result["found"][kind][name] for kind in CLAIM.deck] for name in ("mean", "deviation")
    )
    right.errorbar(means, range(len(means)), xerr=deviations, fmt="o", capsize=3)
    right.axvline(means[0], color="0.5", ls=":", lw=1)
    right.set(yticks=range(len(means)), yticklabels=list(CLAIM.deck), xlabel="test accuracy")
    right.invert_yaxis()
    return figure
