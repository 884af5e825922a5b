"""Rows by number, streams of batches, and the adapters of Grain and Hugging Face datasets."""

import functools

import chex
import numpy as np
import optax
import pytest

from jaxdl import data, train
from tests.train import toy

MODEL, SGD = toy.noisy(), optax.sgd(0.1)
X, Y = toy.data()
BATCH = 8


def fit(source, **options):
    options = {"loss": "cross_entropy", "optimizer": SGD, "verbose": 0} | options
    return train.fit(MODEL, source, **options)


def same(a, b):
    chex.assert_trees_all_equal(toy.plain(a[0]), toy.plain(b[0]))
    for name in ("loss", "accuracy"):
        assert a[1][name] == b[1][name]


def in_order():
    return [(X[i : i + BATCH], Y[i : i + BATCH]) for i in range(0, len(X), BATCH)]


def shuffled(epoch, first):
    rng = np.random.default_rng(epoch)
    order = rng.permutation(len(X))
    for i in range(first, -(-len(X) // BATCH)):
        rows = order[i * BATCH : (i + 1) * BATCH]
        yield X[rows], Y[rows]


def test_rows_by_number_are_the_arrays():
    asked = []

    def fetch(rows):
        asked.append(len(rows))
        return X[rows], Y[rows]

    source = data.RandomAccessSource(len(X), fetch)
    same(fit(source, batch_size=BATCH, epochs=3), fit((X, Y), batch_size=BATCH, epochs=3))
    assert max(asked) < len(X) + BATCH
    few = {"batch_size": BATCH, "epochs": 3, "execution": train.Execution(steps_per_call=2)}
    same(fit(source, **few), fit((X, Y), **few))


def test_more_rows_than_the_memory_holds(tmp_path):
    """A file of 200 MB is mapped and read piece by piece; nothing holds all of it."""
    import resource

    rows, width = 50_000, 1000
    path = tmp_path / "large.npy"
    large = np.lib.format.open_memmap(path, "w+", np.float32, (rows, width))
    large[:, 0] = np.arange(rows) % 2
    large.flush()
    del large
    mapped = np.load(path, mmap_mode="r")
    labels = (np.arange(rows) % 2).astype(np.int32)
    source = data.RandomAccessSource(rows, lambda at: (np.asarray(mapped[at]), labels[at]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    train.fit(
        toy.mlp(),
        source,
        loss="cross_entropy",
        optimizer=SGD,
        batch_size=500,
        epochs=train.Steps(12),
        execution=train.Execution(steps_per_call=2),
        verbose=0,
    )
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < 150


@functools.cache
def uninterrupted(per_call):
    return fit(
        data.from_iterable(in_order()), epochs=3, execution=train.Execution(steps_per_call=per_call)
    )


@pytest.mark.parametrize("per_call", [None, 1, 3])
@pytest.mark.parametrize(
    "make",
    [
        lambda: data.from_iterable(in_order()),
        lambda: data.from_iterable(lambda: iter(in_order()), steps=7),
        lambda: data.BatchStream(7, lambda epoch, first: iter(in_order()[first:])),
    ],
    ids=["list", "function", "stream"],
)
def test_a_stream_resumes_anywhere(tmp_path, make, per_call):
    whole = uninterrupted(per_call)
    for steps in (2, 9, 21):
        parts = fit(
            make(),
            epochs=train.Steps(steps),
            execution=train.Execution(steps_per_call=per_call),
            checkpoint=tmp_path,
        )
    chex.assert_trees_all_equal(toy.plain(parts[0]), toy.plain(whole[0]))


def test_a_stream_of_another_order_in_every_epoch(tmp_path):
    stream = data.BatchStream(7, shuffled)
    whole = fit(stream, epochs=3)
    fit(data.BatchStream(7, shuffled), epochs=2, checkpoint=tmp_path)
    same(fit(data.BatchStream(7, shuffled), epochs=3, checkpoint=tmp_path), whole)


def test_the_batches_are_those_of_the_stream():
    """Losses are means over the real rows; the last batch has two."""
    state, history = fit(data.from_iterable(in_order()), epochs=1, optimizer=optax.sgd(0.0))
    at_once, _ = fit((X, Y), batch_size=len(X), epochs=1, optimizer=optax.sgd(0.0))
    chex.assert_trees_all_close(state.params, at_once.params)
    actual = train.evaluate(MODEL, state, data.from_iterable(in_order()), loss="cross_entropy")
    expected = train.evaluate(MODEL, state, (X, Y), loss="cross_entropy")
    assert actual == pytest.approx(expected, rel=1e-6)


def test_a_generator_lasts_as_long_as_it_does():
    once = (batch for _ in range(2) for batch in in_order())
    whole = fit(data.from_iterable(in_order()), epochs=2)
    same(fit(data.from_iterable(once, steps=7), epochs=2), whole)
    once = (batch for batch in in_order())
    with pytest.raises(ValueError, match="ends after 0 batches of epoch 2"):
        fit(data.from_iterable(once, steps=7), epochs=2)


def test_a_generator_cannot_go_back():
    stream = data.from_iterable((batch for batch in in_order()), steps=7)
    assert len(list(stream.open(0, 0))) == 7
    with pytest.raises(ValueError, match="has yielded 7 batches and cannot go back"):
        stream.open(0, 0)


class Sentences:
    """As much of a Hugging Face dataset as the adapter uses."""

    column_names = ["pixels", "label", "other"]

    def __len__(self):
        return len(X)

    def select_columns(self, names):
        assert names == ["pixels", "label"]
        return self

    def with_format(self, kind):
        assert kind == "numpy"
        return self

    def __getitem__(self, rows):
        return {"pixels": X[rows], "label": Y[rows].astype(np.int64)}


def test_the_adapter_of_hugging_face():
    source = data.from_hugging_face(
        Sentences(), x="pixels", y="label", transform=lambda x, y: (x, y.astype(np.int32))
    )
    same(fit(source, batch_size=BATCH, epochs=2), fit((X, Y), batch_size=BATCH, epochs=2))
    with pytest.raises(ValueError, match="no column 'image'; there are"):
        data.from_hugging_face(Sentences(), x="image", y="label")


def test_a_hugging_face_dataset():
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    made = datasets.Dataset.from_dict({"pixels": X, "label": Y})
    source = data.from_hugging_face(
        made,
        x="pixels",
        y="label",
        transform=lambda x, y: (x.astype(np.float32), y.astype(np.int32)),
    )
    same(fit(source, batch_size=BATCH, epochs=2), fit((X, Y), batch_size=BATCH, epochs=2))


def grain_rows(grain):
    return grain.MapDataset.source([(X[i], Y[i]) for i in range(len(X))])


def test_a_grain_map_dataset_shuffles_every_epoch_and_resumes(tmp_path):
    grain = pytest.importorskip("grain", reason="grain is not installed")
    make = lambda: data.from_grain(grain_rows(grain).shuffle(seed=3).batch(BATCH))
    stream = make()
    first, second = (np.concatenate([x for x, _ in stream.open(e, 0)]) for e in (0, 1))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(np.sort(first[:, 0]), np.sort(X[:, 0]))
    whole = fit(make(), epochs=2)
    for steps in (3, 10, 14):
        parts = fit(make(), epochs=train.Steps(steps), checkpoint=tmp_path)
    chex.assert_trees_all_equal(toy.plain(parts[0]), toy.plain(whole[0]))


@pytest.mark.filterwarnings("ignore")
def test_a_grain_data_loader():
    grain = pytest.importorskip("grain", reason="grain is not installed")
    make = lambda: grain.DataLoader(
        data_source=[(X[i], Y[i]) for i in range(len(X))],
        sampler=grain.samplers.IndexSampler(len(X), shuffle=True, seed=1, num_epochs=1),
        operations=[grain.transforms.Batch(BATCH)],
        worker_count=0,
    )
    _, history = fit(data.from_grain(make(), steps=7), epochs=10)
    assert history["loss"][-1] < history["loss"][0]
    iterated = data.from_grain(grain_rows(grain).to_iter_dataset().batch(BATCH), steps=7)
    same(fit(iterated, epochs=1), fit(data.from_iterable(in_order()), epochs=1))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: data.RandomAccessSource(0, lambda rows: rows), "RandomAccessSource: rows is 0"),
        (lambda: data.BatchStream(-1, lambda e, f: iter([])), "Stream: steps is -1"),
        (lambda: data.from_iterable(iter([])), "has no length; pass steps="),
        (lambda: fit(data.from_iterable([(X, Y)], steps=3), epochs=1), "ends after 1 batches"),
        (lambda: fit(data.from_iterable([X])), "a batch of the stream is"),
        (
            lambda: fit(data.from_iterable([(X[:5], Y[:5]), (X, Y)])),
            "batch 1 of the stream has arrays of .50. rows",
        ),
        (
            lambda: fit(data.RandomAccessSource(9, lambda rows: X[rows]), batch_size=3),
            "the result of fetch is",
        ),
        (lambda: fit(data.from_iterable([(X[:5] * np.nan, Y[:5])])), "NaN or infinite"),
    ],
)
def test_bad_sources(make, message):
    with pytest.raises(ValueError, match=message):
        make()
