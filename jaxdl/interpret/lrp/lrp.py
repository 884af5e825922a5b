"""Layer-wise relevance propagation through any JAX function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.interpret import _compile, _input, _layer, _target
from jaxdl.interpret.lrp import backward, checks, composites, rules
from jaxdl.interpret.lrp.backward import Step, fit, pullback
from jaxdl.interpret.lrp.layers import Exponentials, Structure
from jaxdl.interpret.lrp.products import Product
from jaxdl.jaxpr.intervals import PARTLY_SUMS, STRUCTURAL
from jaxdl.jaxpr.program import Operation, Program, Value, read, trace
from jaxdl.jaxpr.reading import primitives

__all__ = ["lrp", "register_rule"]

LINEAR = frozenset(
    """complex conj cumsum fft imag real reduce_sum reduce_window_sum scatter-add
    scatter-sub""".split()
)
WINNER = frozenset(
    """cummax cummin max min reduce_max reduce_min reduce_window_max reduce_window_min scatter-max
    scatter-min sort top_k""".split()
)
COMPLEX = frozenset("abs dot_general conv_general_dilated div mul neg".split())
"""Operations that are linear in one complex value, or give its length."""
REGISTERED: dict[str, Callable[..., Sequence[jax.Array | None]]] = {}


def lrp(
    f: Callable[[Any], Any],
    x: Any,
    *,
    target: _target.Target = None,
    composite: Any = "epsilon",
    products: Literal["gate", "half"] | None = None,
    start: Literal["score", "one"] = "score",
    eps: float = 1e-9,
    layer: str | None = None,
    batch_size: int | None = None,
    check: bool = True,
) -> Any:
    """Propagates the score back from layer to layer; each term of a sum has its share.

    Bach et al. 2015 (doi:10.1371/journal.pone.0130140). f's program is read operation by operation,
    so that no layer needs to be known: a shortcut's `+` is a sum, a ReLU used twice two operations,
    batch norm with stored statistics a part of the convolution before it, an LSTM in a `scan` a
    loop walked backwards. Without biases the relevances of an example add up to its score; a bias
    or another constant that is added keeps its share.

    Args:
      f, x, target: as for `saliency`; f ends in scores rather than in a softmax.
      composite: the rules: a name of `COMPOSITES`, "cp_lrp" or "attn_lrp" for Transformers,
        "epsilon_plus" for convolutional networks; a mapping from patterns of paths to rules or
        names, {"conv_*": rules.gamma(0.25), "*": "epsilon"}; or a function from a layer to its
        rule.
      products: the rule of a product of two values that both depend on x; the composite's own by
        default. "gate": a factor between 0 and 1 (a sigmoid, a softmax's weights) has none, and the
        other all (Arras et al. 2017, arXiv 1706.07206; Ali et al. 2022, arXiv 2202.07304); two
        of another kind have half each. "half": half each (Achtibat et al. 2024, arXiv 2402.05602,
        eq. 14). With both, a normalization's 1 / sqrt(...) has none.
      start: "score", the relevance to hand back is the score; "one", it is 1.
      eps: what keeps sums without weights (a shortcut's, a mean's) away from 0.
      layer: a path; the relevance that passes there instead of the input's.
      batch_size: examples explained side by side; None for as many as `memory_budget` allows.
      check: whether to warn, in calls outside of `jit`, when relevance is not finite, larger than
        100 times the largest output, or absorbed but for a thousandth.

    Returns:
      Arrays like x, or like the value at `layer`, in units of the score.

    Raises:
      ValueError: as `saliency`; the composite's name or a word is unknown; eps is below 0; f has an
        operation without a rule: the message says which, where, and how to give it one.
    """
    composite = composites.resolve("lrp", composite)
    products = composite.products if products is None else products
    if products not in ("gate", "half") or start not in ("score", "one"):
        raise ValueError(
            f"lrp: products={products!r}, start={start!r}; expected 'gate' or 'half', and "
            "'score' or 'one'."
        )
    _input.number("lrp", "a number of 0 or more", lambda v: v >= 0, eps=eps)
    options = {"target": target, "start": start, "layer": layer, "batch_size": batch_size}
    explained = _lrp(f, x, plan=planner(composite.choose, products, eps), **options)
    return checks.release(explained, checks.warn_about_relevance if check else lambda columns: None)


@_compile.once
@_target.each_by_derivative
def _lrp(f, x, *, plan: backward.Planner, target, start, layer, batch_size):
    """Returns the relevance, with the columns of `_check.warn_about_relevance`."""
    name = "lrp"
    whole = all(jnp.issubdtype(jnp.result_type(a), jnp.floating) for a in jax.tree.leaves(x))
    x = _input.checked(name, x) if whole or layer is None else jax.tree.map(jnp.asarray, x)

    def explained(x, target):
        g, place = f, layer
        if not whole:  # integers have no relevance; their embedding, or what is beside them, has
            (g, x), place = _layer.located(name, f, x, layer), None

        def scored(x):
            output = g(x)
            return _target.score(name, output, target), output

        program, _ = trace(scored, x)
        values = jax.tree.leaves(x)
        env = program.run(values)
        score, *output = (read(env, atom) for atom in program.outputs)
        due = score if start == "score" else jnp.ones_like(score)
        steps = plan(program, set(program.inputs), {})
        found = backward.walk(steps, [env], backward.seeds(program, [due, *[None] * len(output)]))
        if place is not None:
            value = _layer.place(name, program, place)
            axis = _layer.batch_axis(name, f, x, program, value, place)
            relevance = jnp.moveaxis(_passing(program, value, found, place), axis, 0)
        else:
            leaves = backward.of_inputs(program, found)
            relevance = jax.tree.unflatten(jax.tree.structure(x), leaves)
        columns = checks.sums(relevance, due, checks.magnitude(score, output))
        return checks.Explained(relevance, columns)

    return _input.by_examples(name, explained, x, target, batch_size)


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


def _passing(program: Program, place: Value, found: backward.Relevance, layer: str) -> jax.Array:
    """The relevance at a place: a convolution's is that of the batch norm folded into it."""
    structure = Structure(program, backward.activity(program, program.inputs))
    for product in structure.products.values():
        chain = (product.operation, *(operation for operation, _ in product.after))
        ends = [place in operation.outputs for operation in chain]
        if any(ends) and product.y in found:
            relevance = product.moved(product.unmoved(found[product.y]), ends.index(True))
            return relevance.astype(program.shapes[place].dtype)
    if place not in found:
        raise ValueError(
            f"lrp: no relevance passes layer={layer!r}: it lies inside of an elementwise function, or on "
            "no way to the score; name the beginning or the end of the function."
        )
    return found[place].astype(program.shapes[place].dtype)


def planner(choose: Callable[[Any], rules.Rule], products: str, eps: float) -> backward.Planner:
    """The steps of a program by the rules of relevance."""

    def plan(program: Program, inputs: set[Value], known: dict[Value, Any], inner: bool = True):
        active = backward.activity(program, inputs)
        if not inner:
            _check_followed(program, active)
        found = Structure(program, active, known, set() if inner else None)
        steps: list[Step] = []
        ends = {product.y: (product, choose(product)) for product in found.products.values()}
        for product, rule in ends.values():
            if isinstance(rule, rules.InputRule):
                found.biases -= set(found.affine_before(product.x)[1])
        for operation in program.operations:
            layer = ends.get(operation.outputs[0]) if operation.outputs else None
            if layer is not None:
                steps.append(_weighted_step(*layer))
            elif (
                operation not in found.products
                and operation not in found.inside
                and not active.isdisjoint(operation.outputs)
            ):
                steps.append(_step(operation, found, plan, products, eps))
        return steps

    return lambda program, inputs, known: plan(program, inputs, known, inner=False)


def _check_followed(program: Program, active: set[Value]) -> None:
    """Refuses a score that depends on x, but only through integers and truth values."""
    depends = program.reached(program.inputs, stopped=True)
    if depends.isdisjoint(program.outputs) or not active.isdisjoint(program.outputs):
        return
    last = next(
        operation
        for operation in program.operations
        if not active.isdisjoint(operation.inputs)
        and any(value in depends and value not in active for value in operation.outputs)
    )
    raise ValueError(
        f"lrp: the score depends on x only through integers or truth values, of {last.name!r} at "
        f"{last.line}; expected a way of real numbers. Explain what is before it, by target=, or "
        "use a method that changes x, as occlusion."
    )


def _weighted_step(product: Product, rule: rules.Rule) -> Step:
    def back(envs, out):
        (env,) = envs
        x, y, r = env[product.x], product.unmoved(env[product.y]), product.unmoved(out[0])
        values = (x, *product.weights(env), y, r)
        kind = np.promote_types(x.dtype, y.dtype)
        return [rule(product, *(jnp.asarray(value, kind) for value in values))]

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
        s = [_per_unit(r, y, eps) for r, y in zip(relevances, outputs, strict=True)]
        back = pullback(operation, given, inputs, s)
        return [_share(inputs[i], r) for i, r in zip(given, back, strict=True)]

    if name in REGISTERED:
        rule = REGISTERED[name]
        pick = lambda found: [found[i] for i in given]  # noqa: E731
        return step(lambda *layer: pick(rule(*layer, operation.equation.params)))
    if name == "scan":
        return backward.scan_step(operation, found.active, found.known, plan)
    if name == "cond":
        return backward.cond_step(operation, found.active, lambda *layer: plan(*layer))
    if operation in found.softmax:
        parts = found.softmax[operation]
        return Step([parts.logits], [out], lambda envs, r: [_softmax(parts, envs[0], r[0])])
    linear = range(len(operation.inputs))[PARTLY_SUMS.get(name, slice(0))]
    if operation in found.biases:
        return _affine(operation, found, eps)
    if name in LINEAR or (given and set(given) <= set(linear)):
        return step(shared)
    if (
        found.is_complex(operation)
        and name in COMPLEX
        and given == [0] * live[0] + [1] * (not live[0])
    ):
        return step(shared)
    if found.root.get(out, out) != out:
        return Step([found.root[out]], [out], lambda envs, r: r)
    if name in ("add", "add_any", "sub") and len(given) == 2:
        return step(shared)
    if name in STRUCTURAL or name in WINNER:
        return step(moved)
    if name in ("mul", "dot_general", "conv_general_dilated") and len(given) == 2:
        return step(_product(operation, found, products, eps))
    if (
        (given == [0] and name == "scatter-mul")
        or (len(given) == 1 and name in ("add", "add_any", "sub", "mul", "div"))
        or (
            name == "div" and live[0]  # of two values that depend on x, the denominator only scales
        )
    ):
        shape = found.program.shapes[values[0]].shape  # pyright: ignore[reportArgumentType]
        return Step(values[:1], operation.outputs, lambda envs, r: [fit(r[0], shape)])
    if name == "reduce_prod":
        return step(lambda inputs, outputs, r: [_equal_shares(operation, inputs[0], r[0])])

    def refuse(envs, relevances):
        raise ValueError(
            f"lrp: no rule for the operation {name!r}, at {operation.line}"
            + (f", in {operation.scope}" if operation.scope else "")
            + "; give it one by interpret.register_rule, or replace it by what has one."
        )

    return Step([], operation.outputs, refuse)


def _equal_shares(operation: Operation, x, r):
    axes = primitives().axes(operation.equation)
    return jnp.broadcast_to(jnp.expand_dims(r, axes) * r.size / x.size, x.shape)


def _per_unit(r, y, eps: float):
    """The relevance of each unit of a value; of a complex one, of each unit of both its parts.

    JAX's transposes are of Re(s z), so that s has the share of the imaginary part with its sign
    turned.
    """
    if not jnp.iscomplexobj(y):
        return rules.per_unit(r, y, eps)
    return jax.lax.complex(_per_unit(r.real, y.real, eps), -_per_unit(r.imag, y.imag, eps))


def _share(x, s):
    """x times the relevance of each unit of it: a mask's infinity has none."""
    if jnp.iscomplexobj(x):
        return jax.lax.complex(_share(x.real, s.real), _share(x.imag, -s.imag))
    return jnp.where(jnp.isfinite(x), x, 0) * s


def _affine(operation: Operation, found: Structure, eps: float) -> Step:
    """The share of x in y = a x + b, with all constants between x and y at once.

    One by one, they would lose the relevance of an x that the first of them moves to 0.
    """
    (out,) = operation.outputs
    start, operations = found.affine_before(out)

    def back(envs, relevances):
        (env,) = envs

        def run(x):
            known = env | {start: x}
            for step in operations:
                values = (backward.number(read(known, atom)) for atom in step.inputs)
                (known[step.outputs[0]],) = step.wide(*values)
            return known[out]

        y, transpose = jax.vjp(run, env[start])
        return [_share(env[start], transpose(_per_unit(relevances[0], y, eps))[0])]

    return Step([start], [out], back)


def _product(operation: Operation, found: Structure, products: str, eps: float):
    is_gate = found.is_gate if products == "gate" else found.is_normalizer
    gates = [is_gate(atom) for atom in operation.inputs]
    one = operation.inputs[0] == operation.inputs[1]

    def back(inputs, outputs, relevances):
        if operation.name == "mul" and not found.is_complex(operation):
            r = [fit(relevances[0], value.shape) for value in inputs]
        else:
            s = [_per_unit(relevances[0], outputs[0], eps)]
            r = map(_share, inputs, pullback(operation, [0, 1], inputs, s))
        if sum(gates) == 1 and not one:
            return [None if gate else share for gate, share in zip(gates, r, strict=True)]
        return [share / 2 for share in r]

    return back


def _softmax(parts: Exponentials, env: backward.Env, r):
    """x times the derivative of softmax's first-order part. Achtibat et al. 2024, prop. 3.1."""
    x = env[parts.logits]
    p = env[parts.terms] / jnp.expand_dims(env[parts.total], parts.axes)
    out = jnp.where(jnp.isfinite(p), p, 0) * jnp.sum(r, parts.axes, keepdims=True)
    return jnp.where(jnp.isfinite(x), x, 0) * (r - out)
