import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdl
from jaxdl import data, decode, losses, nn, train
from jaxdl.zoo.sequence.captioner import captioner
from jaxdl.zoo.sequence.encoder_decoder import encoder_decoder
from tests.nn.filled import filled

RNG = np.random.default_rng(0)
SOURCE = RNG.integers(1, 7, (3, 5), dtype=np.int32)
LENGTHS = np.array([5, 3, 0], np.int32)
PREVIOUS_TOKENS = RNG.integers(0, 9, (3, 4), dtype=np.int32)


def run_stepwise(model, params, carry, words):
    """Returns the final carry and the logits (N, T, V) of the decoder's steps."""
    step = lambda carry, tokens: model.step(params, carry, tokens)
    carry, logits = jax.lax.scan(step, carry, words.T)
    return carry, logits.swapaxes(0, 1)


@pytest.mark.row("K07")
@pytest.mark.parametrize("attention", ["additive", "dot", None])
@pytest.mark.parametrize("cell", [nn.gru, nn.lstm])
def test_single_steps_equal_teacher_forcing(attention, cell):
    model = encoder_decoder(7, 9, 8, attention=attention, cell=cell)
    params, state = filled(model, SOURCE, LENGTHS, PREVIOUS_TOKENS)

    @jax.jit
    def run(params, source, lengths, previous):
        logits, _ = model.apply(params, state, source, lengths, previous)
        carry = model.initial_carry(params, source, lengths)
        carry, stepwise = run_stepwise(model, params, carry, previous)
        return logits, stepwise, model.step_with_attention(params, carry, previous[:, 0])[2]

    logits, stepwise, weights = run(params, SOURCE, LENGTHS, PREVIOUS_TOKENS)
    assert logits.shape == (3, 4, 9) and np.all(np.isfinite(logits))
    chex.assert_trees_all_close(stepwise, logits, atol=1e-5)
    if attention is None:
        assert weights is None
    else:
        total = np.asarray(weights).sum(-1)
        np.testing.assert_allclose(total, [1.0, 1.0, 0.0], atol=1e-6)


@pytest.mark.row("K07")
def test_padding_of_the_source_changes_nothing():
    model = encoder_decoder(7, 9, 8)
    params, state = filled(model, SOURCE, LENGTHS, PREVIOUS_TOKENS)
    apply = jax.jit(model.apply)
    whole, _ = apply(params, state, SOURCE, LENGTHS, PREVIOUS_TOKENS)
    cut, _ = apply(params, state, SOURCE[1:2, :3], LENGTHS[1:2], PREVIOUS_TOKENS[1:2])
    chex.assert_trees_all_close(whole[1:2], cut, atol=1e-5)


@pytest.mark.row("K07")
@pytest.mark.slow
def test_it_learns_to_reverse_words_and_to_stop():
    """Symbols 2 .. 6 in reverse order; 0 is padding, 1 is the start and stop symbol."""
    rng = np.random.default_rng(0)

    def draw(n):
        rows = [rng.integers(2, 7, rng.integers(1, 5)) for _ in range(n)]
        source, lengths = data.pad(rows, length=4)
        after, _ = data.pad([[*row[::-1], 1] for row in rows], length=5)
        previous = np.concatenate([np.ones((n, 1), after.dtype), after[:, :-1]], 1)
        as_int = lambda a: a.astype(np.int32)
        return (as_int(source), lengths, as_int(previous)), as_int(after)

    def loss(logits, after):
        return jnp.mean(losses.cross_entropy(logits, after), axis=1, where=after > 0)

    model = encoder_decoder(7, 7, 32)
    state, _ = train.fit(
        model, draw(2000), loss=loss, optimizer=optax.adam(1e-2), batch_size=100, epochs=12,
        metrics=(), verbose=0,
    )  # fmt: skip
    (source, lengths, _), after = draw(300)
    for search in (decode.greedy, decode.beam):
        options = {} if search is decode.greedy else {"width": 3}
        result = search(
            lambda carry, tokens: model.step(state.params, carry, tokens),
            model.initial_carry(state.params, jnp.asarray(source), jnp.asarray(lengths)),
            jnp.ones(300, jnp.int32),
            length=5,
            stop=1,
            **options,
        )
        tokens = result.tokens if search is decode.greedy else result.tokens[:, 0]
        right = np.all((np.asarray(tokens) == after) | (after == 0), axis=1)
        assert right.mean() >= 0.99


@pytest.mark.row("K08")
@pytest.mark.slow
def test_captioner_learns_to_spell_digits():
    names = "zero one two three four five six seven eight nine".split()
    letters = data.Vocabulary([[".", *"".join(names)]])
    digits = data.digits()
    stop = int(letters.encode(["."])[0])
    spelled, _ = data.pad([letters.encode([*name, "."]) for name in names])
    model = captioner(nn.serial(nn.flatten(), nn.dense(64), jax.nn.relu), len(letters), 32)

    def rows(split):
        after = spelled[split.y]
        previous = np.concatenate([np.full((len(after), 1), stop, np.int32), after[:, :-1]], 1)
        return (split.x, previous), after

    def loss(logits, after):
        return jnp.mean(losses.cross_entropy(logits, after), axis=1, where=after > 0)

    state, _ = train.fit(
        model, rows(digits.train), loss=loss, optimizer=optax.adam(5e-3), batch_size=64, epochs=12,
        metrics=(), verbose=0,
    )  # fmt: skip
    images = jnp.asarray(digits.test.x)
    result = decode.greedy(
        lambda carry, tokens: model.step(state.params, carry, tokens),
        model.initial_carry(state.params, state.model_state, images),
        jnp.full(len(images), stop, jnp.int32),
        length=6,
        stop=stop,
    )
    texts = [
        "".join(letters.decode(row[:n]))
        for row, n in zip(np.asarray(result.tokens), np.asarray(result.lengths), strict=True)
    ]
    assert np.mean([text == names[y] for text, y in zip(texts, digits.test.y, strict=True)]) > 0.9


@pytest.mark.row("K08")
def test_captioner_steps_equal_teacher_forcing():
    model = captioner(nn.flatten(), 9, 8)
    images = RNG.normal(size=(3, 4, 4, 1)).astype(np.float32)
    params, state = filled(model, images, PREVIOUS_TOKENS)
    logits, _ = model.apply(params, state, images, PREVIOUS_TOKENS)
    carry = model.initial_carry(params, state, images)
    _, stepwise = jax.jit(lambda p, c, words: run_stepwise(model, p, c, words))(
        params, carry, PREVIOUS_TOKENS
    )
    chex.assert_trees_all_close(stepwise, logits, atol=1e-5)


def test_bad_arguments():
    with pytest.raises(ValueError, match="attention='both'"):
        encoder_decoder(3, 3, 4, attention="both")
    with pytest.raises(ValueError, match="features=5"):
        encoder_decoder(3, 3, 5)
    with pytest.raises(ValueError, match="expected integers"):
        jaxdl.init(
            encoder_decoder(3, 3, 4),
            jax.random.key(0),
            np.ones((1, 2), np.float32),
            np.array([2]),
            PREVIOUS_TOKENS[:1],
        )
