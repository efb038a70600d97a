"""How an exchange with a responder may fail, and what it may look like and still be good."""

from __future__ import annotations

from typing import TYPE_CHECKING

from differential.modssl import answers
from differential.modssl.answers import HEAD, good, holds, resets, sends
from differential.modssl.rows import SAME_FLAGS, flag_directives, flag_words
from differential.modssl.stage import Case, Host

if TYPE_CHECKING:
    from differential.modssl.answers import Act, Speaker
    from differential.modssl.stage import Stage

_LONGEST_LINE = 8192
_MOST_LINES = 255
_MOST_BYTES = 2 << 20
SHORT_TIMEOUT = "SSLStaplingResponderTimeout 1"

NO_ANSWER: dict[str, Act | None] = {
    "closed at once": None,
    "reset after the request": resets(),
    "reset after the status line": resets(b"HTTP/1.0 200 OK\r\n"),
    "status 199": sends(b"HTTP/1.0 199 Odd\r\n\r\n"),
    "status 302": sends(b"HTTP/1.0 302 Found\r\nLocation: /\r\n\r\n"),
    "status 500": sends(b"HTTP/1.0 500 Oops\r\n\r\n"),
    "status 1000": sends(b"HTTP/1.0 1000 Much\r\n\r\n"),
    "status no number": sends(b"HTTP/1.0 abc\r\n\r\n"),
    "status line without status": sends(b"HTTP/1.0\r\n\r\n"),
    "status line of another protocol": sends(b"ICY 200 OK\r\n\r\n"),
    "empty status line": sends(b"\r\n\r\n"),
    "ends in the status line": sends(b"HTTP/1.0 200 O"),
    "ends in the headers": sends(b"HTTP/1.0 200 OK\r\nContent-Ty"),
    "ends after a header line": sends(b"HTTP/1.0 200 OK\r\nContent-Type: application/ocsp-response\r\n"),
    "status line too long": sends(b"HTTP/1.0 200 " + b"O" * _LONGEST_LINE + b"\r\n\r\n"),
    "header line too long": sends(b"HTTP/1.0 200 OK\r\nX: " + b"x" * _LONGEST_LINE + b"\r\n\r\n"),
    "256 header lines": sends(b"HTTP/1.0 200 OK\r\n" + b"X: y\r\n" * (_MOST_LINES + 1) + b"\r\n"),
    "empty body": sends(HEAD),
    "body is no DER": sends(HEAD + b"<html>no</html>"),
    "body over 2 MiB": sends(HEAD + bytes(_MOST_BYTES + 1)),
}
"""What the responder does with the connection; none of it gives a response."""

URIS = {
    "name without address": "http://no-such-host.invalid/x",
    "connection refused": "http://127.0.0.1:1/x",
    "port 0": "http://127.0.0.1:0/x",
    "no host": "http:/x",
}


def _spoiled(speaker: Speaker) -> dict[str, Act]:
    """Responses that do not survive the way they are sent."""
    return {
        "chunked body": speaker.says(
            good, head=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", body=answers.chunked
        ),
        "response cut short": speaker.says(good, body=lambda response: response[:-20]),
        "byte before the response": speaker.says(good, head=HEAD + b"\n"),
        "PEM": speaker.says(good, head=HEAD + b"-----BEGIN OCSP RESPONSE-----\n"),
    }


def _odd_but_good(speaker: Speaker) -> dict[str, Act]:
    typed = b"Content-Type: application/ocsp-response\r\n\r\n"
    heads = {
        "status 299": b"HTTP/1.0 299 Odd\r\n" + typed,
        "status 204 with a body": b"HTTP/1.0 204 No Content\r\n" + typed,
        "status without a reason": b"HTTP/1.0 200\r\n" + typed,
        "version 9.9": b"HTTP/9.9 200 OK\r\n" + typed,
        "version without number": b"HTTP/ 200 OK\r\n" + typed,
        "no header at all": b"HTTP/1.0 200 OK\r\n\r\n",
        "header line without colon": b"HTTP/1.0 200 OK\r\nwhat is this\r\n\r\n",
        "bare line feeds": b"HTTP/1.0 200 OK\nContent-Type: application/ocsp-response\n\n",
        "wrong content type": b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n",
        "content length too small": b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n",
        "255 header lines": b"HTTP/1.0 200 OK\r\n" + b"X: y\r\n" * _MOST_LINES + b"\r\n",
        "header line just short enough": b"HTTP/1.0 200 OK\r\nX: " + b"x" * (_LONGEST_LINE - 100) + b"\r\n\r\n",
        "no-store": b"HTTP/1.0 200 OK\r\nCache-Control: no-store, max-age=0\r\n\r\n",
    }
    return {title: speaker.says(good, head=head) for title, head in heads.items()} | {
        "bytes after the response": speaker.says(good, tail=b"and more"),
        "in small pieces": speaker.drips(good, pieces=40, pause_s=0.005),
    }


def _three(act: Act | None, *, is_well_later: bool):
    def play(stage: Stage) -> None:
        stage.does(act)
        stage.shake("first")
        stage.shake("second", tls="1.2")
        if is_well_later:
            stage.says(good)
            stage.shake("responder well")

    return play


def cases(speaker: Speaker) -> list[Case]:
    """Those that do not wait."""
    made = []
    for flags in SAME_FLAGS:
        hosts, words = (Host(directives=flag_directives(*flags)),), flag_words(*flags)
        for title, act in (NO_ANSWER | _spoiled(speaker)).items():
            made.append(Case("C", title, _three(act, is_well_later=True), hosts, words))
        for title, uri in URIS.items():
            host = Host(directives=flag_directives(*flags), uris=(uri,))
            made.append(Case("C", title, _three(None, is_well_later=False), (host,), words))
    off = flag_directives("off", "off")
    for title, act in _odd_but_good(speaker).items():
        made.append(
            Case("A", title, _three(act, is_well_later=False), (Host(directives=off),), flag_words("off", "off"))
        )
    return made


def waiting_cases(speaker: Speaker) -> list[Case]:
    """Those that wait for a timeout of a second, with everything else that wants to fetch behind them."""
    waits: dict[str, Act] = {
        "says nothing": holds(),
        "stops after the status line": holds(b"HTTP/1.0 200 OK\r\n"),
        "keeps the connection open": _kept_open(speaker),
    }
    made = []
    for flags in SAME_FLAGS:
        directives, words = (*flag_directives(*flags), SHORT_TIMEOUT), flag_words(*flags)
        for title, act in waits.items():
            made.append(Case("C", title, _three(act, is_well_later=False), (Host(directives=directives),), words))
        deaf = Host(directives=directives, uris=("http://127.0.0.1:{deaf}/x",))
        made.append(Case("C", "connects to nobody", _three(None, is_well_later=False), (deaf,), words))
    timeout_0 = Host(directives=("SSLStaplingResponderTimeout 0",))
    made.append(Case("C", "timeout 0", _three(speaker.says(good), is_well_later=False), (timeout_0,)))
    slow = speaker.drips(good, pieces=3, pause_s=0.9)
    made.append(
        Case(
            "A",
            "slower than the timeout as a whole",
            _three(slow, is_well_later=False),
            (Host(directives=("SSLStaplingResponderTimeout 2",)),),
        )
    )
    return made


def _kept_open(speaker: Speaker) -> Act:
    said = speaker.says(good, head=b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\n")

    def act(call) -> None:
        said(call)
        call.hold()

    return act
