"""Several devices in one process of their own; see also test_reliability.py for processes."""

import os
import subprocess
import sys

import pytest

from jaxdl import train

SEVERAL = """
import warnings; warnings.simplefilter("error")
import dataclasses
import jax
jax.config.update("jax_num_cpu_devices", 8)
import numpy as np, optax, pytest
from jax.sharding import PartitionSpec as P
from jaxdl import data, nn, serial, train
from tests.train import toy

X, Y = toy.data(48)
MODEL, OPTIMIZER = toy.noisy(), optax.sgd(0.1, momentum=0.9)

def fit(data=(X, Y), model=MODEL, **options):
    options = {"loss": "cross_entropy", "optimizer": OPTIMIZER, "batch_size": 16,
               "epochs": 3, "verbose": 0, "eval_data": (X[:5], Y[:5])} | options
    names = {field.name for field in dataclasses.fields(train.Execution)} & options.keys()
    execution = train.Execution(**{name: options.pop(name) for name in names})
    return train.fit(model, data, execution=execution, **options)

def close(a, b):
    for x, y in zip(jax.tree.leaves(toy.plain(a[0])), jax.tree.leaves(toy.plain(b[0]))):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=2e-6)
    for name in {"loss", "eval_loss"} & set(a[1]):
        np.testing.assert_allclose(a[1][name][-1], b[1][name][-1], rtol=1e-5)

one = fit(mesh=train.sharding.make_mesh(jax.devices()[:1]))
assert len(one[0].step.sharding.device_set) == 1
eight = fit()
assert len(eight[0].step.sharding.device_set) == 8
assert eight[0].params["dense_0"]["kernel"].sharding.is_fully_replicated
close(one, eight)
close(one, fit(resident_bytes=0))
close(one, fit(steps_per_call=1))
close(one, fit(data.RandomAccessSource(48, lambda rows: (X[rows], Y[rows]))))
stream = lambda: data.from_iterable([(X[i:i + 16], Y[i:i + 16]) for i in (0, 16, 32)])
close(fit(stream(), mesh=train.sharding.make_mesh(jax.devices()[:1])), fit(stream()))
third = fit(mesh=train.sharding.make_mesh(jax.devices()[3:4]))
assert third[0].step.devices() == {jax.devices()[3]}
close(one, third)
few = {"data": (X[:5], Y[:5]), "model": toy.mlp()}
single = fit(**few, batch_size=None, mesh=train.sharding.make_mesh(jax.devices()[:1]))
for size in (None, 5, 8):
    close(single, fit(**few, batch_size=size))
close(single, fit(data.from_iterable([few["data"]]), few["model"], batch_size=None))
memory = serial(nn.rnn(nn.gru(4), stateful=True, returns="last"), nn.dense(3))
windows = data.from_iterable([(X[i : i + 16, None], Y[i : i + 16]) for i in (0, 16, 32)])
single = fit(windows, memory, mesh=train.sharding.make_mesh(jax.devices()[:1]), eval_data=None)
close(single, fit(windows, memory, eval_data=None))
masked = optax.inject_hyperparams(optax.adamw, static_args="mask")(
    learning_rate=optax.cosine_decay_schedule(0.1, 9),
    mask=lambda params: jax.tree.map(lambda w: w.ndim > 1, params))
several = optax.MultiSteps(optax.apply_if_finite(optax.chain(optax.clip(1.0), masked), 2), 2)
first = train.sharding.make_mesh(jax.devices()[:1])
# Not the model above: Adam divides the rounding of a bias before batch norm by itself.
options = {"model": toy.mlp(), "optimizer": several}
close(fit(mesh=first, **options), fit(**options))
print("same")

# a state goes from one mesh to another, and evaluation takes it
four = train.sharding.make_mesh(jax.devices()[:4])
close(fit(epochs=4, mesh=four), fit(epochs=1, state=fit(epochs=3)[0], mesh=four))
losses = [train.evaluate(MODEL, state, (X, Y), loss="cross_entropy")["loss"]
          for state in (one[0], eight[0])]
assert abs(losses[0] - losses[1]) < 1e-5
train.predict(MODEL, eight[0], X)
print("moved")

# parameters split over an axis of their own, with the momentum beside them
model = serial(nn.dense(8), jax.nn.relu, nn.dense(3))
auto = (jax.sharding.AxisType.Auto,) * 2
mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=auto)
specs = {"dense_0": {"kernel": P(None, "model"), "bias": P("model")}, "dense_1": P()}
plain = fit(model=model, mesh=train.sharding.make_mesh(jax.devices()[:1]))
split = fit(model=model, mesh=mesh, param_sharding=specs)
close(plain, split)
kernel = split[0].params["dense_0"]["kernel"]
assert kernel.sharding.spec == P(None, "model") and kernel.addressable_data(0).shape == (4, 4)
mu = split[0].opt_state[0].trace["dense_0"]["kernel"]
assert mu.sharding.spec == P(None, "model")
close(plain, fit(model=model, mesh=mesh, param_sharding=P()))
print("split")

import tempfile
with tempfile.TemporaryDirectory() as made:
    fit(model=model, mesh=mesh, param_sharding=specs, epochs=1, checkpoint=made)
    again = fit(model=model, mesh=mesh, param_sharding=specs, checkpoint=made,
                callbacks=[])
    close(split, again)
    assert again[0].params["dense_0"]["kernel"].sharding.spec == P(None, "model")
print("resumed")

for options, told in [
    ({"batch_size": 12}, "batch size is 12, to be split over 8 devices; expected a multiple of 8"),
    ({"mesh": jax.make_mesh((8,), ("rows",), axis_types=auto[:1])}, "an axis named 'data'"),
    ({"param_sharding": {"dense_9": P()}}, "param_sharding does not fit the parameters"),
]:
    with pytest.raises(ValueError, match=told):
        fit(**options)
print("told")

compiled = []
import logging
class Count(logging.Handler):
    def emit(self, record):
        compiled.append(record.getMessage())
logging.getLogger("jax._src.interpreters.pxla").addHandler(Count())
jax.config.update("jax_log_compiles", True)
fresh = toy.mlp()
fit(model=fresh, epochs=5)
jax.config.update("jax_log_compiles", False)
runs = [line.split()[1] for line in compiled if "run_loop" in line or "eval_steps" in line]
assert sorted(runs) == ["jit(eval_steps)", "jit(run_loop)"], [c[:80] for c in compiled]
print("compiled twice")
"""


TWO = """
import dataclasses
import jax
jax.config.update("jax_num_cpu_devices", 2)
import numpy as np, optax
from jaxdl import losses, nn, train

rng = np.random.default_rng(0)
x, y = rng.normal(size=(8, 3)).astype(np.float32), np.arange(8) % 3
shardings = []

def loss(output, target):
    jax.debug.inspect_array_sharding(output, callback=shardings.append)
    return losses.cross_entropy(output, target)

model, optimizer = nn.dense(3), optax.sgd(0.5)
state = train.init_state(model, optimizer, jax.random.key(0), x)
w, b = (np.asarray(state.params[name], np.float64) for name in ("kernel", "bias"))
state, _ = train.fit(model, (x, y), loss=loss, optimizer=optimizer, batch_size=8, epochs=3,
                     state=state, verbose=0)
for _ in range(3):
    p = np.exp(x @ w + b)
    error = (p / p.sum(1, keepdims=True) - np.eye(3)[y]) / 8
    w, b = w - 0.5 * x.T @ error, b - 0.5 * error.sum(0)
np.testing.assert_allclose(state.params["kernel"], w, atol=1e-5)
np.testing.assert_allclose(state.params["bias"], b, atol=1e-5)
assert shardings and all(s.shard_shape((8, 3)) == (4, 3) for s in shardings), shardings
assert len(state.params["kernel"].devices()) == 2
print("done")
"""


@pytest.mark.row("D22")
def test_two_devices_take_half_of_each_batch_and_come_to_descent_by_hand():
    done = subprocess.run(
        [sys.executable, "-c", TWO],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )
    assert done.stdout == "done\n", done.stdout + done.stderr[-3000:]


@pytest.mark.row("D22")
@pytest.mark.slow
def test_eight_devices():
    done = subprocess.run(
        [sys.executable, "-c", SEVERAL],
        capture_output=True,
        text=True,
        timeout=280,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )
    assert done.stdout.split("\n")[:-1] == [
        "same",
        "moved",
        "split",
        "resumed",
        "told",
        "compiled twice",
    ], done.stdout + done.stderr[-3000:]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("localhost:1", 2), "process not given; expected coordinator, processes and process"),
        (("localhost:1", 2, 2), "process is 2 of 2; expected 0 .. 1"),
        (("localhost", 2, 0), "coordinator is 'localhost'; expected 'host:port'"),
    ],
)
def test_bad_arguments_of_init(arguments, message):
    with pytest.raises(ValueError, match=message):
        train.sharding.init(*arguments)


CANNOT_BE = """
import jax
from jaxdl import train
for arguments in ((), ("localhost:1", 1, 0)):
    try:
        train.sharding.init(*arguments)
    except ValueError as error:
        print(error)
    jax.devices()
"""


def test_init_that_cannot_be():
    done = subprocess.run(
        [sys.executable, "-c", CANNOT_BE], capture_output=True, text=True, timeout=120
    )
    unknown, late = done.stdout.splitlines()
    assert "sharding.init: no cluster is detected" in unknown
    assert "sharding.init: " in late and "call before the first array" in late
