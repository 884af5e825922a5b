"""Feature visualization: the image that a unit, a channel, a class or a layer responds to most."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdl._check import require_ints, require_key
from jaxdl.interpret import _ascent, _batching
from jaxdl.interpret._compile import compile_once
from jaxdl.interpret.feature_vis._objective import Batch, Context, Objective
from jaxdl.interpret.feature_vis._resample import Transform
from jaxdl.interpret.feature_vis.network import layer_values, with_revival
from jaxdl.interpret.feature_vis.parametrization import Parametrization

__all__ = ["Visualization", "visualize"]


class Visualization(NamedTuple):
    """Images that maximize an objective.

    With T targets there is a leading axis T, and with `count` an axis of jointly optimized images
    before those of the image or the steps.

    Attributes:
      image: (*shape), the image after the last step.
      score: (steps + 1,), the objective at the start and after every step, without the penalty of
        the parametrization. With transformations it is that of the transformed images.
      frames: (F, *shape), the images after the steps in `frames`.
      theta: the parameters of the image, such as z of a generator.
    """

    image: jax.Array
    score: jax.Array
    frames: jax.Array
    theta: Any


def visualize(
    f: Callable[[jax.Array], Any],
    parametrization: Parametrization,
    objective: Objective,
    *,
    key: jax.Array,
    transform: Transform | None = None,
    steps: int = 512,
    optimizer: optax.GradientTransformation | None = None,
    crops: int = 1,
    count: int | None = None,
    frames: Sequence[int] = (),
    revive: int = 16,
    batch_size: int | None = None,
) -> Visualization:
    """Maximizes an objective of a network over images, by gradient ascent on their parameters.

    Olah, Mordvintsev and Schubert 2017, "Feature Visualization" (doi:10.23915/distill.00007). Each
    step increases the mean of the objective over `crops` random transformations of the image, minus
    the penalty of the parametrization.

    Args:
      f: any function from a batch (N, *shape) to an output, in inference mode. Layers are named as
        for `interpret.intermediate`.
      parametrization: such as `fourier((224, 224, 3), bounds)`.
      objective: such as `channel("conv_2", 5)`, or a combination. Arrays of T indices give T
        images, which are optimized independently, from the same key.
      key: PRNG key of the start and of the transformations.
      transform: `(key, images) -> images`, such as `transform.standard()`; None for none.
      steps: ascent steps, in one compiled loop.
      optimizer: any optax optimizer; None for Adam with a learning rate of 0.05.
      crops: transformations of the image in each step, averaged.
      count: images optimized jointly, for `diversity`; None for one.
      frames: steps after which the image is kept, for an animation: 0 is the start, `steps` the
        result.
      revive: steps in which the gradient of an image that is zero everywhere, since a ReLU blocks
        it, is redirected: the ReLU propagates what would increase its negative input.
      batch_size: targets that are optimized side by side; None for the most that `memory_budget`
        allows.

    Returns:
      A `Visualization`.

    Raises:
      ValueError: the objective does not fit f; a layer does not exist; a number is out of range.

    Example:
      >>> image = feature_vis.fourier((64, 64, 3))
      >>> channels = feature_vis.objective.channel("conv_1", jnp.arange(16))
      >>> feature_vis.visualize(f, image, channels, key=jax.random.key(0)).image.shape
      (16, 64, 64, 3)
    """
    name = "visualize"
    require_key(name, key)
    (steps,) = require_ints(name, 1, steps=steps)
    (crops,) = require_ints(name, 1, crops=crops)
    (revive,) = require_ints(name, 0, revive=revive)
    images = 1 if count is None else require_ints(name, 1, count=count)[0]
    frames = require_ints(name, 0, **{f"frames[{i}]": frame for i, frame in enumerate(frames)})
    if len(set(frames)) < len(frames) or max(frames, default=0) > steps:
        raise ValueError(
            f"{name}: frames are {frames}; expected different numbers of steps in 0 to {steps}."
        )
    if not isinstance(objective, Objective):
        raise ValueError(
            f"{name}: objective is {objective!r}; expected an Objective, such as "
            "objective.logit(3)."
        )
    optimizer = optax.adam(0.05) if optimizer is None else optimizer

    def crop(key, decoded):
        x = jnp.tile(decoded, (crops, *(1,) * (decoded.ndim - 1)))
        return x if transform is None else transform(key, x)

    def start(key):
        return jax.vmap(parametrization.init)(jax.random.split(key, images))

    def decode(theta):
        return jax.vmap(parametrization.decode)(theta)

    def references(images, layers):
        return layer_values(name, f, images, layers)(images)

    def first_input(key):
        start_key, crop_key = jax.random.split(key)
        return crop(crop_key, decode(start(start_key)))

    x = jax.eval_shape(first_input, key)
    values = layer_values(name, f, x, objective.layers)
    objective.verify(_describe(name, f, x, values, references, images))

    network = with_revival(values, x, revive)

    def run(theta, step_key, args):
        prepared = objective.prepare(references, args)

        def evaluate(theta, step):
            decoded = decode(theta)
            cropped = crop(jax.random.fold_in(step_key, step), decoded)
            batch = Batch(decoded, network(cropped, step), images)
            scores = jnp.mean(objective.score(batch, prepared), axis=0)
            scores = jnp.broadcast_to(scores, (images,))
            penalty = jnp.sum(jax.vmap(parametrization.penalty)(theta))
            # A sum and not a mean, so that each image is optimized as alone.
            return jnp.sum(scores) - penalty.astype(scores.dtype), (scores, decoded)

        result = _ascent.ascend(
            evaluate,
            theta,
            steps=steps,
            optimizer=optimizer,
            project=jax.vmap(parametrization.project),
            frames=frames,
        )
        kept = jnp.moveaxis(result.frames, 1, 0)
        image = Visualization(result.image, result.score.T, kept, result.theta)
        return image if count is not None else jax.tree.map(lambda leaf: leaf[0], image)

    def run_all(x):
        key, args = x
        start_key, step_key = jax.random.split(key)
        theta = start(start_key)
        if objective.targets is None:
            return run(theta, step_key, args)

        def run_one(i):
            pairs = zip(args, objective.grid, strict=True)
            return run(theta, step_key, tuple(arg[i] if mapped else arg for arg, mapped in pairs))

        return _batching.map_evaluations(name, run_one, objective.targets, batch_size)

    return _compiled(run_all, (key, tuple(map(jnp.asarray, objective.args))))


@compile_once
def _compiled(run: Callable[[Any], Any], x: Any) -> Any:
    return run(x)


def _describe(name, f, x, values, references, count) -> Context:
    """Returns the shapes that an objective is checked with."""

    def shapes_of_references(images, layers):
        return jax.eval_shape(lambda images: references(images, layers), images)

    return Context(name, f, x, jax.eval_shape(values, x), shapes_of_references, count)
