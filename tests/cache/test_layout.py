from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cache.layout import CacheArgument, Geometry, geometry, parse_argument, size_for


@pytest.mark.parametrize(
    ("size_bytes", "expected"),
    [
        (8192, Geometry(1, 5, 7968)),
        (16384, Geometry(2, 5, 8008)),
        (32768, Geometry(2, 10, 16080)),
        (65536, Geometry(4, 10, 16104)),
        (128000, Geometry(4, 21, 31456)),
        (524288, Geometry(8, 43, 64472)),
        (1048576, Geometry(16, 43, 64480)),
        (5242880, Geometry(32, 107, 161248)),
    ],
)
def test_geometry_is_what_apache_logs_for_the_same_size(size_bytes, expected):
    assert geometry(size_bytes) == expected


def test_sizes_that_apache_does_not_start_with_are_refused():
    """AH00823: two subcaches with less than five entries each."""
    assert geometry(12247).subcaches == 1
    assert geometry(15288).subcaches == 2
    for size_bytes in (12248, 15287):
        with pytest.raises(ValueError, match="shared memory segment too small"):
            geometry(size_bytes)


@given(st.integers(15288, 2**32 - 2))
def test_every_other_size_is_cut_into_places_that_do_not_overlap(size_bytes):
    shape = geometry(size_bytes)
    end = 0
    for place in shape.places():
        assert place.sequence_at * 8 >= end
        assert place.keys_at >= place.sequence_at * 8 + 8
        assert place.slots_at >= place.keys_at + 20 * shape.indexes_per_subcache
        assert place.data_at >= place.slots_at + 64 * shape.indexes_per_subcache
        assert place.slots_at % 64 == 0
        end = place.data_at + shape.data_bytes_per_subcache
    assert end <= shape.segment_bytes


def test_the_size_that_holds_a_response_is_a_power_of_two():
    assert size_for(7968) == 8192
    assert size_for(65536) == 2097152
    assert size_for(10**9) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("shmcb", CacheArgument("", 524288)),
        ("shmcb:", CacheArgument("", 524288)),
        ("default:", CacheArgument("", 524288)),
        ("shmcb:/run/x", CacheArgument("/run/x", 524288)),
        ("shmcb:/run/x(65536)", CacheArgument("/run/x", 65536)),
        ("shmcb:(65536)", CacheArgument("", 65536)),
        ("shmcb:/run/(old)/x(65536)", CacheArgument("/run/(old)/x", 65536)),
        ("shmcb:a:b( +0065536)", CacheArgument("a:b", 65536)),
    ],
)
def test_arguments_that_apache_takes(text, expected):
    assert parse_argument(text) == expected


_NO_CLOSING = "no closing parenthesis or cache size missing after pathname with parenthesis"
_TOO_SMALL = "size has to be >= 8192 bytes"
_TOO_LARGE = "size has to be < 4294967295 bytes on this platform"


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("x(", _NO_CLOSING),
        ("x(9000", _NO_CLOSING),
        ("x(9000)y", _NO_CLOSING),
        ("x9000)", "no opening parenthesis"),
        ("x(64k)", "cache size not numerical"),
        ("x( )", "cache size not numerical"),
        ("x(٩٠٠٠)", "cache size not numerical"),
        ("x()", _TOO_SMALL),
        ("x(8191)", _TOO_SMALL),
        ("x(-0)", _TOO_SMALL),
        ("x(4294967295)", _TOO_LARGE),
        ("x(-1)", _TOO_LARGE),
        (f"x({'9' * 5000})", _TOO_LARGE),
        ("x\0y", "the path holds a NUL character"),
    ],
)
def test_arguments_that_apache_refuses_are_refused_with_its_words(argument, expected):
    with pytest.raises(ValueError, match="Invalid argument") as caught:
        parse_argument(f"shmcb:{argument}")
    assert str(caught.value) == f"SSLStaplingCache: Invalid argument: {expected}"


def test_an_unknown_provider_is_refused_with_apaches_sentence():
    """The name is case-sensitive, as in Apache."""
    with pytest.raises(ValueError, match="SHMCB") as caught:
        parse_argument("SHMCB:x")
    assert str(caught.value) == (
        "SSLStaplingCache: 'SHMCB' stapling cache not supported (known names: shmcb,default)"
        " Maybe you need to load the appropriate socache module (mod_socache_SHMCB?)"
    )


@given(st.text())
def test_any_text_is_an_argument_or_a_sentence(text):
    for candidate in (text, f"shmcb:{text}", f"shmcb:x({text})"):
        try:
            assert parse_argument(candidate).size_bytes >= 8192
        except ValueError as error:
            assert str(error).startswith("SSLStaplingCache: ")  # noqa: PT017 - either answer is right, by the text
