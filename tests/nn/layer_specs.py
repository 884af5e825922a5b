"""The layers' records: one for each variant that computes something else, not one an argument."""

import jax.numpy as jnp
import numpy as np

from jaxdl import nn
from tests.nn import numpy_cells as cells
from tests.nn.layer_spec import LayerSpec

INTEGERS = (np.ones((2, 4), np.int32),)


def ones(*shape):
    return np.ones(shape, np.float32)


def standard(x, mean, var, params, eps=1e-6):
    return (x - mean) / np.sqrt(var + eps) * params["scale"] + params["bias"]


def looking(attention):
    """The context alone, each query seeing three keys."""

    def forward(call, queries, keys):
        return call("look", queries, keys, jnp.full(len(keys), 3, jnp.int32))[0]

    return nn.compose("looking", {"look": attention}, forward)


def softly(scores, keys):
    weights = np.exp(scores[..., :3])
    return weights / weights.sum(-1, keepdims=True) @ keys[:, :3]


def additive(params, state, queries, keys):
    p = params["look"]
    q, k = queries @ p["query_kernel"], keys @ p["key_kernel"]
    return softly(np.tanh(q[:, :, None] + k[:, None] + p["bias"]) @ p["weights"], keys)


def axes_mean(x):
    return x.mean(tuple(range(1, x.ndim)), keepdims=True)


def axes_var(x):
    return x.var(tuple(range(1, x.ndim)), keepdims=True)


def part(params, channels):
    return {name: value[channels] for name, value in params.items()}


IMAGE = ((2, 6, 5, 3),)
SEQUENCES = ((3, 4, 2),)

SPECS = [
    LayerSpec("conv", lambda: nn.conv(4, 3), IMAGE, bad=((INTEGERS, "conv: input is int32"),)),
    LayerSpec("conv, strided", lambda: nn.conv(4, 3, stride=2, padding=1, flip=True), IMAGE),
    LayerSpec(
        "conv, by XLA", lambda: nn.conv(3, 2, implementation="xla", use_bias=False), ((2, 5, 3),)
    ),
    LayerSpec("conv_transpose", lambda: nn.conv_transpose(4, 3, stride=2), IMAGE),
    LayerSpec(
        "max_pool", lambda: nn.max_pool(2), IMAGE, bad=((INTEGERS, "max_pool: input is int32"),)
    ),
    LayerSpec("max_pool, overlapping", lambda: nn.max_pool(3, stride=2, padding=1), IMAGE),
    LayerSpec("avg_pool", lambda: nn.avg_pool(2), IMAGE),
    LayerSpec(
        "global_avg_pool",
        lambda: nn.global_avg_pool(),
        IMAGE,
        reference=lambda p, s, x: x.mean((1, 2)),
    ),
    LayerSpec(
        "global_max_pool",
        lambda: nn.global_max_pool(),
        IMAGE,
        reference=lambda p, s, x: x.max((1, 2)),
    ),
    LayerSpec(
        "flatten", lambda: nn.flatten(), IMAGE, reference=lambda p, s, x: x.reshape(len(x), -1)
    ),
    LayerSpec(
        "dense",
        lambda: nn.dense(3),
        ((5, 4),),
        reference=lambda p, s, x: np.einsum("nd,df->nf", x, p["kernel"]) + p["bias"],
        bad=((INTEGERS, "dense: input is int32"),),
    ),
    LayerSpec(
        "batch_norm",
        lambda: nn.batch_norm(momentum=0.9),
        ((5, 2, 4),),
        reference=lambda p, s, x: standard(x, s["mean"], s["var"], p, 1e-5),
        bad=(
            (INTEGERS, "batch_norm: input is int32"),
            ((ones(4),), "batch_norm: input has shape"),
        ),
    ),
    LayerSpec(
        "layer_norm",
        lambda: nn.layer_norm(),
        ((3, 2, 4),),
        reference=lambda p, s, x: standard(x, x.mean(-1)[..., None], x.var(-1)[..., None], p),
        bad=((INTEGERS, "layer_norm: input is int32"),),
    ),
    LayerSpec(
        "group_norm",
        lambda: nn.group_norm(2),
        ((3, 2, 2, 4),),
        reference=lambda p, s, x: np.concatenate(
            [
                standard(x[..., g], axes_mean(x[..., g]), axes_var(x[..., g]), part(p, g))
                for g in (slice(0, 2), slice(2, 4))
            ],
            -1,
        ),
        bad=(
            (INTEGERS, "group_norm: input is int32"),
            ((ones(2, 3),), "group_norm: 3 channels in 2 groups"),
        ),
    ),
    LayerSpec(
        "instance_norm",
        lambda: nn.instance_norm(),
        ((3, 2, 3, 4),),
        reference=lambda p, s, x: standard(
            x, x.mean((1, 2), keepdims=True), x.var((1, 2), keepdims=True), p
        ),
        bad=(((ones(2, 4),), "instance_norm: input has shape"),),
    ),
    LayerSpec(
        "dropout",
        lambda: nn.dropout(0.5),
        ((4, 6),),
        reference=lambda p, s, x: x,
        bad=((INTEGERS, "dropout: input is int32"),),
        random=True,
    ),
    LayerSpec(
        "dropout_scaled_at_test",
        lambda: nn.dropout(0.25, scale_at="test"),
        ((4, 6),),
        reference=lambda p, s, x: 0.75 * x,
        random=True,
    ),
    LayerSpec(
        "embedding",
        lambda: nn.embedding(7, 3),
        ((4, 2),),
        reference=lambda p, s, ids: p["embedding"][ids],
        bad=(((ones(2, 4),), "embedding: ids are float32.*astype"),),
        ids=7,
    ),
    LayerSpec(
        "elman",
        lambda: nn.elman(4),
        SEQUENCES,
        reference=cells.over_time(cells.elman, cells.zeros()),
        bad=(
            (INTEGERS, "elman: input is int32"),
            ((ones(2, 3),), r"elman: x has shape \(2, 3\), expected .*\(N, T, D\)"),
        ),
    ),
    LayerSpec(
        "lstm",
        lambda: nn.lstm(4),
        SEQUENCES,
        reference=cells.over_time(cells.lstm, cells.zeros(parts=2)),
        bad=(((ones(2, 3),), "lstm: x has shape"),),
    ),
    LayerSpec(
        "peephole_lstm, full",
        lambda: nn.peephole_lstm(4, peepholes="full"),
        SEQUENCES,
        reference=cells.over_time(cells.peephole, cells.zeros(parts=2)),
    ),
    LayerSpec(
        "gru",
        lambda: nn.gru(4),
        SEQUENCES,
        reference=cells.over_time(cells.gru_after, cells.zeros()),
        bad=(((ones(2, 3),), "gru: x has shape"),),
    ),
    LayerSpec(
        "gru, reset before",
        lambda: nn.gru(4, reset="before"),
        SEQUENCES,
        reference=cells.over_time(cells.gru_before, cells.zeros()),
    ),
    LayerSpec(
        "recurrent",
        lambda: nn.rnn(nn.lstm(3), reverse=True, returns="last", recurrent_dropout=0.5),
        SEQUENCES,
        random=True,
    ),
    LayerSpec(
        "bidirectional",
        lambda: nn.bidirectional(nn.gru(3), merge="project", features=2),
        SEQUENCES,
    ),
    LayerSpec(
        "stacked_rnn",
        lambda: nn.stacked_rnn(nn.lstm(3), nn.gru(3), residual=True, dropout=0.5, variational=True),
        SEQUENCES,
        random=True,
    ),
    LayerSpec(
        "dot_attention",
        lambda: looking(nn.dot_attention()),
        ((2, 3, 4), (2, 5, 4)),
        reference=lambda params, state, q, k: softly(q @ k.swapaxes(1, 2) / 2, k),
        bad=(((ones(2, 3, 4), ones(2, 5, 3)), "expected one width F"),),
    ),
    LayerSpec(
        "additive_attention",
        lambda: looking(nn.additive_attention(6)),
        ((2, 3, 4), (2, 5, 3)),
        reference=additive,
        bad=(((ones(2, 3, 4), ones(1, 5, 3)), "additive_attention: queries"),),
    ),
]
