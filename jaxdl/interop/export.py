"""A trained model as one file that runs without jaxdl: StableHLO with its weights inside.

`jax.export` (docs.jax.dev) keeps the compiled program's portable form, with a batch of any size.
JAX promises to read it for six months after it was written; for longer, keep the weights
(`interop.safetensors`) and the code.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence
from typing import Any

import jax

from jaxdl._optional import extra
from jaxdl.core import Module, check_model
from jaxdl.interop.safetensors import whole_file
from jaxdl.jaxpr.reading import plain
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
    """Writes the model's prediction, dropout off and statistics fixed, to a file.

    It is read with `jax.export.deserialize(bytearray(file.read()))` and run with `.call(x)`, in a
    program that need not have jaxdl. Its convolutions are XLA's own, for any platform; on a CPU
    those of few channels run slower than in jaxdl, which writes them otherwise (`nn.conv_cpu`).

    Args:
      model: any `Module`.
      state: a `TrainState`; its `params` and `model_state` go into the file.
      path: of the file; one that is there is replaced.
      *inputs: what `model.apply` will be given, with a leading batch axis of any size; only shapes
        and dtypes matter.
      platforms: for which it is made, of "cpu", "cuda", "rocm" and "tpu"; None takes the one here.

    Returns:
      The path.

    Raises:
      ImportError: the package flatbuffers is not installed.
      ValueError: an argument is not what is expected; or the model computes with the size of its
        batch, so that it cannot be left open.
    """
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
        with plain(True):  # what is fast here need not be where it runs
            exported = jax.export.export(predict, **options)(*specs)
    except jax.errors.ConcretizationTypeError as error:
        raise ValueError(_fixed(model, error)) from error
    except Exception as error:
        if "symbolic" not in str(error) and "inconclusive" not in str(error).lower():
            raise
        raise ValueError(_fixed(model, error)) from error
    target = pathlib.Path(path)
    with whole_file(target) as file:
        file.write(exported.serialize())
    return target


def _fixed(model: Module, error: Exception) -> str:
    return (
        f"export: {model.kind} computes with the size of its batch ({error}); expected a model "
        "that takes any: reshape with -1 instead of x.shape[0]."
    )
