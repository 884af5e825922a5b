"""Recognition of models and data of other libraries, without importing these libraries."""

from __future__ import annotations

from typing import Any

PAGE = "the docs page 'Bring your own data and model'"
ADAPTERS = {
    "flax.linen": "jaxdl.interop.flax.from_linen({})",
    "flax.nnx": "jaxdl.interop.flax.from_nnx({})",
    "equinox": "jaxdl.interop.equinox.from_equinox({})",
    "haiku": f"jaxdl.Module(init, apply), see {PAGE}",
    "keras": "jaxdl.Module(init, apply) around its stateless_call, with the JAX backend",
    "torch": "JAX cannot run it. Write it with jaxdl.nn and copy its weights into params",
}
"""For each package, the conversion of its models to a `Module`."""


def adapter(model: Any) -> str | None:
    """Returns the code that converts a model of another library, or None for anything else.

    Args:
      model: anything; a class of models counts as a model.
    """
    for package, text in ADAPTERS.items():
        if comes_from(model, package):
            return text.format(_argument(model, package))
    return None


def comes_from(value: Any, package: str) -> bool:
    """Returns whether the class of a value, or one of its base classes, belongs to a package."""
    # Names are compared, so that the library need not be imported.
    cls = value if isinstance(value, type) else type(value)
    return any(f"{base.__module__}.".startswith(f"{package}.") for base in cls.__mro__)


def _argument(model: Any, package: str) -> str:
    """Returns the argument of the conversion as source code."""
    if not isinstance(model, type):
        return "model"
    name = model.__name__
    return {
        "flax.nnx": f"lambda rngs: {name}(..., rngs=rngs)",
        "equinox": f"lambda key: {name}(..., key=key)",
    }.get(package, f"{name}(...)")


def expected_module(model: Any) -> str:
    """Returns the error text for a model that is not a `Module`: its kind and its conversion."""
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
    """Returns whether this is a factory such as `nn.dense`, passed without being called."""
    returns = getattr(function, "__annotations__", {}).get("return")
    return getattr(returns, "__name__", returns) in ("Module", "Cell")
