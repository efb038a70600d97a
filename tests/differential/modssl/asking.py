"""The request that reaches the responder, byte by byte, and who is served when many want one at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING

from differential.modssl import client
from differential.modssl.answers import good, holds
from differential.modssl.rows import flag_directives
from differential.modssl.stage import Case, Host
from integration.front import wait_until

from proxy.lab import answers as lab_answers
from proxy.lab import der

if TYPE_CHECKING:
    from differential.modssl.answers import Speaker
    from differential.modssl.stage import Stage

_PROXY = "SSLOCSPProxyURL http://127.0.0.1:{port}/"
_OFF = flag_directives("off", "off")
_SLOW_S = 1.5


def _asks(stage: Stage) -> None:
    stage.says(good)
    stage.shake("asks")


def _asks_with(*extensions: bytes):
    def play(stage: Stage) -> None:
        stage.says(good)
        shown = client.shake_with_extensions(stage.ports[0], stage.case.name(), b"".join(extensions))
        stage.note("client with extensions", stage.describe(shown), shown=shown)
        stage.shake("client without")

    return play


_NONCE = der.extension(lab_answers.NONCE, der.octets(bytes(range(16))))
_PRIVATE = der.extension("1.3.6.1.4.1.99999.7", b"\x05\x00", critical=True)


def requests(*, has_ipv6: bool) -> list[Case]:
    uris = {
        "path": "{own}",
        "query": "{own}?a=b&c=%20d",
        "fragment": "{own}#part",
        "query and fragment": "{own}?a=b#part",
        "user and password": "http://user:word@127.0.0.1:{port}{path}",
        "host name": "http://localhost:{port}{path}",
        "host name in capitals": "http://LOCALHOST:{port}{path}",
    }
    if has_ipv6:
        uris["IPv6 address"] = "http://[::1]:{port6}{path}"
    through = ("http://ocsp.example:8080{path}",)
    proxies = {
        "through a proxy": (_PROXY, through),
        "through a proxy, query": (_PROXY, ("http://ocsp.example{path}?q",)),
        "through a proxy, user": (_PROXY, ("http://user:word@ocsp.example{path}",)),
        "through a proxy with a path": (_PROXY + "elsewhere", through),
        "through a proxy that refuses": ("SSLOCSPProxyURL http://127.0.0.1:1/", through),
        "through a proxy, https": ("SSLOCSPProxyURL https://127.0.0.1:{port}/", through),
        "through a proxy without a port": ("SSLOCSPProxyURL http://127.0.0.1/", through),
    }
    return [
        *(Case("request", title, _asks, (Host(directives=_OFF, uris=(uri,)),)) for title, uri in uris.items()),
        *(
            Case("request", title, _asks, (Host(directives=(*_OFF, proxy), uris=uris),))
            for title, (proxy, uris) in proxies.items()
        ),
        Case("request", "path that is encoded", _asks, at="/encoded/a%2Fb%41"),
        Case("request", "path with two slashes", _asks, at="//two/slashes"),
        Case("request", "empty path", _asks, (Host(uris=("http://127.0.0.1:{port}",)),), at="/"),
        Case("request", "client's nonce", _asks_with(der.sequence(_NONCE))),
        Case("request", "client's two extensions", _asks_with(der.sequence(_NONCE, _PRIVATE))),
    ]


def query_without_path() -> Case:
    """For another world than the empty path's: to the responder they are one."""
    return Case("request", "query, empty path", _asks, (Host(uris=("http://127.0.0.1:{port}?a=b",)),), at="/")


# --- many at once ---


def _note(stage: Stage, what: str, *labels: str, each_takes_s: float) -> None:
    """Clients of these hosts at once; and whether the responder was asked again only when the query before was over."""
    stage.responder.arrivals.clear()
    with ThreadPoolExecutor(len(labels)) as pool:
        shown = list(pool.map(stage.client, labels))
    told = [f"{label or 'own'}: {stage.describe(each)}" for label, each in zip(labels, shown, strict=True)]
    gaps = [later - earlier for earlier, later in pairwise(stage.responder.arrivals)]
    order = "one query after the other" if all(gap > each_takes_s / 2 for gap in gaps) else "queries at the same time"
    stage.note_many(what, f"{', '.join(told)}; {order}")


def _two_certificates(speaker: Speaker):
    def play(stage: Stage) -> None:
        stage.does(speaker.delayed(good, _SLOW_S))
        _note(stage, "five clients", "a", "a", "a", "b", "b", each_takes_s=_SLOW_S)

    return play


def _cached_meanwhile(speaker: Speaker):
    def play(stage: Stage) -> None:
        stage.says(good)
        stage.shake("a", "a")
        stage.does(speaker.delayed(good, _SLOW_S))
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(stage.client, "b")
            shelf = stage.responder.shelf(stage.case.path("b"))
            wait_until(lambda: shelf.queries, what="the query for b")
            shown = stage.client("a")
            order = "before b" if not waiting.done() else "after b"
            waiting.result()
        stage.note_many("a while b is fetched", f"{stage.describe(shown)}, {order}")

    return play


def _silent(stage: Stage) -> None:
    stage.does(holds())
    _note(stage, "four clients", "", "", "", "", each_takes_s=1)


def together(speaker: Speaker) -> list[Case]:
    two = (Host("a", certificate="a"), Host("b", certificate="b"))
    short = "SSLStaplingResponderTimeout 1"
    return [
        Case("at once", "two certificates, slow responder", _two_certificates(speaker), two),
        Case("at once", "cached while another is fetched", _cached_meanwhile(speaker), two),
        *(
            Case(
                "at once",
                "silent responder",
                _silent,
                (Host(directives=(*flag_directives(*flags), short)),),
                " ".join(flags),
            )
            for flags in (("on", "on"), ("off", "on"), ("off", "off"))
        ),
    ]


# --- where Apache's process dies ---


def _dies(stage: Stage) -> None:
    stage.says(good)
    stage.shake("first")
    stage.shake("second", tls="1.2")


def fatal() -> list[Case]:
    return [
        Case("J", "forced responder without scheme", _dies, (Host(directives=("SSLStaplingForceURL foo",)),)),
        Case("J", "no scheme in the certificate", _dies, (Host(uris=("//127.0.0.1:{port}/x",)),)),
    ]
