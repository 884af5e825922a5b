"""Multipliers of operations, from their values at x and at the baseline.

The multiplier m of an output is the contribution of each unit of its change to the score. Rules
take the values of both runs and m, and return the multipliers of the operands.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.interpret.lrp.backward import Step, pullback, to_float, unbroadcast
from jaxdl.interpret.lrp.softmax import Exponentials
from jaxdl.jaxpr.graph import Operation, Value, read
from jaxdl.jaxpr.primitives.kinds import MAXIMA


def zero_where(zero, value):
    """Returns 0 where a factor is 0, even if the other factor is infinite."""
    return jnp.where(zero, 0, value)


def difference(after, before):
    """Returns the difference of two values, 0 where both are the same infinity."""
    after, before = to_float(after), to_float(before)
    return zero_where(after == before, after - before)


def _size(*values):
    return functools.reduce(jnp.maximum, (jnp.abs(to_float(value)) for value in values))


def _slope(part, x, base, derivative: Any = 0.0, size: Any = 0.0):
    """Divides a contribution by x - x': the multiplier of each unit of it.

    Args:
      part: the contribution of x - x' to the score: multiplier times change of the output.
      x, base: the values in both runs.
      derivative: the multiplier times the derivative. It replaces the quotient where both differ by
        rounding alone.
      size: the multiplier times the output, the scale of the rounding.
    """
    step = difference(x, base)
    dtype = np.promote_types(part.dtype, step.dtype)
    part, step, derivative = (jnp.asarray(value, dtype) for value in (part, step, derivative))
    same = step == 0
    slope = part / jnp.where(same, 1, step)
    too_far = jnp.isinf(step) & (part != 0)  # no multiplier of an infinite step gives the part
    slope = jnp.where(too_far, jnp.asarray(jnp.nan, dtype), slope)
    error = jnp.abs(jnp.real(part) - jnp.real(derivative * step))
    size = jnp.abs(size).astype(error.dtype)
    close = (error <= 4 * float(jnp.finfo(dtype).eps) * size) & jnp.isfinite(size)
    slope = jnp.where(close, derivative, zero_where(same, slope))
    return slope if jnp.iscomplexobj(x) else jnp.real(slope)


def elementwise_step(path: Sequence[Operation], source: Value, out: Value) -> Step:
    """Returns the step of an elementwise function, a path of operations."""

    def back(envs, multipliers):
        env, base = envs
        (m,) = multipliers

        def function(value):
            local = dict(env) | {source: value}
            for operation in path:
                outputs = operation(*(read(local, atom) for atom in operation.inputs))
                local |= zip(operation.outputs, outputs, strict=True)
            return to_float(local[out])

        x, base_x = (jnp.broadcast_to(values[source], m.shape) for values in envs)
        (derivative,) = _derivatives(function, [x], m)
        part = zero_where(m == 0, m * difference(env[out], base[out]))
        size = m * _size(env[out], base[out])
        slope = _slope(part, x, base_x, derivative, size)
        return [unbroadcast(slope, env[source].shape)]

    return Step([source], [out], back)


def _derivatives(function, values, m):
    """Returns m times the derivatives of an elementwise function, or 0."""
    if all(jnp.issubdtype(value.dtype, jnp.inexact) for value in values):
        with contextlib.suppress(NotImplementedError):
            return jax.vjp(function, *values)[1](m)
    return [jnp.zeros_like(m) for _ in values]


def _order_weight(one, other):
    """Returns the weight of the path through `one`: half if both values are finite."""
    exist = jnp.isfinite(to_float(one)), jnp.isfinite(to_float(other))
    return jnp.where(exist[0] == exist[1], 0.5, jnp.where(exist[1], 1.0, 0.0))


def _scale_first_weight(scale, base):
    """Returns the weight of moving a scale before what it scales: |s'| / (|s| + |s'|).

    A layer norm of a baseline without variance scales by 1 / sqrt(eps). The path on which the scale
    moves last would add and subtract numbers far larger than the score.
    """
    sizes = jnp.abs(to_float(scale)), jnp.abs(to_float(base))
    total = sizes[0] + sizes[1]
    some = (total > 0) & jnp.isfinite(total)
    share = sizes[1] / jnp.where(some, total, 1)
    return jnp.where(some, share, jnp.where(jnp.isinf(sizes[1]), 1.0, 0.5))


def _mean(weight, a, b):
    """Returns weight a + (1 - weight) b; a value without weight may be infinite."""
    weight = weight.astype(jnp.real(a).dtype)
    return zero_where(weight == 0, weight * a) + zero_where(weight == 1, (1 - weight) * b)


def pair(operation: Operation, operands, inputs, m):
    """Computes the multipliers of a function of two values, by Shapley's values.

    These are the values of Shapley 1953 for two players. If the second operand scales the first, in
    a quotient or a product with a normalizer, the mean is weighted: the numerator has the
    multiplier of the mean of both denominators, 2 / (b + b').

    Args:
      operation: the operation.
      operands: the two operands that depend on the input; a scale is the second.
      inputs: the operands in both runs.
      m: the multiplier of the output.
    """
    i, j = operands
    x, base = (
        [jnp.broadcast_to(v, m.shape) if k in operands else v for k, v in enumerate(run)]
        for run in inputs
    )

    def evaluate(first, second):
        mixed = dict(enumerate(x)) | {i: first, j: second}
        return to_float(operation(*mixed.values())[0])

    both, none, one, other = (
        evaluate(a[i], b[j]) for a, b in ((x, x), (base, base), (x, base), (base, x))
    )
    weight, middle = _order_weight(one, other), jnp.full_like(one, 0.5)
    if operation.name in ("div", "mul"):
        scales = [run[j] if operation.name == "mul" else 1 / to_float(run[j]) for run in (x, base)]
        weight = middle = _scale_first_weight(*scales)
    of_i = _mean(weight, difference(both, other), difference(one, none))
    of_j = _mean(weight, difference(other, none), difference(both, one))
    size = m * _size(both, none, _mean(weight, other, one))
    of_x, of_base = (_derivatives(evaluate, [run[i], run[j]], m) for run in (x, base))
    derivatives = _mean(middle, of_x[0], of_base[0]), (of_x[1] + of_base[1]) / 2
    return [
        unbroadcast(
            _slope(zero_where(m == 0, m * part), x[k], base[k], derivative, size),
            inputs[0][k].shape,
        )
        for k, part, derivative in zip(operands, (of_i, of_j), derivatives, strict=True)
    ]


def select(operation: Operation, operands, inputs, m):
    """Computes the multipliers of `jnp.where(p, a, b)`, for p and for (a, b)."""
    (p, *cases), (base_p, *base_cases) = inputs

    def evaluate(p, cases):
        return to_float(operation(p, *cases)[0])

    one, other = evaluate(p, base_cases), evaluate(base_p, cases)
    weight = _order_weight(one, other)
    none = evaluate(base_p, base_cases)
    of_p = _mean(weight, difference(evaluate(p, cases), other), difference(one, none))
    of_p = _slope(
        zero_where(m == 0, m * of_p), *(jnp.broadcast_to(v, m.shape) for v in (p, base_p))
    )
    shares = (weight.astype(m.real.dtype), base_p), (1 - weight.astype(m.real.dtype), p)
    of_cases = (
        [pullback(operation, operands[1:], [p, *cases], [m * w]) for w, p in shares]
        if operands[1:]
        else [[], []]
    )
    return [unbroadcast(of_p, p.shape), *(a + b for a, b in zip(*of_cases, strict=True))]


def maximum(inputs, m, is_maximum: bool):
    """Computes the multipliers of max(a, b) = b + relu(a - b), or of the minimum.

    Shrikumar et al. 2017, sec. 3.1.
    """
    gap, base_gap = (difference(*values) for values in inputs)  # a - b

    def step(d):
        return (1 + jnp.sign(d)) / 2

    apart = jnp.abs(jnp.maximum(gap, 0) - jnp.maximum(base_gap, 0))
    slope = apart / jnp.where(gap == base_gap, 1, jnp.abs(gap - base_gap))
    one_sided = step(gap) == step(base_gap)  # also where both are infinite
    slope = jnp.where(one_sided, step(gap), slope)
    shares = (slope, 1 - slope) if is_maximum else (1 - slope, slope)
    return [
        unbroadcast(zero_where(share == 0, m * share), value.shape)
        for share, value in zip(shares, inputs[0], strict=True)
    ]


def extremum(operation: Operation, operands, inputs, m):
    """Computes the multipliers of a maximum or minimum over several values.

    The maximal element of x has the change up to the maximum over both runs; the maximal element of
    x' has the rest.
    """
    (after,), (before,) = (operation(*values) for values in inputs)
    both = (jnp.maximum if operation.name in MAXIMA else jnp.minimum)(after, before)
    parts = (zero_where(m == 0, m * difference(*pair)) for pair in ((both, before), (after, both)))
    contributions = (
        pullback(operation, operands, run, [part]) for run, part in zip(inputs, parts, strict=True)
    )
    return [
        _slope(up + down, inputs[0][i], inputs[1][i])
        for i, up, down in zip(operands, *contributions, strict=True)
    ]


def _logarithmic_mean(a, b, change):
    """Returns (a - b) / (ln a - ln b) without subtracting: `change` is ln a - ln b."""
    greater = jnp.where(jnp.abs(a) > jnp.abs(b), a, b)
    change = jnp.abs(change)
    some = change > 0
    mean = greater * jnp.where(some, -jnp.expm1(-change) / jnp.where(some, change, 1), 1)
    mean = jnp.where(jnp.isinf(change) & (greater != 0), jnp.nan, mean)  # masked in one run only
    return zero_where(~jnp.isfinite(a) | ~jnp.isfinite(b), mean)


def _exponent_weights(parts: Exponentials, envs):
    """Returns how much each exponent changes ln of the sum: weights that sum to 1.

    With p the terms' shares of the sum, p = softmax(z), and l the logarithmic mean of p and p',
    l_j (z_j - z'_j) = p_j - p'_j + l_j ln(s / s'). Summed over j, the weights l_j / sum(l) give
    ln(s / s') = sum_j l_j (z_j - z'_j) / sum(l). No sum or exponential is compared between the two
    runs, so nothing overflows or cancels.
    """
    totals = [jnp.expand_dims(to_float(env[parts.total]), parts.axes) for env in envs]
    totals = [jnp.where(total == 0, 1, total) for total in totals]  # where all terms are masked
    shares = [to_float(env[parts.terms]) / total for env, total in zip(envs, totals, strict=True)]
    rise = difference(*(jnp.log(jnp.abs(total)) for total in totals))
    change = difference(*(env[parts.exponent] for env in envs)) - rise
    mean = _logarithmic_mean(shares[0], shares[1], change)
    total = jnp.sum(mean, parts.axes, keepdims=True)
    return mean / jnp.where(total == 0, 1, total), change


def softmax(parts: Exponentials, out: Value, envs, multipliers):
    """Computes the multipliers of p = softmax(z).

    With l and ln(s / s') of `_exponent_weights`, p_i - p'_i = l_i (z_i - z'_i - ln(s / s')). So the
    multipliers are diag(l) - l l^T / sum(l), softmax's derivative with l for p: at most 1, and each
    row and column adds up to 0.
    """
    weights, change = _exponent_weights(parts, envs)
    mean = _logarithmic_mean(envs[0][out], envs[1][out], change)
    (m,) = multipliers
    of_z = zero_where(m == 0, m * mean)
    # v - q sum(v), where q is nearly 1, from the others alone: the difference would cancel.
    dominant = weights > 0.5

    def sum_others(value):
        return jnp.where(
            dominant,
            jnp.sum(zero_where(dominant, value), parts.axes, keepdims=True),
            jnp.sum(value, parts.axes, keepdims=True) - value,
        )

    of_z = of_z * sum_others(weights) - weights * sum_others(of_z)
    return [unbroadcast(of_z, envs[0][parts.logits].shape)]


def logsumexp(parts: Exponentials, out: Value, envs, multipliers):
    """Computes the multipliers of ln(sum(exp(z)))."""
    m = multipliers[0].reshape(envs[0][parts.total].shape)
    of_z = jnp.expand_dims(m, parts.axes) * _exponent_weights(parts, envs)[0]
    return [unbroadcast(of_z, envs[0][parts.exponent].shape)]
