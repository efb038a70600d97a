"""Whose settings count: names, certificates, sessions and inheritance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from differential.modssl import answers
from differential.modssl.answers import good, sends
from differential.modssl.rows import flag_directives
from differential.modssl.stage import Case, Host

if TYPE_CHECKING:
    from collections.abc import Callable

    from differential.modssl.stage import Stage

_NOT_FOUND = sends(b"HTTP/1.0 404 Not Found\r\n\r\n")


# --- server names, certificates, sessions ---


def _names(stage: Stage) -> None:
    stage.says(good)
    stage.shake("no server name", name=None)
    stage.shake("unknown name", name="nobody.example")
    stage.shake("the first host's name")
    stage.shake("the second host's name", "second")
    stage.shake("an alias", name="alias.test")
    stage.shake("a wildcard alias", name="any.wild.test")
    stage.shake("a name in capitals", name=stage.case.name("second").upper())
    stage.shake("TLS 1.2, no server name", name=None, tls="1.2")


def _names_where_off(stage: Stage) -> None:
    stage.says(good)
    stage.shake("no server name", name=None, port=1)
    stage.shake("unknown name", name="nobody.example", port=1)
    stage.shake("the first host's name", "off", port=1)
    stage.shake("a host with stapling", "on", port=1)
    stage.shake("a host that says nothing of stapling", "unset", port=1)
    stage.shake("TLS 1.2, a host with stapling", "on", port=1, tls="1.2")


def _not_asked(stage: Stage) -> None:
    stage.says(good)
    stage.shake("not asked", asks=False)
    stage.shake("not asked, TLS 1.2", asks=False, tls="1.2")
    stage.shake("asked")


def _resumed(version) -> Callable[[Stage], None]:
    def play(stage: Stage) -> None:
        stage.says(good)
        first = stage.shake("first", tls=version)
        again = stage.shake("resumed", resume=first.session)
        stage.shake("resumed again", resume=again.session)
        stage.shake("anew", tls=version)

    return play


def _resumed_without_cache(stage: Stage) -> None:
    stage.does(None)
    first = stage.shake("first")
    stage.says(good)
    stage.shake("resumed", resume=first.session)
    stage.shake("anew")


def _two_kinds(stage: Stage) -> None:
    stage.says(good)
    for kind in ("rsa", "ec"):
        stage.shake(f"{kind}, TLS 1.3", kind=kind)
        stage.shake(f"{kind}, TLS 1.2", kind=kind, tls="1.2")


def names() -> list[Case]:
    """In this order: the first host of a port is the one without a name."""
    return [
        Case(
            "names",
            "first host with stapling",
            _names,
            (Host(), Host("second", certificate="second", names=("alias.test", "*.wild.test"))),
        ),
        Case(
            "names",
            "first host without stapling",
            _names_where_off,
            (
                Host("off", stapling="off", port=1, certificate="off"),
                Host("on", port=1, certificate="on"),
                Host("unset", port=1, stapling=None, certificate="unset"),
            ),
        ),
        Case("names", "client does not ask", _not_asked),
        Case("names", "resumed, TLS 1.2", _resumed("1.2")),
        Case("names", "resumed, TLS 1.3", _resumed("1.3")),
        Case(
            "names",
            "resumed, nothing cached",
            _resumed_without_cache,
            (Host(directives=flag_directives("off", "off")),),
        ),
        Case("names", "RSA and ECDSA", _two_kinds, (Host(kinds=("rsa", "ec")),)),
    ]


def two_of_each(*labels: str) -> Callable[[Stage], None]:
    """Each host twice, the second time in TLS 1.2."""

    def play(stage: Stage) -> None:
        stage.says(good)
        for label in labels:
            stage.shake(f"{label or 'own'}, first", label)
            stage.shake(f"{label or 'own'}, second", label, tls="1.2")

    return play


# --- inheritance ---

MAIN = (
    "SSLUseStapling on",
    *flag_directives("off", "off"),
    "SSLStaplingErrorCacheTimeout 1",
    "SSLStaplingStandardCacheTimeout 1",
    "SSLStaplingResponseMaxAge 60",
    "SSLStaplingResponseTimeSkew 0",
)
"""Of the main server: all other than the built-in values."""


def _flags(stage: Stage) -> None:
    stage.does(_NOT_FOUND)
    for host in stage.case.hosts:
        stage.shake(f"404: {host.label}", host.label)
    stage.says(answers.status(6))
    for host in stage.case.hosts:
        stage.shake(f"unauthorized: {host.label}", host.label)


def _limits(stage: Stage) -> None:
    stage.says(answers.times(-100, 7200))
    stage.shake("thisUpdate 100 s ago, maximum age inherited", "inherits")
    stage.shake("thisUpdate 100 s ago, maximum age 200", "older")
    stage.says(answers.times(30, 7200))
    stage.shake("thisUpdate in 30 s, skew inherited", "strict")
    stage.shake("thisUpdate in 30 s, skew 60", "skewed")


def _timeouts(stage: Stage) -> None:
    stage.says(answers.times(-1, 7200))
    labels = [host.label for host in stage.case.hosts]
    for label in labels:
        stage.shake(f"{label}, stored", label)
    stage.wait_s(1.5)
    for label in labels:
        stage.shake(f"{label}, a second later", label)


_LONG = ("SSLStaplingErrorCacheTimeout 3600", "SSLStaplingStandardCacheTimeout 3600")


def inherited() -> list[Case]:
    return [
        Case(
            "inherited",
            "flags",
            _flags,
            (
                Host("inherits", _LONG, "a", stapling=None),
                Host("errors", (*_LONG, "SSLStaplingReturnResponderErrors on"), "b", stapling=None),
                Host("fake", (*_LONG, "SSLStaplingFakeTryLater on"), "c", stapling=None),
                Host("both", (*_LONG, *flag_directives("on", "on")), "d", stapling=None),
                Host("without", _LONG, "e", stapling="off"),
            ),
        ),
        Case(
            "inherited",
            "limits",
            _limits,
            (
                Host("inherits", (), "a", stapling=None),
                Host("older", ("SSLStaplingResponseMaxAge 200",), "b", stapling=None),
                Host("strict", (), "c", stapling=None),
                Host("skewed", ("SSLStaplingResponseTimeSkew 60",), "d", stapling=None),
            ),
        ),
        Case(
            "inherited",
            "timeouts",
            _timeouts,
            (
                Host("inherits", (), "a", stapling=None),
                Host("longer", ("SSLStaplingStandardCacheTimeout 3600",), "b", stapling=None),
            ),
        ),
    ]


MAIN_FORCED = (
    "SSLUseStapling on",
    "SSLStaplingForceURL http://127.0.0.1:{port}/forced",
    "SSLStaplingResponderTimeout 2",
)


MAIN_PROXIED = ("SSLUseStapling on", "SSLOCSPProxyURL http://127.0.0.1:{port}/", *flag_directives("off", "off"))


def proxied() -> list[Case]:
    uris = ("http://ocsp.example:8080{path}",)
    refused = ("SSLOCSPProxyURL http://127.0.0.1:1/",)
    return [
        Case("inherited", "proxy", two_of_each("own"), (Host("own", (), "a", uris, stapling=None),)),
        Case("inherited", "proxy, another in the host", two_of_each("own"), (Host("own", refused, "a", uris),)),
    ]


def forced() -> list[Case]:
    elsewhere = ("http://127.0.0.1:1/x",)
    return [
        Case(
            "inherited",
            "forced responder",
            two_of_each("inherits", "off"),
            (Host("inherits", (), "a", elsewhere, stapling=None), Host("off", (), "b", elsewhere, stapling="off")),
            at="/forced",
        ),
        Case(
            "inherited",
            "forced responder, another in the host",
            two_of_each("own"),
            (Host("own", ("SSLStaplingForceURL {own}",), "a", elsewhere, stapling=None),),
        ),
    ]
