"""What is in a checkpoint's folder: arrays by number, and a record that says what they are.

The record is JSON and nothing is believed of it but what the arrays confirm: paths are compared and
never opened, and a shape allocates nothing.
"""

from __future__ import annotations

import json
import math
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl import tree
from jaxdl.train.state import TrainState, as_numbers, is_key, rebuild

__all__ = ["CheckpointCorrupt", "RestoredRun"]

FORMAT = "jaxdl checkpoint 1"
ARRAYS, RECORD = "arrays", "record.json"


class CheckpointCorrupt(ValueError):
    """No checkpoint of a directory, or not the one asked for, is as it was written."""


class RestoredRun(NamedTuple):
    """What a checkpoint holds.

    Attributes:
      state: the `TrainState`.
      record: how the run stood, as `save` was given it: `record["history"]` and more.
      extra: `{path: array or number}`, what the callbacks asked to have saved.
      path: its folder.
    """

    state: TrainState
    record: dict[str, Any]
    extra: dict[str, Any]
    path: pathlib.Path


def packed(
    state: TrainState, record: Mapping[str, Any], extra: Any
) -> tuple[str, dict[str, jax.Array]]:
    """The record's text, and the arrays by number: PRNG keys as data, none that are empty.

    The text is made at once, for the run goes on to change its history.
    """
    leaves = tree.flatten({"state": state, "extra": jax.tree.map(as_numbers, extra)})
    numbers = {path: leaf for path, leaf in leaves.items() if isinstance(leaf, int | float)}
    arrays = {path: leaf for path, leaf in leaves.items() if path not in numbers}
    content = {
        "format": FORMAT,
        "step": int(state.step),
        "arrays": [[path, spec(leaf)] for path, leaf in arrays.items()],
        "numbers": numbers,
        "record": dict(record),
    }
    numbered = {number(i): as_numbers(leaf) for i, leaf in enumerate(arrays.values()) if leaf.size}
    return json.dumps(content), numbered  # Orbax takes no empty arrays


def read(
    folder: pathlib.Path,
    like: TrainState,
    check: Callable[[pathlib.Path, dict[str, Any]], None] | None = None,
) -> RestoredRun:
    """The checkpoint in a folder whose files are those that were written.

    Args:
      folder: the checkpoint's.
      like: a state of the same structure.
      check: called with the folder and its record before the state is compared.

    Raises:
      CheckpointCorrupt: they are not what a checkpoint is made of.
      ValueError: it is of another state than `like`.
    """
    import orbax.checkpoint as ocp

    content = _content(folder)
    if check is not None:
        check(folder, content["record"])
    expected = tree.flatten({"state": like})
    stored = {path: described for path, described in content["arrays"]}
    of_state = {path: d for path, d in stored.items() if path.startswith("state/")}
    wanted = {path: spec(leaf) for path, leaf in expected.items()}
    wrong = differences(of_state, wanted)
    if wrong:
        raise ValueError(
            f"checkpoint {str(folder)!r} is of another state: {'; '.join(wrong)}. Use the model "
            "and the optimizer that it was made with, or another directory."
        )
    targets = {}
    for i, (path, described) in enumerate(stored.items()):
        leaf = expected.get(path)
        targets[number(i)] = _extra_target(described) if leaf is None else _target(leaf)
    empty = {i: target for i, target in targets.items() if not target.size}
    targets = {i: target for i, target in targets.items() if i not in empty}
    with ocp.StandardCheckpointer() as orbax:
        arrays = orbax.restore(folder / ARRAYS, targets)
    for i, target in targets.items():
        if spec(arrays[i]) != spec(target):
            raise CheckpointCorrupt(
                f"{folder.name}: array {i} is {spec(arrays[i])} and its record says {spec(target)}."
            )
    arrays |= empty
    leaves = {path: arrays[number(i)] for i, path in enumerate(stored)}
    state = rebuild(like, leaves, "state/")
    extra = {p.removeprefix("extra/"): leaf for p, leaf in leaves.items() if p not in expected}
    extra |= {path.removeprefix("extra/"): value for path, value in content["numbers"].items()}
    return RestoredRun(state, content["record"], extra, folder)


def _content(folder: pathlib.Path) -> dict[str, Any]:
    """record.json, with nothing in it but what may be there."""
    try:
        content = json.loads((folder / RECORD).read_text("utf-8"))
        ok = content["format"] == FORMAT and all(
            isinstance(content[name], kind)
            for name, kind in {"arrays": list, "numbers": dict, "record": dict}.items()
        )
        ok = ok and all(isinstance(value, int | float) for value in content["numbers"].values())
        ok = ok and all(isinstance(p, str) and isinstance(d, str) for p, d in content["arrays"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointCorrupt(f"{folder.name}: record.json cannot be read: {error!r}.") from error
    if not ok:
        raise CheckpointCorrupt(f"{folder.name}: record.json is not of the format {FORMAT!r}.")
    return content


def monitored(folder: pathlib.Path, monitor: str | None) -> float:
    """The last value of an entry of a checkpoint's history, NaN where there is none."""
    try:
        return float(_content(folder)["record"]["history"][monitor][-1])
    except (CheckpointCorrupt, KeyError, IndexError, TypeError, ValueError):
        return math.nan


def differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two flat descriptions, a line an entry."""
    wrong = [f"{name} was {was[name]}, not there now" for name in was if name not in now]
    wrong += [f"{name} is {now[name]}, not there then" for name in now if name not in was]
    both = [name for name in was if name in now and was[name] != now[name]]
    return wrong + [f"{name} was {was[name]}, is {now[name]}" for name in both]


def spec(leaf: Any) -> str:
    """float32[3,4]"""
    return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"


def number(i: int) -> str:
    return f"{i:06d}"


def _target(leaf: Any) -> Any:
    """What Orbax is to make of a leaf: an array over its devices, or one on the host."""
    sharding = getattr(leaf, "sharding", None)
    plain = jax.eval_shape(as_numbers, leaf)
    if sharding is None or len(sharding.device_set) == 1:
        return _unallocated(plain.shape, plain.dtype)
    if is_key(leaf):
        sharding = jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())
    return jax.ShapeDtypeStruct(plain.shape, plain.dtype, sharding=sharding)


_DESCRIBED = re.compile(r"([a-z0-9_]+)\[([\d,]*)\]")


def _extra_target(described: str) -> Any:
    match = _DESCRIBED.fullmatch(described)
    if match is None:
        raise CheckpointCorrupt(f"record.json describes an array as {described[:80]!r}.")
    return _unallocated(tuple(int(n) for n in match[2].split(",") if n), jnp.dtype(match[1]))


def _unallocated(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """A host array for its shape and dtype alone: one number, however large a file says it is."""
    return np.broadcast_to(np.zeros((), dtype), shape)
