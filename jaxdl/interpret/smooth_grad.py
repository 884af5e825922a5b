"""SmoothGrad, and averages of any method over noise or over baselines."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxdl._check import require_ints, require_key, require_number
from jaxdl._precision import widen
from jaxdl.interpret import _batching, _input, _layer, _target
from jaxdl.interpret._compile import compile_once
from jaxdl.interpret.integrated_gradients import add_noise
from jaxdl.interpret.saliency import saliency

__all__ = ["average_over_baselines", "average_over_noise", "smooth_grad"]

Method = Callable[..., Any]
"""`method(f, x, *, target=None, ...)`, which returns arrays like x."""


def smooth_grad(
    f: Callable[[Any], Any],
    x: Any,
    *,
    key: jax.Array,
    target: _target.Target = None,
    sigma: float = 0.1,
    samples: int = 25,
    absolute: bool = True,
    layer: str | None = None,
    batch_size: int | None = None,
) -> Any:
    """Computes SmoothGrad: the mean of `saliency` over noisy copies of the input.

    Smilkov et al. 2017 (arXiv 1706.03825), sec. 3. It is `average_over_noise(saliency)`, which also
    has the squared and the variance form.

    Args:
      f, x, target, absolute, layer: as for `saliency`. "argmax" is the class of x without noise.
      key: a PRNG key.
      sigma: standard deviation of the noise, in units of the input. The paper takes 10 to 20 % of
        the range of x.
      samples: noisy copies.
      batch_size: copies explained side by side; None for the largest number within
        `memory_budget`.

    Returns:
      Arrays like x, or like the value of the layer, in units of score per unit of input.

    Raises:
      ValueError: as `saliency` and `average_over_noise`.
    """
    method = average_over_noise(saliency, sigma=sigma, samples=samples)
    options = {"absolute": absolute, "layer": layer, "batch_size": batch_size}
    return method(f, x, key=key, target=target, **options)


def average_over_noise(
    method: Method,
    *,
    sigma: float,
    samples: int = 25,
    kind: Literal["mean", "square", "variance"] = "mean",
) -> Method:
    """Returns a method that averages another method over noisy copies of the input.

    "mean": Smilkov et al. 2017 (arXiv 1706.03825). "square", the mean of squares, and "variance":
    Adebayo et al. 2018 (arXiv 1810.03307).

    Args:
      method: `saliency`, `integrated_gradients`, or any other `method(f, x, *, target=, ...)`.
      sigma: standard deviation of the noise, in units of the input.
      samples: noisy copies.
      kind: the statistic of the copies. Squares and variances are float32 at least.

    Returns:
      `method(f, x, *, key, target=None, batch_size=None, ...)` with a PRNG key for the noise. Other
      arguments are passed on. `batch_size` is the number of copies explained side by side. A method
      that needs a key gets another one for each copy. "argmax" is the class of x without noise. The
      noise is added to x, or if x has only integers (token ids), to the value of `layer`.

    Raises:
      ValueError: `method` is not a function, `samples` is below 1, `sigma` below 0, or `kind` is
        unknown.

    Example:
      >>> method = interpret.average_over_noise(interpret.integrated_gradients, sigma=0.1)
      >>> method(f, x, target="argmax", key=jax.random.key(0), batch_size=10)
    """
    name = "average_over_noise"
    (samples,) = require_ints(name, 1, samples=samples)
    require_number(name, "a number of 0 or more", lambda v: v >= 0, sigma=sigma)
    if kind not in ("mean", "square", "variance"):
        raise ValueError(f"{name}: kind is {kind!r}; expected 'mean', 'square' or 'variance'.")
    parameter = _get_parameters(name, method).get("key")
    needs_key = parameter is not None and parameter.default is inspect.Parameter.empty

    @compile_once
    def explain(f, x, *, key, target=None, batch_size=None, **options):
        require_key(name, key)
        _input.count_examples(name, x)
        _target.verify(name, f, x, target)
        has_floats = any(map(_input.is_floating, jax.tree.leaves(x)))
        layer = None if has_floats else options.pop("layer", None)
        if layer is None:
            x = _input.as_batch(name, x)
        f, x = _layer.select(name, f, x, layer)
        # The noise can change the predicted class.
        target = _target.resolve_argmax(name, f, x, target)

        def evaluate(i):
            key_i = jax.random.fold_in(key, i)
            keys = {"key": jax.random.fold_in(key_i, 1)} if needs_key else {}
            a = method(f, add_noise(key_i, x, sigma), target=target, **keys, **options)
            if kind == "mean":
                return a
            # In half precision the difference of two means of squares would be rounding error.
            a = jax.tree.map(widen, a)
            return a, jax.tree.map(jnp.square, a)

        total = _batching.accumulate(name, evaluate, jnp.full(samples, 1 / samples), batch_size)
        if kind == "mean":
            return total
        mean, square = total
        if kind == "square":
            return square
        # The difference of equal squares can round below 0.
        return jax.tree.map(lambda m, s: jnp.maximum(s - m * m, 0), mean, square)

    return explain


def average_over_baselines(method: Method, baselines: Any) -> Method:
    """Returns a method that averages another method over several baselines.

    Args:
      method: `integrated_gradients`, `ablation`, or any other with an argument `baseline=`.
      baselines: (M, ...) baselines, each of an example's shape, or a tree of them like x.

    Returns:
      `method(f, x, *, target=None, batch_size=None, ...)`, without `baseline=`. `batch_size` is the
      number of baselines computed side by side. With `layer=`, the baselines are values of the
      layer if they are so for `method`.

    Raises:
      ValueError: the method has no `baseline=`; or, when it is called, the baselines are not
        (M, ...) with one M of at least 1.
    """
    name = "average_over_baselines"
    parameters = _get_parameters(name, method)
    accepts_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    if "baseline" not in parameters and not accepts_any:
        raise ValueError(
            f"{name}: the method has no baseline=; expected one such as integrated_gradients, "
            "deep_lift or ablation."
        )

    @compile_once
    def explain(f, x, *, target=None, batch_size=None, **options):
        _input.count_examples(name, x)
        _target.verify(name, f, x, target)
        count = _count_baselines(name, f, x, options.get("layer"), baselines)
        target = _target.resolve_argmax(name, f, x, target)

        def evaluate(i):
            baseline = jax.tree.map(lambda b: jnp.asarray(b)[i][None], baselines)
            return method(f, x, target=target, baseline=baseline, **options)

        return _batching.accumulate(name, evaluate, jnp.full(count, 1 / count), batch_size)

    return explain


def _get_parameters(caller: str, method: Any) -> Mapping[str, inspect.Parameter]:
    """Returns the parameters of a method by name."""
    if not callable(method):
        raise ValueError(
            f"{caller}: method is {method!r}; expected a function, e.g. interpret.saliency."
        )
    return inspect.signature(method).parameters


def _count_baselines(name: str, f: Callable[[Any], Any], x: Any, layer: Any, baselines: Any) -> int:
    """Returns M of baselines (M, ...) that are like x, or like the value of `layer`."""
    if isinstance(layer, str):
        try:  # the baselines of some methods with a layer are values of x: `conductance`
            return _input.as_examples(name, x, "baselines", baselines)[1]
        except ValueError:
            x = _layer.eval_shape(name, f, x, layer)
    return _input.as_examples(name, x, "baselines", baselines)[1]
