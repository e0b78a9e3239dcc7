"""The resampler against counting one by one, and its intervals against the normal approximation."""

import numpy as np
import pytest

from detbalance.diagnosis import bootstrap
from detbalance.diagnosis.bootstrap import Resampler, binned


def naive(sampler, image, bucket, bins, weights):
    table = np.zeros((sampler.repeats, bins))
    for repeat in range(sampler.repeats):
        for i, b, w in zip(image, bucket, weights):
            table[repeat, b] += sampler.weights[repeat, i] * w
    return table


@pytest.fixture
def items():
    rng = np.random.default_rng(0)
    return np.sort(rng.integers(0, 9, 60)), rng.integers(0, 5, 60), rng.integers(1, 7, 60)


@pytest.mark.parametrize("cells", [1, 17, 10**6])
def test_histogram_counts_what_is_drawn(items, cells, monkeypatch):
    monkeypatch.setattr(bootstrap, "_CELLS", cells)
    image, bucket, weights = items
    sampler = Resampler(10, repeats=4)
    assert np.array_equal(sampler.histogram(image, bucket, 5), naive(sampler, image, bucket, 5, np.ones(60)))
    assert np.array_equal(sampler.histogram(image, bucket, 5, weights), naive(sampler, image, bucket, 5, weights))


def test_both_ways_of_counting_agree(items):
    image, bucket, weights = items
    sampler = Resampler(10, repeats=4)
    sparse = sampler.histogram(image, bucket, 5000, weights)  # the sparse way is taken
    assert np.array_equal(sparse[:, :5], sampler.histogram(image, bucket, 5, weights))
    assert not sparse[:, 5:].any()


def test_totals_are_weighted_sums(items):
    values = np.random.default_rng(1).random((10, 3))
    sampler = Resampler(10, repeats=6)
    assert np.allclose(
        sampler.totals(values), [[(w * c).sum() for c in values.T] for w in sampler.weights.astype(float)]
    )


def test_every_repeat_draws_as_many_images_as_there_are():
    assert (Resampler(50, 7).weights.sum(1) == 50).all()
    assert (Resampler(50, 7, draws=20).weights.sum(1) == 20).all()
    assert np.array_equal(Resampler(50, 7, seed=3).weights, Resampler(50, 7, seed=3).weights)
    assert not np.array_equal(Resampler(50, 7, seed=3).weights, Resampler(50, 7, seed=4).weights)


def test_interval_of_a_share_is_the_normal_approximations():
    rng = np.random.default_rng(0)
    images, share = 400, 0.3
    bucket = (rng.random(images) < share).astype(int)
    value, (low, high) = Resampler(images, 2000).of_counts(
        lambda counts: counts[..., 1] / counts.sum(-1), np.arange(images), bucket, 2
    )
    half = 1.96 * np.sqrt(value * (1 - value) / images)
    assert value == bucket.mean()
    assert (low, high) == pytest.approx((value - half, value + half), abs=half / 8)


def test_boxes_of_an_image_are_drawn_together():
    rng = np.random.default_rng(0)
    bucket = (rng.random(100) < 0.5).astype(int)

    def width(copies):
        image = np.repeat(np.arange(100), copies)
        share = lambda counts: counts[..., 1] / counts.sum(-1)  # noqa: E731
        low, high = Resampler(100, 500).of_counts(share, image, np.repeat(bucket, copies), 2)[1]
        return high - low

    assert width(9) == pytest.approx(width(1))  # nine equal boxes an image tell no more than one


def test_interval_holds_the_value_and_stays_in_its_range():
    sampler = Resampler(5, 100)
    low, high = sampler.interval(0.9, np.linspace(0.95, 1.0, 100))
    assert 0 <= low <= 0.9 <= high <= 1
    assert sampler.interval(0.5, np.zeros(0)) is None


def test_no_images_and_no_repeats():
    assert Resampler(0, 5).histogram(np.zeros(0, int), np.zeros(0, int), 3).tolist() == [[0, 0, 0]] * 5
    assert Resampler(4, 0).of_counts(lambda c: c.sum(-1), np.arange(4), np.arange(4), 4) == (4.0, None)
    with pytest.raises(ValueError, match="bootstrap"):
        Resampler(4, -1)


def test_values_are_measured_exactly_and_resampled_in_bins():
    values = np.array([0.0, 0.1, 0.4])
    value, (low, high) = Resampler(3, 50).of_values(values, np.arange(3))
    assert value == pytest.approx(
        2
        * np.trapezoid(
            np.abs(np.searchsorted(values, grid := (np.arange(200_000) + 0.5) / 200_000, "right") / 3 - grid), grid
        ),
        abs=1e-4,
    )
    assert low <= value <= high
    assert Resampler(3, 5).of_values(values, np.arange(3), target=values)[0] == pytest.approx(0, abs=1e-9)


def test_binned_holds_both_ends():
    assert binned(np.array([-0.1, 0, 0.999, 1, 2]), 10).tolist() == [0, 0, 9, 9, 9]
