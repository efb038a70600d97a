"""Which route a request target leads to, and that nobody steps round one."""

from __future__ import annotations

import posixpath
import re
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.errors import ClientError
from proxy.http.routes import Routes

ROUTES = Routes([("/api", "api"), ("/api/v2/", "v2"), ("/admin/", "admin")], "site")


@pytest.mark.parametrize(
    ("target", "route"),
    [
        ("/", "site"), ("/ap", "site"), ("/apix", "site"), ("/x/api", "site"), ("/API", "site"), ("*", "site"),
        ("/api", "api"), ("/api/", "api"), ("/api/x", "api"), ("/api?x", "api"), ("/api/v20", "api"),
        ("/api/v2", "v2"), ("/api/v2/", "v2"), ("/api/v2/x?/../", "v2"), ("/admin", "admin"),
        ("http://host/api/x", "api"), ("http://host/api?x", "api"), ("http://host", "site"), ("https://api/", "site"),
        ("http://host?/api", "site"), ("/?x=/../", "site"), ("/.well-known/x", "site"), ("/api/...", "api"),
        ("/api/.x", "api"), ("/x?next=http://host/api/", "site"),
    ],
)  # fmt: skip
def test_the_longest_prefix_of_whole_segments_wins(target, route):
    """The query has no part in it, nor has the host of an absolute form."""
    assert ROUTES.choose(target.encode()) == route


@pytest.mark.parametrize(
    ("target", "route"),
    [
        ("/api/a%2Fb", "api"), ("/x%2Fy", "site"), ("/caf%C3%A9", "site"), ("/api/x;v=1", "api"), ("/x//y", "site"),
        ("/api//v3", "api"), ("/100%", "site"), ("/api/100%25", "api"), ("/x%2e", "site"), ("/api/http:%2F%2Fx", "api"),
    ],
)  # fmt: skip
def test_what_reads_the_same_either_way_goes_on(target, route):
    """An encoded slash in an object's name is common, and harmless where all of it is one route's."""
    assert ROUTES.choose(target.encode()) == route


@pytest.mark.parametrize(
    "target",
    [
        "/x/../admin", "/x/..", "/..", "/.", "/./admin", "/api/../admin/", "/api/%2e%2e/admin", "/api/.%2E/admin",
        "/api/..%2fadmin", "/api%2f..%2fadmin", "/api/x/%252e%252e/%252e%252e/admin", "/api/..\\admin",
        "/api/..;/admin",
        "/api/..;x=1/admin", "/api/%2e%2e%3b/admin", "/%61dmin", "/adm%69n/x", "/%2561dmin", "//admin", "/api%2Fx",
        "/api%2F", "/api\\x", "/api%5Cx", "/api;x/y", "/api%3bx", "/;x/admin", "/api//v2", "/api/%2fv2", "/api/v%32",
        "http://host/x/../admin", "http://host//admin", "/api/.;/x",
    ],
)  # fmt: skip
def test_what_could_be_read_as_another_route_is_refused(target):
    """Decoded once or twice, with "\\" or "//" for "/", without parameters, or with dots resolved."""
    with pytest.raises(ClientError) as caught:
        ROUTES.choose(target.encode())
    assert caught.value.status == 400


@pytest.mark.parametrize("target", ["/x/../admin", "/%61dmin", "//admin"])
def test_without_routes_nothing_is_refused(target):
    """All paths lead to one place, which reads them as it likes."""
    assert Routes([], "site").choose(target.encode()) == "site"


def readings(path: bytes):
    """Every way to read a path that the steps make, in any number and order up to six."""
    steps = [
        unquote_to_bytes,
        lambda each: each.replace(b"\\", b"/"),
        lambda each: re.sub(rb"//+", b"/", each),
        lambda each: re.sub(rb";[^/]*", b"", each),
        posixpath.normpath,
    ]
    found = {(path, 0)}
    for _ in range(6):
        found |= {
            (step(each), decoded + (step is unquote_to_bytes))
            for each, decoded in found
            for step in steps
            if step is not unquote_to_bytes or decoded < 2
        }
    return {each for each, _ in found}


def plain_route(path: bytes) -> str:
    """As a backend would say which part of the site a path is: by its segments, as they stand."""
    segments = path.lstrip(b"/").split(b"/")
    if segments[:1] == [b"admin"]:
        return "admin"
    if segments[:2] == [b"api", b"v2"]:
        return "v2"
    return "api" if segments[:1] == [b"api"] else "site"


PIECES = [
    "/", "//", "\\", "%2f", "%252F", "%5c", ".", "..", "%2e", "%252e", ";", "%3B", "x", "api", "%61pi", "v2", "v%32",
    "admin", "adm%69n", "%25", "%",
]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=10))
@example([";", "\\", "v2", "/", "api"])  # the parameters end at the backslash, or behind it
@example([";", "%5c", "admin"])
def test_no_reading_of_a_path_that_is_let_through_is_another_route(pieces):
    """However a backend mixes the steps."""
    path = ("/" + "".join(pieces)).encode()
    try:
        route = ROUTES.choose(path)
    except ClientError:
        return
    assert {plain_route(each) for each in readings(path)} == {route}
