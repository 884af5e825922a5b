"""Fingerprint of a training setup, compared when a run resumes."""

from __future__ import annotations

import hashlib
import math
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdl import optim, tree
from jaxdl.core import Module
from jaxdl.jaxpr.fingerprint import split_numbers
from jaxdl.train.checkpoint import Checkpointer
from jaxdl.train.checkpoint_format import RestoredRun, format_array, list_differences
from jaxdl.train.state import TrainState

# Memory addresses in the repr of functions, which differ between processes.
_ADDRESS = re.compile(r" at 0x[0-9a-f]+|0x[0-9a-f]{6,}")


def describe_setup(
    model: Module,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    sample: tuple = (),
    **settings: Any,
) -> dict[str, str]:
    """Describes model, optimizer, data and settings of a run as flat text.

    Args:
      model: the model of the run.
      optimizer: its optimizer.
      state: its first state.
      sample: `(x, y)` with all rows, if they are in memory.
      **settings: other settings that a resumed run must share.
    """
    text = {f"model {path}": part for path, part in _describe_layers(model, "")}
    text |= {f"state {path}": format_array(leaf) for path, leaf in tree.flatten(state).items()}
    text |= {name: _text(value) for name, value in settings.items()}
    for name, part in zip(("x", "y", "weight"), sample, strict=False):
        leaves = jax.tree.leaves(part)
        text[name] = " and ".join(f"{leaf.dtype}{list(leaf.shape[1:])}" for leaf in leaves)
        for which, row in (("first", 0), ("last", -1)):
            text[f"{which} row of {name}"] = " ".join(str(_summarize(leaf[row])) for leaf in leaves)
    # Other versions of JAX write the same update as another program. The version is in the key, so
    # that updates are compared only between runs of one version.
    return text | {f"optimizer (jax {jax.__version__})": _describe_update(optimizer, state)}


def _summarize(row: Any) -> float:
    """Returns a weighted sum of a row, which changes with its values and with their order."""
    row = np.abs(np.asarray(row, np.float64)).ravel()
    return float(row @ np.linspace(1, 2, row.size) / max(1, row.size))


def restore_run(
    checkpoints: Checkpointer, resume: Any, like: TrainState, setup: Mapping[str, str]
) -> RestoredRun | None:
    """Returns the checkpoint from which a run continues, or None for a new run.

    Args:
      checkpoints: the directory of the run.
      resume: as for `fit`.
      like: the first state of the run.
      setup: the run's `describe_setup`.

    Raises:
      ValueError: the checkpoints are of another run, or `resume` is False and there are some.
      CheckpointCorrupt: no checkpoint is intact.
    """
    paths = checkpoints.paths()
    if resume is False:
        if paths:
            raise ValueError(
                f"checkpoint {str(checkpoints.directory)!r} has {len(paths)} checkpoints and "
                "resume is False; expected an empty directory. Pass another one, or resume='auto'."
            )
        return None
    path = None if resume in ("auto", True) else pathlib.Path(resume).absolute()
    if path is not None and any(p != path for p in paths[-1:]):
        raise ValueError(
            f"checkpoint {str(checkpoints.directory)!r} has {paths[-1].name}, and resume is "
            f"{str(path)!r}. To continue from an earlier step, pass another directory."
        )
    return checkpoints.restore(
        like, path=path, check=lambda folder, record: validate_setup(folder, record, setup)
    )


def validate_setup(path: Any, record: Mapping[str, Any], setup: Mapping[str, str]) -> None:
    """Raises if a checkpoint is of another run; the error lists every difference."""
    kinds = {"setup": dict, "history": dict, "totals": dict, "seconds": dict, "began": int}
    texts = isinstance(record.get("setup"), dict) and record["setup"].values()
    if any(not isinstance(record.get(name), kind) for name, kind in kinds.items()) or not all(
        isinstance(text, str) for text in texts or ()
    ):
        raise ValueError(
            f"checkpoint {str(path)!r} was not written by fit. Read it by "
            "Checkpointer(...).restore(like=...) and pass fit(state=...)."
        )
    wrong = list(_list_setup_differences(record["setup"], setup))
    if wrong:
        raise ValueError(
            f"checkpoint {str(path)!r} is of another run: {'; '.join(wrong)}. Set up the run as "
            "before, or pass another directory. To continue it with other settings, pass the state "
            "that Checkpointer(...).restore(like=...) returns as fit(state=...), and a new "
            "directory."
        )


def _list_setup_differences(was: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    """Lists differences of two setups by `fit`'s arguments: causes, without their consequences."""

    def select(start):
        return [
            {k.removeprefix(start): v for k, v in text.items() if k.startswith(start)}
            for text in (was, now)
        ]

    layers = list_differences(*_shorten(*select("model ")))
    yield from (f"model: layer {line}" for line in layers)
    # A setting that only one setup has comes from another version of this library: ignored.
    kinds = ("model ", "state ", "update ", "optimizer ")
    both = [k for k in was if k in now and was[k] != now[k] and not k.startswith(kinds)]
    rows = [k for k in both if " row of " in k and not _close(was[k], now[k])]
    both = [k for k in both if " row of " not in k]
    if "steps_per_epoch" in both and len(both) > 1:
        both.remove("steps_per_epoch")
    for name in both:
        yield f"{WORDS.get(name, name)} was {_plain(was[name])}, is {_plain(now[name])}"
    if rows and not both:
        yield f"data: the {' and the '.join(rows)} differ: other data, or in another order"
    params = list_differences(*select("state params/"))
    params += list_differences(*select("state model_state/"))
    if not layers and not {"x", "y"}.intersection(both):
        yield from (f"parameters: {line}" for line in params)
    yield from _list_optimizer_differences(
        was, now, *select("state opt_state/"), same_model=not params
    )


WORDS = {
    "batch_size": "batch size",
    "rows": "rows of the data",
    "steps_per_epoch": "steps in an epoch",
    "x": "a row of x",
    "y": "a row of y",
}
"""Names of settings in errors, if they differ from the names of arguments."""


def _shorten(was: Mapping[str, str], now: Mapping[str, str]) -> tuple[dict, dict]:
    """Describes layers of the same kind by the options in which they differ."""
    short = dict(was), dict(now)
    for path in was:
        kind = was[path].split("(")[0]
        if path in now and now[path].split("(")[0] == kind and was[path] != now[path]:
            options = [text[path][len(kind) + 1 : -1].split(", ") for text in (was, now)]
            for text, own, other in zip(short, options, options[::-1], strict=True):
                text[path] = ", ".join(o for o in own if o not in other) or "without it"
    return short


def _plain(text: str) -> str:
    """Writes a metric whose name is that of its function once: "[[mae, mae]]" is "[mae]"."""
    return re.sub(r"\[(\w+), \1\]", r"\1", text)


def _close(was: str, now: str) -> bool:
    """Returns whether rows agree up to rounding, which differs between machines."""
    pairs = list(zip(was.split(), now.split(), strict=False))
    return all(math.isclose(float(a), float(b), rel_tol=1e-3, abs_tol=1e-6) for a, b in pairs)


def _list_optimizer_differences(
    was: Mapping[str, str],
    now: Mapping[str, str],
    state_was: Mapping[str, str],
    state_now: Mapping[str, str],
    same_model: bool,
) -> Iterator[str]:
    """Lists differences of two optimizers; constants by value."""
    fields_was, fields_now = (sorted(set(map(_field, s))) for s in (state_was, state_now))
    if fields_was != fields_now:
        fields = (", ".join(fields) or "empty" for fields in (fields_was, fields_now))
        yield "optimizer: its state was {}, is {}".format(*fields)
        return
    for key in was.keys() & now.keys():
        if not key.startswith("optimizer ") or was[key] == now[key]:
            continue
        (structure, _, *numbers), (other, _, *others) = was[key].split(), now[key].split()
        old = [n for n in numbers if n not in others]
        new = [n for n in others if n not in numbers]
        if old or new:
            old, new = (" and ".join(values) or "none" for values in (old, new))
            yield (
                "optimizer: a constant (learning rate, momentum, decay, schedule) was "
                f"{old}, is {new}"
            )
        elif same_model:
            same = structure == other
            yield (
                "optimizer: "
                + ("a constant has another sign or place" if same else "it computes another update")
            )


def _field(path: str) -> str:
    """Returns the optimizer's field in a path of its state: "mu" of "0/mu/dense_0/kernel"."""
    return next((part for part in path.split("/") if not part.isdigit()), path)


def _describe_layers(model: Module, path: str) -> Iterator[tuple[str, str]]:
    config = ", ".join(f"{name}={_text(value)}" for name, value in model.config.items())
    yield path or "/", f"{model.kind}({config})"
    for name, child in model.children.items():
        yield from _describe_layers(child, f"{path}/{name}")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_text, value))}]"
    name = getattr(value, "__qualname__", None)
    return name if name is not None else _ADDRESS.sub("", repr(value))


def _describe_update(optimizer: optax.GradientTransformation, state: TrainState) -> str:
    """Describes the computation of an optimizer's update.

    Returns:
      A digest of the program, a digest of its constants, and each constant once, space-separated.
    """

    def compute(gradient, opt_state, params):
        # `init` is traced too: an `inject_hyperparams` optimizer has its rate only in its state.
        return optimizer.init(params), optim.update_params(
            optimizer,
            gradient,
            opt_state,
            params,
            value=jnp.float32(0),
            value_fn=lambda params: jnp.float32(0) * jax.tree.leaves(params)[0].sum(),
            grad_fn=lambda params, i: params,
        )

    # optax's schedules mix integers and floats, which strict promotion rejects.
    with jax.numpy_dtype_promotion("standard"):
        program = jax.make_jaxpr(compute)(state.params, state.opt_state, state.params)
    text, numbers = split_numbers(program)
    digests = [_digest(_ADDRESS.sub("", text).encode()), _digest(" ".join(numbers).encode())]
    return " ".join(digests + list(dict.fromkeys(_short(n) for n in numbers)))


def _short(number: str) -> str:
    """Rounds a constant and drops its sign: 0.10000000149011612 and -0.1 both become "0.1"."""
    try:
        return f"{abs(float(number)):.6g}"
    except ValueError:
        return number


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
