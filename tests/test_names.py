"""Who is served by which name."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import ConfigError
from proxy.names import NameTable, host_name

TABLE = NameTable([(["www.test", "Mixed.Test"], "exact"), (["*.test", "*.a.test"], "wild")], "default")


@pytest.mark.parametrize(
    ("server_name", "expected"),
    [
        ("www.test", "exact"),
        ("WWW.Test", "exact"),
        ("www.test.", "exact"),
        ("mixed.test", "exact"),
        ("other.test", "wild"),
        ("x.a.test", "wild"),
        ("x.b.test", "default"),
        ("x.www.test", "default"),
        ("test", "default"),
        (".test", "default"),
        ("", "default"),
        (".", "default"),
        (None, "default"),
        ("b\ufffdcher.test.example", "default"),
    ],
)
def test_exact_before_wildcard_before_default(server_name, expected):
    """A wildcard stands for exactly one label; case and the root's dot do not matter."""
    assert TABLE.lookup(server_name) == expected


def test_a_name_of_two_sites_is_told_with_both():
    with pytest.raises(ConfigError) as caught:
        NameTable([(["a.test", "A.test", "b.test"], 1), (["c.test"], 2), (["B.test."], 3), (["c.test"], 4)], 1)
    assert [str(problem) for problem in caught.value.problems] == [
        "site[2].names: b.test is a name of site[0] as well: set `names` so that each has its own",
        "site[3].names: c.test is a name of site[1] as well: set `names` so that each has its own",
    ]


@pytest.mark.parametrize(
    "name", ["localhost", "www.example.com", "*.example.com", "a_b.example", "xn--bcher-kva.example"]
)
def test_host_names(name):
    assert host_name(name.upper() + ".") == name


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "write a host name"),
        ("https://www.test", "without scheme and port"),
        ("www.test:443", "without scheme and port"),
        ("a..test", "write a host name"),
        (f"{'a' * 64}.test", "write a host name"),
        (".".join(["abcdefgh"] * 29), "write a host name"),
        ("bücher.test", "ASCII form"),
        ("*", "whole first label"),
        ("www.*.test", "whole first label"),
        ("w*.test", "whole first label"),
    ],
)
def test_what_is_no_host_name(text, hint):
    with pytest.raises(ValueError, match=hint):
        host_name(text)


@given(st.text())
def test_any_text_is_looked_up_or_refused(text):
    """What a client sends as its name never raises, and what a file says raises nothing but ValueError."""
    TABLE.lookup(text)
    with suppress(ValueError):
        assert host_name(host_name(text)) == host_name(text)


def test_a_table_says_when_the_name_does_not_matter():
    """One site, whatever its names: a connection need not wait for the name."""
    assert NameTable([(("a.test", "*.b.test"), 1)], 1).is_single
    assert NameTable([((), 1)], 1).is_single
    assert not NameTable([(("a.test",), 1), (("b.test",), 2)], 1).is_single
