"""What a generation takes over: every socket has somebody, no line of counters two writers."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.inheritance import free_lines, share

COUNTS = st.integers(1, 40)


@given(st.integers(0, 40), COUNTS)
def test_every_socket_has_a_worker_and_every_worker_a_socket(sockets, workers):
    """Else clients would wait in a queue for nobody, or a worker for clients."""
    shares = [share(range(sockets), workers, number) for number in range(workers)]
    assert {each for own in shares for each in own} == set(range(sockets))
    if sockets:
        assert all(shares)


@given(COUNTS, COUNTS)
def test_no_socket_has_two_workers_where_there_are_enough(sockets, workers):
    shares = [share(range(sockets), workers, number) for number in range(workers)]
    if sockets >= workers:
        assert sum(map(len, shares)) == sockets
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(COUNTS)
def test_the_same_number_of_workers_has_the_same_sockets(workers):
    """So a reload moves nothing."""
    assert [list(share(range(workers), workers, number)) for number in range(workers)] == [[n] for n in range(workers)]


@given(st.sets(st.integers(0, 62)), st.integers(1, 100))
def test_a_line_has_one_writer_while_there_are_enough(taken, count):
    lines = free_lines(taken, count, 63)
    assert len(lines) == count
    assert all(0 <= line < 63 for line in lines)
    if len(taken) + count <= 63:
        assert len(set(lines)) == count
        assert taken.isdisjoint(lines)
