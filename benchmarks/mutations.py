"""Mutations: faults put into the library one at a time, and which test notices each.

Why: a suite is made faster by leaving work out, and a coverage number does not say whether what is
left still compares results. Each mutation changes one sign, axis, bound, mask or constant; it is
noticed if a test of a copy of the repository fails, first those listed with it, then all; the
tests that noticed must pass on an unchanged copy.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import itertools
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Any

ROOT = pathlib.Path(__file__).parent.parent
FAILURE = re.compile(r"^(?:FAILED|ERROR) (\S+?::.+?)(?: - .*)?$", re.MULTILINE)
TABLE_TEST = "tests/test_mutations.py"


@dataclasses.dataclass(frozen=True)
class Mutation:
    """A fault: `old` occurs once in `file` and becomes `new`.

    Attributes:
      name: package and fault, in a few words.
      file: below `jaxdl/`.
      tests: files or folders below `tests/` that are most likely to notice, the likeliest first.
    """

    name: str
    file: str
    old: str
    new: str
    tests: str

    def apply(self, root: pathlib.Path) -> None:
        """Changes the file below `root`.

        Raises:
          ValueError: the old text does not occur exactly once.
        """
        path = root / "jaxdl" / self.file
        text = path.read_text("utf-8")
        count = text.count(self.old)
        if count != 1:
            raise ValueError(
                f"mutation {self.name!r}: jaxdl/{self.file} holds {self.old!r} {count} times; "
                "expected once: adapt benchmarks/mutations.py to the code."
            )
        path.write_text(text.replace(self.old, self.new), "utf-8")

    @property
    def likely(self) -> list[str]:
        return [f"tests/{name}" for name in self.tests.split()]


MUTATIONS = (
    # nn
    Mutation(
        "nn: attention reads the padding",
        "nn/attention.py",
        "return jnp.where(real[..., None], keys, 0), real[:, None]",
        "return jnp.where(real[..., None], keys, 0), None",
        "nn/test_attention.py",
    ),
    Mutation(
        "nn: attention scales by the number of keys",
        "nn/attention.py",
        "factor = keys.shape[-1] ** -0.5",
        "factor = keys.shape[-2] ** -0.5",
        "nn/test_attention.py parity/test_attention.py",
    ),
    Mutation(
        "nn: layer norm over all axes of an example",
        "nn/norm.py",
        "lambda x: moments(x, -1)",
        "lambda x: moments(x, tuple(range(1, x.ndim)))",
        "nn/test_norm.py parity/test_norm.py",
    ),
    Mutation(
        "nn: layer norm's epsilon is 1e-5",
        "nn/norm.py",
        "def layer_norm(*, eps: float = 1e-6,",
        "def layer_norm(*, eps: float = 1e-5,",
        "parity/test_norm.py nn/test_norm.py",
    ),
    Mutation(
        "nn: batch norm's momentum weighs the new batch",
        "nn/norm.py",
        "momentum * state[name] + (1 - momentum) * lax",
        "(1 - momentum) * state[name] + momentum * lax",
        "nn/test_norm.py parity/test_norm.py",
    ),
    Mutation(
        "nn: dropout divides by the rate",
        "nn/dropout.py",
        "    keep = 1 - rate\n",
        "    keep = rate\n",
        "nn/test_dropout.py",
    ),
    Mutation(
        "nn: recurrent dropout divides by the rate",
        "nn/recurrent.py",
        "key, rate) / (1 - rate)",
        "key, rate) / rate",
        "nn/test_recurrent_dropout.py nn/test_recurrent.py",
    ),
    Mutation(
        "nn: Cho's GRU swaps its update gate",
        "nn/gru.py",
        "h = (1 - u) * h + u * n",
        "h = (1 - u) * n + u * h",
        "nn/test_gru.py",
    ),
    Mutation(
        "nn: the fused LSTM's derivative forgets over padding",
        "nn/lstm_fused.py",
        "jnp.where(mask, f, 1)",
        "f",
        "nn/test_recurrent.py",
    ),
    Mutation(
        "nn: the last output is one step late",
        "nn/recurrent.py",
        "at = jnp.clip(lengths - 1, 0",
        "at = jnp.clip(lengths, 0",
        "nn/test_recurrent.py",
    ),
    Mutation(
        "nn: NaN in a sequence's padding reaches the gradient",
        "nn/recurrence.py",
        "        x = jnp.where(mask, x, 0)  #",
        "        #",
        "nn/test_recurrent.py",
    ),
    Mutation(
        "nn: the shortcut of stacked layers carries the dropped values",
        "nn/bidirectional.py",
        "y = above + y if residual",
        "y = above + below if residual",
        "nn/test_recurrent_dropout.py nn/test_bidirectional.py nn/test_layer_specs.py",
    ),
    Mutation(
        "nn: circular padding puts the odd cell before",
        "nn/_window.py",
        "((k - 1) // 2, k // 2)",
        "(k // 2, (k - 1) // 2)",
        "nn/test_circular.py nn/test_conv.py parity/test_conv.py",
    ),
    Mutation(
        "nn: a dilated window spans k d cells",
        "nn/_window.py",
        "return tuple((k - 1) * d + 1 for",
        "return tuple(k * d for",
        "parity/test_conv.py nn/test_conv.py",
    ),
    Mutation(
        "nn: an embedding's fan is the number of symbols",
        "nn/embedding.py",
        '"fan_in", "normal", out_axis=0',
        '"fan_in", "normal"',
        "nn/test_embedding.py parity/test_embedding.py",
    ),
    Mutation(
        "nn: truncated BPTT reaches one step further",
        "nn/bptt.py",
        "(t - k < reach)",
        "(t - k <= reach)",
        "nn/test_bptt.py",
    ),
    Mutation(
        "nn: all gates begin with one recurrent matrix",
        "nn/cell.py",
        "(jax.random.split(key, gates))",
        "(jax.random.split(key, 1)[jnp.zeros(gates, int)])",
        "nn/test_cell.py nn/test_lstm.py",
    ),
    Mutation(
        "nn: a transposed convolution of steps wider than its window ends early",
        "nn/conv.py",
        "(k - 1, max(k, s) - 1)",
        "(k - 1, k - 1)",
        "nn/test_conv_transpose.py parity/test_conv.py",
    ),
    Mutation(
        "nn: a transposed convolution ignores its dilation",
        "nn/conv.py",
        'padding="VALID", dilation=dilation)',
        'padding="VALID")',
        "nn/test_conv_transpose.py nn/test_conv.py",
    ),
    Mutation(
        "nn: LSUV begins all layers from one orthonormal kernel",
        "nn/initializers.py",
        "jax.random.fold_in(key, number)",
        "jax.random.fold_in(key, 0 * number)",
        "nn/test_initial_variance.py nn/test_initializers.py",
    ),
    Mutation(
        "nn: LSUV scales once less than it may",
        "nn/initializers.py",
        "range(max_iterations + 1)",
        "range(max_iterations)",
        "nn/test_initial_variance.py nn/test_initializers.py",
    ),
    Mutation(
        "nn: He's initial variance is LeCun's",
        "nn/initializers.py",
        '"he_normal": initializers.he_normal()',
        '"he_normal": initializers.lecun_normal()',
        "nn/test_initial_variance.py nn/test_initializers.py",
    ),
    Mutation(
        "nn: the threshold unit fires at NaN",
        "nn/activation.py",
        "return (z >= 0).astype",
        "return (~(z < 0)).astype",
        "nn/test_activation.py",
    ),
    Mutation(
        "nn: the backward cell that is given is not taken",
        "nn/bidirectional.py",
        "recurrent(backward or cell,",
        "recurrent(cell,",
        "nn/test_bidirectional.py",
    ),
    # train
    Mutation(
        "train: momentum turns the velocity round",
        "optim.py",
        "return _like(g, decay) * v -",
        "return -_like(g, decay) * v -",
        "test_optim.py",
    ),
    Mutation(
        "train: means divide by all examples, masked ones too",
        "metrics.py",
        'reduce(ones, where, "sum"))',
        "jnp.sum(ones))",
        "test_metrics.py train/test_evaluate.py",
    ),
    Mutation(
        "train: the confusion matrix is transposed",
        "metrics.py",
        "matrix.at[true, decision]",
        "matrix.at[decision, true]",
        "test_metrics.py",
    ),
    Mutation(
        "train: every step draws the same dropout mask",
        "train/step.py",
        "jax.random.split(jax.random.fold_in(state.key, state.step))",
        "jax.random.split(state.key)",
        "train/test_step.py train/test_fit.py",
    ),
    Mutation(
        "train: a skipped step still moves the optimizer's state",
        "train/step.py",
        "new.replace(params=kept[0], model_state=kept[1], opt_state=kept[2])",
        "new.replace(params=kept[0], model_state=kept[1])",
        "train/test_fit_nonfinite.py train/test_step.py",
    ),
    Mutation(
        "train: early stopping waits one epoch more",
        "train/callbacks.py",
        ">= self.patience:",
        "> self.patience:",
        "train/test_callbacks.py",
    ),
    Mutation(
        "train: early stopping's min_delta counts the wrong way",
        "train/callbacks.py",
        ">= -self.min_delta and",
        ">= self.min_delta and",
        "train/test_callbacks.py",
    ),
    Mutation(
        "train: the logged learning rate is the next step's",
        "train/callbacks.py",
        "self.schedule(int(context.state.step) - 1)",
        "self.schedule(int(context.state.step))",
        "train/test_callbacks.py",
    ),
    Mutation(
        "train: a resumed epoch forgets the losses before",
        "train/run.py",
        'Totals(record["totals"])',
        "Totals()",
        "train/test_resume_within_epoch.py train/test_checkpoint.py",
    ),
    Mutation(
        "train: one checkpoint more is kept",
        "train/checkpoint.py",
        "whole[: -self.keep]",
        "whole[: -self.keep - 1]",
        "train/test_checkpoint.py",
    ),
    Mutation(
        "train: the loss scale grows one step late",
        "train/precision.py",
        "self.steps + 1 >= GROWTH",
        "self.steps >= GROWTH",
        "train/test_precision.py",
    ),
    Mutation(
        "train: lr_find does not correct its average's start",
        "train/lr_find.py",
        "average / (1 - smoothing ** (t + 1))",
        "average",
        "train/test_lr_find.py",
    ),
    Mutation(
        "train: initial scales multiply biases and norms too",
        "train/many.py",
        'if path[-1].key == "kernel" else leaf',
        "if path[-1].key else leaf",
        "train/test_initial_scale.py train/test_many.py",
    ),
    Mutation(
        "train: initial scales are squared",
        "train/many.py",
        "return leaf * scale.astype(leaf.dtype)",
        "return leaf * scale.astype(leaf.dtype) ** 2",
        "train/test_initial_scale.py train/test_many.py",
    ),
    Mutation(
        "train: lr_find counts the rows that fill a batch up",
        "train/lr_find.py",
        "mask = epochs[0][1]",
        "mask = None",
        "train/test_lr_find.py",
    ),
    Mutation(
        "train: lr_find has the same order in every epoch",
        "train/lr_find.py",
        "epoch_batches(n, batch_size, seed, epoch) for epoch",
        "epoch_batches(n, batch_size, seed, 0) for epoch",
        "train/test_lr_find.py",
    ),
    Mutation(
        "train: the loss scale grows beyond float32",
        "train/precision.py",
        "jnp.minimum(self.value * 2, 2.0**126)",
        "self.value * 2",
        "train/test_loss_scale.py train/test_precision.py",
    ),
    Mutation(
        "train: the first loss scale is infinite in float16",
        "train/precision.py",
        "LossScale(jnp.float32(2.0**15)",
        "LossScale(jnp.float32(2.0**16)",
        "train/test_loss_scale.py train/test_precision.py",
    ),
    Mutation(
        "train: of top-k accuracies the smaller is the better",
        "train/callbacks.py",
        '("accuracy" in monitor or "top" in monitor)',
        '"accuracy" in monitor',
        "train/test_best.py train/test_callbacks.py",
    ),
    Mutation(
        "train: Save keeps the smallest accuracy",
        "train/callbacks.py",
        "self._sign * (value - self.best) >= 0:",
        "value - self.best >= 0:",
        "train/test_best.py train/test_callbacks.py",
    ),
    Mutation(
        "train: the best checkpoint has the smallest accuracy",
        "train/checkpoint.py",
        "self._sign * v for path, v",
        "v for path, v",
        "train/test_best.py train/test_checkpoint.py",
    ),
    Mutation(
        "train: processes go on at the greatest pace of all",
        "train/distributed.py",
        "int(every[:, 0].min())",
        "int(every[:, 0].max())",
        "train/test_processes.py train/test_distributed.py",
    ),
    Mutation(
        "train: any batch of as many rows as devices will do",
        "train/distributed.py",
        "if size % parts:",
        "if size < parts:",
        "train/test_processes.py train/test_distributed.py",
    ),
    Mutation(
        "train: steps draw from the key of the parameters",
        "train/state.py",
        "key=jax.random.fold_in(key, 0),",
        "key=key,",
        "train/test_golden.py train/test_step.py train/test_fit.py",
    ),
    Mutation(
        "train: half the squared error has Keras's name of the mean",
        "losses.py",
        '"mean_squared_error": squared_error,',
        '"mean_squared_error": half_squared_error,',
        "test_names.py test_losses.py",
    ),
    Mutation(
        "train: momentum by name has ten times its rate",
        "optim.py",
        "functools.partial(momentum, learning_rate=0.01)",
        "functools.partial(momentum, learning_rate=0.1)",
        "test_names.py test_optim.py",
    ),
    Mutation(
        "train: depth counts the first branch of a condition alone",
        "depth.py",
        "return [_deepest(outputs) for outputs in zip(*passed, strict=True)]",
        "return passed[0]",
        "test_depth.py",
    ),
    # data
    Mutation(
        "data: every epoch has the same order",
        "data/batches.py",
        "np.array([seed, epoch], np.uint64)",
        "np.array([seed, 0], np.uint64)",
        "data/test_batches.py train/test_fit.py",
    ),
    Mutation(
        "data: buckets group the same rows in every epoch",
        "data/text.py",
        "permutation(len(lengths), seed=seed, epoch=epoch)",
        "permutation(len(lengths), seed=seed, epoch=0)",
        "data/test_bucketed.py data/test_text.py",
    ),
    Mutation(
        "data: a crop never reaches the last place",
        "data/augment.py",
        "jnp.array(room) + 1)",
        "jnp.maximum(jnp.array(room), 1))",
        "data/test_crop.py data/test_augment.py",
    ),
    Mutation(
        "data: rotation turns clockwise",
        "data/augment.py",
        "turn = jnp.deg2rad(",
        "turn = -jnp.deg2rad(",
        "data/test_augment.py",
    ),
    Mutation(
        "data: the Hann window is symmetric, not periodic",
        "data/audio.py",
        "np.arange(length) / length)",
        "np.arange(length) / (length - 1))",
        "data/test_audio.py",
    ),
    Mutation(
        "data: mel bands begin at 0 Hz, whatever the lowest frequency",
        "data/audio.py",
        "np.array([low, rate / 2])",
        "np.array([0.0, rate / 2])",
        "data/test_audio.py",
    ),
    Mutation(
        "data: dates are spoken with the next month",
        "data/numerals.py",
        "MONTHS[month - 1]",
        "MONTHS[month % 12]",
        "data/test_numerals.py data/test_text.py",
    ),
    Mutation(
        "data: numbers have five digits at most",
        "data/numerals.py",
        "rng.integers(1, 7)",
        "rng.integers(1, 6)",
        "data/test_numerals.py data/test_text.py",
    ),
    Mutation(
        "data: English numbers have no and",
        "data/numerals.py",
        'link = " and " if 0 < rest < 100 else " "',
        'link = " "',
        "data/test_numerals.py data/test_text.py",
    ),
    Mutation(
        "data: the date of a travel request has no slot",
        "data/travel.py",
        '{pick(DAYS)}", 3)',
        '{pick(DAYS)}", 0)',
        "data/test_travel.py data/test_text.py",
    ),
    Mutation(
        "data: noise has unit deviation, whatever is asked for",
        "data/augment.py",
        "images + deviation * jax.random",
        "images + jax.random",
        "data/test_amounts.py data/test_augment.py",
    ),
    Mutation(
        "data: images turn one way only",
        "data/augment.py",
        "images.dtype, -degrees, degrees)",
        "images.dtype, 0.0, degrees)",
        "data/test_amounts.py data/test_augment.py",
    ),
    Mutation(
        "data: batches come bucket by bucket",
        "data/text.py",
        "turns = permutation(len(groups), seed=seed, epoch=epoch)",
        "turns = range(len(groups))",
        "data/test_bucketed.py data/test_text.py",
    ),
    Mutation(
        "data: CIFAR's images are transposed",
        "data/cifar.py",
        "planes.transpose(0, 2, 3, 1)",
        "planes.transpose(0, 3, 2, 1)",
        "data/test_cifar.py data/test_datasets.py",
    ),
    Mutation(
        "data: recordings change by 20 dB",
        "data/spoken_digits.py",
        "* 2 ** rng.uniform(-1, 1)",
        "* 10 ** rng.uniform(-1, 1)",
        "data/test_digit_strings.py data/test_audio.py",
    ),
    Mutation(
        "data: strings of digits are spoken by several speakers",
        "data/spoken_digits.py",
        "own = by_speaker[speakers[rng.integers(len(speakers))]]",
        "own = sum(by_speaker.values(), [])",
        "data/test_digit_strings.py data/test_audio.py",
    ),
    # decode
    Mutation(
        "decode: the length penalty leaves the stop symbol out",
        "decode/search.py",
        "symbols = jnp.minimum(lengths + 1, length)",
        "symbols = jnp.maximum(lengths, 1)",
        "decode/test_search.py",
    ),
    Mutation(
        "decode: a beam's stop flags stay behind its sequences",
        "decode/search.py",
        "done = done[rows, parent] | (token == stop)",
        "done = done | (token == stop)",
        "decode/test_search.py",
    ),
    Mutation(
        "decode: samples of all steps use the same random numbers",
        "decode/search.py",
        "jax.random.fold_in(key, t)",
        "jax.random.fold_in(key, 0 * t)",
        "decode/test_sample.py decode/test_search.py",
    ),
    Mutation(
        "decode: greedy CTC takes 0 for the blank before the first frame",
        "decode/ctc.py",
        "((0, 0), (1, 0)), constant_values=blank)",
        "((0, 0), (1, 0)), constant_values=0)",
        "decode/test_blank.py decode/test_ctc.py",
    ),
    Mutation(
        "decode: the CTC loss takes 0 for the blank",
        "losses.py",
        "blank_id=blank,",
        "blank_id=0,",
        "decode/test_blank.py decode/test_ctc.py parity/test_ctc.py",
    ),
    Mutation(
        "decode: finished sequences of a beam go on with symbol 0",
        "decode/search.py",
        "== max(stop, 0), 0.0, -jnp.inf)",
        "== 0, 0.0, -jnp.inf)",
        "decode/test_stop.py decode/test_search.py",
    ),
    # attack
    Mutation(
        "attack: PGD is not projected onto the box",
        "attack/gradient.py",
        "low, high = jnp.maximum(x - epsilon, least), jnp.minimum(x + epsilon, most)",
        "low, high = jnp.full_like(x, least), jnp.full_like(x, most)",
        "attack/test_box.py attack/test_gradient.py",
    ),
    Mutation(
        "attack: the largest valid input is not heeded",
        "attack/gradient.py",
        "jnp.minimum(x + epsilon, most)",
        "x + epsilon",
        "attack/test_box.py attack/test_gradient.py",
    ),
    Mutation(
        "attack: PGD's steps are too short for the box's corners",
        "attack/gradient.py",
        "size = 2.5 * epsilon / steps",
        "size = 0.5 * epsilon / steps",
        "attack/test_box.py attack/test_gradient.py",
    ),
    # interpret
    Mutation(
        "interpret: integrated gradients exchange left and right sums",
        "interpret/path.py",
        '"riemann_left": 0.0, "riemann_middle": 0.5, "riemann_right": 1.0',
        '"riemann_left": 1.0, "riemann_middle": 0.5, "riemann_right": 0.0',
        "interpret/test_quadrature.py interpret/test_path.py",
    ),
    Mutation(
        "interpret: GradientSHAP multiplies by the input without its noise",
        "interpret/path.py",
        "(x - b) * g, moved, base, slope)",
        "(x - b) * g, x, base, slope)",
        "interpret/test_quadrature.py interpret/test_path.py",
    ),
    Mutation(
        "interpret: occlusion covers by zeros, whatever the baseline",
        "interpret/perturbation.py",
        "jnp.where(inside, box.of(base, i), box.of(x, i))",
        "jnp.where(inside, 0, box.of(x, i))",
        "interpret/test_perturbation.py interpret/test_incremental.py",
    ),
    Mutation(
        "interpret: what a change reaches ignores dilation",
        "interpret/_incremental/sliding.py",
        "span = (size - 1) * dilation",
        "span = size - 1",
        "interpret/test_incremental.py",
    ),
    Mutation(
        "interpret: the last chunk has the first nodes' weights",
        "interpret/_input.py",
        "several(numbers[whole:], weights[whole:])",
        "several(numbers[whole:], weights[: n - whole])",
        "interpret/test_path.py",
    ),
    Mutation(
        "interpret: Grad-CAM without its ReLU",
        "interpret/cam.py",
        "keepdims=True)\n        return jnp.maximum(jnp.sum(weights * features, -1), 0)\n\n"
        '    return _map("grad_cam",',
        "keepdims=True)\n        return jnp.sum(weights * features, -1)\n\n"
        '    return _map("grad_cam",',
        "interpret/test_cam.py",
    ),
    Mutation(
        "interpret: Grad-CAM++ weighs by slopes of either sign",
        "interpret/cam.py",
        "jnp.sum(shares * jnp.maximum(slope, 0), inner",
        "jnp.sum(shares * slope, inner",
        "interpret/test_cam.py",
    ),
    Mutation(
        "interpret: LRP's epsilon pulls towards zero",
        "interpret/relevance/rules.py",
        "jnp.where(y >= 0, eps, -eps)",
        "jnp.where(y >= 0, -eps, eps)",
        "interpret/relevance/test_lrp.py parity/test_attribution.py",
    ),
    Mutation(
        "interpret: LRP-gamma favours positive biases of negative outputs",
        "interpret/relevance/rules.py",
        "(jnp.maximum(b, 0) if sign > 0 else jnp.minimum(b, 0))",
        "jnp.maximum(b, 0)",
        "parity/test_attribution.py interpret/relevance/test_lrp.py",
    ),
    Mutation(
        "interpret: the w^2 rule leaves the bias out",
        "interpret/relevance/rules.py",
        "layer.apply(jnp.ones_like(x), w * w) + b * b",
        "layer.apply(jnp.ones_like(x), w * w)",
        "interpret/relevance/test_lrp.py parity/test_attribution.py",
    ),
    Mutation(
        "interpret: DeepLIFT takes differences of 0.01 for none",
        "interpret/relevance/deep_lift.py",
        "NEAR = 1e-10",
        "NEAR = 1e-2",
        "interpret/relevance/test_deep_lift.py parity/test_attribution.py",
    ),
    Mutation(
        "interpret: DeepLIFT's quotient has the numerator's present value",
        "interpret/relevance/deep_lift.py",
        "of_b = -m * (a + base_a) / 2 / (b * base_b)",
        "of_b = -m * a / (b * base_b)",
        "interpret/relevance/test_quotient.py interpret/relevance/test_deep_lift.py",
    ),
    Mutation(
        "interpret: ROAD weighs corners like sides",
        "interpret/evaluate/road.py",
        "beside, corner = 1 / 6, 1 / 12",
        "beside, corner = 1 / 8, 1 / 8",
        "interpret/evaluate",
    ),
    Mutation(
        "interpret: RISE is not divided by the share kept",
        "interpret/rise.py",
        "1 / (samples * keep)",
        "1 / samples",
        "interpret/test_rise.py interpret/test_surrogate.py",
    ),
    Mutation(
        "interpret: KernelSHAP draws all sizes alike",
        "interpret/surrogate.py",
        "jnp.asarray(1 / (sizes * (count - sizes)))",
        "jnp.ones(count - 1)",
        "interpret/test_kernel_shap.py interpret/test_surrogate.py",
    ),
    Mutation(
        "interpret: LIME's ridge shrinks the intercept",
        "interpret/surrogate.py",
        "jnp.append(jnp.full(count, ridge), 0.0)",
        "jnp.full(count + 1, ridge)",
        "interpret/test_surrogate.py",
    ),
    Mutation(
        "interpret: LayerCAM without its last ReLU",
        "interpret/cam.py",
        "return jnp.maximum(jnp.sum(jnp.maximum(slope, 0) * features, -1), 0)",
        "return jnp.sum(jnp.maximum(slope, 0) * features, -1)",
        "interpret/test_cam_maps.py interpret/test_cam.py",
    ),
    Mutation(
        "interpret: Grad-CAM++ without its last ReLU",
        "interpret/cam.py",
        "jnp.maximum(slope, 0), inner, keepdims=True)\n"
        "        return jnp.maximum(jnp.sum(weights * features, -1), 0)",
        "jnp.maximum(slope, 0), inner, keepdims=True)\n"
        "        return jnp.sum(weights * features, -1)",
        "interpret/test_cam_maps.py interpret/test_cam.py",
    ),
    Mutation(
        "interpret: Score-CAM without its ReLU",
        "interpret/cam.py",
        "_resized(jnp.maximum(jnp.sum(weights * features, -1), 0), x, resize)",
        "_resized(jnp.sum(weights * features, -1), x, resize)",
        "interpret/test_cam_maps.py interpret/test_cam.py",
    ),
    Mutation(
        "interpret: class activation maps are stretched in steps",
        "interpret/cam.py",
        'x.shape[:-1], "linear")',
        'x.shape[:-1], "nearest")',
        "interpret/test_cam_maps.py interpret/test_cam.py",
    ),
    Mutation(
        "interpret: guided backprop does not see the ReLUs in a condition",
        "interpret/relevance/backprop.py",
        'elif operation.name == "cond":',
        'elif operation.name == "conditional":',
        "interpret/relevance/test_walk.py interpret/relevance/test_backprop.py",
    ),
    Mutation(
        "interpret: loops that run backwards are replayed forwards",
        "interpret/relevance/_walk.py",
        "lax.scan(forward, start, xs, scan.length, scan.reverse)",
        "lax.scan(forward, start, xs, scan.length)",
        "interpret/relevance/test_walk.py interpret/relevance/test_deep_lift.py",
    ),
    Mutation(
        "interpret: what a loop reads has the relevance of one round",
        "interpret/relevance/_walk.py",
        "of_fixed = jax.tree.map(jnp.add, of_fixed, take(parts[0], of_fixed))",
        "of_fixed = take(parts[0], of_fixed)",
        "interpret/relevance/test_walk.py interpret/relevance/test_lrp.py",
    ),
    Mutation(
        "interpret: a condition counts where all of its branches do",
        "interpret/relevance/_walk.py",
        "[any(column) for column",
        "[all(column) for column",
        "interpret/relevance/test_walk.py interpret/relevance/test_lrp.py",
    ),
    Mutation(
        "interpret: both factors of a product have all of its relevance",
        "interpret/relevance/lrp.py",
        "return [share / 2 for share in r]",
        "return list(r)",
        "interpret/relevance/test_walk.py interpret/relevance/test_lrp.py",
    ),
    Mutation(
        "interpret: the box rule takes a first dense layer too",
        "interpret/relevance/composites.py",
        "first_dense=False,",
        "first_dense=True,",
        "interpret/relevance/test_composites.py parity/test_attribution.py",
    ),
    Mutation(
        "interpret: of patterns that fit a path the last is taken",
        "interpret/relevance/composites.py",
        '[COMPOSITES["epsilon"]])[0](layer)',
        '[COMPOSITES["epsilon"]])[-1](layer)',
        "interpret/relevance/test_composites.py interpret/relevance/test_lrp.py",
    ),
    Mutation(
        "interpret: layers that no pattern fits take z+",
        "interpret/relevance/composites.py",
        '(fitting or [COMPOSITES["epsilon"]])',
        '(fitting or [COMPOSITES["z_plus"]])',
        "interpret/relevance/test_composites.py interpret/relevance/test_lrp.py",
    ),
    Mutation(
        "interpret: the sensitivity is the mean change",
        "interpret/evaluate/robustness.py",
        "jnp.max(changes, axis=0)",
        "jnp.mean(changes, axis=0)",
        "interpret/evaluate/test_sensitivity.py interpret/evaluate/test_evaluate.py",
    ),
    Mutation(
        "interpret: the sensitivity looks to one side only",
        "interpret/evaluate/robustness.py",
        "x.dtype, -radius, radius)",
        "x.dtype, 0.0, radius)",
        "interpret/evaluate/test_sensitivity.py interpret/evaluate/test_evaluate.py",
    ),
    Mutation(
        "interpret: the rank correlation sees signs",
        "interpret/evaluate/randomization.py",
        "sizes = jnp.abs(a).reshape",
        "sizes = a.reshape",
        "interpret/evaluate/test_sensitivity.py interpret/evaluate/test_evaluate.py",
    ),
    Mutation(
        "interpret: ROAD adds no noise",
        "interpret/evaluate/road.py",
        "imputed(x, gone) + jitter",
        "imputed(x, gone)",
        "interpret/evaluate/test_road.py interpret/evaluate/test_evaluate.py",
    ),
    Mutation(
        "interpret: ROAD ranks pixels by their greatest channel",
        "interpret/evaluate/road.py",
        "jnp.sum(given, -1) if given.ndim == 4",
        "jnp.max(given, -1) if given.ndim == 4",
        "interpret/evaluate/test_road.py interpret/evaluate/test_evaluate.py",
    ),
    Mutation(
        "interpret: a signal's colours stand half a step late",
        "interpret/plot.py",
        "extent=(-0.5, steps - 0.5, low,",
        "extent=(0, steps, low,",
        "interpret/test_plot.py",
    ),
    # zoo
    Mutation(
        "zoo: EfficientNet's blocks have no way around",
        "zoo/vision/efficientnet.py",
        "return residual(block) if stride == 1 and channels == features else block",
        "return block",
        "zoo/vision/test_blocks.py zoo/vision/test_vision.py",
    ),
    Mutation(
        "zoo: bottlenecks halve the map in their first convolution",
        "zoo/vision/resnet.py",
        "convolved(features, 1), convolved(features, 3, stride),",
        "convolved(features, 1, stride), convolved(features, 3),",
        "zoo/vision/test_blocks.py zoo/vision/test_vision.py",
    ),
    Mutation(
        "zoo: an inception module pools nothing",
        "zoo/vision/googlenet.py",
        '"pool": serial(max_pool(3, stride=1, padding=1),',
        '"pool": serial(max_pool(1),',
        "zoo/vision/test_blocks.py zoo/vision/test_vision.py",
    ),
    Mutation(
        "zoo: VGG drops a value in twenty",
        "zoo/vision/vgg.py",
        "jax.nn.relu, dropout(0.5)]",
        "jax.nn.relu, dropout(0.05)]",
        "zoo/vision/test_blocks.py zoo/vision/test_vision.py",
    ),
    Mutation(
        "zoo: machines begin a network without their biases",
        "zoo/history/rbm.py",
        '"bias": machine.hidden}',
        '"bias": 0 * machine.hidden}',
        "zoo/history/test_rbm_begin.py zoo/history/test_rbm.py",
    ),
    Mutation(
        "zoo: the visible biases begin at 0",
        "zoo/history/rbm.py",
        "jnp.log(mean / (1 - mean)),",
        "jnp.zeros_like(mean),",
        "zoo/history/test_rbm_begin.py zoo/history/test_rbm.py",
    ),
    Mutation(
        "zoo: a codebook forgets its stride",
        "zoo/history/bag_of_words.py",
        "found, words), size, stride)",
        "found, words), size, size)",
        "zoo/history/test_codebook.py zoo/history/test_bag_of_words.py",
    ),
    Mutation(
        "zoo: centres that nothing is near to go to 0",
        "zoo/history/bag_of_words.py",
        "return jnp.where(count > 0, means, centres), None",
        "return means, None",
        "zoo/history/test_codebook.py zoo/history/test_bag_of_words.py",
    ),
    Mutation(
        "zoo: the decoder begins without its tanh",
        "zoo/sequence/encoder_decoder.py",
        'begin = jnp.tanh(call("begin", total / count))',
        'begin = call("begin", total / count)',
        "zoo/sequence/test_begin.py zoo/sequence/test_encoder_decoder.py",
    ),
    Mutation(
        "zoo: the captioner begins without its tanh",
        "zoo/sequence/captioner.py",
        'jnp.tanh(call("begin", call("eye", images)))',
        'call("begin", call("eye", images))',
        "zoo/sequence/test_begin.py zoo/sequence/test_encoder_decoder.py",
    ),
    # interop
    Mutation(
        "interop: is_training is no name of the train mode",
        "interop/flax.py",
        'TRAIN = ("train", "training", "is_training")',
        'TRAIN = ("train", "training")',
        "interop/test_foreign_names.py interop/test_flax.py",
    ),
    Mutation(
        "interop: use_running_average is no name of the train mode",
        "interop/flax.py",
        'NOT_TRAIN = ("deterministic", "use_running_average")',
        'NOT_TRAIN = ("deterministic",)',
        "interop/test_foreign_names.py interop/test_flax.py",
    ),
    Mutation(
        "interop: a single cell of torch is not read",
        "interop/recurrent.py",
        'and "weight_ih" in state_dict:',
        'and "weight_ih" in ():',
        "interop/test_foreign_names.py parity/test_recurrent.py",
    ),
)


def run(config: Any, whole: bool = True) -> list[dict[str, Any]]:
    """Breaks the library in each place in turn; prints and returns one row for each.

    Args:
      config: the benchmarks' options; `smoke` runs the first mutation's likely tests alone.
      whole: run the whole suite where the likely tests notice nothing.

    Raises:
      ValueError: a mutation's text does not occur once.
      RuntimeError: a test that noticed fails without a mutation too, or pytest could not run.
    """
    chosen = [mutation for mutation in MUTATIONS if config.only in mutation.name]
    for mutation in chosen:  # all of them at once, before an hour has been spent
        with tempfile.TemporaryDirectory() as folder:
            _copy(pathlib.Path(folder), [f"jaxdl/{mutation.file}"])
            mutation.apply(pathlib.Path(folder))
    if config.smoke:
        chosen, whole = chosen[:1], False
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:  # each waits for a process
        rows = list(pool.map(measure, chosen, itertools.repeat(whole)))
    noticing = [row["noticed_by"] for row in rows if row["noticed_by"] is not None]
    missed = [row["mutation"] for row in rows if row["noticed_by"] is None]
    if noticing:
        rows.append(baseline(noticing))
    print(f"{len(noticing)} of {len(chosen)} noticed")
    for name in missed:
        print(f"  not noticed: {name}")
    return rows


def baseline(tests: list[str]) -> dict[str, Any]:
    """Runs the tests that noticed on an unchanged copy, where they must pass.

    Raises:
      RuntimeError: one fails there too, so that its failure says nothing about a mutation.
    """
    with tempfile.TemporaryDirectory() as folder:
        _copy(pathlib.Path(folder), _tracked())
        failed, seconds = _first_failure(pathlib.Path(folder), list(dict.fromkeys(tests)))
    if failed is not None:
        raise RuntimeError(f"{failed} fails without a mutation too: fix it and measure again.")
    return _row(f"baseline: the tests that noticed, unchanged ({len(tests)})", None, None, seconds)


def measure(mutation: Mutation, whole: bool) -> dict[str, Any]:
    """Runs the tests on a copy with one mutation."""
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        _copy(root, _tracked())
        mutation.apply(root)
        failed, seconds = _first_failure(root, mutation.likely)
        if failed is None and whole:
            # The table's own test would notice every mutation: its texts are gone.
            failed, more = _first_failure(root, ["-n", "2", "--ignore", TABLE_TEST])
            seconds += more
    return _row(mutation.name, mutation.file, failed, seconds)


def _row(name: str, file: str | None, failed: str | None, seconds: float) -> dict[str, Any]:
    """A row, printed as it comes."""
    print(f"{name:68s} {seconds:7.1f} s  {failed or '-'}", flush=True)
    return {"mutation": name, "file": file, "noticed_by": failed, "seconds": round(seconds, 1)}


def _tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    names = listed.stdout.decode().split("\0")
    return [name for name in names if name and (ROOT / name).is_file()]


def _copy(folder: pathlib.Path, names: list[str]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)


def _first_failure(root: pathlib.Path, arguments: list[str]) -> tuple[str | None, float]:
    """The test that fails first, or None where all pass, and the seconds that pytest took."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *arguments]
    environment = os.environ | {"PYTHONPATH": str(root)}
    began = time.perf_counter()
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    failures = FAILURE.findall(done.stdout)
    # With -x a file that cannot be imported gives 1 too, but names no test.
    if done.returncode not in (0, 1) or (done.returncode == 1 and not failures):
        raise RuntimeError(f"{' '.join(command)}: status {done.returncode}\n{done.stdout[-4000:]}")
    return (failures[0] if failures else None), seconds
