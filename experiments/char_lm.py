"""Trains an LSTM as a character language model of Shakespeare and samples from it.

The text is split into streams, one for each row of the batch. Backpropagation through time is
truncated to `steps` characters, and each window continues from the recurrent state of the last. The
first 90 % of the text trains and the rest validates. Lecture rows K12, D12. Without the file, a
small grammar of travel requests takes its place.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdl
from experiments import _figure, _run
from jaxdl import data, decode, nn, train, tree

PROMPT = "\n"


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    epochs: int = 6
    """Passes over the training text."""
    features: int = 512
    """Units of the LSTM."""
    rows: int = 64
    """Streams read side by side."""
    steps: int = 64
    """Characters of a window, through which gradients flow."""
    rate: float = 4e-3
    """Adam's learning rate at its highest; it falls to 0 along a cosine."""


def network(symbols: int, features: int) -> jaxdl.Module:
    """Builds an embedding, an LSTM that keeps its state between calls, dropout and scores."""
    return jaxdl.serial(
        nn.embedding(symbols, 64),
        nn.rnn(nn.lstm(features), stateful=True),
        nn.dropout(0.2),
        nn.dense(symbols),
    )


def windows(text: np.ndarray, rows: int, steps: int) -> tuple[jax.Array, jax.Array]:
    """Returns inputs and next characters, (windows, rows, steps); a row continues in the next."""
    count = (len(text) - 1) // (rows * steps)

    def cut(a):
        return a[: count * rows * steps].reshape(rows, count, steps).swapaxes(0, 1)

    return jnp.asarray(cut(text[:-1])), jnp.asarray(cut(text[1:]))


def run(config: Config) -> dict:
    text, source = load_text(config.smoke)
    if config.smoke:
        config = dataclasses.replace(config, epochs=1, features=32, rows=8, steps=16)
    vocabulary = data.Vocabulary([text])
    numbers = vocabulary.encode(text)
    cut = int(0.9 * len(numbers))
    training = windows(numbers[:cut], config.rows, config.steps)
    validation = windows(numbers[cut:], config.rows, config.steps)
    model = network(len(vocabulary), config.features)
    total = config.epochs * len(training[0])
    optimizer = optax.chain(
        # The loss of a recurrent network has steep cliffs (Pascanu et al. 2013), see
        # `rough_surface`.
        optax.clip_by_global_norm(1.0),
        optax.adam(optax.cosine_decay_schedule(config.rate, total)),
    )
    state = train.init_state(model, optimizer, jax.random.key(config.seed), training[0][0])
    size = tree.count(state.params)
    print(f"{source}: {len(text):,} characters, {size:,} parameters", flush=True)
    step = train.make_train_step(model, "cross_entropy", optimizer)
    epoch = jax.jit(functools.partial(run_epoch, step), donate_argnums=0)
    measure = jax.jit(functools.partial(evaluate, model))
    fresh = state.model_state
    losses, validated = [], []
    for i in range(config.epochs):
        # Every epoch starts with empty recurrent states: the streams begin again.
        # A copy, because the compiled epoch consumes its state.
        state, loss = epoch(state.replace(model_state=jax.tree.map(jnp.array, fresh)), *training)
        losses.append(float(loss))
        validated.append(float(measure(state.params, fresh, *validation)))
        print(
            f"epoch {i + 1}  {losses[-1]:.4f} nats per character trained on, "
            f"{validated[-1]:.4f} on the held-out text",
            flush=True,
        )
    samples = {str(t): sample(config, model, state.params, vocabulary, t) for t in (0.5, 0.8, 1.0)}
    for temperature, sampled in samples.items():
        print(f"--- temperature {temperature}\n{sampled}")
    draw(config, losses, validated)
    return {
        "source": source,
        "nats_per_character": validated[-1],
        "bits_per_character": validated[-1] / math.log(2),
        "training": losses,
        "validation": validated,
        "parameters": size,
        "samples": samples,
    }


def run_epoch(step, state, x, y):
    """Trains on all windows once, in one program; returns the state and the mean loss."""
    state, metrics = jax.lax.scan(step, state, (x, y))
    return state, jnp.sum(metrics["loss"].total) / jnp.sum(metrics["loss"].count)


def evaluate(model, params, state, x, y):
    """Returns the mean nats per character, with the recurrent state kept between windows."""

    def window(state, batch):
        x, y = batch
        logits, state = model.apply(params, state, x)
        return state, jaxdl.losses.cross_entropy(logits, y).mean()

    return jax.lax.scan(window, state, (x, y))[1].mean()


def sample(config, model, params, vocabulary, temperature) -> str:
    """Samples text from the model, one character at a time."""

    def step(carry, tokens):
        logits, carry = model.apply(params, carry, tokens[:, None])
        return carry, logits[:, 0]

    start = jnp.asarray(vocabulary.encode(PROMPT))
    _, carry = jax.eval_shape(model.init, jax.random.key(0), start[:, None])
    carry = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), carry)
    draw = functools.partial(
        decode.sample, step, length=30 if config.smoke else 300, temperature=temperature
    )
    sampled = jax.jit(draw)(carry, start, jax.random.key(config.seed))
    return "".join(vocabulary.decode(sampled.tokens[0]))


def load_text(smoke: bool) -> tuple[str, str]:
    """Returns the text and its name."""
    try:
        text = data.tiny_shakespeare()
    except ValueError as missing:
        print(f"made-up text instead of Shakespeare: {missing}")
        requests = data.toy.travel.requests(jax.random.key(0), 20_000)
        text, name = "\n".join(" ".join(words) for words, _ in requests), "travel requests"
    else:
        name = "tiny Shakespeare"
    return (text[:4000] if smoke else text), name


def draw(config: Config, losses: list[float], validated: list[float]) -> None:
    """Draws the training and the validation loss by epoch."""
    pyplot = _figure.pyplot()
    figure, axes = pyplot.subplots(figsize=(5, 3.2), layout="constrained")
    epochs = range(1, len(losses) + 1)
    axes.plot(epochs, losses, "o-", label="training text, with dropout")
    axes.plot(epochs, validated, "s-", label="held-out text")
    axes.set(xlabel="epoch", ylabel="nats per character")
    axes.legend(frameon=False)
    _figure.save(figure, config, "char_lm", "curves")
