"""How backends, routes and health checks are written, and what is said when they are written otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.errors import ConfigError
from proxy.settings.build import build
from proxy.settings.upstreams import UpstreamServer
from proxy.settings.values import UpstreamAddress

A, B = UpstreamAddress("a", 1), UpstreamAddress("b", 443, is_tls=True)
URL = "must be http://HOST:PORT, https://HOST:PORT, tcp://HOST:PORT or unix:/PATH"


def site(http=None, **more):
    certificate = [{"chain": "c.pem", "key": "k.pem"}]
    data = {"http": http or {}, "site": [{"upstream": "http://a:1", "certificate": certificate, **more}]}
    return build(data, folder=Path("/etc/x")).site[0]


def mistakes(http=None, **more) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        site(http, **more)
    return [str(each) for each in caught.value.problems]


@pytest.mark.parametrize(
    ("written", "servers"),
    [
        ("http://a:1", [UpstreamServer(A)]),
        (["http://a:1", "https://b"], [UpstreamServer(A), UpstreamServer(B)]),
        ([{"url": "http://a:1", "weight": 3}, {"url": "https://b"}], [UpstreamServer(A, 3), UpstreamServer(B)]),
        ([], []),
    ],
)
def test_one_backend_or_several_or_none(written, servers):
    """A URL, a list of them, tables with a weight, or an empty list; of the site as of a route."""
    assert site(upstream=written).upstream == tuple(servers)
    assert site(route=[{"prefix": "/x", "upstream": written}]).route[0].upstream == tuple(servers)


@pytest.mark.parametrize(
    ("written", "what"),
    [
        ([f"http://a:{number}" for number in range(1, 66)], "must have at most 64 entries"),
        (["http://a:1", "b"], f"entry 2: {URL}"),
        (["http://a:1", "http://a:1/"], "http://a:1 is there more than once: give it a weight"),
        ([{"url": "http://a", "weight": 0}], "the weight of entry 1 must be a whole number from 1 to 1000"),
        ([{"url": "http://a", "weight": True}], "the weight of entry 1 must be a whole number from 1 to 1000"),
        ([{"url": "http://a", "backup": 1}], "entry 1 takes url and weight and no other key"),
        ([{"weight": 1}], f"entry 1: {URL}"),
        ({"url": "http://a"}, f"{URL}, found a table"),
    ],
)
def test_what_is_no_list_of_backends(written, what):
    """One sentence, with the number of the entry."""
    assert mistakes(upstream=written) == [f"site[0].upstream: {what}"]


@pytest.mark.parametrize("prefix", ["/", "/api", "/api/", "/a.b/c-d/~x/.well-known/", "/a:b@c"])
def test_prefixes(prefix):
    """Whole segments of characters that have one reading."""
    assert site(route=[{"prefix": prefix, "upstream": "http://a"}]).route[0].prefix == prefix


@pytest.mark.parametrize(
    "prefix", ["", "api", "/a//b", "//", "/../x", "/x/..", "/./", "/%61", "/a b", "/a?b", "/a;b", "/ä", "/x\n"]
)
def test_what_is_no_prefix(prefix):
    """What two readers could read differently."""
    (problem,) = mistakes(route=[{"prefix": prefix, "upstream": "http://a"}])
    assert problem.startswith('site[0].route[0].prefix: must be a path such as "/api/"')


def test_a_prefix_is_there_once():
    """With and without the last slash it is the same."""
    routes = [{"prefix": prefix, "upstream": "http://a"} for prefix in ("/x", "/x/")]
    assert mistakes(route=routes) == ['site[0].route: the prefix "/x/" is there more than once']


def test_the_files_of_a_site_are_relative_to_the_configuration():
    """The CA's too."""
    assert site(upstream_ca="ca.pem").upstream_ca == Path("/etc/x/ca.pem")


@pytest.mark.parametrize("path", ["up", "", "/a b", "/a#b", "/\r\n", "/" + "x" * 1000])
def test_what_is_no_path_to_check(path):
    """It goes into a request as it is."""
    (problem,) = mistakes(health={"path": path})
    assert problem.startswith('site[0].health.path: must be a path such as "/health"')


def test_pauses_are_in_order():
    """As with all settings that have a least and a longest."""
    assert mistakes({"upstream_retry_min_s": 100}) == [
        "http.upstream_retry_max_s: must not be below upstream_retry_min_s: 60 is below 100"
    ]
