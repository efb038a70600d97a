"""The histogram beside what a sorted list of the same values says."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.bench.histogram import Histogram, coarse

VALUES = st.lists(st.integers(0, 10**13), min_size=1, max_size=200)
PARTS = (0.0, 0.01, 0.5, 0.9, 0.99, 0.999, 1.0)


def counted(values):
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    return histogram


@given(VALUES)
def test_a_quantile_is_right_within_a_thousandth(values):
    """And never below the value that a sorted list has there."""
    histogram, ordered = counted(values), sorted(values)
    for part, found in zip(PARTS, histogram.quantiles(PARTS), strict=True):
        exact = ordered[max(math.ceil(part * len(values) - 1e-9), 1) - 1]
        assert exact <= found <= exact * (1 + 1 / 1024)


@given(st.integers(0, 10**13))
def test_what_is_coarse_is_right_within_a_thirtieth_and_never_less(value):
    assert value <= coarse(value) <= value * (1 + 1 / 32)


@given(VALUES)
def test_count_sum_and_ends_are_exact(values):
    histogram = counted(values)
    assert (histogram.total, histogram.sum) == (len(values), sum(values))
    assert (histogram.min, histogram.max) == (min(values), max(values))
    assert sum(count for _, count in histogram.buckets()) == len(values)


@given(VALUES, VALUES)
def test_two_add_up_to_one_that_had_counted_all(one, other):
    """However the clients are dealt out to processes, the report is the same."""
    merged = counted(one)
    merged.merge(counted(other))
    assert merged == counted(one + other)


def test_nothing_counted_is_zero_and_adds_nothing():
    empty, some = Histogram(), counted([5])
    assert (empty.quantile(0.99), empty.mean, empty.max) == (0, 0.0, 0)
    some.merge(empty)
    assert some == counted([5])
    empty.merge(some)
    assert empty == some


def test_less_than_nothing_counts_as_nothing():
    """Two clocks may differ by a little."""
    assert counted([-3]) == counted([0])


@pytest.mark.parametrize(
    ("count", "part", "place"), [(1000, 0.999, 999), (1000, 0.9, 900), (10, 0.99, 10), (3, 0.5, 2)]
)
def test_a_quantile_is_the_value_that_so_many_do_not_exceed(count, part, place):
    """0.999 of 1000 is the 999th, not the last: floating point does not move it."""
    assert counted(range(1, count + 1)).quantile(part) == place
