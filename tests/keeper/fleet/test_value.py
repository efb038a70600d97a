"""The stored value: read whole, cut anywhere, and with anything before or behind it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.keeper.fleet.value import (
    FORMAT,
    MAX_HEAD_BYTES,
    Head,
    UnknownFormatError,
    decode,
    encode,
    read_announcement,
)

HEADS = st.builds(
    Head,
    st.integers(-(10**11), 10**11),
    st.integers(0, 10**14),
    st.none() | st.integers(0, 10**8),
)


@given(HEADS, st.binary(max_size=200))
def test_what_is_written_is_read(head, der):
    """Whatever the response is; the head is never longer than what is asked for to read it."""
    value = encode(head, der)
    assert decode(value) == (head, der)
    assert len(value) - len(der) <= MAX_HEAD_BYTES


@given(HEADS)
def test_the_head_alone_can_be_read(head):
    """Of a value only the first bytes are fetched when machines compare."""
    assert decode(encode(head, b"x" * 1000)[:MAX_HEAD_BYTES])[0] == head


def test_a_head_that_is_cut_is_none():
    value = encode(Head(1_800_000_000, 1_800_000_000_123, 60), b"")
    for length in range(len(value)):
        with pytest.raises(ValueError, match="does not begin"):
            decode(value[:length])


@given(st.binary(max_size=100))
def test_anything_else_is_refused_and_nothing_worse(value):
    try:
        head, der = decode(value)
    except ValueError:
        return
    assert decode(encode(head, der)) == (head, der)


@pytest.mark.parametrize("number", [2, 10, 999])
def test_another_number_is_a_newer_programs(number):
    with pytest.raises(UnknownFormatError, match=str(number)):
        decode(b"%d whatever it may be" % number)


@pytest.mark.parametrize("value", [b"", b"\x30\x82", b"1", b"x 1 2 -\n", b"1 1 2\n", b"1 1 2 3", b" 1 1 1 -\n", b"-1 "])
def test_what_has_no_number_is_nobodys(value):
    with pytest.raises(ValueError, match="begin") as caught:
        decode(value)
    assert not isinstance(caught.value, UnknownFormatError)


def test_the_format_is_the_first_thing():
    assert encode(Head(1, 2), b"").startswith(b"%d " % FORMAT)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b"ab" * 20, (b"\xab" * 20, b"")),
        (b"ab" * 20 + b" 1 2 3 -\nDER with spaces", (b"\xab" * 20, b"1 2 3 -\nDER with spaces")),
    ],
)
def test_an_announcement_has_the_value_or_none(message, expected):
    assert read_announcement(message) == expected


@given(st.binary(max_size=60))
def test_no_announcement_is_more_than_wrong(message):
    try:
        key, _ = read_announcement(message)
    except ValueError:
        return
    assert len(key) <= 20
