"""Many devices and many processes: the same program, with the batch shared out between them.

Every process runs the same script. `fit` splits each global batch over the mesh's axis "data", XLA
sums the gradients (and a batch norm's statistics) over all of it, and the result is that of one
device up to the order of the sums. There are no collectives here but those of JAX.
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

__all__ = ["init", "mesh"]

DATA = "data"
"""The mesh axis that the batch is split over."""


def init(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    **options: Any,
) -> None:
    """Joins the processes of a run: `jax.distributed.initialize`, with errors that say what to do.

    To be called first in the program, before any array is made. On a cluster that JAX knows (Slurm,
    Open MPI, Kubernetes, Cloud TPU) no argument is needed.

    Args:
      coordinator: "host:port" of process 0, which all processes can reach.
      processes: how many there are.
      process: which this one is, from 0.
      **options: for `jax.distributed.initialize`.

    Raises:
      ValueError: JAX has made its devices already, the arguments contradict each other, or the
        cluster cannot be found out.
      RuntimeError: the other processes cannot be reached.
    """
    given = {"coordinator": coordinator, "processes": processes, "process": process}
    missing = [name for name, value in given.items() if value is None]
    if 0 < len(missing) < len(given):
        raise ValueError(
            f"sharding.init: {' and '.join(missing)} not given; expected coordinator, processes "
            "and process all three, or none of them on a cluster that JAX knows."
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
        raise ValueError("sharding.init: called a second time; expected once a process.")
    try:
        jax.distributed.initialize(coordinator, processes, process, **options)
    except (RuntimeError, ValueError) as error:
        if "before" in str(error):
            raise ValueError(
                "sharding.init: JAX has already made its devices; expected to be called before "
                "the first array: move it to the start of the program."
            ) from error
        if missing:
            raise ValueError(
                f"sharding.init: the cluster cannot be found out ({error}); give coordinator="
                "'host:port', processes= and process=."
            ) from error
        raise


def mesh(devices: Sequence | None = None) -> Mesh:
    """The devices in a row, an axis named "data" that `fit` splits batches over.

    Args:
      devices: the devices; None takes all, of every process.

    Returns:
      A `jax.sharding.Mesh`. For parameters that are split too, make one with more axes by
      `jax.make_mesh` and give `fit` its `param_sharding`.
    """
    devices = jax.devices() if devices is None else list(devices)
    automatic = (jax.sharding.AxisType.Auto,)
    return jax.make_mesh((len(devices),), (DATA,), axis_types=automatic, devices=devices)


def parts(given: Mesh | None) -> int:
    """How many devices share a batch: those of the user's mesh, or all."""
    return jax.device_count() if given is None else given.shape.get(DATA, 1)


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where a run's arrays lie.

    Attributes:
      mesh: with an axis "data".
      state: a `NamedSharding` for every leaf of the `TrainState`.
    """

    mesh: Mesh
    state: tuple[NamedSharding, ...]

    @property
    def parts(self) -> int:
        """How many devices share a batch."""
        return self.mesh.shape[DATA]

    @property
    def everywhere(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec())

    def tree(self, like: TrainState) -> TrainState:
        """The shardings as a tree like the state."""
        return jax.tree.unflatten(jax.tree.structure(like), self.state)

    def batch(self, axis: int) -> NamedSharding:
        """An array whose `axis` is that of the batch."""
        return NamedSharding(self.mesh, PartitionSpec(*[None] * axis, DATA))

    def columns(self, batch_size: int) -> np.ndarray:
        """The rows of every batch that lie on this process's devices."""
        index = self.batch(0).addressable_devices_indices_map((batch_size,))
        parts = [np.arange(batch_size)[where] for where in index.values() if where is not None]
        return np.unique(np.concatenate(parts))


def placement(
    who: str,
    given: Mesh | None,
    param_sharding: Any,
    optimizer: optax.GradientTransformation,
    state: TrainState,
) -> Placement | None:
    """Where the arrays of a run go; None for one device, where there is nothing to say.

    Args:
      given: the user's mesh, or None for all devices.
      param_sharding: a tree prefix of the parameters, of `PartitionSpec`s; None replicates.
      state: the run's state, as shapes.
    """
    if given is None and jax.device_count() > 1:
        given = mesh()
    if given is None or (list(given.devices.flat) == jax.devices() and given.size == 1):
        return None
    if DATA not in given.axis_names:
        raise ValueError(
            f"{who}: the mesh has the axes {given.axis_names}; expected one named {DATA!r}, over "
            "which the batch is split: jax.make_mesh((8,), ('data',), ...)."
        )
    everywhere = NamedSharding(given, PartitionSpec())
    if param_sharding is None:
        return Placement(given, (everywhere,) * len(jax.tree.leaves(state)))
    is_spec = lambda a: isinstance(a, PartitionSpec)  # noqa: E731
    try:
        params = jax.tree.map(
            lambda spec, part: jax.tree.map(lambda _: NamedSharding(given, spec), part),
            param_sharding,
            state.params,
            is_leaf=is_spec,
        )
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{who}: param_sharding does not fit the parameters ({error}); expected a "
            "PartitionSpec for all of them, or a tree that begins like theirs, of these."
        ) from error
    opt_state = optax.tree.map_params(
        optimizer,
        lambda _, sharding: sharding,
        state.opt_state,
        params,
        transform_non_params=lambda _: everywhere,
    )
    whole = jax.tree.map(lambda _: everywhere, state)
    return Placement(
        given, tuple(jax.tree.leaves(whole.replace(params=params, opt_state=opt_state)))
    )


def placed_state(
    make: Callable[[], TrainState],
    given: TrainState | None,
    at: Placement | None,
    like: TrainState,
) -> TrainState:
    """The state that was given, or the first one, where it belongs."""
    if at is None:
        return make() if given is None else given
    if given is None:  # made where it lies: on one device there may be no room for it
        return jax.jit(make, out_shardings=at.tree(like))()
    return jax.device_put(given, at.tree(like))


def check_batch(who: str, size: int, at: Placement | None) -> None:
    """The batch can be split over the mesh."""
    parts = 1 if at is None else at.parts
    if size % parts:
        near = max(parts, round(size / parts) * parts)
        raise ValueError(
            f"{who}: the batch size is {size}, to be split over {parts} devices; expected a "
            f"multiple of {parts}, such as {near}; for one device give "
            "mesh=train.sharding.mesh(jax.devices()[:1])."
        )


def put(data: Any, sharding: NamedSharding | None) -> Any:
    """Host arrays on the devices; every process holds all of them and sends what is its own."""
    if sharding is None:
        return jax.device_put(data)

    def one(a):
        a = np.asarray(a, jax.dtypes.canonicalize_dtype(a.dtype))
        return jax.make_array_from_callback(a.shape, sharding, lambda index: a[index])

    return jax.tree.map(one, data)


def put_shares(data: Any, sharding: NamedSharding | None) -> Any:
    """Host arrays on the devices; every process holds its share of the batch."""
    if sharding is None:
        return jax.device_put(data)

    def one(a):
        a = np.asarray(a, jax.dtypes.canonicalize_dtype(a.dtype))
        return jax.make_array_from_process_local_data(sharding, a)

    return jax.tree.map(one, data)


def first_process() -> bool:
    """Whether this process is the one that prints and writes."""
    return jax.process_index() == 0


def barrier(name: str) -> None:
    """Waits until every process is here."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)


def from_first(value: int) -> int:
    """The first process's value, in every process."""
    if jax.process_count() == 1:
        return value
    from jax.experimental import multihost_utils

    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def agreed(pace: int, signal: int) -> tuple[int, int]:
    """The least pace and the greatest signal of all processes: what they do next is the same."""
    if jax.process_count() == 1:
        return pace, signal
    from jax.experimental import multihost_utils

    every = multihost_utils.process_allgather(np.array([pace, signal], np.int32))
    return int(every[:, 0].min()), int(every[:, 1].max())
