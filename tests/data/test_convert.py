"""Data as people have them: converted to the same arrays, or refused with what to call."""

import collections
import fractions

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from jax.experimental import sparse as jax_sparse
from PIL import Image
from scipy import sparse

from jaxdl import data, train
from jaxdl.data import convert
from jaxdl.train import validation
from tests.train import toy

MODEL, SGD = toy.mlp(), optax.sgd(0.1)
X, Y = toy.data(24)
WORDS = [["cat", "dog", "cow"][label] for label in Y]


def fit(source, **options):
    options = {"loss": "cross_entropy", "optimizer": SGD, "verbose": 0, "batch_size": 8} | options
    return train.fit(MODEL, source, **options)[1]["loss"]


def converted(value, name="data: x"):
    array = convert.as_array(value, name)
    assert type(array) is np.ndarray and array.dtype.isnative
    return array


def image(row, mode="L"):
    return Image.fromarray(np.abs(row.reshape(2, 2) * 50).astype(np.uint8)).convert(mode)


SAME = {
    "list of lists": lambda: X.tolist(),
    "list of arrays": lambda: list(X),
    "list of JAX arrays": lambda: list(map(jnp.asarray, X[:4])),
    "array of objects": lambda: X.astype(object),
    "array of rows": lambda: np.fromiter(X, object, len(X)),
    "without a mask": lambda: np.ma.array(X),
    "of other byte order": lambda: X.astype(">f4"),
    "of more precision": lambda: X.astype(np.longdouble),
    "double": lambda: X.astype(np.float64),
    "transposed": lambda: X.T.copy().T,
}


@pytest.mark.parametrize("make", SAME.values(), ids=SAME)
def test_the_same_array(make):
    value = make()
    np.testing.assert_array_equal(converted(value), X[: len(value)])


def test_integers_booleans_images_and_small_floats_keep_their_kind():
    assert converted(list(map(int, Y))).dtype.kind == "i"
    assert converted([True, False]).dtype == bool
    assert converted(range(3)).tolist() == converted(collections.deque([0, 1, 2])).tolist()
    assert converted(X.astype(jnp.bfloat16)).dtype == jnp.bfloat16
    for mode, shape in (("L", (2, 2)), ("RGB", (2, 2, 3)), ("LA", (2, 2, 2))):
        images = converted([image(row, mode) for row in X])
        assert images.dtype == np.uint8 and images.shape == (24, *shape)
    assert convert.as_array(array := jnp.ones(3), "x") is array


@given(
    arrays.arrays(
        st.sampled_from([np.float32, np.float64, np.int64, np.uint8, bool]),
        st.sampled_from([(3,), (2, 3), (2, 1, 2)]),
        elements={"allow_nan": False},
    )
)
def test_lists_of_any_numbers_are_their_array(values):
    for given_as in (values.tolist(), list(values), values.astype(object)):
        np.testing.assert_array_equal(converted(given_as), values)


REFUSED = {
    "ragged": (lambda: [[1.0, 2.0], [3.0]] * 3, r"rows of shapes \[1\], \[2\]; .*data.pad"),
    "ragged arrays": (lambda: [np.ones(3), np.ones(2)], "data.pad"),
    "ragged objects": (lambda: np.array([np.ones(3), np.ones(2)], object), "data.pad"),
    "sizes": (lambda: [np.ones((3, 4)), np.ones((2, 5))], "resize or crop"),
    "numbers and rows": (lambda: [1.0, [2.0, 3.0]], r"shapes \[\], \[2\]"),
    "strings": (lambda: WORDS, "has strings, such as '.*'; .*data.Vocabulary"),
    "missing": (lambda: [1.0, None], "has None; .*fill in missing"),
    "objects": (lambda: [1.0, fractions.Fraction(1, 2)], r"x\[1\] has a Fraction"),
    "a set": (lambda: {1, 2}, "has a set"),
    "a dict in a list": (lambda: [{"a": 1}], r"x\[0\] has a dict"),
    "dates": (lambda: np.array(["2020"] * 3, "M8[D]"), r"times, datetime64\[D\]; .*timedelta64"),
    "records": (lambda: np.zeros(3, [("a", "f4"), ("b", "i4")]), "records of a, b; .*unstructured"),
    "bytes": (lambda: np.array([b"a", b"b"]), "has strings"),
    "masked": (lambda: np.ma.masked_greater(X, 1), r"has \d+ masked values; .*filled"),
    "sparse": (lambda: sparse.csr_matrix(X), r"sparse, a csr_matrix; .*todense\(\)"),
    "sparse on the device": (
        lambda: jax_sparse.BCOO((np.ones(1), np.zeros((1, 1), int)), shape=(3,)),
        r"a BCOO; .*todense\(\)",
    ),
    "palette": (lambda: [image(X[0], "P")], r"x\[0\] is an image of mode 'P'; .*convert\('RGB'\)"),
}


@pytest.mark.parametrize("make, words", REFUSED.values(), ids=REFUSED)
def test_what_is_no_array_of_numbers(make, words):
    with pytest.raises(ValueError, match=f"data: .*{words}"):
        convert.as_arrays(make(), "data: x")


def test_classes_as_strings_are_numbered():
    for labels in (WORDS, np.array(WORDS), np.array(WORDS, object)):
        with pytest.raises(ValueError, match="data: y has strings.*np.unique.*return_inverse"):
            fit((X, labels))
    _, numbered = np.unique(WORDS, return_inverse=True)
    fit((X, numbered))


def test_numbers_beyond_the_range_on_the_device():
    large = X.astype(np.float64) * 1e300
    with pytest.raises(ValueError, match="x is float64 with values .* beyond .* float32"):
        fit((large, Y))
    with pytest.raises(ValueError, match=r"y is int64 with values from 109.* beyond .* int32"):
        fit((X, Y.astype(np.int64) + 2**40))
    with jax.enable_x64(True):
        convert.check_range(large, "x")


def test_lists_frames_and_arrays_train_alike():
    assert fit((X.tolist(), Y.tolist())) == fit((X, Y)) == fit([X.astype(np.float64), list(Y)])
    state = train.init_state(MODEL, SGD, jax.random.key(0), X)
    expected = train.predict(MODEL, state, X)
    np.testing.assert_array_equal(train.predict(MODEL, state, X.tolist()), expected)


def test_predictions_of_what_are_no_rows():
    state = train.init_state(MODEL, SGD, jax.random.key(0), X)
    with pytest.raises(ValueError, match=r"one example without a batch axis; .*x\[None\]"):
        train.predict(MODEL, state, X[0])
    with pytest.raises(ValueError, match="Pass x alone, without y"):
        train.predict(MODEL, state, (X, Y))
    with pytest.raises(ValueError, match="x is a BatchStream"):
        train.predict(MODEL, state, data.from_iterable([(X, Y)]))


def test_few_rows_make_one_batch_unasked():
    assert fit((X[:5], Y[:5]), batch_size=None) == fit((X[:5], Y[:5]), batch_size=5)
    assert [validation.choose_batch_size("lr_find", None, rows) for rows in (5, 40)] == [5, 32]
    with pytest.raises(ValueError, match="batch_size is 6 and the data have 5 rows"):
        fit((X[:5], Y[:5]), batch_size=6)


def named(name, package, **attributes):
    """An object whose class is of another library."""
    return type(name, (), {"__module__": f"{package}.x", **attributes})()


BATCHES = [(X[:8], Y[:8]), (X[8:16], Y[8:16]), (X[16:], Y[16:])]
NO_PAIRS = {
    "pairs": (lambda: list(zip(X, Y, strict=True)), r"24 pairs; .*zip\(\*data\).*from_iterable"),
    "dict": (lambda: {"image": X, "label": Y}, r"dict of 'image', 'label'; .*\(d\['image'\], d"),
    "generator": (lambda: (b for b in BATCHES), r"generator; .*from_iterable\(make, steps="),
    "function": (lambda: lambda: BATCHES, r"function; .*from_iterable\(make, steps="),
    "loader": (lambda: collections.deque(BATCHES, 4), r"deque; .*from_iterable\(loader, steps="),
    "array": (lambda: X, r"data is ndarray; expected \(x, y\)"),
    "path": (lambda: "data.csv", r"data is str; expected \(x, y\)"),
    "hugging face": (
        lambda: named("Dataset", "datasets", column_names=["a"], __getitem__=lambda self, i: self),
        r"Dataset of 'a'; .*from_hugging_face\(dataset, x=",
    ),
    "its splits": (
        lambda: type("DatasetDict", (dict,), {"__module__": "datasets.x"})(train=1, test=2),
        r"DatasetDict; .*data\['train'\]",
    ),
    "tensorflow": (
        lambda: named("BatchDataset", "tensorflow", __iter__=lambda self: iter([])),
        r"from_iterable\(dataset.as_numpy_iterator, steps=",
    ),
    "batches of dicts": (
        lambda: data.from_iterable([{"x": X, "y": Y}]),
        r"batch of the stream is dict of 'x', 'y'; .*\(d\['x'\], d\['y'\]\)",
    ),
    "single examples": (
        lambda: data.from_iterable(list(zip(X, Y, strict=True))),
        r"has single examples; .*dataset.batch\(n\)",
    ),
    "fetch of one row": (
        lambda: data.RandomAccessSource(24, lambda rows: (X[rows[0]], Y[rows[0]])),
        r"fetch for 8 row indices has the shapes \[4\], \[\]; expected 8 rows",
    ),
    "inputs in a list": (lambda: ([X, X], Y), "arrays of 2, 24 rows; .*several inputs are a tuple"),
    "columns": (lambda: (dict(enumerate(X.T)), Y), r"the model .* np.stack\(\[\*x.values\(\)\], 1"),
    "no labels": (lambda: (X, None), "the loss does not take the output"),
}


@pytest.mark.parametrize("make, words", NO_PAIRS.values(), ids=NO_PAIRS)
def test_what_is_no_pair_of_arrays(make, words):
    with pytest.raises(ValueError, match=words):
        fit(make())


def test_batches_and_rows_of_lists():
    listed = [(x.tolist(), y.tolist()) for x, y in BATCHES]
    assert fit(data.from_iterable(listed)) == fit(data.from_iterable(BATCHES))
    rows = data.RandomAccessSource(24, lambda rows: (X[rows].tolist(), list(Y[rows])))
    assert fit(rows) == fit((X, Y))
    with pytest.raises(ValueError, match="the result of fetch is ndarray"):
        fit(data.RandomAccessSource(24, lambda rows: X[rows]))


def test_data_frames_of_pandas():
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pd.DataFrame(X, columns=list("abcd"))
    np.testing.assert_array_equal(converted(frame), X)
    np.testing.assert_array_equal(converted(pd.Series(Y)), Y)
    assert fit((frame, pd.Series(Y, index=np.arange(24)[::-1]))) == fit((X, Y))
    mixed = frame.assign(a=frame["a"] > 0, b=np.arange(24))
    assert converted(mixed).tolist() == mixed.astype(float).to_numpy().tolist()
    assert converted(mixed[["b"]]).dtype.kind == "i"
    kinds = {
        r"x\['a'\] has strings": frame.assign(a=WORDS),
        r"x\['c'\] has strings": frame.assign(c=pd.Series(WORDS).astype("category")),
        r"x\['b'\] has times": frame.assign(b=pd.date_range("2020", periods=24)),
        "missing|NaN": frame.assign(d=pd.array([None, *range(23)], dtype="Int64")),
        r"x has 1 values that are NaN .*\(2, 3\)": frame.assign(
            d=frame["d"].where(np.arange(24) != 2)
        ),
    }
    for words, bad in kinds.items():
        with pytest.raises(ValueError, match=f"data: .*{words}"):
            fit((bad, Y))
    with pytest.raises(ValueError, match=r"DataFrame; .*data.drop\(columns='label'\), data\['lab"):
        fit(frame)


def test_data_frames_of_polars():
    pl = pytest.importorskip("polars", reason="polars is not installed")
    frame = pl.DataFrame(X, schema=list("abcd"))
    np.testing.assert_array_equal(converted(frame), X)
    assert fit((frame, pl.Series(Y))) == fit((X, Y))
    kinds = {
        r"x\['s'\] has strings": frame.with_columns(s=pl.Series(WORDS)),
        "x has 1 values that are NaN": frame.with_columns(s=pl.Series([None, *range(23)])),
        r"x is a LazyFrame; expected its values: x.collect\(\)": frame.lazy(),
    }
    for words, bad in kinds.items():
        with pytest.raises(ValueError, match=f"data: {words}"):
            fit((bad, Y))
    with pytest.raises(ValueError, match=r"DataFrame; .*data.drop\('label'\), data\['label'\]"):
        fit(frame)


@pytest.mark.filterwarnings("ignore")
def test_tensors_and_loaders_of_pytorch():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    tensor, labels = torch.tensor(X), torch.tensor(Y)
    for same in (tensor, tensor.T.contiguous().T, torch.nn.Parameter(tensor), list(tensor)):
        np.testing.assert_array_equal(converted(same), X)
    half = converted(tensor.bfloat16())
    assert half.dtype == jnp.bfloat16
    np.testing.assert_array_equal(half.astype(np.float32), tensor.bfloat16().float().numpy())
    assert fit((tensor, labels.long())) == fit((X, Y))
    utils = torch.utils.data
    rows = utils.TensorDataset(tensor, labels)
    assert fit(rows) == fit((X, Y)) == fit(utils.Subset(rows, range(24)))
    assert fit(utils.DataLoader(rows, 8)) == fit(data.from_iterable(BATCHES))

    class Dicts(utils.Dataset):
        def __len__(self):
            return 24

        def __getitem__(self, i):
            return {"image": X[i], "label": Y[i]}

    class Endless(utils.IterableDataset):
        def __iter__(self):
            return iter(BATCHES * 100)

    stream = data.from_iterable(utils.DataLoader(Endless(), batch_size=None), steps=3)
    assert fit(stream) == fit(data.from_iterable(BATCHES))
    for bad, words in (
        ((torch.empty(24, 4, device="meta"), Y), r"x is a tensor on meta; .*x.cpu\(\)"),
        ((tensor.to_sparse(), Y), "torch.sparse_coo, which NumPy cannot hold"),
        (Dicts(), r"a row of the data set is dict of 'image', 'label'; .*d\['image'\]"),
        (utils.DataLoader(Dicts(), 8), "a batch of the stream is dict of 'image', 'label'"),
        (utils.DataLoader(rows, batch_size=None), "single examples; .*batch_size=n"),
        (Endless(), r"data is Endless, .*from_iterable\(DataLoader\(dataset"),
        (utils.DataLoader(Endless(), 8), r"DataLoader without an end; .*from_iterable\(loader, s"),
    ):
        with pytest.raises(ValueError, match=words):
            fit(bad)


@pytest.mark.filterwarnings("ignore")
def test_data_sets_of_grain():
    grain = pytest.importorskip("grain", reason="grain is not installed")
    rows = grain.MapDataset.source(list(zip(X, Y, strict=True)))
    expected = fit(data.from_iterable(BATCHES))
    assert fit(rows.batch(8)) == fit(data.from_grain(rows.batch(8))) == expected
    assert fit(data.from_grain(rows.repeat().batch(8), steps=3)) == expected
    for bad, words in (
        (rows, r"single examples; .*dataset.batch\(n\)"),
        (rows.batch(8).to_iter_dataset(), r"without an end; .*data.from_grain\(loader, steps="),
        (rows.repeat().batch(8), r"without an end; .*data.from_grain\(loader, steps="),
    ):
        with pytest.raises(ValueError, match=words):
            fit(bad)
    with pytest.raises(ValueError, match="repeats without an end; expected steps="):
        data.from_grain(rows.repeat().batch(8))
