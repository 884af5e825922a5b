"""How a run was set up, so that only its like goes on from its checkpoints."""

from __future__ import annotations

import hashlib
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdl import tree
from jaxdl.core import Module
from jaxdl.train.checkpoint import Checkpoints
from jaxdl.train.checkpoint_format import Saved, differences, spec
from jaxdl.train.state import TrainState

_ADDRESS = re.compile(r" at 0x[0-9a-f]+|0x[0-9a-f]{6,}")


def description(
    model: Module, optimizer: optax.GradientTransformation, state: TrainState, **settings: Any
) -> dict[str, str]:
    """A run as flat text: its model part by part, its optimizer's update, its settings."""
    found = {f"model {path}": text for path, text in _parts(model, "")}
    found |= {f"state {path}": spec(leaf) for path, leaf in tree.flatten(state).items()}
    found |= {name: _text(value) for name, value in settings.items()}
    # An update is written otherwise by another JAX: it is compared only where that is the same.
    return found | {f"update (jax {jax.__version__})": _update(optimizer, state)}


def resumed(
    checkpoints: Checkpoints, resume: Any, like: TrainState, setup: Mapping[str, str]
) -> Saved | None:
    """The checkpoint that a run goes on from, or None where it begins.

    Args:
      resume: as for `fit`.
      like: the run's first state.
      setup: the run's `description`.

    Raises:
      ValueError: the checkpoints are of another run, or there are some where none should be.
      CheckpointCorrupt: none is as it was written.
    """
    there = checkpoints.paths()
    if resume is False:
        if there:
            raise ValueError(
                f"checkpoint {str(checkpoints.directory)!r} holds {len(there)} checkpoints and "
                "resume is False; expected a directory without: give another, or resume='auto'."
            )
        return None
    path = None if resume in ("auto", True) else pathlib.Path(resume).absolute()
    if path is not None and any(p != path for p in there[-1:]):
        raise ValueError(
            f"checkpoint {str(checkpoints.directory)!r} holds {there[-1].name}, and resume is "
            f"{str(path)!r}; to go on from an earlier step, give another directory."
        )
    saved = checkpoints.restore(like, path=path)
    if saved is not None:
        record = saved.record
        kinds = {"setup": dict, "history": dict, "totals": dict, "seconds": dict, "began": int}
        if any(not isinstance(record.get(name), kind) for name, kind in kinds.items()):
            raise ValueError(
                f"checkpoint {str(saved.path)!r} was not written by fit; read it by "
                "Checkpoints(...).restore(like=...) and give fit(state=...)."
            )
        check(saved.path, record["setup"], setup)
    return saved


def check(path: Any, was: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Raises where a checkpoint is of another run, with all that differs."""

    def comparable(found, other):
        return {k: v for k, v in found.items() if not k.startswith("update") or k in other}

    wrong = differences(comparable(was, now), comparable(now, was))
    if wrong:
        raise ValueError(
            f"checkpoint {str(path)!r} is of another run: {'; '.join(wrong)}. Set the run up as it "
            "was, or give another directory; to go on otherwise from where it stands, give "
            "fit(state=...) what Checkpoints(...).restore(like=...) reads, and a new directory."
        )


def _parts(model: Module, path: str):
    config = ", ".join(f"{name}={_text(value)}" for name, value in model.config.items())
    yield path or "/", f"{model.kind}({config})"
    for name, child in model.children.items():
        yield from _parts(child, f"{path}/{name}")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_text, value))}]"
    name = getattr(value, "__qualname__", None)
    return name if name is not None else _ADDRESS.sub("", repr(value))


def _update(optimizer: optax.GradientTransformation, state: TrainState) -> str:
    """A digest of what the optimizer computes, its learning rate and other constants included."""
    update = optax.with_extra_args_support(optimizer).update
    with jax.numpy_dtype_promotion("standard"):
        made = jax.make_jaxpr(
            lambda gradient, opt_state, params: update(
                gradient, opt_state, params, value=jnp.float32(0)
            )
        )(state.params, state.opt_state, state.params)
    digest = hashlib.sha256(_ADDRESS.sub("", str(made)).encode())
    for const in made.consts:
        digest.update(np.asarray(const).tobytes())
    return digest.hexdigest()[:16]
