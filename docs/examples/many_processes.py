"""Many processes, as a managed launcher starts them: `srun -n 2 python many_processes.py`."""

import grain
import jax
import optax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxdl import data, nn, serial, train

train.sharding.init()  # the launcher's variables say who is who

model = serial(nn.flatten(), nn.dense(64), jax.nn.relu, nn.dense(10))
optimizer = optax.adam(1e-3)
digits = data.digits().train

# Input: every process reads each n-th record, and gives its share of every batch.
records = list(zip(digits.x, digits.y, strict=True))
mine = grain.MapDataset.source(records)[jax.process_index() :: jax.process_count()]
share = 32 // jax.process_count()
stream = data.from_grain(mine.shuffle(seed=0).batch(share, drop_remainder=True))
state, history = train.fit(
    model, stream, loss="cross_entropy", optimizer=optimizer, epochs=3, verbose=0
)

# A partition and a jit of one's own: the first layer's columns over "model", the rest everywhere.
mesh = jax.make_mesh(
    (jax.device_count() // 2, 2), ("data", "model"), axis_types=(AxisType.Auto, AxisType.Auto)
)


def place(path, leaf):
    wide = "dense_0" in jax.tree_util.keystr(path) and leaf.ndim == 2
    return NamedSharding(mesh, P(None, "model") if wide else P())


def make():
    return train.init_state(model, optimizer, jax.random.key(0), digits.x[:1])


where = jax.tree_util.tree_map_with_path(place, jax.eval_shape(make))
step = jax.jit(
    train.make_train_step(model, "cross_entropy", optimizer),
    donate_argnums=0,
    out_shardings=(where, NamedSharding(mesh, P())),
)
split = jax.jit(make, out_shardings=where)()
rows = NamedSharding(mesh, P("data"))
for x, y in stream.open(0, 0):
    batch = jax.tree.map(lambda a: jax.make_array_from_process_local_data(rows, a), (x, y))
    split, metrics = step(split, batch)

if jax.process_index() == 0:
    kernel = split.params["dense_0"]["kernel"]
    print(f"fit: loss {history['loss'][-1]:.4f} on {jax.device_count()} devices")
    print(f"own: loss {float(metrics['loss'].value):.4f}, kernel {kernel.sharding.spec}")
