"""Computes every numeric example of the lectures with the library. Lecture rows S01-S22.

The slides' numbers are compared with the library's, rounded like the slide; a note gives the reason
of each difference. S23 (a printed sample of noise), S24 (rows of a one-hot matrix) and S25 (rules
of differentiation) have no numbers and are only tested.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import _run
from experiments._claim import numbers
from jaxdl import losses, nn, optim, tree
from jaxdl.core import Module


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    """In double precision."""


class Line(NamedTuple):
    """A number of a slide and that of the library.

    Attributes:
      what: the name of the quantity.
      slide: the printed number; None if the slide prints none.
      ours: the library's number.
      note: the reason of a difference, or another remark.
    """

    what: str
    slide: Any
    ours: Any
    note: str = ""

    @property
    def agrees(self) -> bool | None:
        """Equality after rounding like the slide; None if the slide prints no number."""
        if self.slide is None:
            return None
        printed = np.asarray(self.slide, np.float64)
        ours = np.asarray(self.ours, np.float64)
        return printed.shape == ours.shape and bool(np.all(np.abs(ours - printed) <= self.unit))

    @property
    def unit(self) -> float:
        """Half of the last printed digit."""
        texts = [repr(float(v)) for v in np.asarray(self.slide, np.float64).ravel()]
        places = max(len(text.split(".")[1].rstrip("0")) if "." in text else 0 for text in texts)
        # 1e-9 allows for numbers whose next digit is a 5.
        return 0.5 * 10.0**-places + 1e-9


IMAGE = [
    [1, 0, 0, 0, 0, 1],
    [0, 1, 0, 0, 1, 0],
    [0, 0, 1, 1, 0, 0],
    [1, 0, 0, 0, 1, 0],
    [0, 1, 0, 0, 1, 0],
    [0, 0, 1, 0, 1, 0],
]
KERNEL_1 = [[1, -1, -1], [-1, 1, -1], [-1, -1, 1]]
KERNEL_2 = [[-1, 1, -1], [-1, 1, -1], [-1, 1, -1]]


def sigmoid_layer(x: Any, kernel: Any, bias: Any) -> jax.Array:
    params = {"kernel": jnp.array(kernel, float).T, "bias": jnp.array(bias, float)}
    return jax.nn.sigmoid(nn.dense(2).apply(params, {}, jnp.array([x], float))[0])[0]


def convolve(image: Any, kernel: Any, **options: Any) -> jax.Array:
    x, k = jnp.array(image, float), jnp.array(kernel, float)
    options = {"padding": "VALID"} | options
    return nn.functional.conv(x[None, ..., None], k[..., None, None], **options)[0, ..., 0]


def pool(kind: Callable, image: Any) -> jax.Array:
    return kind(jnp.array(image, float)[None, ..., None], 2)[0, ..., 0]


def count_parameters(layer: Module, x: Any) -> int:
    return tree.count(jax.eval_shape(layer.init, jax.random.key(0), x)[0])


def one_layer() -> list[Line]:
    first = sigmoid_layer([1, -1], [[1, -2], [-1, 1]], [1, 0])
    return [Line("sigmoid(W (1, -1) + b)", [0.98, 0.12], first)]


def three_layers() -> list[Line]:
    def f(x):
        a = sigmoid_layer(x, [[1, -2], [-1, 1]], [1, 0])
        a = sigmoid_layer(a, [[2, -1], [-2, -1]], [0, 0])
        return sigmoid_layer(a, [[3, -1], [-1, 4]], [-2, 2])

    return [
        Line("f(1, -1)", [0.62, 0.83], f([1.0, -1.0])),
        Line("f(0, 0)", [0.51, 0.85], f([0.0, 0.0])),
    ]


def sigmoid_circuit() -> list[Line]:
    w, x = jnp.array([2.0, -3.0, -3.0]), jnp.array([-1.0, -2.0, 1.0])

    def f(w, x):
        return jax.nn.sigmoid(w @ x)

    by_w, by_x = jax.grad(f, (0, 1))(w, x)
    note = "the slide ends with a product w2 x2, where its source has w2 alone"
    return [Line("f", None, f(w, x)), Line("by w", None, by_w, note), Line("by x", None, by_x)]


def small_net() -> list[Line]:
    w = dict(enumerate(map(jnp.array, (0.20, -0.40, 0.50, 0.60, 0.10, -0.50, -0.30, 0.80)), 1))
    x1, x2, y1, y2 = 0.5, 0.3, 0.23, -0.07

    def forward(w):
        h1 = jax.nn.sigmoid(w[1] * x1 + w[3] * x2)
        h2 = jax.nn.sigmoid(w[2] * x1 + w[4] * x2)
        o1 = jax.nn.sigmoid(w[5] * h1 + w[7] * h2)
        o2 = jax.nn.sigmoid(w[6] * h1 + w[8] * h2)
        outputs, targets = jnp.stack([o1, o2]), jnp.array([y1, y2])
        return losses.half_squared_error(outputs[None], targets[None])[0], (h1, h2, o1, o2)

    (error, (h1, h2, o1, o2)), slope = jax.value_and_grad(forward, has_aux=True)(w)
    # The slide's rule, with gradients in place of the weights w5 and w6.
    wrong = (slope[5] + slope[6]) * h1 * (1 - h1)
    wrong2 = (slope[7] + slope[8]) * h2 * (1 - h2)
    deck = [wrong * x1, wrong * x2, wrong2 * x1, wrong2 * x2]
    stepped = {i: w[i] - slope[i] for i in w}
    note = "the slide sends back the derivative of w5, where w5 times the output's error is meant"
    return [
        Line("hidden", [0.56, 0.50], [h1, h2]),
        Line("output", [0.48, 0.53], [o1, o2]),
        Line("error", 0.21, error),
        Line("by w5, w7, w6, w8", [0.03, 0.03, 0.08, 0.07], [slope[i] for i in (5, 7, 6, 8)]),
        Line("by w1, w3, w2, w4", [0.01] * 4, [slope[i] for i in (1, 3, 2, 4)], note),
        Line("the same by the slide's rule", [0.01] * 4, deck),
        Line("error after a step with rate 1", None, forward(stepped)[0]),
    ]


def feature_maps() -> list[Line]:
    first = convolve(IMAGE, KERNEL_1)
    printed = [[-3, -1, -3, -1], [-3, -1, 0, -3], [-3, -3, 0, 1], [-3, -2, -2, -1]]
    right = [[3, -1, -3, -1], [-3, 1, 0, -3], [-3, -3, 0, 1], [3, -2, -2, -1]]
    second = [[-1, -1, -1, -1], [-1, -1, -2, 1], [-1, -1, -2, 1], [-1, 0, -4, 3]]
    return [
        Line("kernel 1, as one deck prints it", right, first),
        Line("kernel 1, as another does", printed, first, "misprinted at three places"),
        Line("kernel 1, stride 2", None, convolve(IMAGE, KERNEL_1, stride=2)),
        Line("kernel 2", second, convolve(IMAGE, KERNEL_2)),
        Line("kernel 1, pooled", None, pool(nn.functional.max_pool, first)),
        Line("kernel 2, pooled", None, pool(nn.functional.max_pool, convolve(IMAGE, KERNEL_2))),
    ]


def five_by_five() -> list[Line]:
    image = [[3, 3, 2, 1, 0], [0, 0, 1, 3, 1], [3, 1, 2, 2, 3], [2, 0, 0, 2, 2], [2, 0, 0, 0, 1]]
    kernel = [[0, 1, 2], [2, 2, 0], [0, 1, 2]]
    printed = [[12, 12, 17], [10, 17, 19], [9, 6, 14]]
    turned = convolve(image, kernel, flip=True)
    note = "by the same deck's definition, with the kernel turned"
    return [
        Line("the kernel as it stands", printed, convolve(image, kernel)),
        Line("convolution", printed, turned, note),
    ]


def linear_rnn() -> list[Line]:
    one = jnp.ones((2, 2))

    def run(inputs, activation):
        cell = nn.elman(2, activation=activation, use_bias=False)
        x = jnp.array([inputs], float)
        hidden, _ = cell.apply({"kernel": one, "recurrent_kernel": one}, {}, x)
        return nn.functional.dense(hidden, one)[0, :, 0]

    inputs = [(1, 1), (1, 1), (2, 2)]
    tried = [(2, 2), (-1, -1), (1, 1)]
    note = "every sum is positive: the ReLU changes nothing"
    return [
        Line("all weights 1", [4, 12, 32], run(inputs, lambda z: z)),
        Line("with ReLU on (2, 2), (-1, -1), (1, 1)", None, run(tried, jax.nn.relu), note),
        Line("the same without", None, run(tried, lambda z: z)),
    ]


def run_lstm(kernel: Any, bias: Any, inputs: Any) -> tuple[list[float], list[float]]:
    """Runs an LSTM of one unit, g and h the identity; returns memory and output by step."""
    # The slides leave out both activations of the memory.
    lstm = nn.lstm(1, activation=lambda a: a)
    x = jnp.array(inputs, float)
    params = {
        "kernel": jnp.array(kernel, float),
        "recurrent_kernel": jnp.zeros((1, 4)),
        "bias": jnp.array(bias, float),
    }
    carry, memory, outputs = lstm.initial_carry(params, x[None]), [], []
    for step in x:
        carry, y = lstm.step(params, carry, step[None])
        memory.append(float(carry[1][0, 0]))
        outputs.append(float(y[0, 0]))
    return [round(c, 12) for c in memory], [round(y, 12) for y in outputs]


def memory_cell() -> list[Line]:
    x1, x2 = [1, 3, 2, 4, 2, 1, 3, 6, 1], [0, 1, 0, 1, 0, 0, -1, 1, 0]
    x3 = [0, 0, 0, 0, 0, 1, 0, 0, 1]
    hard = 1000.0  # gates that are 0 or 1 in double precision
    kernel = [[0, 0, 1, 0], [hard, hard, 0, 0], [0, 0, 0, hard]]
    memory, outputs = run_lstm(
        kernel, [-hard / 2, hard / 2, 0, -hard / 2], np.stack([x1, x2, x3], 1)
    )
    printed = [0, 0, 3, 3, 7, 7, 7, 0, 6]
    note = "the printed row is the memory before each step"
    return [
        Line("memory", printed, memory, note),
        Line("memory before the step", printed, [0.0, *memory[:-1]]),
        Line("output", [0, 0, 0, 0, 0, 7, 0, 0, 6], outputs),
    ]


def lstm_by_hand() -> list[Line]:
    x = [[3, 1, 0], [4, 1, 0], [2, 0, 0], [1, 0, 1], [3, -1, 0]]
    kernel = [[0, 0, 1, 0], [100, 100, 0, 0], [0, 0, 0, 100]]
    memory, outputs = run_lstm(kernel, [-10, 10, 0, -10], x)
    note = "gates of a sigmoid are never quite 0 or 1"
    return [
        Line("memory", None, memory, note),
        Line("output, rounded", [0, 0, 0, 7, 0], np.round(outputs)),
    ]


def sizes() -> list[Line]:
    def size(n, k, stride=1):
        shape = jax.ShapeDtypeStruct((1, n, n, 3), jnp.float32)
        kernel = jax.ShapeDtypeStruct((k, k, 3, 6), jnp.float32)
        convolve = functools.partial(nn.functional.conv, stride=stride, padding="VALID")
        return jax.eval_shape(convolve, shape, kernel).shape[1]

    x = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    return [
        Line("7x7 by 3x3", 5, size(7, 3)),
        Line("7x7 by 3x3, stride 2", None, size(7, 3, 2)),
        Line("32x32x3 by 5x5x3", 28, size(32, 5)),
        Line(
            "numbers in six such kernels", None, count_parameters(nn.conv(6, 5, use_bias=False), x)
        ),
    ]


def poolings() -> list[Line]:
    first = [[1, 5, 4, 3], [2, 6, 4, 0], [3, 1, 7, 9], [2, 8, 6, 5]]
    second = [[1, 1, 2, 4], [5, 6, 7, 8], [3, 2, 1, 0], [1, 2, 3, 4]]
    mean = pool(nn.functional.avg_pool, first)
    return [
        Line("largest", [[6, 4], [8, 9]], pool(nn.functional.max_pool, first)),
        Line("mean", [[3, 2], [3, 6]], mean, "the slide cuts the fractions off"),
        Line("mean, cut off", [[3, 2], [3, 6]], jnp.floor(mean)),
        Line("largest, of the other deck", [[6, 8], [3, 4]], pool(nn.functional.max_pool, second)),
    ]


def gaussians() -> list[Line]:
    def kernel(sigma):
        d = np.arange(-3, 4) ** 2
        values = np.exp(-(d[:, None] + d[None]) / (2 * sigma**2))
        return values / values.sum()

    note = "normalized; its rounded entries sum to 1.0004"
    return [
        Line("7x7, sigma 1: its centre", 0.1592, kernel(1.0)[3, 3], note),
        Line("the sum of its rounded entries", 1.0004, np.round(kernel(1.0), 4).sum()),
        Line("sigma 10: the sum of the rounded", 0.9996, np.round(kernel(10.0), 4).sum()),
    ]


def word_vectors() -> list[Line]:
    word, vector = (jax.ShapeDtypeStruct((1, *s), t) for s, t in (((), int), ((200,), float)))
    there = count_parameters(nn.embedding(10_000, 200), word)
    back = count_parameters(nn.dense(10_000, use_bias=False), vector)
    return [
        Line("10,000 words of 200 numbers", 2_000_000, there),
        Line("from 200 numbers to 10,000 words", 2_000_000, back),
        Line("both", None, there + back),
    ]


def thousand_steps() -> list[Line]:
    def last(w):
        return jax.lax.fori_loop(0, 999, lambda _, y: w * y, jnp.ones(()))

    note = "the last of a thousand states has passed the weight 999 times"
    return [
        Line("w = 1", 1, last(1.0)),
        Line("w = 1.01", None, last(1.01), f"the slide says about 20,000; {note}"),
        Line("w = 0.99", 0, last(0.99)),
        Line("w = 0.01", 0, last(0.01)),
    ]


def regularizers() -> list[Line]:
    def path(optimizer, slopes):
        w: Any = jnp.array(1.0)
        state, weights = optimizer.init(w), []
        for g in slopes:
            updates, state = optimizer.update(jnp.array(g), state, w)
            w = optax.apply_updates(w, updates)
            weights.append(float(w))
        return weights

    # The lectures' order: the step first, and then the decay of its result.
    decay = optax.chain(optim.sgd(0.1), optim.decay_after_step(0.01))
    # The lectures scale at test time, as in Srivastava et al. 2014; the default scales in training.
    halved, _ = nn.dropout(0.5, scale_at="test").apply({}, {}, jnp.array(1.0))
    return [
        Line("decay after the step: 0.99 (w - 0.1 x 0.5)", None, path(decay, [0.5])[0]),
        Line("dropout of one half: a weight of 1 at test time", 0.5, halved),
        Line("Adagrad, slopes 0.1, 0.2, 0.3", None, path(optim.adagrad(0.1), [0.1, 0.2, 0.3])),
    ]


EXAMPLES: dict[str, tuple[str, Callable[[], list[Line]]]] = {
    "S01": ("one layer of sigmoids", one_layer),
    "S02": ("three layers", three_layers),
    "S03": ("a circuit, forth and back", sigmoid_circuit),
    "S04-S06": ("backpropagation in a net of two by two by two", small_net),
    "S07-S10": ("feature maps of a six by six image", feature_maps),
    "S11": ("five by five, three by three", five_by_five),
    "S12": ("a recurrent network with weights of 1", linear_rnn),
    "S13": ("a memory cell, nine steps", memory_cell),
    "S14": ("an LSTM with weights by hand", lstm_by_hand),
    "S15, S16": ("sizes of convolutions", sizes),
    "S17, S18": ("pooling", poolings),
    "S19": ("two Gaussian kernels", gaussians),
    "S20": ("the size of word vectors", word_vectors),
    "S21": ("a weight passed a thousand times", thousand_steps),
    "S22": ("decay, dropout, Adagrad", regularizers),
}


def run(config: Config) -> dict:
    result: dict[str, Any] = {}
    # Printed digits can only be compared beyond float32's rounding errors.
    with jax.enable_x64(True):
        for rows, (title, compute) in EXAMPLES.items():
            print(f"\n{rows}  {title}")
            lines = compute()
            for line in lines:
                print(format_line(line))
            result[rows] = [
                {"what": line.what, "slide": line.slide, "agrees": line.agrees, "note": line.note}
                | {"ours": numbers(line.ours, 10)}
                for line in lines
            ]
    every = [line for lines in result.values() for line in lines]
    printed = [line for line in every if line["agrees"] is not None]
    right = sum(line["agrees"] for line in printed)
    print(f"\n{right} of {len(printed)} printed numbers and tables are right")
    return {"examples": result, "printed": len(printed), "right": right}


def format_line(line: Line) -> str:
    """Formats a line of the output: both numbers, their agreement and the note."""
    verdict = {None: "", True: "  as printed", False: "  NOT as printed"}[line.agrees]
    slide = "" if line.slide is None else f"slide {format_value(line.slide)}   "
    note = f"  ({line.note})" if line.note else ""
    return f"  {line.what}: {slide}ours {format_value(line.ours)}{verdict}{note}"


def format_value(value: Any) -> str:
    array = np.asarray(value, np.float64)
    if not array.ndim:
        return f"{float(array):.8g}"
    return "[" + ", ".join(format_value(part) for part in array) + "]"
