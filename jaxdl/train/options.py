"""Options of training that belong together: `Execution`, `Steps` and `AugmentedData`."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax

from jaxdl.train import validation
from jaxdl.train.batches import RESIDENT_BYTES
from jaxdl.train.precision import DTYPES

__all__ = ["AugmentedData", "Execution", "Steps"]

STOP_ON = {"raise": "loss", "skip": None, "stop": "skipped"}
"""`on_nonfinite` and the metric at which the compiled steps stop a call."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Execution:
    """Devices, precision, checks and error handling of training, for `fit(execution=)`.

    Attributes:
      precision: "float32", "bfloat16" or "float16", as for `make_train_step`.
      mesh: the devices, with an axis "data" over which batches are split; None takes all devices
        of all processes.
      param_sharding: `PartitionSpec`s over the mesh for the parameters, a tree prefix; None
        replicates them.
      on_nonfinite: what happens when a loss or a parameter becomes infinite or NaN: "raise" a
        `NonFiniteError`; "skip" the step and count it in `history["skipped"]`, the share of the
        epoch's steps; or "stop" and return the state before the step. "skip" and "stop" compare
        every parameter in every step. In float16, steps that overflow are always skipped.
      steps_per_call: steps in one call of the device. None is the number of steps that
        run in half a second, or 1 where a compiled loop would slow down a convolution.
      resident_bytes: data up to this size stay on the device; larger data are sent in chunks.
      check: whether to check the data on the host first.

    Raises:
      ValueError: an option is out of range.
    """

    precision: str = "float32"
    mesh: jax.sharding.Mesh | None = None
    param_sharding: Any = None
    on_nonfinite: str = "raise"
    steps_per_call: int | None = None
    resident_bytes: int = RESIDENT_BYTES
    check: bool = True

    def __post_init__(self):
        validation.validate_one_of("Execution", "precision", self.precision, tuple(DTYPES))
        validation.validate_one_of("Execution", "on_nonfinite", self.on_nonfinite, tuple(STOP_ON))
        if self.steps_per_call is not None:
            validation.validate_positive("Execution", steps_per_call=self.steps_per_call)
        if self.precision == "float16" and self.on_nonfinite == "stop":
            raise ValueError(
                "Execution: on_nonfinite is 'stop' and precision 'float16', which skips steps that "
                "overflow while it adjusts its loss scale; expected 'raise' or 'skip'."
            )

    def restrict(self, who: str, *names: str) -> None:
        """Raises if options other than `names` are set, which `who` would ignore."""
        ignored = [
            field.name
            for field in dataclasses.fields(self)
            if field.name not in names and getattr(self, field.name) != field.default
        ]
        if ignored:
            raise ValueError(
                f"{who}: execution sets {', '.join(ignored)}; expected only {', '.join(names)}."
            )


@dataclasses.dataclass(frozen=True)
class Steps:
    """A length of training in steps, in place of a number of epochs: `fit(epochs=Steps(500))`.

    Raises:
      ValueError: `count` is no positive integer.
    """

    count: int

    def __post_init__(self):
        validation.validate_positive("Steps", steps=self.count)


@dataclasses.dataclass(frozen=True, eq=False)
class AugmentedData:
    """Training data and an augmentation, as `fit` and `train_many` take them.

    Attributes:
      data: as for `fit`.
      augment: `(key, x) -> x`, `(key, x, y) -> (x, y)` or `(key, x, y, weight) -> (x, y, weight)`,
        applied to every training batch on the device.

    Raises:
      ValueError: `augment` is no function.
    """

    data: Any
    augment: Callable[..., Any]

    def __post_init__(self):
        if not callable(self.augment):
            raise ValueError(
                f"AugmentedData: augment is {self.augment!r}; expected a function: (key, x) -> x."
            )

    @staticmethod
    def split(data: Any) -> tuple[Any, Callable[..., Any] | None]:
        """Returns the data and their augmentation, or None where there is none."""
        return (data.data, data.augment) if isinstance(data, AugmentedData) else (data, None)


GROUPED = {
    **{
        field.name: f"execution=train.Execution({field.name}=...)"
        for field in dataclasses.fields(Execution)
    },
    "augment": "train.AugmentedData(data, augment) as data",
    "logger": "callbacks=[logger]",
    "resume": "checkpoint=train.Checkpointer(directory, resume=...)",
    "steps": "epochs=train.Steps(...)",
}
"""Options that are part of another argument, and how to pass them."""


def explain_grouped_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Makes a function name the right argument when it is called with one of `GROUPED`."""
    parameters = inspect.signature(function).parameters

    @functools.wraps(function)
    def call(*args, **options):
        for name in options:
            if name not in parameters and name in GROUPED:
                raise TypeError(f"{function.__name__} has no {name}=; pass {GROUPED[name]}.")
        return function(*args, **options)

    return call
