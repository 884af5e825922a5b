"""Reference implementations of the recurrent cells in NumPy, from the equations of the papers."""

import numpy as np


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def over_time(step, carry):
    """Returns `(params, state, x) -> y`, a loop over `step(params, carry, x_t) -> (carry, y_t)`."""

    def run(params, state, x):
        h, outputs = carry(params, x), []
        for t in range(x.shape[1]):
            h, y = step(params, h, x[:, t])
            outputs.append(y)
        return np.stack(outputs, 1)

    return run


def both_ways(run):
    """Returns `(params, x, lengths) -> y`, a layer's `run` forwards and backwards, concatenated.

    Each row runs separately over its own steps; y is 0 in the padding.
    """

    def run_rows(params, x, lengths):
        rows = []
        for row, n in zip(x, lengths, strict=True):
            steps = row[None, : max(n, 1)]
            ahead = run(params["forward"], {}, steps)[0]
            back = run(params["backward"], {}, steps[:, ::-1])[0, ::-1]
            y = np.concatenate([ahead, back], 1)[:n]
            rows.append(np.pad(y, ((0, len(row) - n), (0, 0))))
        return np.stack(rows)

    return run_rows


def zeros(name="recurrent_kernel", parts=1):
    def carry(params, x):
        h = np.zeros((len(x), params[name].shape[0]))
        return h if parts == 1 else (h,) * parts

    return carry


def elman(p, h, x):
    h = np.tanh(x @ p["kernel"] + h @ p["recurrent_kernel"] + p["bias"])
    return h, h


def lateral(p, h, x):
    other = p["recurrent_kernel"].copy()
    np.fill_diagonal(other, 0)
    return elman(p | {"recurrent_kernel": other}, h, x)


def jordan(p, y, x):
    h = np.tanh(x @ p["kernel"] + y @ p["recurrent_kernel"] + p["bias"])
    y = np.tanh(h @ p["output_kernel"] + p["output_bias"])
    return y, y


def gates(p, h, x, n):
    z = x @ p["kernel"] + h @ p["recurrent_kernel"] + p["bias"]
    return [z[:, k * h.shape[1] : (k + 1) * h.shape[1]] for k in range(n)]


def lstm(p, carry, x):
    h, c = carry
    i, f, g, o = gates(p, h, x, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
    return (h, c), h


def coupled(p, carry, x):
    h, c = carry
    f, g, o = gates(p, h, x, 3)
    c = sigmoid(f) * c + (1 - sigmoid(f)) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
    return (h, c), h


def peephole(p, carry, x):
    h, c = carry
    i, f, g, o = gates(p, h, x, 4)
    matrix = lambda name: np.diag(p[name]) if p[name].ndim == 1 else p[name]
    i, f = sigmoid(i + c @ matrix("peephole_i")), sigmoid(f + c @ matrix("peephole_f"))
    c = f * c + i * np.tanh(g)
    h = sigmoid(o + c @ matrix("peephole_o")) * np.tanh(c)
    return (h, c), h


def gru_after(p, h, x):
    n = h.shape[1]
    z, a = x @ p["kernel"] + p["bias"], h @ p["recurrent_kernel"]
    r, u = sigmoid(z[:, :n] + a[:, :n]), sigmoid(z[:, n : 2 * n] + a[:, n : 2 * n])
    new = np.tanh(z[:, 2 * n :] + r * (a[:, 2 * n :] + p["recurrent_bias"]))
    h = (1 - u) * new + u * h
    return h, h


def gru_before(p, h, x):
    n = h.shape[1]
    z, v = x @ p["kernel"] + p.get("bias", 0), p["recurrent_kernel"]
    r = sigmoid(z[:, :n] + h @ v[:, :n])
    u = sigmoid(z[:, n : 2 * n] + h @ v[:, n : 2 * n])
    new = np.tanh(z[:, 2 * n :] + (r * h) @ v[:, 2 * n :])
    h = (1 - u) * h + u * new
    return h, h
