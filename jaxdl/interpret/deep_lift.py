"""DeepLIFT: what of the difference from a baseline each input's difference accounts for."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.interpret import _compile, _input, _layer, _target
from jaxdl.interpret.lrp import backward, checks
from jaxdl.interpret.lrp.backward import Step, pullback
from jaxdl.interpret.lrp.layers import Exponentials, Structure
from jaxdl.jaxpr.intervals import ELEMENTWISE, PARTLY_SUMS, STRUCTURAL
from jaxdl.jaxpr.program import Operation, Program, Value, read, trace
from jaxdl.jaxpr.reading import primitives

__all__ = ["deep_lift"]

LINEAR = frozenset(
    """add add_any complex conj cumsum fft imag neg real reduce_sum reduce_window_sum scatter-add
    scatter-sub sub""".split()
)
PARTLY_LINEAR = PARTLY_SUMS | {"div": slice(0, 1), "scatter-mul": slice(0, 1)}
"""The operands in which an operation is linear, where no other depends on x."""
BILINEAR = frozenset("conv_general_dilated dot_general mul ragged_dot_general".split())
WINNER = {
    **dict.fromkeys(("max", "cummax", "reduce_max", "reduce_window_max"), jnp.maximum),
    **dict.fromkeys(("min", "cummin", "reduce_min", "reduce_window_min"), jnp.minimum),
    "scatter-max": jnp.maximum,
    "scatter-min": jnp.minimum,
}
SORTED = ("sort", "top_k")


def deep_lift(
    f: Callable[[Any], Any],
    x: Any,
    *,
    target: _target.Target = None,
    baseline: Any = 0.0,
    multiply: bool = True,
    layer: str | None = None,
    batch_size: int | None = None,
) -> Any:
    """(x_n - x'_n) times a slope that is exact between x and the baseline x', layer by layer.

    Shrikumar, Greenside and Kundaje 2017 (arXiv 1704.02685), the rescale rule. The attributions of
    an example add up to y(x) - y(x') to rounding, also through products (each factor times the mean
    of the other), softmax, maxima, masks, complex numbers and LSTMs. It compares values: functions
    with a derivative of their own (`jax.custom_vjp`) and `stop_gradient` count as what they
    compute. Averaged over baselines by `expectation` it is DeepSHAP.

    Args:
      f, x, target: as for `integrated_gradients`.
      baseline: x', a number, an array that broadcasts to x, or a tree like x.
      multiply: False gives the slopes alone.
      layer: a path; attributions of the value there, and the baseline is one of it.
      batch_size: examples explained side by side; None for as many as `memory_budget` allows.

    Returns:
      Arrays like x, or like the value at `layer`, in units of the score.

    Raises:
      ValueError: as `integrated_gradients`; f has an operation without an exact rule, or an index
        or `cond` that depends on x; the attributions do not add up, as where a score is infinite,
        which is only checked outside of `jax.jit` and `jax.vmap`.
    """
    options = {"target": target, "layer": layer, "batch_size": batch_size}
    explained = _deep_lift(f, x, baseline=baseline, multiply=multiply, **options)
    return checks.release(explained, _verify)


@_compile.once
@_target.each_by_derivative
def _deep_lift(f, x, *, target, baseline, multiply, layer, batch_size):
    """Returns the attributions, with columns for `_verify`."""
    name = "deep_lift"
    x = jax.tree.map(jnp.asarray, x)
    target = _target.settled(name, f, x, target)
    if layer is None:  # the baseline may be another for each example, and is cut with them
        x = _input.checked(name, x)
        x = (x, _input.baselines(name, x, baseline))

    def explained(x, target):
        if layer is None:
            x, base = x
            g, x = _input.separate(name, f, x)
        else:
            g, x = _layer.located(name, f, x, layer)
            base = _input.baselines(name, x, baseline)

        def scored(x):
            output = g(x)
            return _target.score(name, output, target), output

        program, _ = trace(scored, x)
        steps = plan(program, set(program.inputs), {})
        envs = [program.run(jax.tree.leaves(values)) for values in (x, base)]
        ones = jnp.ones_like(read(envs[0], program.outputs[0]))
        given = backward.seeds(program, [ones, *[None] * (len(program.outputs) - 1)])
        found = backward.walk(steps, envs, given)
        slopes = [found.get(v, backward.zeros(envs[0][v])) for v in program.inputs]
        scores = [backward.number(read(env, program.outputs[0])) for env in envs]
        parts = [
            _zero_where(m == 0, m * _change(*(env[v] for env in envs)))
            for v, m in zip(program.inputs, slopes, strict=True)
        ]
        kinds = (shape.dtype for shape in program.shapes.values())
        eps = max(float(jnp.finfo(kind).eps) for kind in kinds if jnp.issubdtype(kind, jnp.inexact))
        outputs = [read(env, atom) for env in envs for atom in program.outputs[1:]]
        allowed = (0.01 + 16 * eps) * checks.magnitude(scores[0], [scores[1], *outputs])
        columns = checks.sums(parts, *scores, allowed)
        like = zip(parts if multiply else slopes, program.inputs, strict=True)
        leaves = [leaf.astype(program.shapes[v].dtype) for leaf, v in like]
        return checks.Explained(jax.tree.unflatten(jax.tree.structure(x), leaves), columns)

    return _input.by_examples(name, explained, x, target, batch_size)


def _verify(columns: np.ndarray) -> None:
    """Refuses attributions that differ from the difference of the scores by more than rounding."""
    total, size, _, score, base, allowed = columns.T
    with np.errstate(invalid="ignore"):  # infinite scores
        error = np.where((score == base) & (total == 0), 0, np.abs(total - (score - base)))
        exact = error <= np.maximum(allowed, 1e-3 * np.max(allowed, initial=0))
    for i in np.flatnonzero(~(exact & np.isfinite(size)))[:1]:
        raise ValueError(
            f"deep_lift: the attributions of example {i} add up to {total[i]:.4g}, its scores at x "
            f"and at the baseline are {score[i]:.4g} and {base[i]:.4g}; expected their difference. "
            "Take an f that is finite at both and computes each example by itself, another "
            "baseline, float64, or integrated_gradients."
        )


def plan(program: Program, inputs: set[Value], known: dict[Value, Any]) -> list[Step]:
    """The steps of a program by slopes between two runs."""
    active = _spread(program, inputs)
    structure = Structure(program, active, known, stopped=False, layers=False)
    steps: list[Step] = []
    for operation in program.operations:
        if not active.isdisjoint(operation.outputs):
            steps.append(_step(operation, structure))
            if operation.name in SORTED:  # where a value came from is no number
                steps.append(_refusal(operation, operation.outputs[1:], "gives positions"))
    return steps


def _step(operation: Operation, structure: Structure) -> Step:
    live, name, out = structure.live(operation), operation.name, operation.outputs[0]
    given = [i for i, on in enumerate(live) if on]
    values = [operation.inputs[i] for i in given]

    def step(back):
        def of(envs, slopes):
            return back([[read(env, atom) for atom in operation.inputs] for env in envs], slopes)

        return Step(values, operation.outputs, of)

    def through(inputs, slopes):
        """Of a linear operation: its derivative, which is the same everywhere."""
        return pullback(operation, given, inputs[0], slopes)

    def product(inputs, slopes):
        """a b - a' b' is the mean of b times the difference of a, and the other way round."""
        numbers = [
            [
                v if k in backward.indices(operation) else backward.number(v)
                for k, v in enumerate(run)
            ]
            for run in inputs
        ]
        middle = [(a + b) / 2 if on else a for a, b, on in zip(*numbers, live, strict=True)]
        return pullback(operation, given, middle, slopes)

    if name == "stop_gradient":
        return step(lambda inputs, m: m)
    for table, rule in ((structure.softmax, _softmax), (structure.logsumexp, _logsumexp)):
        if operation in table:
            parts = table[operation]
            start = parts.logits if rule is _softmax else parts.exponent
            return Step([start], [out], functools.partial(rule, parts, out))
    root = structure.root.get(out, out)
    if root != out:
        return _elementwise(structure.path(root, out), root, out)
    if name == "scan":
        return backward.scan_step(operation, structure.active, structure.known, plan, _spread)
    if name == "select_n" and live[0]:
        return step(lambda inputs, m: _select(operation, given, inputs, m[0]))
    if any(live[i] for i in backward.indices(operation)):
        return _refusal(operation, operation.outputs, "chooses by a value that depends on x")
    if name == "cond":
        return backward.cond_step(operation, structure.active, plan)
    if name in LINEAR or name in STRUCTURAL or (len(given) == 1 and name in BILINEAR):
        return step(through)
    part = range(len(operation.inputs))[PARTLY_LINEAR.get(name, slice(0))]
    if set(given) <= set(part):
        return step(through)
    if name == "mul" and any(scales := [structure.is_normalizer(a) for a in operation.inputs]):
        given = [0, 1] if scales[1] else [1, 0]
        values = [operation.inputs[i] for i in given]
        return step(lambda inputs, m: _pair(operation, given, inputs, m[0]))
    if name in BILINEAR:
        return step(product)
    if name in ("max", "min") and len(given) == 2:
        return step(lambda inputs, m: _greater(inputs, m[0], name == "max"))
    if name in WINNER:
        return step(lambda inputs, m: _winner(operation, given, inputs, m[0]))
    if name in ELEMENTWISE and len(given) == 1:
        return _elementwise([operation], values[0], out)  # pyright: ignore[reportArgumentType]
    if name in ELEMENTWISE and len(given) == 2:
        return step(lambda inputs, m: _pair(operation, given, inputs, m[0]))
    if name in REWRITTEN and (name != "sort" or len(operation.inputs) == 1):
        return backward.rewritten_step(operation, given, REWRITTEN[name](operation), plan)
    return _refusal(operation, operation.outputs, None)


def _spread(program: Program, active: Iterable[Value]) -> set[Value]:
    return backward.activity(program, active, stopped=False, discrete=True)


def _refusal(operation: Operation, outputs: Sequence[Value], why: str | None) -> Step:
    """A step that raises, if what it gives has a part in the score at all."""

    def back(envs, slopes):
        if why is None:
            problem = f"no rule for the operation {operation.name!r}, at {operation.line}"
        else:
            problem = f"{operation.name!r}, at {operation.line}, {why}"
        raise ValueError(
            f"deep_lift: {problem}; expected operations with an exact rule. Rewrite it, or use "
            "integrated_gradients."
        )

    return Step([], outputs, back)


def _clamp(operation):
    return lambda low, x, high: jnp.minimum(jnp.maximum(x, low), high)


def _reduce_prod(operation: Operation):
    axes = primitives().axes(operation.equation)

    def product(x):
        kept = [axis for axis in range(x.ndim) if axis not in axes]
        x = x.transpose(*axes, *kept).reshape(-1, *(x.shape[axis] for axis in kept))
        while len(x) > 1:
            half = len(x) // 2
            x = jnp.concatenate([x[:half] * x[half : 2 * half], x[2 * half :]])
        return x[0]

    return product


def _running(combine):
    def rewrite(operation: Operation):
        axis, reverse = primitives().cumulative(operation.equation)
        return lambda x: jax.lax.associative_scan(combine, x, reverse, axis)

    return rewrite


def _sort(operation: Operation):
    """Batcher's bitonic network (1968): maxima and minima of pairs, which have an exact rule."""
    (axis,) = primitives().axes(operation.equation)
    return lambda x: jnp.moveaxis(_sort_last(jnp.moveaxis(x, axis, -1)), -1, axis)


def _top_k(operation: Operation):
    k, axis = primitives().top_k(operation.equation)
    largest = lambda x: -_sort_last(-x)[..., :k]  # noqa: E731
    return lambda x: jnp.moveaxis(largest(jnp.moveaxis(x, axis, -1)), -1, axis)


def _sort_last(x):
    n = x.shape[-1]
    bits = max(n - 1, 0).bit_length()
    number = np.arange(2**bits)
    stages = [(2**k, 2**j) for k in range(1, bits + 1) for j in reversed(range(k))]
    if not stages:
        return x
    partner = np.stack([number ^ j for _, j in stages])
    lower = np.stack([((number & j) == 0) == ((number & k) == 0) for k, j in stages])
    padded = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, 2**bits - n)], constant_values=jnp.inf)

    def exchange(x, stage):
        partner, lower = stage
        other = jnp.take(x, partner, axis=-1, mode="clip")
        return jnp.where(lower, jnp.minimum(x, other), jnp.maximum(x, other)), None

    return jax.lax.scan(exchange, padded, (partner, lower))[0][..., :n]


def _position(extreme):
    def rewrite(operation: Operation):
        """How many come before the first that is as great as the greatest."""
        (axis,) = primitives().axes(operation.equation)
        before = lambda x: x != extreme(x, axis, keepdims=True)  # noqa: E731
        return lambda x: jnp.sum(jnp.cumprod(before(x).astype(x.dtype), axis), axis)

    return rewrite


def _reduced(reduce):
    return lambda operation: lambda x: reduce(x, primitives().axes(operation.equation))


REWRITTEN: dict[str, Callable[[Operation], Callable]] = {
    "argmax": _position(jnp.max),
    "argmin": _position(jnp.min),
    "clamp": _clamp,
    "cumlogsumexp": _running(jnp.logaddexp),
    "cumprod": _running(jnp.multiply),
    "reduce_and": _reduced(jnp.min),
    "reduce_or": _reduced(jnp.max),
    "reduce_prod": _reduce_prod,
    "sort": _sort,
    "top_k": _top_k,
}
"""Operations as programs of others that have an exact rule."""


def _zero_where(zero, value):
    """0 where a factor is 0, though what it multiplies may be infinite."""
    return jnp.where(zero, 0, value)


def _change(after, before):
    """The difference of two values, 0 where both are the same infinity."""
    after, before = backward.number(after), backward.number(before)
    return _zero_where(after == before, after - before)


def _size(*values):
    return functools.reduce(jnp.maximum, (jnp.abs(backward.number(value)) for value in values))


def _slope(part, x, base, derivative: Any = 0.0, size: Any = 0.0):
    """What each unit of x - x' accounts for, where x - x' accounts for `part`.

    Args:
      part: the multiplier times a change of the output.
      x, base: the values in the two runs.
      derivative: the multiplier times the derivative; it takes the place of the slope where the
        two differ by rounding only.
      size: the multiplier times the output, which says how much rounding there is.
    """
    step = _change(x, base)
    dtype = np.promote_types(part.dtype, step.dtype)
    part, step, derivative = (jnp.asarray(value, dtype) for value in (part, step, derivative))
    same = step == 0
    slope = part / jnp.where(same, 1, step)
    too_far = jnp.isinf(step) & (part != 0)  # no number times infinity is the part
    slope = jnp.where(too_far, jnp.asarray(jnp.nan, dtype), slope)
    error = jnp.abs(jnp.real(part) - jnp.real(derivative * step))
    size = jnp.abs(size).astype(error.dtype)
    close = (error <= 4 * float(jnp.finfo(dtype).eps) * size) & jnp.isfinite(size)
    slope = jnp.where(close, derivative, _zero_where(same, slope))
    return slope if jnp.iscomplexobj(x) else jnp.real(slope)


def _elementwise(path: Sequence[Operation], root: Value, out: Value) -> Step:
    def back(envs, slopes):
        env, base = envs
        (m,) = slopes

        def function(value):
            local = dict(env) | {root: value}
            for operation in path:
                outputs = operation(*(read(local, atom) for atom in operation.inputs))
                local |= zip(operation.outputs, outputs, strict=True)
            return backward.number(local[out])

        x, base_x = (jnp.broadcast_to(values[root], m.shape) for values in envs)
        (derivative,) = _derivatives(function, [x], m)
        part = _zero_where(m == 0, m * _change(env[out], base[out]))
        size = m * _size(env[out], base[out])
        slope = _slope(part, x, base_x, derivative, size)
        return [backward.fit(slope, env[root].shape)]

    return Step([root], [out], back)


def _derivatives(function, values, m):
    """m times the derivatives of an elementwise function, 0 where JAX has none."""
    if all(jnp.issubdtype(value.dtype, jnp.inexact) for value in values):
        with contextlib.suppress(NotImplementedError):
            return jax.vjp(function, *values)[1](m)
    return [jnp.zeros_like(m) for _ in values]


def _order(one, other):
    """How much the way through `other` counts, that through `one` the rest: half, if both exist."""
    exist = jnp.isfinite(backward.number(one)), jnp.isfinite(backward.number(other))
    return jnp.where(exist[0] == exist[1], 0.5, jnp.where(exist[1], 1.0, 0.0))


def _scale_first(scale, base):
    """How much the way counts on which a scale moves before what it scales: |s'| / (|s| + |s'|).

    A layer norm of a baseline without variance scales by 1 / sqrt(eps): the way on which the scale
    moves last would add and subtract numbers far greater than what there is to explain.
    """
    sizes = jnp.abs(backward.number(scale)), jnp.abs(backward.number(base))
    total = sizes[0] + sizes[1]
    some = (total > 0) & jnp.isfinite(total)
    share = sizes[1] / jnp.where(some, total, 1)
    return jnp.where(some, share, jnp.where(jnp.isinf(sizes[1]), 1.0, 0.5))


def _mean(weight, a, b):
    """weight a + (1 - weight) b, in which what has no weight may be infinite."""
    weight = weight.astype(jnp.real(a).dtype)
    return _zero_where(weight == 0, weight * a) + _zero_where(weight == 1, (1 - weight) * b)


def _pair(operation: Operation, given, inputs, m):
    """A function of two values: the mean of its changes when one moves before the other, or after.

    The values of Shapley 1953 for two players. Where the second one scales the first, in a quotient
    and in a product with a normalizer, it is a weighted mean: the numerator's multiplier is that of
    the mean of both denominators, 2 / (b + b').

    Args:
      operation: the operation.
      given: the two operands that depend on the input; what scales is the second.
      inputs: the operands in both runs.
      m: the multiplier of the output.
    """
    i, j = given
    wide = lambda value: jnp.broadcast_to(value, m.shape)  # noqa: E731
    x, base = ([wide(v) if k in given else v for k, v in enumerate(run)] for run in inputs)

    def moved(first, second):
        mixed = dict(enumerate(x)) | {i: first, j: second}
        return backward.number(operation(*mixed.values())[0])

    both, none, one, other = (
        moved(a[i], b[j]) for a, b in ((x, x), (base, base), (x, base), (base, x))
    )
    weight, middle = _order(one, other), jnp.full_like(one, 0.5)
    if operation.name in ("div", "mul"):
        scales = [
            run[j] if operation.name == "mul" else 1 / backward.number(run[j]) for run in (x, base)
        ]
        weight = middle = _scale_first(*scales)
    of_i = _mean(weight, _change(both, other), _change(one, none))
    of_j = _mean(weight, _change(other, none), _change(both, one))
    size = m * _size(both, none, _mean(weight, other, one))
    ends = [_derivatives(moved, [run[i], run[j]], m) for run in (x, base)]
    (of_x, of_base) = ends
    derivatives = _mean(middle, of_x[0], of_base[0]), (of_x[1] + of_base[1]) / 2
    return [
        backward.fit(
            _slope(_zero_where(m == 0, m * part), x[k], base[k], derivative, size),
            inputs[0][k].shape,
        )
        for k, part, derivative in zip(given, (of_i, of_j), derivatives, strict=True)
    ]


def _select(operation: Operation, given, inputs, m):
    """`jnp.where(p, a, b)` as a function of two values, the condition p and the pair (a, b)."""
    (p, *cases), (base_p, *base_cases) = inputs
    value = lambda p, cases: backward.number(operation(p, *cases)[0])  # noqa: E731
    one, other = value(p, base_cases), value(base_p, cases)
    weight = _order(one, other)
    of_p = _mean(weight, _change(value(p, cases), other), _change(one, value(base_p, base_cases)))
    of_p = _slope(
        _zero_where(m == 0, m * of_p), *(jnp.broadcast_to(v, m.shape) for v in (p, base_p))
    )
    shares = (weight.astype(m.real.dtype), base_p), (1 - weight.astype(m.real.dtype), p)
    moved = (
        [pullback(operation, given[1:], [p, *cases], [m * w]) for w, p in shares]
        if given[1:]
        else [[], []]
    )
    return [backward.fit(of_p, p.shape), *(a + b for a, b in zip(*moved, strict=True))]


def _greater(inputs, m, greatest: bool):
    """max(a, b) = b + relu(a - b), min(a, b) = a - relu(a - b). Shrikumar et al. 2017, sec. 3.1."""
    ahead, base_ahead = (_change(*pair) for pair in inputs)  # a - b
    sign = lambda d: (1 + jnp.sign(d)) / 2  # noqa: E731
    apart = jnp.abs(jnp.maximum(ahead, 0) - jnp.maximum(base_ahead, 0))
    slope = apart / jnp.where(ahead == base_ahead, 1, jnp.abs(ahead - base_ahead))
    one_sided = sign(ahead) == sign(base_ahead)  # also where both are infinite
    slope = jnp.where(one_sided, sign(ahead), slope)
    shares = (slope, 1 - slope) if greatest else (1 - slope, slope)
    return [
        backward.fit(_zero_where(share == 0, m * share), value.shape)
        for share, value in zip(shares, inputs[0], strict=True)
    ]


def _winner(operation: Operation, given, inputs, m):
    """The greatest of x has the rise up to both maxima, that of x' what is left of the way."""
    (after,), (before,) = (operation(*values) for values in inputs)
    both = WINNER[operation.name](after, before)
    parts = (_zero_where(m == 0, m * _change(*pair)) for pair in ((both, before), (after, both)))
    ways = (
        pullback(operation, given, run, [part]) for run, part in zip(inputs, parts, strict=True)
    )
    return [
        _slope(up + down, inputs[0][i], inputs[1][i])
        for i, up, down in zip(given, *ways, strict=True)
    ]


def _log_mean(a, b, change):
    """(a - b) / (ln a - ln b), without a difference of a and b: `change` is ln a - ln b."""
    greater = jnp.where(jnp.abs(a) > jnp.abs(b), a, b)
    change = jnp.abs(change)
    some = change > 0
    mean = greater * jnp.where(some, -jnp.expm1(-change) / jnp.where(some, change, 1), 1)
    mean = jnp.where(jnp.isinf(change) & (greater != 0), jnp.nan, mean)  # masked in one run only
    return _zero_where(~jnp.isfinite(a) | ~jnp.isfinite(b), mean)


def _weights(parts: Exponentials, envs):
    """How much each exponent moves ln of the sum, as weights that add up to 1.

    With p the terms' shares of the sum, p = softmax(z), and l the logarithmic mean of p and p',
    l_j (z_j - z'_j) = p_j - p'_j + l_j ln(s / s'). Summed over j, the weights l_j / sum(l) give
    ln(s / s') = sum_j l_j (z_j - z'_j) / sum(l). No sum or exponential is compared between the two
    runs, so that nothing overflows or cancels.
    """
    totals = [jnp.expand_dims(backward.number(env[parts.total]), parts.axes) for env in envs]
    totals = [jnp.where(total == 0, 1, total) for total in totals]  # where all terms are masked
    shares = [
        backward.number(env[parts.terms]) / total for env, total in zip(envs, totals, strict=True)
    ]
    rise = _change(*(jnp.log(jnp.abs(total)) for total in totals))
    change = _change(*(env[parts.exponent] for env in envs)) - rise
    mean = _log_mean(shares[0], shares[1], change)
    total = jnp.sum(mean, parts.axes, keepdims=True)
    return mean / jnp.where(total == 0, 1, total), change


def _softmax(parts: Exponentials, out: Value, envs, slopes):
    """p_i - p'_i = l_i (z_i - z'_i - ln(s / s')), with l and ln(s / s') of `_weights`.

    The multipliers are diag(l) - l l^T / sum(l), softmax's derivative with l for p: at most 1, and
    each row and column adds up to 0.
    """
    weights, change = _weights(parts, envs)
    mean = _log_mean(envs[0][out], envs[1][out], change)
    (m,) = slopes
    of_z = _zero_where(m == 0, m * mean)
    # v - q sum(v), where q is nearly 1, from the others alone: the difference would cancel.
    great = weights > 0.5
    rest = lambda value: jnp.where(  # noqa: E731
        great,
        jnp.sum(_zero_where(great, value), parts.axes, keepdims=True),
        jnp.sum(value, parts.axes, keepdims=True) - value,
    )
    of_z = of_z * rest(weights) - weights * rest(of_z)
    return [backward.fit(of_z, envs[0][parts.logits].shape)]


def _logsumexp(parts: Exponentials, out: Value, envs, slopes):
    m = slopes[0].reshape(envs[0][parts.total].shape)
    of_z = jnp.expand_dims(m, parts.axes) * _weights(parts, envs)[0]
    return [backward.fit(of_z, envs[0][parts.exponent].shape)]
