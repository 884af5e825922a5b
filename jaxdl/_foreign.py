"""Models and data of other libraries, known by the modules of their classes.

Only names are compared, so none of these libraries is imported.
"""

from __future__ import annotations

from typing import Any

PAGE = "the docs page 'Bring your own data and model'"
ADAPTERS = {
    "flax.linen": "jaxdl.interop.flax.from_linen({})",
    "flax.nnx": "jaxdl.interop.flax.from_nnx({})",
    "equinox": "jaxdl.interop.equinox.from_equinox({})",
    "haiku": f"jaxdl.Module(init, apply), in three lines on {PAGE}",
    "keras": "jaxdl.Module(init, apply) over its stateless_call, with the JAX backend",
    "torch": "it runs in PyTorch alone: write it with jaxdl.nn and copy its weights into params",
}
"""For each package: how one of its models becomes a `Module`."""


def adapter(model: Any) -> str | None:
    """Returns how a model of another library becomes a `Module`, or None for anything else.

    Args:
      model: anything; a class of models counts as a model.
    """
    for package, text in ADAPTERS.items():
        if comes_from(model, package):
            return text.format(_written(model, package))
    return None


def comes_from(value: Any, package: str) -> bool:
    """Whether the class of a value, or one that it is derived from, is of a package."""
    cls = value if isinstance(value, type) else type(value)
    return any(f"{base.__module__}.".startswith(f"{package}.") for base in cls.__mro__)


def _written(model: Any, package: str) -> str:
    """How the argument of an adapter is written."""
    if not isinstance(model, type):
        return "model"
    name = model.__name__
    return {
        "flax.nnx": f"lambda rngs: {name}(..., rngs=rngs)",
        "equinox": f"lambda key: {name}(..., key=key)",
    }.get(package, f"{name}(...)")


def expected_module(model: Any) -> str:
    """Returns "got ..., expected ..., how to fix it" for a model that is no `Module`."""
    fix = adapter(model)
    name = getattr(model, "__name__", type(model).__name__)
    if isinstance(model, type):
        kind, fix = f"the class {name}", fix or f"make one: {name}(...)"
    elif makes_module(model):
        kind, fix = f"the function {name}", f"call it: {name}(...)"
    elif callable(model) and fix is None:
        kind = f"the function {name}"
        fix = (
            "for f(params, x) write jaxdl.Module(lambda key, x: (params, {}), lambda params, "
            "state, x, **_: (f(params, x), state)); for f(x) jaxdl.as_module(f)"
        )
    else:
        kind = f"a {name}"
        if isinstance(model, list | tuple) and fix is None:
            fix = "jaxdl.serial(*layers) of layers, jaxdl.Module(init, apply) of two functions"
    return f"model is {kind}; expected a jaxdl.Module" + (f": {fix}." if fix else ".")


def makes_module(function: Any) -> bool:
    """Whether this is a factory such as `nn.dense`, passed without being called."""
    returns = getattr(function, "__annotations__", {}).get("return")
    return getattr(returns, "__name__", returns) in ("Module", "Cell")
