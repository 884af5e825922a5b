"""The lectures' claims: every verdict computed again from the committed numbers.

A test is named after its claim's experiment and reads its committed result; without that file it
fails. It computes the outcome from the curves and values of each seed, by bounds of its own, and
compares the summaries with the values, and the outcome with that of the experiment's `judge`.
`tests/test_claims_small.py` trains small networks for the direction of the claims.
"""

import copy
import json
import math

import numpy as np
import pytest

from experiments import _claim, _run, deep_or_fat

CLAIMS = dict(_claim.modules())
RESULTS = _run.HERE / "results"


def load(name):
    return json.loads((RESULTS / f"{name}.json").read_text("utf-8"))


@pytest.fixture
def result(request):
    return load(request.function.__name__.removeprefix("test_"))


def confirm(result, expected, shown, whole, seeds):
    """Compares the outcome: as documented, from the test's bounds, and from `judge`.

    Args:
      expected: the outcome as the documentation reports it.
      shown: whether the direction of the claim is shown.
      whole: whether every part of it is.
      seeds: how many there must be for each quantity.
    """
    outcome = "holds" if shown and whole else "holds in part" if shown else "does not hold"
    judged = CLAIMS[result["experiment"]].judge(result["metrics"])
    assert outcome == expected == judged.outcome
    assert result["config"]["smoke"] is False
    assert {spread["seeds"] for spread in result["metrics"]["measured"].values()} == {*seeds}


def same(measured, values):
    """Compares spreads with the values they are of, which the file has to four digits.

    Returns:
      The means of the values, in their order.
    """
    for name, of in values.items():
        spread, near = measured[name], 1e-3 * max(1e-4, np.abs(of).max())
        assert spread["mean"] == pytest.approx(np.mean(of), abs=near), name
        assert spread["deviation"] == pytest.approx(np.std(of, ddof=len(of) > 1), abs=near), name
        assert spread["seeds"] == len(of), name
    return [np.mean(of) for of in values.values()]


def last(curves):
    """Returns the values of the last epoch, by name, of curves (seeds, epochs)."""
    return {name: np.array(values)[:, -1] for name, values in curves.items()}


def mean(spreads, *names):
    return [spreads[name]["mean"] for name in names or spreads]


@pytest.mark.row("T01", "C10")
def test_loss_choice(result):
    m = result["metrics"]
    low, high = same(m["measured"], last(m["accuracy"]))
    few_low, few_high = mean(m["few"], "squared error", "cross-entropy")
    ahead = high - low > 0.15 and few_high - few_low > 0.4 and few_high > 0.85
    confirm(result, "holds in part", ahead, low < 0.15, seeds=[5])
    scores = np.zeros((61, 10))
    scores[:, 1] = m["sure"]
    shares = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    error = shares - np.eye(10)[0]
    through = 0.2 * shares * (error - (shares * error).sum(1, keepdims=True))
    for name, slopes in (("cross-entropy", error), ("squared error", through)):
        norms = np.linalg.norm(slopes, axis=1)
        np.testing.assert_allclose(m["slopes"][name], norms, rtol=1e-3, atol=1e-6)


@pytest.mark.row("S04", "S05", "S06", "D09")
def test_backprop_by_hand(result):
    m = result["metrics"]
    x, y = np.array([0.5, 0.3]), np.array([0.23, -0.07])
    first, second = np.array([[0.2, -0.4], [0.5, 0.6]]), np.array([[0.1, -0.5], [-0.3, 0.8]])
    h = 1 / (1 + np.exp(-x @ first))
    o = 1 / (1 + np.exp(-h @ second))
    delta_o = (o - y) * o * (1 - o)
    delta_h = second @ delta_o * h * (1 - h)
    gradients = [*np.outer(x, delta_h).ravel(), *np.outer(h, delta_o).ravel()]
    units = {"h1": h[0], "h2": h[1], "o1": o[0], "o2": o[1], "E": np.sum((o - y) ** 2) / 2}
    for name, value in units.items():
        assert m["values"][name] == pytest.approx(value, rel=1e-5)
    for name, value in zip(("h1", "h2", "o1", "o2"), [*delta_h, *delta_o], strict=True):
        assert m["deltas"][name] == pytest.approx(value, rel=1e-5)
    assert [*m["gradients"].values()] == pytest.approx(gradients, rel=1e-5)
    slide = [0.014583332266596982, 0.013041100817357862, 0.008749999359958188, 0.007824660490414716]
    assert [*m["slide"].values()] == pytest.approx(slide, rel=1e-5)
    exact = [0.2097097937078311, gradients[4], gradients[7], gradients[0], 0.19503259609013654]
    assert mean(m["measured"]) == pytest.approx(exact, rel=1e-14)
    assert m["error after the slide's step"] == pytest.approx(0.19533592188005747, rel=1e-14)
    apart = m["largest difference"]
    assert apart["jax.grad"] < 1e-15 and 0 < apart["differences"] < 1e-9
    right = np.array(slide) * gradients[:4] > 0
    confirm(result, "holds in part", shown=True, whole=right.all(), seeds=[0])


@pytest.mark.row("A08", "A09")
def test_xor(result):
    m = result["metrics"]
    same(m["measured"], m["accuracy"])
    one, two = (np.array(m["accuracy"][name]) for name in ("no hidden layer", "hidden layer"))
    assert {*one, *two} <= {0, 0.25, 0.5, 0.75, 1}
    plain, bent = mean(m["losses"], "no hidden layer", "hidden layer")
    assert plain == pytest.approx(math.log(2), abs=1e-5) and bent < 1e-3
    assert np.array(m["curves"]["no hidden layer"])[:, -1].min() > 0.69
    confirm(result, "holds", max(one) < 1 == max(two), min(two) == 1, seeds=[20])


def deep(result, better, expected, gap, least, seeds):
    m, worse = result["metrics"], "9 layers, sigmoid"
    low, high = same(m["measured"], last(m["accuracy"]))
    few_low, few_high = mean(m["few"], worse, better)
    small, large = (m["norms"][name][0] / m["norms"][name][-1] for name in (worse, better))
    assert [small, large] == pytest.approx([*m["input_over_output"].values()], rel=2e-3)
    ahead = high > least and min(high - low, few_high - few_low) > gap
    confirm(result, expected, ahead, low < 0.15 and small < 1e-4 and large > 0.02, seeds)


@pytest.mark.row("T03", "D13")
def test_depth_sigmoid(result):
    deep(result, "3 layers, sigmoid", "holds", gap=0.7, least=0.9, seeds=[3, 5])


@pytest.mark.row("T04", "D13")
def test_depth_relu(result):
    deep(result, "9 layers, ReLU", "holds", gap=0.8, least=0.96, seeds=[3])


@pytest.mark.row("T02")
def test_minibatch(result):
    m = result["metrics"]
    small, full = same(m["measured"], last(m["accuracy"]))
    few_small, few_full = mean(m["few"], "mini-batch", "full batch")
    cosines = [np.mean(row) for row in m["cosines"]]
    assert m["sizes"] == [1, 10, 100, 1000] and cosines == sorted(cosines)
    assert cosines[2] == pytest.approx(m["cosine_of_100"], abs=1e-3)
    deviation = np.std(last(m["accuracy"])["full batch"], ddof=1)
    met = small > 0.84 and full < 0.12 + 2 * deviation and cosines[2] > 0.8
    confirm(result, "holds", min(small - full, few_small - few_full) > 0.5, met, seeds=[5])


@pytest.mark.row("D17", "D18", "D19", "D13")
def test_initialization(result):
    m = result["metrics"]
    small, _, he, lsuv, large = same(m["measured"], last(m["accuracy"]))
    sigmoid, machines, relu = same(m["measured"], m["few"])
    signal = {name: values[-1] for name, values in m["deviations"].items()}
    assert 0.9 < signal["LSUV"] < 1.1 and 0.1 < signal["He"] < 10
    assert signal["too small"] < 1e-8 < signal["Glorot"] and signal["too large"] > 1e5
    trains = min(he, lsuv) > 0.95 and max(small, large) < 0.15
    assert relu > machines - 0.05 and machines > 0.8
    confirm(result, "holds in part", trains, sigmoid > machines - 0.05, seeds=[5])


@pytest.mark.row("D05")
def test_learning_rate(result):
    m = result["metrics"]
    losses, rates = np.array(m["losses"]), np.array(m["rates"])
    middle = np.median(losses, 0)
    best = middle.argmin()
    same(
        m["measured"],
        {"too small": losses[:, 0], "right": losses[:, best], "too large": losses[:, -1]},
    )
    np.testing.assert_allclose(rates, 10.0 ** np.arange(-4, 2.01, 0.5))
    ends = m["quadratic"]["0.99"], m["quadratic"]["1.01"]
    np.testing.assert_allclose(ends, [0.98**2000, 1.02**2000], rtol=1e-9)
    assert np.all(middle[rates > 10 * m["threshold"]] > math.log(10))
    parts = middle[0] > 2 and middle[best] < 0.1 and middle[-1] > math.log(10)
    confirm(result, "holds", parts, 1e-3 < rates[best] < 10, seeds=[5])


@pytest.mark.row("A15")
def test_modular(result):
    m = result["metrics"]
    few = {name: values[m["examples"].index(10)] for name, values in m["curves"].items()}
    same(m["measured"], few)
    one, basic, shared = (np.array(few[name]) for name in m["measured"])
    assert np.all(basic > one) and np.all(shared > one)
    one, basic, shared = (np.mean(m["curves"][name], 1) for name in m["measured"])
    others = [m["others"]["10"][name] for name in m["measured"]]
    ahead = min(basic - one) > 0.1 and basic[3] > one[3] + 0.2
    confirm(result, "holds", ahead, min(shared - one) > 0.1 and min(others) == others[0], seeds=[5])


@pytest.mark.row("T05", "E02")
def test_noisy_test(result):
    m = result["metrics"]
    falls = [np.mean(values) for values in m["falls"].values()]
    assert falls == sorted(falls, reverse=True) and [*m["falls"]][4] == "1.0"
    values = {"clean test images": m["falls"]["0.0"], "noisy test images": m["falls"]["1.0"]}
    clean, noisy = same(m["measured"], values)
    (seen,) = same(m["measured"], {"training images": np.array(m["training"])[:, -1]})
    assert m["moved"] == pytest.approx(28, abs=0.1)  # the norm of 784 unit normal numbers
    shown = clean > 0.97 and clean - noisy > 0.3 and seen > clean
    confirm(result, "holds", shown, 0.4 < noisy / clean < 0.6, seeds=[5])


@pytest.mark.row("E01")
def test_overfit_or_not(result):
    m = result["metrics"]
    same(m["measured"], m["accuracy"])
    accuracy = {name: np.array(values) for name, values in m["accuracy"].items()}
    kinds = "too small", "few images", "many images"
    seen = [accuracy[f"{kind}, in training"].mean() for kind in kinds]
    gap = [low - accuracy[kind].mean() for kind, low in zip(kinds, seen, strict=True)]
    own = [
        "training" if high < 0.95 else "overfitting" if apart > 0.1 else "none"
        for high, apart in zip(seen, gap, strict=True)
    ]
    assert own == [m["diagnoses"][kind] for kind in kinds]
    gains = [accuracy[f"{kind}, dropout"] - accuracy[kind] for kind in kinds[:2]]
    cured = np.all(gains[0] < 0) and gains[1].mean() > gains[1].std(ddof=1)
    confirm(result, "holds", own == ["training", "overfitting", "none"], cured, seeds=[5])


@pytest.mark.row("E10", "T13")
def test_random_labels(result):
    m = result["metrics"]
    parts = {
        part: {name: values[part] for name, values in m["accuracy"].items()}
        for part in ("training", "test")
    }
    accuracy = same(m["measured"], parts["training"])
    unseen = same(m["test"], parts["test"])
    assert unseen[0] > 0.9  # true labels
    for name, curves in m["training"].items():
        epochs = 300 if name.endswith("regularized") else 150
        assert np.shape(curves) == (5, epochs) and np.mean(curves, 0)[-1] > 0.99
    confirm(
        result,
        "holds in part",
        min(accuracy) > 0.97 and max(unseen[1:]) < 0.15,
        min(accuracy) == 1,
        seeds=[5],
    )


@pytest.mark.row("A13")
def test_universal_approximation(result):
    m = result["metrics"]
    wave, bump = (np.array(m["errors"][name]) for name in ("sin(3 pi x)", "a bump in the plane"))
    assert m["widths"] == [4, 8, 16, 32, 64]
    same(m["measured"], {f"width {w}": row for w, row in zip(m["widths"], wave, strict=True)})
    means = np.stack([wave.mean(1), bump.mean(1)])
    falls = np.all(means[:, 4] < 0.2 * means[:, 0]) and wave.min() < 0.02
    confirm(result, "holds in part", falls, np.all(np.diff(means) < 0), seeds=[5])


@pytest.mark.row("A14", "T06", "T07")
def test_deep_or_fat(result):
    m = result["metrics"]
    best = {name: min(rows, key=np.mean) for name, rows in m["digits"].items()}
    same(m["measured"], best)
    same(m["measured"], {f"tents, {name}": values for name, values in m["errors"].items()})
    assert m["parameters"].items() >= {"tents, fat": 31, "tents, deep": 31}.items()
    sizes = [m["parameters"][f"sum of two digits, {kind}"] for kind in ("fat", "deep")]
    assert sizes[0] == pytest.approx(sizes[1], rel=1e-3)
    assert m["speech"] == {
        shape: {"error": rate, "parameters": deep_or_fat.speech_parameters(shape)}
        for shape, rate in deep_or_fat.SEIDE.items()
    }
    fat, deep = (np.array(best[f"sum of two digits, {kind}"]) for kind in ("fat", "deep"))
    random = fat.mean() - deep.mean() > math.sqrt(2 * (fat.var(ddof=1) + deep.var(ddof=1)))
    known = max(m["errors"]["deep"]) < 0.2 * min(m["errors"]["fat"])
    confirm(result, "holds", known or random, known and random, seeds=[5, 10])


@pytest.mark.row("T06", "T07")
def test_the_lectures_speech_networks_are_paired_by_their_parameters():
    rates = {"1": 24.2, "2": 20.4, "3": 18.4, "4": 17.8, "5": 17.2, "7": 17.1}
    deep = {f"{layers} x 2048": rate for layers, rate in rates.items()}
    fat = {"1 x 3772": 22.5, "1 x 4634": 22.6, "1 x 16384": 22.1}
    assert deep_or_fat.SEIDE == deep | fat
    count = deep_or_fat.speech_parameters
    assert (count("5 x 2048"), count("1 x 3772")) == (36_729_944, 36_725_952)
    assert (count("7 x 2048"), count("1 x 4634")) == (45_122_648, 45_116_660)
    assert count("1 x 16384") == 159_491_160


@pytest.mark.row("G05", "T11")
def test_plain_56(result):
    m = result["metrics"]
    same(m["measured"], last(m["training"]))

    def difference(part, kind):
        few, many = (last(m[part])[f"{kind}, {depth}"] for depth in (20, 56))
        return many.mean() - few.mean()

    worst = {name: values.max() for name, values in last(m["training"]).items()}
    assert worst["plain, 20"] < 0.01 and worst["residual, 56"] < 0.01
    assert last(m["training"])["plain, 56"].min() > 0.1  # all three seeds, far beyond chance
    shown = difference("training", "plain") > 0.1 and difference("test", "plain") > 0.1
    confirm(result, "holds", shown, difference("training", "residual") < 0.01, seeds=[3])


@pytest.mark.row("G06")
def test_resnet_paths(result):
    m = result["metrics"]
    whole, less = {}, {}
    for kind in ("residual", "plain"):
        errors = dict(m["error"][kind])
        whole[kind] = errors.pop("none")
        less[kind] = np.mean([*errors.values()])
        assert [whole[kind], less[kind]] == pytest.approx(
            mean(m["measured"], f"{kind}, whole", f"{kind}, one block less")
        )
    shares, sizes = (np.array(values) for values in m["lengths"].values())
    blocks = len(shares) - 1
    paths = [math.comb(blocks, length) / 2**blocks for length in range(blocks + 1)]
    np.testing.assert_allclose(shares, paths, rtol=1e-3)
    effective = (shares * sizes) @ np.arange(blocks + 1) / (shares @ sizes)
    assert blocks == 27 and m["sum_of_paths"] < 1e-5 and effective < blocks / 2
    assert m["three_blocks"] == {"0": 1, "2": 3, "4": 3, "6": 1}
    noise = max(spread["deviation"] for spread in m["measured"].values())
    one = less["plain"] - whole["plain"] - (less["residual"] - whole["residual"]) > noise

    def graceful(name):
        removed = np.array(m["left"][name]["removed"])
        left = np.mean(m["left"][name]["accuracy"], (1, 2)) - 0.1
        return left[np.abs(removed - removed[-1] / 4).argmin()] > left[0] / 2

    several = graceful("residual, 20") and graceful("residual, 56")
    confirm(result, "holds in part", one, several, seeds=[3])


@pytest.mark.row("E03", "E04", "E09")
def test_regularization(result):
    m = result["metrics"]
    losses = {f"loss, {name}": np.array(values) for name, values in m["losses"].items()}
    same(m["measured"], {n: np.array(v) for n, v in m["accuracy"].items()} | losses)
    nothing = m["measured"]["nothing"]

    def helps(name):
        spread = m["measured"][name]
        of = np.hypot(*(s["deviation"] / math.sqrt(s["seeds"]) for s in (spread, nothing)))
        return spread["mean"] - nothing["mean"] > 2 * of

    stops = helps("stopped by loss") or helps("stopped by accuracy")
    decays = helps("weight decay 0.01") or helps("weight decay 0.0005")
    cures = helps("turned images"), helps("ensemble"), helps("dropout"), stops, decays
    assert cures[:2] == (True, True)
    confirm(result, "holds in part", any(cures), all(cures), seeds=[5, 25])


@pytest.mark.row("D06", "D07")
def test_optimizers(result):
    m = result["metrics"]
    rates = [m["rates"].index(rate) for rate in m["best"].values()]
    losses = {n: np.array(m["losses"][n])[:, i] for n, i in zip(m["best"], rates, strict=True)}
    same(m["measured"], losses)
    assert all(
        np.median(m["losses"][n], 0).argmin() == i for n, i in zip(losses, rates, strict=True)
    )
    sgd = losses.pop("SGD")
    ahead = {
        name: sgd.mean() - of.mean() > max(sgd.std(ddof=1), of.std(ddof=1))
        and m["ravine"][name] < m["ravine"]["SGD"]
        for name, of in losses.items()
    }
    shown = ahead["momentum"] and ahead["Adam"]
    confirm(result, "holds in part", shown, all(ahead.values()), seeds=[5])


@pytest.mark.row("E11")
def test_double_descent(result):
    m = result["metrics"]
    error = np.array(m["curves"]["test"])
    middle, shares = error.mean(0), np.array(m["shares"])
    peak = middle.argmax()
    first = middle[:peak].argmin()
    values = {"before the peak": error[:, first], "at the peak": error[:, peak]}
    before, top, after = same(m["measured"], values | {"beyond it": error[:, -1]})
    size = np.mean(m["curves"]["size of the weights"], 0)
    training = np.mean(m["curves"]["training"], 0)
    assert size.argmax() == peak and training[peak:].max() < 0.05 < training[first]
    shown = min(top - before, top - after) > 0.2 and after < before
    confirm(result, "holds", shown, abs(shares[peak] - 1) < 0.11, seeds=[10])


@pytest.mark.row("R02", "T14")
def test_adversarial(result):
    m = result["metrics"]
    index = m["sizes"].index(0.1)
    values = {"clean": m["curves"]["one step"][0]}
    values |= {name: rows[index] for name, rows in m["curves"].items()}
    clean, noise, one, forty = same(
        m["measured"], {n: values[n] for n in ("clean", "noise by lot", "one step", "forty steps")}
    )
    assert one > 0.1  # a single step is not enough, which the reason says
    shown = clean > 0.95 and forty < 0.1 and noise > clean - 0.05
    confirm(result, "holds", shown, whole=True, seeds=[5])


@pytest.mark.row("J17")
def test_long_memory(result):
    m = result["metrics"]
    longest = {"recall": "400", "copying": "100", "adding": "200"}
    scores = {
        f"{task}: {cell}": values
        for task, length in longest.items()
        for cell, values in m["scores"][task][length].items()
    }
    same(m["measured"], scores)

    def shown(task):
        solved = {
            cell: np.all(np.array(scores[f"{task}: {cell}"]) < 1 / 60)
            if task == "adding"
            else np.all(np.array(scores[f"{task}: {cell}"]) > 0.9)
            for cell in ("Elman", "LSTM", "GRU")
        }
        return solved["LSTM"] and solved["GRU"] and not solved["Elman"]

    parts = [shown(task) for task in longest]
    reach = m["reach_of_the_last_error"]
    assert reach["Elman"] < 1e-4 < min(reach["LSTM"], reach["GRU"])
    confirm(result, "holds in part", any(parts), all(parts), seeds=[3])


@pytest.mark.row("A16", "A17")
def test_hand_made(result):
    m = result["metrics"]
    same(m["measured"], last(m["accuracy"]))
    pixels, bag, hog, learned = (
        last(m["accuracy"])[name] for name in ("pixels", "bag of words", "HOG", "end to end")
    )
    assert m["images"] == 10_000
    assert 0.9 < pixels.min() and pixels.max() < 0.92
    assert 0.945 < bag.min() and bag.max() < 0.965
    above_words = learned.min() > bag.max() + 0.01
    assert min(learned.min(), hog.min()) > 0.97
    confirm(result, "holds in part", above_words, learned.min() > hog.max(), seeds=[5])


@pytest.mark.row("X03")
def test_epoch_seconds(result):
    m = result["metrics"]
    largest = list(m["epoch_seconds"].values())[-1]
    seconds = {f"{kind}, seconds": np.array(values) for kind, values in largest.items()}
    same(m["measured"], last(m["accuracy"]) | seconds)
    small, full = (last(m["accuracy"])[kind] for kind in ("mini-batch", "full batch"))
    ratios = [min(t["mini-batch"]) / min(t["full batch"]) for t in m["epoch_seconds"].values()]
    assert len(ratios) == 2 and ratios[1] < 1
    better = small.min() > full.max() and small.mean() > full.mean() + 0.1
    confirm(result, "holds", better, max(ratios) <= 1.1, seeds=[3, 5])


@pytest.mark.row("X04")
def test_linear_pieces(result):
    m = result["metrics"]
    pieces = {
        f"{kind}, {layers} x {m['widths'][j]}": np.array(m["pieces"][kind][i][j])
        for kind in ("random", "trained")
        for i, layers in enumerate(m["layers"])
        for j in (0, -1)
    }
    same(m["measured"], pieces)
    assert m["widths"] == [4, 8, 16, 32, 64] and m["layers"] == [1, 3]
    for values in m["pieces"].values():
        counts = np.mean(values, -1)
        assert np.all(np.diff(counts, axis=1) > 0)
        assert np.all(counts[0] <= np.array(m["widths"]) + 1)  # one hidden layer
        assert counts[1, -1] > 2 * counts[0, -1]
    confirm(result, "holds", True, True, seeds=[5])


@pytest.mark.row("X05")
def test_smaller_loss(result):
    m = result["metrics"]
    early = m["epochs"].index(10), 0
    places = {"early": early, "end": (-1, 0), "weight decay": (-1, 1)}
    values = {name: np.array(array) for name, array in m["by_epoch"].items()}
    measures = ("loss", "under attack", "with noise")
    chosen = {f"{of}, {name}": values[of][places[name]] for of in measures for name in places}
    same(m["measured"], chosen)
    less_robust = True
    for other in (early, (-1, 1)):
        assert np.all(values["loss"][-1, 0] < 0.5 * values["loss"][other])
        attacked = values["under attack"]
        less_robust &= bool(np.all(attacked[-1, 0] < attacked[other] - 0.03))
    confirm(result, "does not hold", not less_robust, False, seeds=[5])


@pytest.mark.row("X06")
def test_attention_in_image(result):
    m = result["metrics"]
    values = {name: np.array(array) for name, array in m["values"].items()}
    same(m["measured"], values)
    ideal, real, random = (
        values[f"fall, {name}"]
        for name in ("activation maximization", "input x gradient", "random pixels")
    )
    assert np.all(ideal > random) and real.mean() > 0.8
    both, two = (values[f"correlation {of}"] for of in ("of both pictures", "between two images"))
    shown = bool(np.all(real > ideal) and np.all(both < two))
    confirm(result, "holds in part", shown, ideal.mean() < (random + real).mean() / 2, seeds=[5])


@pytest.mark.row("X07")
def test_rare_cases(result):
    m = result["metrics"]
    tail, full, turned = (np.array(m[name]) for name in ("tail", "full", "turned"))
    frequent, rare, all_images = tail[:, :3].mean(1), tail[:, -3:].mean(1), full[:, -3:].mean(1)
    upright, sixty = turned[:, 0], turned[:, m["angles"].index(60)]
    of = dict(zip(m["measured"], (frequent, rare, all_images, upright, sixty), strict=True))
    assert list(of) == [
        *("frequent digits", "rare digits", "rare digits, all images"),
        *("upright", "turned by 60 degrees"),
    ]
    same(m["measured"], of)
    seldom = all(
        np.all(rare < other) and other.mean() - rare.mean() > 0.15
        for other in (frequent, all_images)
    )
    extreme = sixty.mean() < upright.mean() / 2
    confirm(result, "holds", seldom or extreme, seldom and extreme, seeds=[5])


@pytest.mark.row("X08")
def test_how_large(result):
    m = result["metrics"]
    lead, error, values = [], [], {}
    for task in ("few images", "many images"):
        test, validation = (np.array(m["accuracy"][task][part]) for part in ("test", "validation"))
        chosen = np.unravel_index(validation.mean(-1).argmax(), test.shape[:2])
        one, four = test[-1, 0], test[-1, -1]
        values |= {f"{task}, one layer": one, f"{task}, four layers": four}
        values |= {f"{task}, chosen": test[chosen]}
        means = test.mean(-1)
        assert means.shape == (6, 4) and np.ptp(means) > 0.1 and means.max() - means[chosen] <= 0.01
        lead.append((four - one).mean())
        error.append((four - one).std(ddof=1) / len(one) ** 0.5)
    same(m["measured"], values)
    differ = lead[0] < -2 * error[0] and lead[1] > 2 * error[1]
    confirm(result, "holds", True, differ, seeds=[5])


@pytest.mark.row("X09")
def test_missing_units(result):
    m = result["metrics"]
    half, values = m["shares"].index(0.5), {}
    for name, accuracy in m["accuracy"].items():
        values |= {name: np.array(accuracy[0]), f"{name}, half removed": np.array(accuracy[half])}
    same(m["measured"], values)
    plain, *dropped = (np.array(accuracy) for accuracy in m["accuracy"].values())
    ahead = all(
        a[half].min() > plain[half].max() and a[half].mean() > plain[half].mean() + 0.1
        for a in dropped
    )
    level = all(a[0].mean() > plain[0].mean() - 0.01 for a in dropped)
    confirm(result, "holds", ahead, level, seeds=[5])


TESTS = {
    name.removeprefix("test_"): function
    for name, function in globals().items()
    if name.removeprefix("test_") in CLAIMS
}
EXCHANGED = {
    "adversarial": ("clean", "forty steps"),
    "attention_in_image": ("fall, activation maximization", "fall, input x gradient"),
    "backprop_by_hand": ("gradient of w5", "gradient of w8"),
    "deep_or_fat": ("sum of two digits, fat", "sum of two digits, deep"),
    "depth_relu": ("9 layers, sigmoid", "9 layers, ReLU"),
    "depth_sigmoid": ("9 layers, sigmoid", "3 layers, sigmoid"),
    "double_descent": ("before the peak", "at the peak"),
    "epoch_seconds": ("mini-batch", "full batch"),
    "hand_made": ("bag of words", "end to end"),
    "how_large": ("few images", "many images"),
    "initialization": ("too small", "He"),
    "learning_rate": ("right", "too large"),
    "linear_pieces": ("random, 1 x 4", "random, 1 x 64"),
    "long_memory": ("Elman", "LSTM"),
    "loss_choice": ("squared error", "cross-entropy"),
    "missing_units": ("no dropout", "dropout 0.5"),
    "minibatch": ("mini-batch", "full batch"),
    "modular": ("one of twenty", "basic classifiers"),
    "noisy_test": ("clean test images", "noisy test images"),
    "optimizers": ("SGD", "Adam"),
    "overfit_or_not": ("few images", "few images, dropout"),
    "plain_56": ("plain, 20", "plain, 56"),
    "random_labels": ("true labels", "random labels"),
    "rare_cases": ("tail", "full"),
    "regularization": ("nothing", "turned images"),
    "resnet_paths": ("residual", "plain"),
    "smaller_loss": ("loss", "under attack"),
    "universal_approximation": ("width 4", "width 64"),
    "xor": ("no hidden layer", "hidden layer"),
}
"""For each claim two names; with one's numbers for the other's it must not be confirmed."""


def test_every_claim_has_its_test_and_no_rows_of_another():
    assert set(TESTS) == set(CLAIMS) == set(EXCHANGED)
    for name, function in TESTS.items():
        rows = {row for mark in function.pytestmark for row in mark.args}
        assert rows and rows <= set(CLAIMS[name].CLAIM.rows), name


def exchange(tree, one, other):
    """Returns nested dicts in which two keys have each other's values."""
    if not isinstance(tree, dict):
        return tree
    names = {one: other, other: one} if {one, other} <= set(tree) else {}
    return {key: exchange(tree[names.get(key, key)], one, other) for key in tree}


def changes(result):
    """Yields the result with names exchanged, as a smoke run, and with another mean or seeds."""
    measured = result["metrics"]["measured"]
    one, other = EXCHANGED[result["experiment"]]
    yield "exchanged", result | {"metrics": exchange(result["metrics"], one, other)}
    yield "smoke", result | {"config": result["config"] | {"smoke": True}}
    for name, spread in measured.items():
        for change in ({"mean": spread["mean"] + 0.1}, {"seeds": spread["seeds"] - 1}):
            altered = measured | {name: spread | change}
            yield (
                f"{name} {change}",
                result | {"metrics": result["metrics"] | {"measured": altered}},
            )


@pytest.mark.parametrize("name", CLAIMS)
def test_altered_numbers_are_noticed(name, monkeypatch, tmp_path):
    result = load(name)
    TESTS[name](copy.deepcopy(result))
    for change, altered in changes(result):
        with pytest.raises((AssertionError, KeyError, ValueError)):
            TESTS[name](altered)
            pytest.fail(f"{name}: not noticed: {change}")
    monkeypatch.setitem(globals(), "RESULTS", tmp_path)
    with pytest.raises(FileNotFoundError):
        load(name)
