"""Limits of connections: who is one client, who is refused, and how many descriptors are kept free."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.limits import Admission, DescriptorBudget, Refusal, client_key


def test_the_worker_is_full_until_somebody_leaves():
    admission = Admission(2, 0)
    assert [admission.admit(host) for host in ("192.0.2.1", "192.0.2.1", "192.0.2.2")] == [None, None, Refusal.WORKER]
    admission.leave("192.0.2.1")
    assert admission.admit("192.0.2.2") is None
    assert admission.count == 2
    assert admission.refused == {Refusal.WORKER: 1, Refusal.CLIENT: 0}


def test_a_client_that_has_enough_leaves_room_for_others():
    admission = Admission(100, 2)
    assert [admission.admit("192.0.2.1") for _ in range(3)] == [None, None, Refusal.CLIENT]
    assert admission.admit("192.0.2.2") is None
    admission.leave("192.0.2.1")
    assert admission.admit("192.0.2.1") is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8:0:0:ffff::9", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
    ],
)
def test_who_is_one_client(one, other, same):
    """An IPv4 address, or what one customer gets of IPv6."""
    assert (client_key(one) == client_key(other)) is same


HOSTS = st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"])


@given(st.lists(st.tuples(st.booleans(), HOSTS), max_size=60), st.integers(1, 6), st.integers(0, 3))
def test_the_counts_are_those_of_who_is_here(events, most, per_client):
    """Whatever comes and goes: neither limit is ever passed, and nothing is left of who has gone."""
    admission, here = Admission(most, per_client), []
    for is_coming, host in events:
        if is_coming:
            same = sum(client_key(each) == client_key(host) for each in here)
            expected = len(here) < most and not (per_client and same >= per_client)
            if admission.admit(host) is None:
                here.append(host)
                assert expected
            else:
                assert not expected
        elif here:
            admission.leave(here.pop())
        assert admission.count == len(here)
    while here:
        admission.leave(here.pop())
    assert admission._by_client == {}


@given(st.integers(0, 1 << 20), st.integers(0, 2000))
def test_it_stops_with_some_descriptors_left_and_goes_on_with_more(limit, others):
    budget = DescriptorBudget(limit, others)
    assert budget.stop_at <= limit - others - 8 or limit < others + 8
    assert budget.go_on_at < budget.stop_at


def test_the_usual_soft_limit():
    budget = DescriptorBudget(1024, 24)
    assert (budget.stop_at, budget.go_on_at) == (875, 821)
