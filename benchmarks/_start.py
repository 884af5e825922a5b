"""Starting up: seconds to import a package and to compile a first `fit`."""

from __future__ import annotations

import importlib
import time


def imports(names: list[str]) -> float:
    """Returns the seconds that importing these takes."""
    start = time.perf_counter()
    for name in names:
        importlib.import_module(name)
    return time.perf_counter() - start


def first_fit(cache: str) -> float:
    """Returns the seconds that `fit` compiles for, with a compilation cache in a folder."""
    import jax
    import optax

    from jaxdl import data, nn, train

    train.enable_compilation_cache(cache)
    model = nn.serial(
        *(nn.conv(32), jax.nn.relu, nn.max_pool(2)),
        *(nn.conv(64), jax.nn.relu, nn.max_pool(2)),
        *(nn.flatten(), nn.dense(10)),
    )
    _, history = train.fit(
        model,
        data.digits().train,
        loss="cross_entropy",
        optimizer=optax.adam(1e-3),
        batch_size=100,
        epochs=1,
        verbose=0,
    )
    # The import of the packages is measured by itself, by `imports`.
    return float(sum(history["compile_seconds"]))
