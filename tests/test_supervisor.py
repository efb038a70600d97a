"""The supervisor's one decision that is apart from its I/O."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.children import QUEUE_FOR_S, restart_pause_s


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=40))
def test_the_pause_is_bounded_and_grows_while_a_child_keeps_dying(lives_s):
    """Never over 30 s, nothing after a minute of life, and at least doubled for one that does not come up."""
    pause_s = 0.0
    for lived_s in lives_s:
        after_s = restart_pause_s(pause_s, lived_s)
        assert 0 <= after_s <= 30
        if lived_s >= 60:
            assert after_s == 0
        elif lived_s < 0.25:
            assert after_s >= min(2 * pause_s, 30)
            assert after_s > 0
        pause_s = after_s


@given(st.floats(0, 30), st.floats(0.25, 1000))
def test_who_had_come_up_is_back_while_its_clients_wait(pause_s, lived_s):
    """However often it was killed: its queue is kept so long."""
    assert restart_pause_s(pause_s, lived_s) <= QUEUE_FOR_S
