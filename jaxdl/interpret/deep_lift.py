"""DeepLIFT: attributions of the score's difference from that of a baseline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.interpret import _input, _target
from jaxdl.interpret._explanation import explain_batches, explanation_by_gradient
from jaxdl.interpret._rescale import difference, plan, zero_where
from jaxdl.interpret._target import Target
from jaxdl.interpret.lrp import backward, checks
from jaxdl.jaxpr.graph import read, trace_graph

__all__ = ["deep_lift"]


def deep_lift(
    f: Callable[[Any], Any],
    x: Any,
    *,
    target: Target = None,
    baseline: Any = 0.0,
    multiply_by_inputs: bool = True,
    layer: str | None = None,
    batch_size: int | None = None,
) -> Any:
    """Computes (x_n - x'_n) times a slope that is exact between x and the baseline x'.

    The rescale rule of Shrikumar, Greenside and Kundaje 2017 (arXiv 1704.02685). The attributions
    of an example add up to y(x) - y(x') up to rounding, also through products (each factor times
    the mean of the other), softmax, maxima, masks, complex numbers and LSTMs. Values are compared,
    not derivatives: functions with a custom derivative (`jax.custom_vjp`) and
    `stop_gradient` count as what they compute. The average over baselines by
    `average_over_baselines` is DeepSHAP.

    Args:
      f, x, target: as for `integrated_gradients`.
      baseline: x', a number, an array that broadcasts to x, or a tree like x.
      multiply_by_inputs: whether to multiply by x - x'. If not, the slopes are returned.
      layer: a path; explains the output of that layer, for which `baseline` is a baseline then.
      batch_size: examples computed in parallel; None for the most that `memory_budget` allows.

    Returns:
      Arrays like x, or like the output of `layer`, in units of the score.

    Raises:
      ValueError: as `integrated_gradients`; f has an operation without an exact rule, or an index
        or `cond` that depends on x; the attributions do not add up, for example because a score is
        infinite. The sum is checked only outside of `jax.jit` and `jax.vmap`.
    """
    options = {"target": target, "layer": layer, "batch_size": batch_size}
    explained = _deep_lift(
        f, x, baseline=baseline, multiply_by_inputs=multiply_by_inputs, **options
    )
    return checks.release(explained, _verify)


@explanation_by_gradient
def _deep_lift(f, x, *, target, baseline, multiply_by_inputs, batch_size, layer=None):
    """Returns the attributions, with columns for `_verify`."""
    name = "deep_lift"
    target = _target.resolve_argmax(name, f, x, target)
    # A baseline of x can differ between examples, and is divided into batches with them.
    others = (_input.broadcast_baseline(name, x, baseline),) if layer is None else ()

    def explain(f, score, x, base=None):
        if layer is not None:
            base = _input.broadcast_baseline(name, x, baseline)

        def score_and_output(x):
            output = f(x)
            return score(output), output

        graph, _ = trace_graph(score_and_output, x)
        steps = plan(graph, set(graph.inputs), {})
        envs = [graph.run(jax.tree.leaves(values)) for values in (x, base)]
        ones = jnp.ones_like(read(envs[0], graph.outputs[0]))
        seeds = backward.seed_outputs(graph, [ones, *[None] * (len(graph.outputs) - 1)])
        multipliers = backward.propagate(steps, envs, seeds)
        slopes = [multipliers.get(v, backward.zeros(envs[0][v])) for v in graph.inputs]
        scores = [backward.to_float(read(env, graph.outputs[0])) for env in envs]
        parts = [
            zero_where(m == 0, m * difference(*(env[v] for env in envs)))
            for v, m in zip(graph.inputs, slopes, strict=True)
        ]
        kinds = (shape.dtype for shape in graph.shapes.values())
        eps = max(float(jnp.finfo(kind).eps) for kind in kinds if jnp.issubdtype(kind, jnp.inexact))
        outputs = [read(env, atom) for env in envs for atom in graph.outputs[1:]]
        allowed = (0.01 + 16 * eps) * checks.max_magnitude(scores[0], [scores[1], *outputs])
        columns = checks.summarize(parts, *scores, allowed)
        like = zip(parts if multiply_by_inputs else slopes, graph.inputs, strict=True)
        leaves = [leaf.astype(graph.shapes[v].dtype) for leaf, v in like]
        return checks.Explained(jax.tree.unflatten(jax.tree.structure(x), leaves), columns)

    return explain_batches(name, explain, f, x, target, layer, batch_size, others=others)


def _verify(columns: np.ndarray) -> None:
    """Raises if attributions do not add up to the difference of the scores."""
    total, size, _, score, base, allowed = columns.T
    with np.errstate(invalid="ignore"):  # infinite scores
        error = np.where((score == base) & (total == 0), 0, np.abs(total - (score - base)))
        exact = error <= np.maximum(allowed, 1e-3 * np.max(allowed, initial=0))
    for i in np.flatnonzero(~(exact & np.isfinite(size)))[:1]:
        raise ValueError(
            f"deep_lift: the attributions of example {i} add up to {total[i]:.4g}, expected the "
            f"difference of its scores at x and at the baseline, {score[i]:.4g} and {base[i]:.4g}. "
            "Check that f is finite at both and computes each example independently, or use "
            "another baseline, float64 or integrated_gradients."
        )
