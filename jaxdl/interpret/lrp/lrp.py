"""Layer-wise relevance propagation (LRP) through any JAX function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl._check import require_number
from jaxdl.interpret import _layer
from jaxdl.interpret._explanation import explain_batches, explanation_by_gradient
from jaxdl.interpret._target import Target
from jaxdl.interpret.lrp import backward, checks, composites, operations, rules
from jaxdl.interpret.lrp.backward import Step
from jaxdl.interpret.lrp.layers import Structure
from jaxdl.interpret.lrp.products import Product
from jaxdl.jaxpr.graph import JaxprGraph, Value, read, trace_graph

__all__ = ["lrp"]


def lrp(
    f: Callable[[Any], Any],
    x: Any,
    *,
    target: Target = None,
    composite: Any = "epsilon",
    gating: Literal["signal_take_all", "uniform"] | None = None,
    start: Literal["score", "one"] = "score",
    eps: float = 1e-9,
    layer: str | None = None,
    batch_size: int | None = None,
    check: bool = True,
) -> Any:
    """Computes LRP: propagates the score backwards, in shares of each term of a sum.

    Bach et al. 2015 (doi:10.1371/journal.pone.0130140). LRP works on the jaxpr of f, operation by
    operation, so it supports any architecture: a shortcut's `+` is a sum, a ReLU used twice is two
    operations, batch norm with stored statistics belongs to the convolution before it, and an LSTM
    in a `scan` is propagated by a scan in reverse. Without biases the relevances of an example add
    up to its score; biases and other added constants keep their shares.

    Args:
      f, x, target: as for `saliency`; f should return scores rather than a softmax.
      composite: the rules: a name of `COMPOSITES`, such as "cp_lrp" or "attn_lrp" for Transformers
        and "epsilon_plus" for convolutional networks; a mapping from patterns of paths to rules or
        names, {"conv_*": rules.gamma(0.25), "*": "epsilon"}; or a function from a layer to its
        rule.
      gating: the rule of a product of two values that both depend on x; by default that of the
        composite. "signal_take_all": a factor between 0 and 1 (a sigmoid, attention weights) has
        none and the other has all (Arras et al. 2017, arXiv 1706.07206; Ali et al. 2022, arXiv
        2202.07304); without such a factor both have half. "uniform": both have half (Achtibat et
        al. 2024, arXiv 2402.05602, eq. 14). With either, 1 / sqrt(...) of a normalization has none.
      start: the relevance of the output: "score", the score itself; "one", 1.
      eps: stabilizer of sums without weights, such as shortcuts and means.
      layer: a path; returns the relevance of that layer's output instead of the input's.
      batch_size: examples computed in parallel; None for the most that `memory_budget` allows.
      check: whether calls outside of `jit` warn if relevance is not finite, larger than 100 times
        the largest output, or less than a thousandth of the score.

    Returns:
      Arrays like x, or like the output of `layer`, in units of the score.

    Raises:
      ValueError: as `saliency`; the composite, gating or start is unknown; eps is negative; f has
        an operation without a rule: the message names it and its line.
    """
    composite = composites.resolve("lrp", composite)
    gating = composite.gating if gating is None else gating
    if gating not in ("signal_take_all", "uniform") or start not in ("score", "one"):
        raise ValueError(
            f"lrp: gating={gating!r}, start={start!r}; expected gating 'signal_take_all' or "
            "'uniform', and start 'score' or 'one'."
        )
    require_number("lrp", "a number of 0 or more", lambda v: v >= 0, eps=eps)
    options = {"target": target, "start": start, "layer": layer, "batch_size": batch_size}
    explained = _lrp(f, x, plan=make_planner(composite.choose, gating, eps), **options)
    return checks.release(explained, checks.warn_about_relevance if check else lambda columns: None)


@explanation_by_gradient
def _lrp(f, x, *, plan: backward.Planner, target, start, batch_size, layer=None):
    """Returns the relevance, with the columns of `checks.warn_about_relevance`."""
    name = "lrp"
    whole = all(jnp.issubdtype(jnp.result_type(a), jnp.floating) for a in jax.tree.leaves(x))
    # Integers have no relevance: the layer, or the arrays beside them, become the input of f.
    place = layer if whole else None

    def explain(f, score, x):
        def score_and_output(x):
            output = f(x)
            return score(output), output

        graph, _ = trace_graph(score_and_output, x)
        values = jax.tree.leaves(x)
        env = graph.run(values)
        value, *output = (read(env, atom) for atom in graph.outputs)
        total = value if start == "score" else jnp.ones_like(value)
        steps = plan(graph, set(graph.inputs), {})
        seeds = backward.seed_outputs(graph, [total, *[None] * len(output)])
        result = backward.propagate(steps, [env], seeds)
        if place is not None:
            hidden = _layer.find_value(name, graph, place)
            axis = _layer.find_batch_axis(name, f, x, graph, hidden, place)
            relevance = jnp.moveaxis(_relevance_of(graph, hidden, result, place), axis, 0)
        else:
            leaves = backward.input_relevances(graph, result)
            relevance = jax.tree.unflatten(jax.tree.structure(x), leaves)
        columns = checks.summarize(relevance, total, checks.max_magnitude(value, output))
        return checks.Explained(relevance, columns)

    return explain_batches(name, explain, f, x, target, None if whole else layer, batch_size)


def _relevance_of(
    graph: JaxprGraph, place: Value, result: backward.Relevance, layer: str
) -> jax.Array:
    """Returns the relevance of a value, or of the weighted layer that contains it.

    A convolution with batch norm, for example, is one layer: both have the same relevance.
    """
    structure = Structure(graph, backward.find_active(graph, graph.inputs))
    for product in structure.products.values():
        chain = (product.operation, *(operation for operation, _ in product.epilogue))
        ends = [place in operation.outputs for operation in chain]
        if any(ends) and product.y in result:
            relevance = product.to_product_layout(result[product.y])
            relevance = product.to_output_layout(relevance, ends.index(True))
            return relevance.astype(graph.shapes[place].dtype)
    if place not in result:
        raise ValueError(
            f"lrp: no relevance reaches layer={layer!r}: it is inside of an elementwise function, "
            "or the score does not depend on it. Name a layer before or after it."
        )
    return result[place].astype(graph.shapes[place].dtype)


def make_planner(choose: Callable[[Any], rules.Rule], gating: str, eps: float) -> backward.Planner:
    """Returns the function from a graph to its steps of relevance propagation."""

    def plan(graph: JaxprGraph, inputs: set[Value], known: dict[Value, Any], inner: bool = True):
        active = backward.find_active(graph, inputs)
        if not inner:
            _check_differentiable(graph, active)
        # In a loop or branch the inputs may come from other layers, so no layer there is a first
        # one.
        structure = Structure(graph, active, known, set() if inner else None)
        steps: list[Step] = []
        layers = {layer.y: (layer, choose(layer)) for layer in structure.products.values()}
        for layer, rule in layers.values():
            if isinstance(rule, rules.InputRule):
                structure.biases -= set(structure.affine_chain(layer.x)[1])
        for operation in graph.operations:
            # A layer is propagated where its output is computed, after its scale and bias.
            layer = layers.get(operation.outputs[0]) if operation.outputs else None
            if layer is not None:
                steps.append(_layer_step(*layer))
            elif (
                operation not in structure.products
                and operation not in structure.absorbed
                and not active.isdisjoint(operation.outputs)
            ):
                site = operations.Site(operation, structure, plan, gating, eps)
                steps.append(operations.make_step(site))
        return steps

    return lambda graph, inputs, known: plan(graph, inputs, known, inner=False)


def _check_differentiable(graph: JaxprGraph, active: set[Value]) -> None:
    """Raises if the score depends on x only through integers or booleans."""
    depends = graph.dependents(graph.inputs, stopped=True)
    if depends.isdisjoint(graph.outputs) or not active.isdisjoint(graph.outputs):
        return
    last = next(
        operation
        for operation in graph.operations
        if not active.isdisjoint(operation.inputs)
        and any(value in depends and value not in active for value in operation.outputs)
    )
    raise ValueError(
        f"lrp: the score depends on x only through integers or booleans, of {last.name!r} at "
        f"{last.line}. Explain a value before it with target=, or use a method that changes x, "
        "such as occlusion."
    )


def _layer_step(layer: Product, rule: rules.Rule) -> Step:
    def back(envs, out):
        (env,) = envs
        x, y, r = env[layer.x], *map(layer.to_product_layout, (env[layer.y], out[0]))
        dtype = np.promote_types(x.dtype, y.dtype)
        values = (x, *layer.weights(env), y, r)
        return [rule(layer, *(jnp.asarray(value, dtype) for value in values))]

    return Step([layer.x], [layer.y], back)
