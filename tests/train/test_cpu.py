"""Both helpers change the whole process, so each is tried in one of its own."""

import json
import os
import subprocess
import sys

import pytest

from jaxdl import train

DEVICES = """
import json, jax, jax.numpy as jnp, jaxdl, numpy as np
from jaxdl import nn, train
devices = train.use_cpu_devices(3)
rng = np.random.default_rng(0)

cell, x = nn.lstm(8), rng.normal(size=(4, 5, 3)).astype(np.float32)
params, _ = jaxdl.init(cell, jax.random.key(1), x)
grad = jax.jit(jax.grad(lambda p, x: jnp.sum(jnp.sin(cell.apply(p, {}, x)[0]))))
axes = dict(axis_types=(jax.sharding.AxisType.Auto,), devices=devices[:2])
mesh = jax.make_mesh((2,), ("batch",), **axes)
rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch"))
one, two = jax.device_get((grad(params, x), grad(params, jax.device_put(x, rows))))
error = max(float(abs(a - b).max()) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two)))

model = nn.dense(3)
x, y = rng.normal(size=(40, 6)).astype(np.float32), rng.integers(0, 3, 40).astype(np.int32)
second = train.sharding.make_mesh(devices[1:2])
options = dict(loss="cross_entropy", optimizer="sgd", verbose=0)
state, _ = train.fit(model, (x, y), execution=train.Execution(mesh=second), **options)
everywhere, _ = train.fit(model, (x, y), batch_size=30, **options)
scores = train.predict(model, state, x)
of = lambda tree: sorted({d.id for a in jax.tree.leaves(tree) for d in a.devices()})
chosen = [of(state.params), of(scores), of(everywhere.params)]
print(json.dumps({"count": len(devices), "error": error, "chosen": chosen}))
"""
MEMORY = """
import json, resource
import numpy as np
from jaxdl import train

def faults():
    for i in range(25):
        if i == 5:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        np.full(6_000_000, 1.0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(json.dumps([faults(), train.keep_memory(), faults()]))
"""


def python(code):
    command, environment = [sys.executable, "-c", code], os.environ | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def three_devices():
    return python(DEVICES)


def test_two_devices_share_the_rows_and_agree_with_one(three_devices):
    assert three_devices["count"] == 3 and three_devices["error"] < 1e-5


@pytest.mark.row("V06")
def test_the_device_is_chosen_by_a_mesh(three_devices):
    assert three_devices["chosen"] == [[1], [1], [0, 1, 2]]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator only")
def test_kept_memory_is_not_asked_for_again():
    before, kept, after = python(MEMORY)
    if not kept:
        pytest.skip("the C library is not glibc")
    assert after < 0.5 * before


def test_devices_must_be_asked_for_first_and_be_a_number(key):
    with pytest.raises(ValueError, match="use_cpu_devices: count is 0"):
        train.use_cpu_devices(0)
    with pytest.raises(ValueError, match="already made its devices.*start of the program"):
        train.use_cpu_devices(7)
