"""What a site changes in heads: edits, Host, paths and the addresses of backends."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.backends import rewriting_of
from proxy.errors import ClientError, ConfigError
from proxy.http.codec import RequestDecoder, ResponseDecoder
from proxy.http.forwarded import Client
from proxy.http.head_request import host_of, request_to_upstream
from proxy.http.messages import End
from proxy.http.rewriting import Rewriting, edited, host_of_backend, with_host
from proxy.settings.build import build

TRUSTED = (ipaddress.ip_network("192.0.2.0/24"),)
HTTP_NAMES = st.text("abcXYZ019-_.!~", min_size=1, max_size=12)
VALUES = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp", "Zs", "Cf", "Co", "Cn")), max_size=12
)


def site(**settings):
    table = {"upstream": [], "certificate": [{"chain": "c", "key": "k"}], **settings}
    return build({"site": [table]}, folder=Path("/")).site[0]


def rewriting(**settings) -> Rewriting:
    made = rewriting_of(site(**settings))
    assert made is not None
    return made


def edit(action, name, value=""):
    return {"action": action, "name": name, "value": value}


def sent(*headers: bytes, client=None, target=b"/", method=b"GET", host=b"x.test", **settings) -> list[bytes]:
    """The lines that the backend gets."""
    trusted = TRUSTED if client == "trusted" else ()
    who = Client.of("192.0.2.7", "default.test", trusted=trusted, rewriting=rewriting_of(site(**settings)))
    raw = b"\r\n".join([b"%b %b HTTP/1.1" % (method, target), b"Host: " + host, *headers, b"", b""])
    (head, *_) = RequestDecoder(32_768, 100, 8192).feed(raw)
    data = request_to_upstream(head, who)
    (again, *_) = RequestDecoder(65_536, 200, 8192).feed(data)  # what goes out is as strict as what may come in
    assert again.method == method
    return data.removesuffix(b"\r\n\r\n").split(b"\r\n")


def values(lines: list[bytes], name: bytes) -> list[bytes]:
    return [value for key, _, value in (line.partition(b": ") for line in lines) if key.lower() == name.lower()]


def test_a_site_that_changes_nothing_has_nothing():
    """None: its requests take the way they always took."""
    assert rewriting_of(site()) is None
    assert Client.of("192.0.2.7", "x").is_usual
    assert Client.of("192.0.2.7", "x", rewriting=rewriting(preserve_host=False)).is_usual


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ([("set", "A", b"1")], [b"A: 1", b"B: z"]),
        ([("set", "C", b"1")], [b"A: x", b"a: y", b"B: z", b"C: 1"]),
        ([("append", "A", b"1")], [b"A: x", b"a: y, 1", b"B: z"]),
        ([("append", "C", b"1")], [b"A: x", b"a: y", b"B: z", b"C: 1"]),
        ([("add", "A", b"1")], [b"A: x", b"a: y", b"B: z", b"A: 1"]),
        ([("unset", "a", b"")], [b"B: z"]),
        ([("unset", "A", b""), ("append", "A", b"1"), ("append", "A", b"2")], [b"B: z", b"A: 1, 2"]),
        ([("add", "A", b"1"), ("set", "A", b"2")], [b"A: 2", b"B: z"]),
    ],
)
def test_edits_are_made_in_order(edits, expected):
    """As Apache's, whatever the case of the letters."""
    made = rewriting(response_header=[edit(action, name, value.decode()) for action, name, value in edits])
    assert edited([b"A: x", b"a: y", b"B: z"], made.response, bytes.lower) == expected


def test_a_request_is_edited():
    """Lines of a body's framing and of this hop stay as they are."""
    lines = sent(
        b"X-A: 1",
        b"x-a: 2",
        b"X-U: 3",
        b"Authorization: Basic abc",
        b"Content-Length: 2",
        method=b"POST",
        request_header=[
            edit("append", "X-A", "end"),
            edit("unset", "x-u"),
            edit("set", "Authorization", "Bearer é"),
            edit("add", "X-N"),
        ],
    )
    assert values(lines, b"x-a") == [b"1", b"2, end"]
    assert values(lines, b"x-u") == []
    assert values(lines, b"authorization") == ["Bearer é".encode()]
    assert values(lines, b"x-n") == [b""]
    assert values(lines, b"content-length") == [b"2"]
    assert values(lines, b"via") == [b"1.1 stapleproxy"]


def test_no_client_writes_an_edited_header_in_another_way():
    """CGI and WSGI take "-" for "_"; and Connection names what it names before the edits."""
    settings = {"request_header": [edit("set", "REMOTE_USER", "operator")]}
    lines = sent(b"Remote-User: me", b"REMOTE_USER: me", b"Connection: remote_user, remote-user", **settings)
    assert [line for line in lines if line.lower().startswith((b"remote-user", b"remote_user"))] == [
        b"REMOTE_USER: operator"
    ]


def test_nobody_writes_an_edited_header_behind_a_body():
    """Some backends, and some clients, take trailers for headers."""
    changes = rewriting(
        request_header=[edit("set", "X-User", "operator"), edit("unset", "X_Admin")],
        response_header=[edit("unset", "X-Secret")],
    )
    end = End((b"x-user: me\r\n", b"X-Admin: 1\r\n", b"X-Secret: a\r\n", b"X-Sum: 5\r\n"))
    assert changes.request_end(end).trailers == (b"X-Secret: a\r\n", b"X-Sum: 5\r\n")
    assert changes.answer_end(end).trailers == (b"x-user: me\r\n", b"X-Admin: 1\r\n", b"X-Sum: 5\r\n")


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ([], {"for": [b"192.0.2.7"], "proto": [b"https"], "host": [b"x.test"], "port": []}),
        ([edit("set", "X-Forwarded-For", "a")], {"for": [b"a, 192.0.2.7"]}),
        (
            [edit("unset", "X-Forwarded-For"), edit("unset", "x-forwarded-proto")],
            {"for": [b"192.0.2.7"], "proto": [b"https"]},
        ),
        (
            [edit("set", "X-Forwarded-Proto", "http"), edit("set", "X-Forwarded-Port", "443")],
            {"proto": [b"http"], "port": [b"443"]},
        ),
        ([edit("append", "X-Forwarded-Host", "a")], {"host": [b"a"]}),
    ],
)
def test_nobody_forges_who_the_client_is(edits, expected):
    """Of what an untrusted client says nothing is left, whatever is edited; the operator's word and ours are there."""
    forged = [
        b"X-Forwarded-For: 10.0.0.1",
        b"X-Forwarded-Proto: gopher",
        b"X-Forwarded-Host: evil",
        b"X-Forwarded-Port: 1",
    ]
    lines = sent(*forged, request_header=[*edits, edit("set", "X-Other", "1")])
    for name, told in expected.items():
        assert values(lines, b"x-forwarded-" + name.encode()) == told
    assert values(lines, b"x-other") == [b"1"]


def test_what_a_trusted_proxy_says_can_be_edited():
    """Its chain goes on with the edits, then its own address."""
    lines = sent(
        b"X-Forwarded-For: 10.0.0.1", b"X-Forwarded-Proto: http", client="trusted",
        request_header=[edit("append", "X-Forwarded-For", "10.0.0.2"), edit("unset", "X-Forwarded-Proto")],
    )  # fmt: skip
    assert values(lines, b"x-forwarded-for") == [b"10.0.0.1, 10.0.0.2, 192.0.2.7"]
    assert values(lines, b"x-forwarded-proto") == [b"https"]


@pytest.mark.parametrize("kind", ["request_header", "response_header"])
@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding", "Connection", "Upgrade", "Trailer"])
@pytest.mark.parametrize("action", ["set", "append", "add", "unset"])
def test_framing_is_not_edited(kind, name, action):
    """A settings error says so."""
    with pytest.raises(ConfigError, match="cannot be edited"):
        site(**{kind: [edit(action, name, "" if action == "unset" else "1")]})


@pytest.mark.parametrize(
    ("written", "what"),
    [
        (edit("set", "Host", "a"), "name: Host cannot be edited: .*: see preserve_host"),
        (edit("set", "Content_Length", "1"), "name: Content_Length cannot be edited"),
        (edit("set", "X_Client_Cert_Verified", "SUCCESS"), "name: X_Client_Cert_Verified cannot be edited"),
        (edit("set", "Proxy", "a"), "name: Proxy cannot be edited"),
        (edit("set", "X_Forwarded_For", "a"), 'name: write "-" instead of "_" in X_Forwarded_For'),
        (edit("add", "Authorization", "a"), 'name: Authorization is no list and may be there only once: use "set"'),
        (edit("set", "a b", "a"), 'name: must be the name of a header, such as "X-Frame-Options", found "a b"'),
        (edit("set", "A", "a\r\nB: c"), "value: must be one line of at most 4096 printable characters"),
        (edit("set", "A", "a\ud800"), "value: must be one line of at most 4096 printable characters"),
        (edit("set", "A", "a" * 4097), "value: must be one line of at most 4096 printable characters"),
        (edit("unset", "A", "a"), 'value: "unset" takes no value: leave it out'),
        (edit("append", "A"), 'value: is missing: what "append" puts behind the rest'),
        (edit("edit", "A", "a"), 'action: must be "set", "append", "add" or "unset", found "edit"'),
    ],
)
def test_mistakes_in_edits(written, what):
    """One sentence each."""
    with pytest.raises(ConfigError, match=rf"site\[0\]\.request_header\[0\]\.{what}"):
        site(request_header=[written])


def test_what_is_always_dropped_may_be_unset():
    """Many configurations do so."""
    assert values(sent(b"Proxy: a", request_header=[edit("unset", "Proxy")]), b"proxy") == []


@given(
    st.sampled_from(["set", "append", "add"]),
    HTTP_NAMES,
    VALUES,
    st.sampled_from(["request_header", "response_header"]),
)
def test_whatever_may_be_set_leaves_a_strict_head(action, name, value, kind):
    """It is read again by our own rules; what may not be set is a ConfigError."""
    try:
        settings = {kind: [edit(action, name, value)]}
        made = rewriting(**settings)
    except ConfigError:
        return
    if kind == "request_header":
        assert sent(b"%b: 1" % name.encode(), **settings)
        return
    answer = b"HTTP/1.1 200 OK\r\n%b: 1\r\nContent-Length: 2\r\n\r\nok" % name.encode()
    decoder = ResponseDecoder(65_536)
    decoder.expect(b"GET")
    (_, body, _) = decoder.feed(made.answer(answer))
    assert body == b"ok"


def test_answers_are_edited():
    """What the backend sent is edited too, and a body that looks like a head is a body."""
    made = rewriting(response_header=[edit("unset", "server"), edit("set", "X-Frame-Options", "DENY")])
    answer = (
        b"HTTP/1.1 200 OK\r\nServer: x\r\nx-frame-options: a\r\nX-Frame-Options: b\r\nC: d\r\n\r\nServer: y\r\n\r\n"
    )
    expected = b"HTTP/1.1 200 OK\r\nX-Frame-Options: DENY\r\nC: d\r\n\r\nServer: y\r\n\r\n"
    assert made.answer(answer) == expected


def test_hsts_is_an_edit_after_all_others():
    """There is one, in any case of letters, however often the backend says it."""
    made = rewriting(hsts_max_age_s=5, response_header=[edit("add", "Strict-Transport-Security", "max-age=1")])
    answer = b"HTTP/1.1 200 OK\r\nSTRICT-transport-security: max-age=1\r\nStrict-Transport-Security:\r\nC: d\r\n\r\n"
    assert made.answer(answer) == b"HTTP/1.1 200 OK\r\nStrict-Transport-Security: max-age=5\r\nC: d\r\n\r\n"
    assert made.is_of_requests is False


LOCATIONS = [
    {"url": "http://127.0.0.1:8000/other/", "path": "/app/"},
    {"url": "/pathy", "path": "/p"},
    {"url": "http://127.0.0.1:8000", "path": "/"},
    {"url": "http://127.0.0.1:8000/never", "path": "/first-wins"},
]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("http://127.0.0.1:8000/other/x?y#z", "https://h.test:99/app/x?y#z"),
        ("http://127.0.0.1:8000/other", "https://h.test:99/app"),
        ("HTTP://127.0.0.1:8000/OTHER/x", "https://h.test:99/app/x"),
        ("http://127.0.0.1:8000/else", "https://h.test:99/else"),
        ("http://127.0.0.1:8000/never", "https://h.test:99/never"),
        ("http://127.0.0.1:8000", "https://h.test:99/"),
        ("http://127.0.0.1:8000?q", "https://h.test:99/?q"),
        ("/pathy/x", "https://h.test:99/p/x"),
        ("http://any.test/pathy/x", "https://h.test:99/p/x"),
        ("http://127.0.0.1:80001/", None),
        ("http://127.0.0.1:8000.evil.test/", None),
        ("http://any.test", None),
        ("https://127.0.0.1:8000/", None),
        ("/pathyx", None),
        ("//any.test/pathy", None),
        ("/relative", None),
        ("relative", None),
        ("", None),
    ],
)
@pytest.mark.parametrize("name", ["Location", "content-location", "URI"])
def test_addresses_of_backends_become_those_of_clients(name, said, told):
    """As mod_proxy does it; what is none of theirs stays as it is."""
    made = rewriting(location_rewrite=LOCATIONS)
    answer = f"HTTP/1.1 302 Found\r\n{name}: {said}\r\nX-Location: {said}\r\n\r\n".encode()
    lines = made.answer(answer, b"h.test:99").decode().split("\r\n")
    assert lines[1] == f"{name}: {said if told is None else told}"
    assert lines[2] == f"X-Location: {said}"


def test_a_path_rewrites_the_root_too():
    """The whole of a backend that names itself by another host."""
    made = rewriting(location_rewrite=[{"url": "/", "path": "/app"}])
    told = made.answer(b"HTTP/1.1 302 Found\r\nLocation: http://b/x\r\nLocation: /y\r\nLocation: //z/y\r\n\r\n", b"h")
    assert told.split(b"\r\n")[1:4] == [b"Location: https://h/app/x", b"Location: https://h/app/y", b"Location: //z/y"]


@pytest.mark.parametrize(
    "url",
    ["", "//x", "ftp://x/", "http://a@b/", "http://a/b?c", "http://a/#", "http://a/../b", "http://a b", "http://a/\n"],
)
def test_what_is_no_beginning_of_an_address(url):
    """One sentence."""
    with pytest.raises(ConfigError, match=r"location_rewrite\[0\].url: must be the beginning of a URL"):
        site(location_rewrite=[{"url": url, "path": "/"}])


@pytest.mark.parametrize(
    ("target", "host", "expected"),
    [
        (b"/", b"a.test:443", b"a.test"),
        (b"/", b"a.test:8443", b"a.test:8443"),
        (b"http://b.test/x", b"a.test", b"b.test"),
    ],
)
def test_the_host_that_was_asked(target, host, expected):
    """The target's if it names one, without https' own port."""
    (head, *_) = RequestDecoder(4096, 50, 1000).feed(b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (target, host))
    assert host_of(head, b"default.test") == expected


ROUTE = [{"prefix": "/app/", "upstream": [], "upstream_path": "/other/"}, {"prefix": "/app/keep", "upstream": []}]


@pytest.mark.parametrize(
    ("settings", "target", "expected"),
    [
        ({"upstream_path": "/in/"}, b"/x?a=/b?c", b"/in/x?a=/b?c"),
        ({"upstream_path": "/in"}, b"/", b"/in/"),
        ({"upstream_path": "/in"}, b"http://x.test/y", b"/in/y"),
        ({"upstream_path": "/in"}, b"//x", b"/in//x"),
        ({"route": ROUTE}, b"/app/x", b"/other/x"),
        ({"route": ROUTE}, b"/app", b"/other"),
        ({"route": ROUTE}, b"/app/", b"/other/"),
        ({"route": ROUTE}, b"/app?q", b"/other?q"),
        ({"route": ROUTE}, b"/app/keep/x", b"/app/keep/x"),
        ({"route": ROUTE}, b"/apple", b"/apple"),
        ({"route": ROUTE, "upstream_path": "/in"}, b"/apple", b"/in/apple"),
        ({"route": [{"prefix": "/app", "upstream": [], "upstream_path": "/"}]}, b"/app", b"/"),
        ({"route": [{"prefix": "/app", "upstream": [], "upstream_path": "/"}]}, b"/app?q", b"/?q"),
        ({"route": [{"prefix": "/app", "upstream": [], "upstream_path": "/"}]}, b"/app/a%2Fb", b"/a%2Fb"),
    ],
)
def test_the_prefix_is_replaced(settings, target, expected):
    """The query stays, and what is not below a prefix that has a path."""
    assert sent(target=target, **settings)[0] == b"GET %b HTTP/1.1" % expected


def test_options_of_the_whole_server_have_no_path():
    assert sent(target=b"*", method=b"OPTIONS", upstream_path="/in")[0] == b"OPTIONS * HTTP/1.1"


@pytest.mark.parametrize(
    "target",
    [b"/../x", b"/a/%2e%2e/b", b"/a/..;/b", b"/\\../x", b"/%252e%252e/", b"/./x", b"http://x.test/../x"],
)
def test_a_path_does_not_step_out_of_what_it_is_mapped_to(target):
    """Without any route too."""
    with pytest.raises(ClientError) as caught:
        sent(target=target, upstream_path="/in/")
    assert caught.value.status == 400


def test_no_mapped_path_begins_as_a_host_does():
    """//evil.test/x would be one to many a library."""
    with pytest.raises(ClientError) as caught:
        sent(target=b"/app//evil.test/x", route=[{"prefix": "/app", "upstream": [], "upstream_path": "/"}])
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("http://10.0.0.1:8000", b"10.0.0.1:8000"),
        ("http://app.internal:80", b"app.internal"),
        ("https://app.internal:443", b"app.internal"),
        ("https://app.internal:80", b"app.internal:80"),
        ("http://[::1]:8080", b"[::1]:8080"),
        ("unix:/run/app.sock", b"localhost"),
    ],
)
def test_the_backends_own_host(address, host):
    """As ProxyPreserveHost Off; X-Forwarded-Host has the client's."""
    data = b"\r\n".join([*sent(preserve_host=False), b"", b""])
    lines = with_host(data, host_of_backend(address)).split(b"\r\n")
    assert lines[:2] == [b"GET / HTTP/1.1", b"Host: " + host]
    assert values(lines, b"host") == [host]
    assert values(lines, b"x-forwarded-host") == [b"x.test"]


def test_what_is_remembered_of_one_site_is_not_anothers():
    """The same bytes, sent to sites with other edits, one after another."""
    for value in ("a", "b", "a"):
        lines = sent(b"X-Same: 1", upstream_path=f"/{value}", request_header=[edit("append", "X-Same", value)])
        assert lines[0] == b"GET /%b/ HTTP/1.1" % value.encode()
        assert values(lines, b"x-same") == [b"1, " + value.encode()]
    assert values(sent(b"X-Same: 1"), b"x-same") == [b"1"]
