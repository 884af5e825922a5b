"""Paths, sizes and dtypes of trees of arrays, and `summary`, the table of a model's layers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core as jex

from jaxdl.core import Module, Tree, check_model
from jaxdl.jaxpr.equations import inner_jaxprs
from jaxdl.jaxpr.primitives import readers
from jaxdl.jaxpr.tracing import make_standard_jaxpr

__all__ = ["Row", "Summary", "cast", "count", "flatten", "summary", "unflatten"]


def flatten(tree: Any) -> dict[str, Any]:
    """Flattens a tree to `{"dense_0/kernel": array, ...}`, in the tree's order."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def unflatten(paths: Mapping[str, Any]) -> Tree:
    """Builds a nested dict from `{"dense_0/kernel": array, ...}`; inverts `flatten` for dicts.

    Raises:
      ValueError: one path is both a leaf and a folder of leaves.
    """
    tree: Tree = {}
    for path, leaf in paths.items():
        *folders, name = path.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
            if not isinstance(node, dict):
                raise ValueError(f"unflatten: {path!r} is below a leaf; rename one of the two.")
        if name in node:
            raise ValueError(f"unflatten: {path!r} is a leaf and a folder; rename one of the two.")
        node[name] = leaf
    return tree


def count(tree: Any) -> int:
    """Counts the scalars in a tree of arrays or `jax.ShapeDtypeStruct`s."""
    return sum(math.prod(jnp.shape(leaf)) for leaf in jax.tree.leaves(tree))


def cast(tree: Any, dtype: Any) -> Any:
    """Casts the floating-point leaves of a tree; integers, booleans and keys are unchanged.

    Args:
      tree: any tree of arrays.
      dtype: a floating-point dtype, e.g. `jnp.bfloat16`.

    Returns:
      A tree of the same structure.
    """

    def one(leaf):
        return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(one, tree)


class Row(NamedTuple):
    """A row of a `Summary`: one named child, composites included.

    For the layers of a Flax model, kind is empty and flops is None.
    """

    path: str
    kind: str
    shape: str
    params: int
    flops: int | None


class Summary(NamedTuple):
    """The layers of a model in order of computation, and its totals; prints as a table."""

    rows: tuple[Row, ...]
    params: int
    flops: int

    def __str__(self) -> str:
        header = ("path", "kind", "output", "parameters", "FLOPs")

        def number(n):
            return "" if n is None else f"{n:,}"

        body = [(*row[:3], *map(number, row[3:])) for row in self.rows]
        total = ("total", "", "", number(self.params), number(self.flops))
        widths = [max(len(line[i]) for line in (header, *body, total)) for i in range(5)]
        rule = "  ".join("-" * width for width in widths)

        def line(cells):
            left = [cell.ljust(width) for cell, width in zip(cells[:3], widths[:3], strict=True)]
            right = [cell.rjust(width) for cell, width in zip(cells[3:], widths[3:], strict=True)]
            return "  ".join(left + right).rstrip()

        return "\n".join([line(header), rule, *map(line, body), rule, line(total)])


def summary(model: Module, *inputs: Any) -> Summary:
    """Lists path, kind, output shape, parameters and FLOPs of every layer, without allocation.

    FLOPs are counted for matrix products and convolutions in a forward pass of the whole batch, two
    per multiply-add; other operations are not counted, as usual in papers. A layer that is called
    again has a row `name#1` with FLOPs but no parameters. The row of a composite has the sum of its
    children.

    Args:
      model: any `Module`.
      *inputs: inputs of `model.apply`, as arrays or `jax.ShapeDtypeStruct`s.

    Returns:
      A `Summary`; `print` shows it as a table.
    """
    check_model("summary", model)
    params, state = jax.eval_shape(model.init, jax.random.key(0), *inputs)
    rows: list[Row] = []

    def tap(path, value):
        part, sub, copies = _resolve(model, params, path)
        shapes = [f"{leaf.dtype}{list(leaf.shape)}" for leaf in jax.tree.leaves(value)]
        # A repeated call shares its parameters, which the row of the first call has.
        number = 0 if "#" in path else count(sub) // copies
        rows.append(Row(path, part.kind if part else "", " ".join(shapes), number, None))
        return value

    flops: dict[str, int] = {}
    jaxpr, _ = make_standard_jaxpr(
        lambda *args: model.apply(*args, tap=tap)[0], params, state, *inputs
    )
    _count_flops(jaxpr.jaxpr, "", 1, flops)

    def below(path):
        return sum(n for name, n in flops.items() if f"{name}/".startswith(f"{path}/"))

    return Summary(
        tuple(row._replace(flops=below(row.path)) if row.kind else row for row in rows),
        count(params),
        sum(flops.values()),
    )


def _resolve(model: Module, params: Tree, path: str) -> tuple[Module | None, Tree, int]:
    """Finds the module at a tap's path, its parameters, and the number of copies in them.

    Layers of a Flax model have paths and parameters, but they are not `Module`s.
    """
    part: Module | None = model
    copies = 1
    for step in path.split("/"):
        name = step.split("#")[0]
        if part and part.kind == "scan_layers" and name not in part.children:
            part, copies = part.children["block"], copies * part.config["n"]
        else:
            part = part.children.get(name) if part else None
            params = {str(key): value for key, value in params.items()}.get(name, {})
    return part, params, copies


_TRANSFORM = re.compile(r"\w+\(|\)")
"""Matches the wrapper in `vmap(dense_0)`, the scope of a child called inside of `jax.vmap`."""


def _count_flops(jaxpr: jex.Jaxpr, scope: str, times: int, flops: dict[str, int]) -> None:
    """Adds the FLOPs of a jaxpr to `flops`, keyed by named scope."""
    for eqn in jaxpr.eqns:
        stack = _TRANSFORM.sub("", str(eqn.source_info.name_stack))
        path = "/".join(filter(None, (scope, stack)))
        name = eqn.primitive.name
        if name in ("dot_general", "conv_general_dilated"):
            lhs, rhs, out = (_shape(v) for v in (*eqn.invars[:2], eqn.outvars[0]))
            if name == "dot_general":
                contracting = readers().dot_general(eqn).contracting
                depth = math.prod(lhs[axis] for axis in contracting[0])
            else:
                # Products per output value: the kernel without its axis of output channels.
                specs = readers().convolution(eqn).dimension_numbers
                depth = math.prod(rhs) // rhs[specs.rhs_spec[0]]
            flops[path] = flops.get(path, 0) + 2 * times * math.prod(out) * depth
        else:
            inner = times * (readers().scan(eqn).length if name == "scan" else 1)
            for sub in inner_jaxprs(eqn.params):
                _count_flops(sub, path, inner, flops)


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape
