"""Data-parallel training: batches split over devices and processes.

Every process runs the same script. `fit` splits each global batch over the mesh axis "data"; XLA
sums gradients and batch statistics over the whole batch. The result equals that of one device up
to the order of summation. All communication goes through JAX's collectives.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxdl.train.state import TrainState

__all__ = ["init", "make_mesh"]

DATA = "data"
"""Name of the mesh axis over which batches are split."""


def init(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    **options: Any,
) -> None:
    """Connects the processes of a run by `jax.distributed.initialize`.

    Call it first in the program, before any array is created. On a cluster that JAX detects (Slurm,
    Open MPI, Kubernetes, Cloud TPU) no arguments are needed.

    Args:
      coordinator: "host:port" of process 0, reachable from all processes.
      processes: number of processes.
      process: index of this process, from 0.
      **options: for `jax.distributed.initialize`.

    Raises:
      ValueError: JAX has already created its devices, only some of the three arguments are given,
        or no cluster is detected.
      RuntimeError: the other processes cannot be reached.
    """
    arguments = {"coordinator": coordinator, "processes": processes, "process": process}
    missing = [name for name, value in arguments.items() if value is None]
    if 0 < len(missing) < len(arguments):
        raise ValueError(
            f"sharding.init: {' and '.join(missing)} not given; expected coordinator, processes "
            "and process, or none of them on a cluster that JAX detects."
        )
    if coordinator is not None and processes is not None and process is not None:
        if not 0 <= process < processes:
            raise ValueError(
                f"sharding.init: process is {process} of {processes}; expected 0 .. "
                f"{processes - 1}: number the processes from 0."
            )
        if ":" not in coordinator:
            raise ValueError(
                f"sharding.init: coordinator is {coordinator!r}; expected 'host:port', such as "
                "'10.0.0.1:1234'."
            )
    if jax.distributed.is_initialized():
        raise ValueError("sharding.init: called a second time; expected one call per process.")
    try:
        jax.distributed.initialize(coordinator, processes, process, **options)
    except (RuntimeError, ValueError) as error:
        # JAX's message contains "before": "must be called before any JAX calls".
        if "before" in str(error):
            raise ValueError(
                "sharding.init: JAX has already created its devices; expected a call before the "
                "first array. Move it to the start of the program."
            ) from error
        if missing:
            raise ValueError(
                f"sharding.init: no cluster is detected ({error}); pass coordinator='host:port', "
                "processes= and process=."
            ) from error
        raise


def make_mesh(devices: Sequence | None = None) -> Mesh:
    """Returns a mesh with one axis, "data", over which `fit` splits batches.

    Args:
      devices: the devices; None takes all devices of all processes.

    Returns:
      A `jax.sharding.Mesh`. To shard parameters too, create a mesh with more axes by
      `jax.make_mesh` and pass `param_sharding` to `fit`.
    """
    devices = jax.devices() if devices is None else list(devices)
    # In explicit mode, the default of jax.make_mesh, models would need sharding annotations.
    automatic = (jax.sharding.AxisType.Auto,)
    return jax.make_mesh((len(devices),), (DATA,), axis_types=automatic, devices=devices)


def resolve_mesh(who: str, mesh: Mesh | None) -> Mesh | None:
    """Returns the mesh of a run, or None for the default device alone.

    Args:
      who: the calling function, for errors.
      mesh: the user's mesh; None takes all devices.
    """
    if mesh is None and jax.device_count() > 1:
        mesh = make_mesh()
    if mesh is None or (list(mesh.devices.flat) == jax.devices() and mesh.size == 1):
        return None
    if DATA not in mesh.axis_names:
        raise ValueError(
            f"{who}: the mesh has the axes {mesh.axis_names}; expected an axis named {DATA!r}, "
            "over which the batch is split: jax.make_mesh((8,), ('data',), ...)."
        )
    return mesh


def num_shards(mesh: Mesh | None) -> int:
    """Returns the number of devices that share a batch."""
    return 1 if mesh is None else mesh.shape[DATA]


def replicated_sharding(mesh: Mesh | None) -> NamedSharding | None:
    """Returns the sharding of an array that every device has in full."""
    return None if mesh is None else NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh | None, axis: int) -> NamedSharding | None:
    """Returns the sharding of an array whose `axis` is the batch."""
    if mesh is None:
        return None
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, DATA))


def local_rows(mesh: Mesh, batch_size: int) -> np.ndarray:
    """Returns the indices of the rows of a batch that this process's devices need."""
    sharding = NamedSharding(mesh, PartitionSpec(DATA))
    index = sharding.addressable_devices_indices_map((batch_size,))
    rows = [np.arange(batch_size)[part] for part in index.values() if part is not None]
    # Devices that differ only in another axis of the mesh need the same rows.
    return np.unique(np.concatenate(rows))


@dataclasses.dataclass(frozen=True)
class Sharding:
    """Sharding of the state and of the batches of a run; hashable, as a key of compiled programs.

    Attributes:
      mesh: a mesh with an axis "data".
      state: a `NamedSharding` for every leaf of the `TrainState`.
    """

    mesh: Mesh
    state: tuple[NamedSharding, ...]

    def tree_like(self, state: TrainState) -> TrainState:
        """Returns the shardings of the leaves as a tree with the structure of `state`."""
        return jax.tree.unflatten(jax.tree.structure(state), self.state)


def make_sharding(
    who: str,
    mesh: Mesh | None,
    param_sharding: Any,
    optimizer: optax.GradientTransformation,
    state: TrainState,
) -> Sharding | None:
    """Returns the sharding of a run, or None on one device.

    Optimizer state that has the shape of parameters is sharded like them.

    Args:
      who: the calling function, for errors.
      mesh: from `resolve_mesh`.
      param_sharding: a tree prefix of the parameters with `PartitionSpec`s; None replicates.
      optimizer: the optimizer of the run.
      state: the state of the run, as shapes.
    """
    if mesh is None:
        return None
    whole = NamedSharding(mesh, PartitionSpec())
    if param_sharding is None:
        return Sharding(mesh, (whole,) * len(jax.tree.leaves(state)))
    try:
        params = jax.tree.map(
            lambda spec, part: jax.tree.map(lambda _: NamedSharding(mesh, spec), part),
            param_sharding,
            state.params,
            is_leaf=lambda a: isinstance(a, PartitionSpec),
        )
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{who}: param_sharding does not fit the parameters ({error}); expected one "
            "PartitionSpec for all of them, or a tree prefix of the parameters with PartitionSpecs."
        ) from error
    opt_state = optax.tree.map_params(
        optimizer,
        lambda _, sharding: sharding,
        state.opt_state,
        params,
        transform_non_params=lambda _: whole,
    )
    shardings = jax.tree.map(lambda _: whole, state).replace(params=params, opt_state=opt_state)
    return Sharding(mesh, tuple(jax.tree.leaves(shardings)))


def place_state(
    make: Callable[[], TrainState],
    state: TrainState | None,
    sharding: Sharding | None,
    like: TrainState,
) -> TrainState:
    """Returns `state`, or the first state `make()`, placed according to the sharding.

    Args:
      make: returns the first state.
      state: the state to continue from, or None.
      sharding: the sharding of the run; None is one device.
      like: the state as shapes.
    """
    if sharding is None:
        return make() if state is None else state
    if state is None:
        # Initialized directly into its shards: a sharded model may not fit on one device.
        return jax.jit(make, out_shardings=sharding.tree_like(like))()
    return jax.device_put(state, sharding.tree_like(like))


def validate_batch_size(who: str, size: int, mesh: Mesh | None) -> None:
    """Raises if a batch cannot be split evenly over the mesh."""
    parts = num_shards(mesh)
    if size % parts:
        nearest = max(parts, round(size / parts) * parts)
        raise ValueError(
            f"{who}: the batch size is {size}, to be split over {parts} devices; expected a "
            f"multiple of {parts}, such as {nearest}. To use one device, pass "
            "mesh=train.sharding.make_mesh(jax.devices()[:1])."
        )


def put(data: Any, sharding: NamedSharding | None) -> Any:
    """Puts host arrays on the devices; every process passes the whole arrays."""
    if sharding is None:
        return jax.device_put(data)

    def put_array(a):
        a = np.asarray(a, jax.dtypes.canonicalize_dtype(a.dtype))
        return jax.make_array_from_callback(a.shape, sharding, lambda index: a[index])

    return jax.tree.map(put_array, data)


def put_local(data: Any, sharding: NamedSharding | None) -> Any:
    """Puts host arrays on the devices; every process passes its own rows of the batch."""
    if sharding is None:
        return jax.device_put(data)

    def put_array(a):
        a = np.asarray(a, jax.dtypes.canonicalize_dtype(a.dtype))
        return jax.make_array_from_process_local_data(sharding, a)

    return jax.tree.map(put_array, data)


def is_process0() -> bool:
    """Returns whether this process prints and writes files."""
    return jax.process_index() == 0


def barrier(name: str) -> None:
    """Waits until every process has called this."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)


def broadcast_from_process0(value: int) -> int:
    """Returns the value of process 0 in every process."""
    if jax.process_count() == 1:
        return value
    from jax.experimental import multihost_utils

    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def reduce_over_processes(steps_per_call: int, signal: int) -> tuple[int, int]:
    """Returns the least `steps_per_call` and the greatest `signal` of all processes.

    Processes that disagreed on either would run different programs and deadlock in a collective.
    """
    if jax.process_count() == 1:
        return steps_per_call, signal
    from jax.experimental import multihost_utils

    values = multihost_utils.process_allgather(np.array([steps_per_call, signal], np.int32))
    return int(values[:, 0].min()), int(values[:, 1].max())
