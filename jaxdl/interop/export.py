"""Export of a trained model to one StableHLO file that runs without jaxdl.

`jax.export` (docs.jax.dev) serializes the program and the weights, for a batch of any size. JAX
guarantees to read such a file for six months after it was written; to keep a model longer, save the
weights (`interop.safetensors`) and the code.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence
from typing import Any

import jax

from jaxdl._optional import extra
from jaxdl.core import Module, check_model
from jaxdl.interop.safetensors import open_atomic
from jaxdl.train.predict import predictor
from jaxdl.train.state import TrainState, check_state

__all__ = ["export"]


def export(
    model: Module,
    state: TrainState,
    path: str | os.PathLike,
    *inputs: Any,
    platforms: Sequence[str] | None = None,
) -> pathlib.Path:
    """Writes the prediction of a model, without dropout and with fixed statistics, to a file.

    A program without jaxdl reads it by `jax.export.deserialize(bytearray(file.read()))` and runs it
    by `.call(x)`. On a CPU its convolutions use the algorithms of `jaxdl.nn.conv_cpu`, elsewhere
    XLA's.

    Args:
      model: any `Module`.
      state: a `TrainState`; its `params` and `model_state` are written.
      path: the file; an existing one is replaced.
      *inputs: example inputs of `model.apply`, with a leading batch axis of any size; only shapes
        and dtypes matter.
      platforms: target platforms, of "cpu", "cuda", "rocm" and "tpu"; None takes the current one.

    Returns:
      The path.

    Raises:
      ImportError: the package flatbuffers is not installed.
      ValueError: an argument is invalid; or the model uses the size of its batch in a way that does
        not allow any size.
    """
    # JAX imports flatbuffers in `serialize`, after the trace; here a missing one raises at once.
    with extra("export", "export"):
        import flatbuffers  # noqa: F401
    check_model("export", model)
    check_state("export", state)
    leaves = jax.tree.leaves(inputs)
    if not leaves or not all(len(getattr(leaf, "shape", ())) > 0 for leaf in leaves):
        raise ValueError(
            f"export: inputs are {', '.join(type(x).__name__ for x in inputs) or 'missing'}; "
            "expected arrays or jax.ShapeDtypeStructs with a leading batch axis: "
            "export(model, state, path, x)."
        )
    (batch,) = jax.export.symbolic_shape("batch")
    specs = [
        jax.tree.map(lambda a: jax.ShapeDtypeStruct((batch, *a.shape[1:]), a.dtype), x)
        for x in inputs
    ]
    predict = jax.jit(predictor(model, state))
    options: dict[str, Any] = {} if platforms is None else {"platforms": list(platforms)}
    try:
        exported = jax.export.export(predict, **options)(*specs)
    except jax.errors.ConcretizationTypeError as error:
        raise ValueError(_explain(model, error)) from error
    except Exception as error:
        if "symbolic" not in str(error) and "inconclusive" not in str(error).lower():
            raise
        raise ValueError(_explain(model, error)) from error
    target = pathlib.Path(path)
    with open_atomic(target) as file:
        file.write(exported.serialize())
    return target


def _explain(model: Module, error: Exception) -> str:
    return (
        f"export: {model.kind} computes with the size of its batch ({error}); expected a model "
        "for any size. Reshape with -1 instead of x.shape[0]."
    )
