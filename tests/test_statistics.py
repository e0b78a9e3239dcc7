"""The paired bootstrap: against a loop, on cases with a known answer, and by how often it holds the truth."""

import numpy as np
import pytest
import scipy.stats

from detbalance.scoring.table import MatchTable
from detbalance.statistics import Summary, interval, paired_interval, paired_intervals, resample, summarise


def tables(scene, seeds, *, spoil=0.0):
    """Runs on one test set; `spoil` is the share of the detections that is lost."""
    annotations, detections = scene(0, images=40)
    result = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        kept = [{**d, "score": d["score"] * rng.uniform(0.8, 1)} for d in detections if rng.random() >= spoil]
        result.append(MatchTable.build(annotations, kept))
    return result


def test_interval_against_a_loop():
    """Seeds drawn in pairs, one fewer than there are, each with the images of its draw."""
    rng = np.random.default_rng(0)
    baseline, remedy = rng.normal(0, 1, (3, 41)), rng.normal(1, 1, (3, 41))
    got = interval(baseline, remedy, images=1_000_000, seed=7, level=0.9)
    chosen = np.random.default_rng((7, 1)).multinomial(2, [1 / 3] * 3, size=40)
    draws = []
    for draw in range(40):
        taken = [s for s in range(3) for _ in range(chosen[draw, s])]
        draws.append(np.mean([remedy[s, draw + 1] - baseline[s, draw + 1] for s in taken]))
    assert got.mean == pytest.approx(np.mean([remedy[s, 0] - baseline[s, 0] for s in range(3)]))
    total, seeds = np.var(draws), np.var((remedy - baseline)[:, 0], ddof=1) / 3
    freedom = total**2 / (min(seeds, total) ** 2 / 2 + (total - min(seeds, total)) ** 2 / 999_999)
    reach = scipy.stats.t.ppf(0.95, freedom) * np.sqrt(total)
    assert (got.low, got.high) == (pytest.approx(got.mean - reach), pytest.approx(got.mean + reach))


def test_one_seed_is_the_bootstrap_over_images_alone():
    values = np.random.default_rng(1).normal(2, 1, (1, 500))
    got = interval(np.zeros_like(values), values, images=1_000_000)
    assert got.mean == values[0, 0]
    assert got.high - got.mean == pytest.approx(1.96 * values[0, 1:].std(), rel=1e-4)


def test_seeds_that_disagree_have_few_degrees_of_freedom():
    """Without any spread over the images the interval is Student's own, of S values."""
    values = np.repeat([[0.0], [1.0], [5.0]], 100_001, axis=1)
    got = interval(np.zeros_like(values), values, images=50)
    assert (got.low, got.high) == pytest.approx(scipy.stats.t.interval(0.95, 2, loc=2, scale=np.sqrt(7 / 3)), rel=0.01)


@pytest.mark.parametrize(("of_seeds", "of_images"), [(1.0, 0.2), (1.0, 1.0), (0.2, 1.0)])
def test_the_interval_holds_the_truth_as_often_as_it_says(of_seeds, of_images):
    """Three seeds, the truth is zero, nominal 95 %. Quantiles of the draws hold it in about 85 % of the first case."""
    rng, images, held = np.random.default_rng(2), 60, []
    for repeat in range(300):
        per_image = of_images * np.sqrt(images) * rng.normal(size=(1, images)) + of_seeds * rng.normal(size=(3, 1))
        weights = rng.multinomial(images, np.full(images, 1 / images), size=200)
        values = np.concatenate((per_image.mean(1)[:, None], per_image @ weights.T / images), axis=1)
        got = interval(np.zeros_like(values), values, images=images, seed=repeat)
        held.append(got.low <= 0 <= got.high)
    assert 0.91 <= np.mean(held) <= 0.995


def test_what_does_not_exist_is_none():
    nothing = np.full((2, 11), np.nan)
    assert interval(nothing, nothing, images=5) is None
    some = np.zeros((2, 11))
    some[:, 4] = np.nan  # a draw without any object of the class
    assert interval(some, some + 1, images=5).mean == 1


def test_equal_runs_differ_by_nothing(scene):
    runs = tables(scene, (0, 1))
    got = paired_interval(runs, runs, "AP", draws=50)
    assert (got.mean, got.low, got.high, got.clear) == (0, 0, 0, False)


def test_a_clear_loss_is_seen_and_pairing_pays(scene):
    baseline, worse = tables(scene, (0, 1, 2)), tables(scene, (0, 1, 2), spoil=0.5)
    metrics = ["AP", "AP50", "AP_large", "AP/c0", "oLRP", "TIDE/Miss"]
    found = paired_intervals(baseline, worse, metrics, draws=200)
    assert found["AP"].clear
    assert found["AP"].high < 0
    assert not found["oLRP"].clear
    assert found["AP"].low <= found["AP"].mean <= found["AP"].high
    assert paired_interval(baseline, worse, "AP", draws=200) == found["AP"]
    sides = [resample(runs, ["AP"], draws=200, seed=seed)["AP"] for runs, seed in ((baseline, 0), (worse, 9))]
    unpaired = interval(*sides, images=40)
    assert unpaired.high - unpaired.low > 1.2 * (found["AP"].high - found["AP"].low)


def test_same_seed_same_interval(scene):
    runs, other = tables(scene, (0, 1)), tables(scene, (2, 3), spoil=0.2)
    assert paired_interval(runs, other, draws=50) == paired_interval(runs, other, draws=50)
    assert paired_interval(runs, other, draws=50) != paired_interval(runs, other, draws=50, seed=1)


@pytest.mark.parametrize("metric", ["AP51", "AP/unknown", "AP50_small", "TIDE/Nope", "TIDE", "AP_tiny", ""])
def test_unknown_metrics_are_named(scene, metric):
    with pytest.raises(ValueError, match="expected a metric"):
        resample(tables(scene, (0,)), [metric], draws=1)


def test_bad_arguments(scene):
    runs = tables(scene, (0, 1))
    with pytest.raises(ValueError, match="as many runs"):
        paired_interval(runs, runs[:1])
    with pytest.raises(ValueError, match="as many runs"):
        paired_interval([], [])
    with pytest.raises(ValueError, match="groups"):
        paired_interval(runs, runs, "AP_rare")
    small = MatchTable.build(*scene(0, images=5))
    with pytest.raises(ValueError, match="same test images"):
        resample([runs[0], small], ["AP"])


def test_summarise():
    assert summarise([0.25, None, 0.75]) == Summary(mean=0.5, std=pytest.approx(0.125**0.5), count=2)
    assert summarise([0.5]) == Summary(mean=0.5, std=None, count=1)
    assert summarise([None]) == Summary(mean=None, std=None, count=0)
