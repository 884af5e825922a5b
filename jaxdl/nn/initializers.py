"""Initial values by name, from `jax.nn.initializers`, and by data (LSUV)."""

from __future__ import annotations

from collections.abc import Callable

from jax.nn import initializers

from jaxdl.core import suggest

Initializer = Callable[..., object]
"""`(key, shape, dtype) -> array`, as in `jax.nn.initializers`."""

INITIALIZERS: dict[str, Initializer] = {
    "zeros": initializers.zeros,
    "ones": initializers.ones,
    "normal": initializers.normal(),
    "truncated_normal": initializers.truncated_normal(),
    "uniform": initializers.uniform(),
    "glorot_normal": initializers.glorot_normal(),
    "glorot_uniform": initializers.glorot_uniform(),
    "he_normal": initializers.he_normal(),
    "he_uniform": initializers.he_uniform(),
    "lecun_normal": initializers.lecun_normal(),
    "lecun_uniform": initializers.lecun_uniform(),
    "orthogonal": initializers.orthogonal(),
}


def initializer(spec: str | Initializer) -> Initializer:
    """An initializer by its name, or one `(key, shape, dtype) -> array` as it is.

    Raises:
      ValueError: the name is unknown, or `spec` is neither a name nor a function.
    """
    if callable(spec):
        return spec
    if spec not in INITIALIZERS:
        raise ValueError(
            f"no initializer {spec!r}; {suggest(str(spec), INITIALIZERS, 'initializers')}"
        )
    return INITIALIZERS[spec]
