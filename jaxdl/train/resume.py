"""Descriptions of a run's setup, compared when a run resumes, and what differs in words."""

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
from jaxdl.train.checkpoint_format import RestoredRun, differences, spec
from jaxdl.train.state import TrainState

_ADDRESS = re.compile(r" at 0x[0-9a-f]+|0x[0-9a-f]{6,}")


def description(
    model: Module,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    sample: tuple = (),
    **settings: Any,
) -> dict[str, str]:
    """Describes a run as flat text: its model part by part, its optimizer, data and settings.

    Args:
      model, optimizer: the run's.
      state: its first state.
      sample: `(x, y)` with all rows, where they are in memory.
      **settings: what else a resumed run must share.
    """
    text = {f"model {path}": part for path, part in _parts(model, "")}
    text |= {f"state {path}": spec(leaf) for path, leaf in tree.flatten(state).items()}
    text |= {name: _text(value) for name, value in settings.items()}
    for name, part in zip(("x", "y", "weight"), sample, strict=False):
        leaves = jax.tree.leaves(part)
        text[name] = " and ".join(f"{leaf.dtype}{list(leaf.shape[1:])}" for leaf in leaves)
        for at, row in (("first", 0), ("last", -1)):
            text[f"{at} row of {name}"] = " ".join(str(_summary(leaf[row])) for leaf in leaves)
    # An update is written otherwise by another JAX: it is compared only where that is the same.
    return text | {f"optimizer (jax {jax.__version__})": _update(optimizer, state)}


def _summary(row: Any) -> float:
    """A number that another row, or the same values in another order, would change."""
    row = np.abs(np.asarray(row, np.float64)).ravel()
    return float(row @ np.linspace(1, 2, row.size) / max(1, row.size))


def resumed(
    checkpoints: Checkpointer, resume: Any, like: TrainState, setup: Mapping[str, str]
) -> RestoredRun | None:
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
    return checkpoints.restore(
        like, path=path, check=lambda folder, record: check(folder, record, setup)
    )


def check(path: Any, record: Mapping[str, Any], setup: Mapping[str, str]) -> None:
    """Raises where a checkpoint is of another run, with all that differs."""
    kinds = {"setup": dict, "history": dict, "totals": dict, "seconds": dict, "began": int}
    texts = isinstance(record.get("setup"), dict) and record["setup"].values()
    if any(not isinstance(record.get(name), kind) for name, kind in kinds.items()) or not all(
        isinstance(text, str) for text in texts or ()
    ):
        raise ValueError(
            f"checkpoint {str(path)!r} was not written by fit; read it by "
            "Checkpointer(...).restore(like=...) and give fit(state=...)."
        )
    wrong = list(_differences(record["setup"], setup))
    if wrong:
        raise ValueError(
            f"checkpoint {str(path)!r} is of another run: {'; '.join(wrong)}. Set the run up as it "
            "was, or give another directory; to go on otherwise from where it stands, give "
            "fit(state=...) what Checkpointer(...).restore(like=...) reads, and a new directory."
        )


def _differences(was: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    """What differs, in the words of `fit`'s arguments; causes, without their consequences."""

    def among(start):
        return [
            {k.removeprefix(start): v for k, v in text.items() if k.startswith(start)}
            for text in (was, now)
        ]

    layers = differences(*_shortened(*among("model ")))
    yield from (f"model: layer {line}" for line in layers)
    # Settings that only one of them has are of another version of this library.
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
    params = differences(*among("state params/")) + differences(*among("state model_state/"))
    if not layers and not {"x", "y"}.intersection(both):
        yield from (f"parameters: {line}" for line in params)
    yield from _of_optimizer(was, now, *among("state opt_state/"), same_model=not params)


WORDS = {
    "batch_size": "batch size",
    "rows": "rows of the data",
    "steps_per_epoch": "steps in an epoch",
    "x": "a row of x",
    "y": "a row of y",
}
"""Names of settings in errors, where they are not the arguments'."""


def _shortened(was: Mapping[str, str], now: Mapping[str, str]) -> tuple[dict, dict]:
    """Layers of one kind by the options alone in which they differ."""
    short = dict(was), dict(now)
    for path in was:
        kind = was[path].split("(")[0]
        if path in now and now[path].split("(")[0] == kind and was[path] != now[path]:
            options = [text[path][len(kind) + 1 : -1].split(", ") for text in (was, now)]
            for text, own, other in zip(short, options, options[::-1], strict=True):
                text[path] = ", ".join(o for o in own if o not in other) or "without it"
    return short


def _plain(text: str) -> str:
    """Metrics by their names, where these are the functions' too: "[[mae, mae]]" is "[mae]"."""
    return re.sub(r"\[(\w+), \1\]", r"\1", text)


def _close(was: str, now: str) -> bool:
    """Whether rows agree, up to what another machine rounds."""
    pairs = list(zip(was.split(), now.split(), strict=False))
    return all(math.isclose(float(a), float(b), rel_tol=1e-3, abs_tol=1e-6) for a, b in pairs)


def _of_optimizer(
    was: Mapping[str, str],
    now: Mapping[str, str],
    state_was: Mapping[str, str],
    state_now: Mapping[str, str],
    same_model: bool,
) -> Iterator[str]:
    """What differs in the optimizer; its constants by value."""
    fields_was, fields_now = (sorted(set(map(_field, s))) for s in (state_was, state_now))
    if fields_was != fields_now:
        fields = (", ".join(fields) or "empty" for fields in (fields_was, fields_now))
        yield "optimizer: its state was {}, is {}".format(*fields)
        return
    for key in was.keys() & now.keys():
        if not key.startswith("optimizer ") or was[key] == now[key]:
            continue
        (structure, _, *numbers), (other, _, *others) = was[key].split(), now[key].split()
        gone = [n for n in numbers if n not in others]
        new = [n for n in others if n not in numbers]
        if gone or new:
            gone, new = (" and ".join(values) or "none" for values in (gone, new))
            yield (
                "optimizer: a constant (learning rate, momentum, decay, schedule) was "
                f"{gone}, is {new}"
            )
        elif same_model:
            same = structure == other
            yield (
                "optimizer: "
                + ("a constant has another sign or place" if same else "it computes another update")
            )


def _field(path: str) -> str:
    """The optimizer's own name in a path of its state: "0/mu/dense_0/kernel" is of "mu"."""
    return next((part for part in path.split("/") if not part.isdigit()), path)


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
    """Describes what an optimizer computes.

    Returns:
      Words: a digest of the computation, a digest of its constants, and each of these once.
    """

    def compute(gradient, opt_state, params):
        # An `inject_hyperparams` optimizer has its rate in its first state alone.
        return optimizer.init(params), optim.update_params(
            optimizer,
            gradient,
            opt_state,
            params,
            value=jnp.float32(0),
            value_fn=lambda params: jnp.float32(0) * jax.tree.leaves(params)[0].sum(),
            grad_fn=lambda params, i: params,
        )

    with jax.numpy_dtype_promotion("standard"):
        made = jax.make_jaxpr(compute)(state.params, state.opt_state, state.params)
    text, numbers = split_numbers(made)
    digests = [_digest(_ADDRESS.sub("", text).encode()), _digest(" ".join(numbers).encode())]
    return " ".join(digests + list(dict.fromkeys(_short(n) for n in numbers)))


def _short(number: str) -> str:
    """0.10000000149011612, and the rate that descends, -0.1: both are 0.1."""
    try:
        return f"{abs(float(number)):.6g}"
    except ValueError:
        return number


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
