"""Layer-wise relevance propagation through any JAX function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxdl.interpret import _at, _compile, _input, _target
from jaxdl.interpret._program import Operation, Program, Value, read, trace
from jaxdl.interpret.relevance import _walk, composites, rules
from jaxdl.interpret.relevance._product import Product
from jaxdl.interpret.relevance._structure import STRUCTURAL, Structure
from jaxdl.interpret.relevance._walk import Step, fit, pullback

__all__ = ["lrp", "register_rule"]

LINEAR = frozenset(("cumsum", "reduce_sum", "reduce_window_sum"))
WINNER = frozenset(
    "cummax cummin max min reduce_max reduce_min reduce_window_max reduce_window_min sort".split()
    + ["top_k"]
)
REGISTERED: dict[str, Callable[..., Sequence[jax.Array | None]]] = {}


@_compile.once
@_target.each
def lrp(
    f: Callable[[Any], Any],
    x: Any,
    *,
    target: _target.Target = None,
    composite: Any = "epsilon",
    products: Literal["gate", "half"] = "gate",
    start: Literal["score", "one"] = "score",
    eps: float = 1e-6,
    at: str | None = None,
    chunk: int | None = None,
) -> Any:
    """The score handed back from layer to layer, each input of a sum having its share.

    Bach et al. 2015 (doi:10.1371/journal.pone.0130140). f's program is read operation by operation,
    so that no layer needs to be known: a shortcut's `+` is a sum, a ReLU used twice two operations,
    batch norm with stored statistics a part of the convolution before it, an LSTM in a `scan` a
    loop walked backwards. Without biases the relevances of an example add up to its score.

    Args:
      f, x, target: as for `saliency`; f ends in scores rather than in a softmax.
      composite: the rules of layers with weights: a name of `COMPOSITES`; a mapping from patterns
        of paths to rules or names, {"conv_*": rules.gamma(0.25), "*": "epsilon"}; or a function
        from a layer to its rule.
      products: what becomes of a product of two values that both depend on x. "gate": a factor
        between 0 and 1 (a sigmoid, a softmax's weights) or 1 / sqrt(...) only lets through, and the
        other has all (Arras et al. 2017, arXiv 1706.07206; Ali et al. 2022, arXiv 2202.07304); two
        of another kind have half each. "half": half each always (Achtibat et al. 2024, arXiv
        2402.05602).
      start: "score", the relevance to hand back is the score; "one", it is 1.
      eps: what keeps sums without weights (a shortcut's, a mean's) away from 0.
      at: a path; the relevance that passes there instead of the input's.
      chunk: how many examples are explained side by side; None for all.

    Returns:
      Arrays like x, or like the value at `at`, in units of the score.

    Raises:
      ValueError: as `saliency`; the composite's name or a word is unknown; f has an operation
        without a rule: the message says which, where, and how to give it one.
    """
    name = "lrp"
    whole = all(jnp.issubdtype(jnp.result_type(a), jnp.floating) for a in jax.tree.leaves(x))
    x = _input.checked(name, x) if whole or at is None else jax.tree.map(jnp.asarray, x)
    choose = composites.resolved(name, composite)
    if products not in ("gate", "half") or start not in ("score", "one"):
        raise ValueError(
            f"{name}: products={products!r}, start={start!r}; expected 'gate' or 'half', and "
            "'score' or 'one'."
        )

    def explained(x, target):
        if not whole:  # token ids have no relevance; their embedding is the input
            g, value = _at.located(name, f, x, at)
            options = {"composite": choose, "products": products, "start": start, "eps": eps}
            return lrp(g, value, target=target, **options)
        program, _ = trace(lambda x: _target.score(name, f(x), target), x)
        steps = planner(choose, products, eps)(program, set(program.inputs), {})
        values = jax.tree.leaves(x)
        env = program.run(values)
        score = read(env, program.outputs[0])
        given = _walk.seeds(program, [score if start == "score" else jnp.ones_like(score)])
        found = _walk.walk(steps, [env], given)
        if at is not None:
            return _passing(program, _at.place(name, program, at), found, at)
        wanted = zip(program.inputs, values, strict=True)
        leaves = [found.get(number, jnp.zeros_like(value)) for number, value in wanted]
        return jax.tree.unflatten(jax.tree.structure(x), leaves)

    return _input.by_examples(name, explained, x, target, chunk)


def register_rule(
    primitive: str,
    rule: Callable[..., Sequence[jax.Array | None]],
) -> None:
    """Says how relevance goes through an operation that `lrp` has no rule for.

    Args:
      primitive: the operation's name, as the error tells it.
      rule: `rule(inputs, outputs, relevances, params)`, from lists of the operation's inputs, its
        outputs and their relevances, and its parameters, to the inputs' relevances: a list of
        arrays, or None where an input has none. The parameters' names are those of the installed
        JAX; other versions may have others.

    Example:
      >>> passed = lambda inputs, outputs, relevances, params: relevances
      >>> interpret.register_rule("erf_inv", passed)
    """
    REGISTERED[primitive] = rule


def _passing(program: Program, place: Value, found: _walk.Relevance, at: str) -> jax.Array:
    """The relevance at a place: a convolution's is that of the batch norm folded into it."""
    structure = Structure(program, _walk.activity(program, program.inputs))
    for product in structure.products.values():
        chain = (product.operation, *(operation for operation, _ in product.after))
        if any(place in operation.outputs for operation in chain):
            place = product.y
    if place not in found:
        raise ValueError(
            f"lrp: no relevance passes at={at!r}: it lies inside of an elementwise function, or on "
            "no way to the score; name the beginning or the end of the function."
        )
    return found[place]


def planner(choose: composites.Composite, products: str, eps: float) -> _walk.Planner:
    """The steps of a program by the rules of relevance."""

    def plan(program: Program, inputs: set[Value], known: dict[Value, Any], inner: bool = True):
        active = _walk.activity(program, inputs)
        found = Structure(program, active, known, set() if inner else None)
        steps: list[Step] = []
        ends = {product.y: product for product in found.products.values()}
        for operation in program.operations:
            product = ends.get(operation.outputs[0]) if operation.outputs else None
            if product is not None:
                steps.append(_layer(product, choose(product)))
            elif (
                operation not in found.products
                and operation not in found.inside
                and not active.isdisjoint(operation.outputs)
            ):
                steps.append(_step(operation, found, plan, products, eps))
        return steps

    return lambda program, inputs, known: plan(program, inputs, known, inner=False)


def _layer(product: Product, rule: rules.Rule) -> Step:
    def back(envs, out):
        (env,) = envs
        w, b = product.weights(env)
        return [rule(product, env[product.x], w, b, env[product.y], out[0])]

    return Step([product.x], [product.y], back)


def _step(operation: Operation, found: Structure, plan, products: str, eps: float) -> Step:
    """The rule of an operation that is no layer."""
    live, name, out = found.live(operation), operation.name, operation.outputs[0]
    given = [i for i, on in enumerate(live) if on]
    values = [operation.inputs[i] for i in given]

    def step(back):
        def of(envs, relevances):
            (env,) = envs
            inputs = [read(env, atom) for atom in operation.inputs]
            outputs = [env[value] for value in operation.outputs]
            return back(inputs, outputs, relevances)

        return Step(values, operation.outputs, of)

    def moved(inputs, outputs, relevances):
        """The transpose, or for a maximum the derivative: all to where the value came from."""
        return pullback(operation, given, inputs, relevances)

    def shared(inputs, outputs, relevances):
        """Each term of a sum has its share."""
        s = [r / rules.stabilized(y, eps) for r, y in zip(relevances, outputs, strict=True)]
        back = pullback(operation, given, inputs, s)
        return [inputs[i] * r for i, r in zip(given, back, strict=True)]

    if name in REGISTERED:
        rule = REGISTERED[name]
        pick = lambda found: [found[i] for i in given]  # noqa: E731
        return step(lambda *at: pick(rule(*at, operation.equation.params)))
    if name == "scan":
        return _walk.scan_step(operation, found.active, found.known, plan)
    if name == "cond":
        return _walk.cond_step(operation, found.active, lambda *at: plan(*at))
    if operation in found.softmax:
        x, axes = found.softmax[operation]
        return Step([x], [out], lambda envs, r: [_softmax(envs[0][x], envs[0][out], r[0], axes)])
    if found.is_bias(operation) or name in LINEAR:
        return step(shared)
    if found.root.get(out, out) != out:
        return Step([found.root[out]], [out], lambda envs, r: r)
    if name in ("add", "add_any", "sub") and len(given) == 2:
        return step(shared)
    if name in STRUCTURAL or name in WINNER:
        return step(moved)
    if name in ("mul", "dot_general", "conv_general_dilated") and len(given) == 2:
        return step(_product(operation, found, products, eps))
    if (len(given) == 1 and name in ("add", "add_any", "sub", "mul", "div")) or (
        name == "div" and live[0]  # of two values that depend on x, the denominator only scales
    ):
        shape = found.program.shapes[values[0]].shape  # pyright: ignore[reportArgumentType]
        return Step(values[:1], operation.outputs, lambda envs, r: [fit(r[0], shape)])
    raise ValueError(
        f"lrp: no rule for the operation {name!r}, at {operation.line}"
        + (f", in {operation.scope}" if operation.scope else "")
        + "; give it one by interpret.register_rule, or replace it by what has one."
    )


def _product(operation: Operation, found: Structure, products: str, eps: float):
    gates = [products == "gate" and found.is_gate(atom) for atom in operation.inputs]
    one = operation.inputs[0] == operation.inputs[1]

    def back(inputs, outputs, relevances):
        if operation.name == "mul":
            r = [fit(relevances[0], value.shape) for value in inputs]
        else:
            s = [relevances[0] / rules.stabilized(outputs[0], eps)]
            r = pullback(operation, [0, 1], inputs, s)
            r = [value * share for value, share in zip(inputs, r, strict=True)]
        if sum(gates) == 1 and not one:
            return [None if gate else share for gate, share in zip(gates, r, strict=True)]
        return [share / 2 for share in r]

    return back


def _softmax(x, p, r, axes):
    """x times the derivative of softmax's first-order part. Achtibat et al. 2024, prop. 3.1."""
    return jnp.where(jnp.isfinite(x), x, 0) * (r - p * jnp.sum(r, axes, keepdims=True))
