import os
import subprocess
import sys

import pytest

from jaxdl import train

PROGRAM = """
import sys, jax, jax.numpy as jnp
from jaxdl import train
jnp.ones(3).sum().block_until_ready()  # something is compiled before the cache is asked for
train.enable_compilation_cache(sys.argv[1])

@jax.jit
def f(x):
    for i in range(30):
        x = jnp.sin(x @ x) + jnp.linalg.norm(x, axis=i % 2)
    return x

events = []
jax.monitoring.register_event_listener(lambda event, **_: events.append(event))
f.lower(jnp.ones((17, 17))).compile()
print(events.count("/jax/compilation_cache/cache_hits"))
"""


def test_the_second_start_finds_what_the_first_compiled(tmp_path):
    cache = tmp_path / "new" / "cache"
    hits = []
    for _ in range(2):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_COMPILATION")}
        run = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(cache)],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        )
        hits.append(int(run.stdout))
    assert list(cache.iterdir())
    assert hits[0] == 0 < hits[1]


def test_a_directory_that_is_none(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    for path in (file, file / "below"):
        with pytest.raises(ValueError, match="cannot write to .*directory that you may write"):
            train.enable_compilation_cache(path)
