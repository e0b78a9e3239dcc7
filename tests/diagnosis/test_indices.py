"""Indices against loops and SciPy, and the properties that make an index one of imbalance."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import entropy, wasserstein_distance

from detbalance.diagnosis import indices

OF_COUNTS = [
    indices.entropy_index,
    indices.gini_index,
    indices.ratio_index,
    indices.effective_number_index,
]
SMOOTH = [indices.entropy_index, indices.gini_index, indices.effective_number_index]
counts = st.lists(st.integers(0, 10_000), min_size=2, max_size=30).filter(lambda c: sum(c) > 0).map(np.array)
shares = arrays(np.float64, st.integers(1, 60), elements=st.floats(0, 1))


@pytest.mark.parametrize("index", OF_COUNTS)
@given(size=st.integers(2, 40), each=st.integers(1, 1000))
def test_equal_counts_are_balanced(index, size, each):
    assert index(np.full(size, each)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("index", OF_COUNTS)
@given(size=st.integers(2, 40), row=st.integers(0, 39))
def test_all_in_one_class_is_the_worst(index, size, row):
    table = np.zeros(size)
    table[row % size] = 7
    assert index(table) == pytest.approx(1)


@pytest.mark.parametrize("index", OF_COUNTS)
@given(table=counts)
def test_lies_between_and_knows_no_order_and_no_unit(index, table):
    value = index(table)
    assert 0 <= value <= 1
    assert index(table[::-1]) == pytest.approx(value, abs=1e-12)
    assert index(table * 17) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("index", OF_COUNTS)
@given(table=counts, data=st.data())
def test_moving_boxes_from_a_poorer_to_a_richer_class_never_lowers_it(index, table, data):
    poor, rich = sorted(data.draw(st.permutations(range(len(table))))[:2], key=lambda k: table[k])
    moved = data.draw(st.integers(0, int(table[poor])))
    after = table.copy()
    after[poor] -= moved
    after[rich] += moved
    assert index(after) >= index(table) - 1e-12
    if index in SMOOTH and moved and table[rich] > table[poor]:
        assert index(after) > index(table)


@pytest.mark.parametrize("index", OF_COUNTS)
@given(table=counts, factor=st.integers(1, 9))
def test_the_target_is_balanced_and_uniform_is_the_default(index, table, factor):
    assert index(table, np.ones(len(table))) == pytest.approx(index(table), abs=1e-9)
    assume((table > 0).all())
    assert index(table * factor, table) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("index", OF_COUNTS)
def test_worst_under_a_target_is_the_least_wanted_class(index):
    target = np.array([5.0, 1.0, 4.0])
    values = index(np.eye(3), target)
    assert values[1] == pytest.approx(1)
    assert (values <= 1).all()


@pytest.mark.parametrize("index", OF_COUNTS)
def test_without_counts_or_with_one_class_nothing_is_unbalanced(index):
    assert index(np.zeros(4)) == 0
    assert index(np.array([9])) == 0
    assert index(np.zeros(0)) == 0


@pytest.mark.parametrize("index", OF_COUNTS)
def test_leading_axes_are_separate(index):
    table = np.random.default_rng(0).integers(0, 50, (3, 4, 6))
    together = index(table)
    assert together.shape == (3, 4)
    assert together[1, 2] == pytest.approx(index(table[1, 2]))


@pytest.mark.parametrize("target", [[1, 0, 1], [1, 1], [1, -1, 1]])
def test_a_target_must_fit(target):
    with pytest.raises(ValueError, match="target"):
        indices.gini_index(np.array([1, 2, 3]), target)


@given(table=counts)
def test_gini_is_the_mean_difference_over_its_maximum(table):
    size, total = len(table), sum(abs(int(a) - int(b)) for a in table for b in table)
    gini = total / (2 * size * table.sum())
    assert indices.gini_index(table) == pytest.approx(gini / (1 - 1 / size), abs=1e-9)


@given(table=counts, seed=st.integers(0, 99))
def test_gini_with_a_target_is_the_weighted_mean_difference(table, seed):
    q = np.random.default_rng(seed).uniform(0.1, 1, len(table))
    p, q = table / table.sum(), q / q.sum()
    gini = sum(abs(p[i] * q[j] - p[j] * q[i]) for i in range(len(p)) for j in range(len(p))) / 2
    assert indices.gini_index(table, q) == pytest.approx(gini / (1 - q.min()), abs=1e-9)


@given(table=counts)
def test_entropy_is_scipys(table):
    assert indices.entropy_index(table) == pytest.approx(1 - entropy(table) / np.log(len(table)), abs=1e-9)


def test_divergence_is_scipys_and_infinite_where_the_target_has_nothing():
    p, q = np.array([0.2, 0.3, 0.5]), np.array([0.5, 0.25, 0.25])
    assert indices.kl_divergence(p, q) == pytest.approx(entropy(p, q))
    assert indices.kl_divergence(p, np.array([1.0, 0, 0])) == np.inf
    assert indices.kl_divergence(np.array([1.0, 0, 0]), p) == pytest.approx(np.log(5))


@given(table=counts)
def test_effective_number(table):
    p = table / table.sum()
    number = 1 / sum(p**2)
    assert indices.effective_number(table) == pytest.approx(number)
    assert indices.effective_number_index(table) == pytest.approx(1 - (number - 1) / (len(p) - 1), abs=1e-9)


@given(numbers=st.lists(st.integers(0, 30), min_size=2, max_size=50))
def test_gini_of_frequencies_is_gini_of_the_numbers(numbers):
    assert indices.gini_of_frequencies(np.bincount(numbers)) == pytest.approx(
        indices.gini_index(np.array(numbers)), abs=1e-9
    )


@given(ratio=st.floats(1, 1e9), step=st.floats(1.01, 100))
def test_log_ratio_rises_with_the_ratio_in_either_direction(ratio, step):
    low, high = indices.log_ratio_index(ratio, 1), indices.log_ratio_index(ratio * step, 1)
    assert 0 <= low < high < 1
    assert indices.log_ratio_index(1, ratio) == pytest.approx(low)
    assert indices.log_ratio_index(ratio, 1, desired=ratio) == pytest.approx(0, abs=1e-9)


@given(values=shares)
def test_wasserstein_from_uniform_is_the_integral(values):
    grid = (np.arange(20_000) + 0.5) / 20_000
    below = np.searchsorted(np.sort(values), grid, "right") / len(values)
    assert indices.wasserstein_uniform(values) == pytest.approx(2 * np.abs(below - grid).mean(), abs=2e-4)


def test_wasserstein_from_uniform_at_its_ends():
    assert indices.wasserstein_uniform(np.ones(5)) == 1
    assert indices.wasserstein_uniform(np.array([0.5])) == pytest.approx(0.5)
    assert indices.wasserstein_uniform(np.zeros(0)) == 0
    assert indices.wasserstein_uniform((np.arange(500) + 0.5) / 500) < 1e-2


@given(values=shares, shift=st.floats(0, 1))
def test_wasserstein_of_small_values_rises_as_they_shrink(values, shift):
    smaller = np.sort(values) * np.arange(len(values)) / len(values)  # nowhere larger than evenly spread ones
    assert indices.wasserstein_uniform(smaller * shift) >= indices.wasserstein_uniform(smaller) - 1e-9


@given(first=counts, second=counts)
def test_wasserstein_of_counts_is_scipys(first, second):
    size = min(len(first), len(second))
    first, second = first[:size], second[:size]
    assume(first.sum() and second.sum())
    place = np.arange(size) / (size - 1)
    distance = wasserstein_distance(place, place, first, second)
    worst = max(wasserstein_distance([end], place, None, second) for end in (0, 1))
    assert indices.wasserstein_counts(first, second) == pytest.approx(distance / worst, abs=1e-9)


@given(target=shares)
def test_worst_wasserstein_is_the_farther_end(target):
    farthest = max(wasserstein_distance([place], target) for place in np.linspace(0, 1, 21))
    assert indices.worst_wasserstein(target) == pytest.approx(farthest, abs=1e-9)


@given(values=arrays(np.float64, st.integers(1, 200), elements=st.floats(0, 1)))
def test_binned_wasserstein_is_within_a_bin_of_the_exact(values):
    table = np.histogram(values, 256, (0, 1))[0]
    assert indices.wasserstein_counts(table) == pytest.approx(indices.wasserstein_uniform(values), abs=3 / 256)


@given(first=counts, second=counts)
def test_total_variation(first, second):
    size = min(len(first), len(second))
    p, q = indices.normalise(first[:size]), indices.normalise(second[:size])
    value = indices.total_variation(p, q)
    if p.any() and q.any():
        assert value == pytest.approx(1 - np.minimum(p, q).sum(), abs=1e-9)
    assert indices.total_variation(q, p) == pytest.approx(value)
