"""What the head of an answer says of time: values in, values out."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.keeper.freshness import LONGEST_S, MAX_ETAG_LENGTH, entity_tag, max_age_s, retry_after_s

NOW = datetime(2030, 6, 15, 12, 1, tzinfo=UTC)
NOON = "Sat, 15 Jun 2030 12:00:00 GMT"
ONE = "Sat, 15 Jun 2030 13:00:00 GMT"


@pytest.mark.parametrize(
    ("fields", "expected_s"),
    [
        ({}, None),
        ({"cache-control": "public"}, None),
        ({"cache-control": "s-maxage=5"}, None),
        ({"cache-control": "max-age=3600"}, 3600),
        ({"cache-control": 'public, No-Transform, Max-Age="60"'}, 60),
        ({"cache-control": "max-age=60,max-age=3600"}, 60),
        ({"cache-control": 'private="a, max-age=5", max-age=10'}, 10),
        ({"cache-control": "max-age=" + "9" * 5000}, LONGEST_S),
        ({"cache-control": "max-age=3600", "age": "600"}, 3000),
        ({"cache-control": "max-age=3600", "age": "600, 30"}, 3000),
        ({"cache-control": "max-age=60", "age": "600"}, 0),
        ({"cache-control": "max-age=60", "age": "old"}, 60),
        ({"cache-control": "max-age=3600", "expires": NOON, "date": NOON}, 3600),
        ({"cache-control": "max-age=x", "expires": ONE, "date": NOON}, 0),
        ({"cache-control": "max-age=3600, no-store"}, 0),
        ({"cache-control": "no-cache, max-age=3600"}, 0),
        ({"expires": ONE, "date": NOON}, 3600),
        ({"expires": ONE, "date": NOON, "age": "600"}, 3000),
        ({"expires": NOON, "date": ONE}, 0),
        ({"expires": ONE}, 3540),
        ({"expires": ONE, "date": "today"}, 3540),
        ({"expires": "0", "date": NOON}, 0),
        ({"expires": "Saturday, 15-Jun-30 13:00:00 GMT", "date": NOON}, 3600),
        ({"expires": "Sat Jun 15 13:00:00 2030", "date": NOON}, 3600),
    ],
)
def test_how_long_an_answer_is_the_newest(fields, expected_s):
    """RFC 9111 4.2: max-age before Expires, less the Age; what cannot be read, and no-store, count as over."""
    assert max_age_s(fields, NOW) == expected_s


@pytest.mark.parametrize(
    ("fields", "expected_s"),
    [
        ({}, None),
        ({"retry-after": "120"}, 120),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "Sat, 15 Jun 2030 12:05:00 GMT", "date": NOON}, 300),
        ({"retry-after": "Sat, 15 Jun 2030 12:05:00 GMT"}, 240),
        ({"retry-after": "Sat, 15 Jun 2030 11:00:00 GMT", "date": NOON}, 0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "1, 2"}, None),
        ({"retry-after": "\u0661"}, None),
        ({"retry-after": "9" * 5000}, LONGEST_S),
    ],
)
def test_how_long_to_wait(fields, expected_s):
    """RFC 9110 10.2.3: seconds or a date, which the sender's clock counts from."""
    assert retry_after_s(fields, NOW) == expected_s


@pytest.mark.parametrize("tag", ['"abc"', 'W/"abc"', '""', '"' + "x" * (MAX_ETAG_LENGTH - 2) + '"'])
def test_an_entity_tag_is_kept_as_it_is(tag):
    """RFC 9110 8.8.3: weak and strong, with their quotes."""
    assert entity_tag({"etag": f" {tag} "}) == tag


@pytest.mark.parametrize(
    "tag", ["", "abc", 'w/"abc"', '"a"b"', '"a b"', '"a\tb"', '"a", "b"', '"\x7f"', '"é"', '"' + "x" * MAX_ETAG_LENGTH]
)
def test_what_could_not_be_sent_back_is_no_entity_tag(tag):
    """Nothing that would have to be quoted, or could break a line, or is longer than anyone needs."""
    assert entity_tag({"etag": tag}) is None


@given(text=st.text(), other=st.text() | st.just(NOON))
def test_no_head_breaks_the_reading(text, other):
    """A responder may write anything: it is told as a number that is not below zero, or as nothing."""
    fields = dict.fromkeys(("cache-control", "expires", "retry-after", "etag", "age"), text) | {"date": other}
    for seconds in (max_age_s(fields, NOW), retry_after_s(fields, NOW), max_age_s({"expires": text}, NOW)):
        assert seconds is None or seconds >= 0
    assert entity_tag(fields) in {None, text.strip()}
