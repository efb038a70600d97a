"""What a case has shown: the three backends compared, and our own with the RFC.

Ours must have got what `strict` reads in the client's bytes, from the first request on, and nothing else; each answered
once. Of what it got, nginx's and Apache's must have got the same: what they refuse or read otherwise stands in the two
tables below, each class with the argument for what we do. What is in no class is a finding.

They may get more than ours: refusing is always allowed here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from differential import strict
from differential.fronts import APACHE, NGINX, OURS, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_BROKEN_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})|%00")
_TAB_BESIDE = re.compile(rb"(?i)^(?:content-length|transfer-encoding|host):(?:[ \t]*\t|[^\r]*\t\r?$)", re.MULTILINE)
_USUAL_HOST = re.compile(
    rb"(?:(?:[A-Za-z0-9-]+\.)*[0-9]*[A-Za-z-][A-Za-z0-9-]*|[1-9][0-9]*(?:\.[0-9]+){3}|\[[0-9A-Fa-f:.]+\])(?::0*[1-9][0-9]*)?"
)
_USUAL_METHOD = re.compile(rb"[A-Z_-]+")
_ABSOLUTE = re.compile(rb"[^ ]+ (?i:https?)://")


@dataclass(frozen=True, slots=True)
class Meaning:
    """What two backends must agree on."""

    method: bytes
    target: bytes
    host: bytes | None
    """Without its port, which nginx's $host leaves out."""
    body: bytes

    @classmethod
    def of(cls, request: strict.Request) -> Meaning:
        host = None if request.host is None else _without_port(request.host)
        return cls(request.method, request.target, host, request.body)

    def is_same(self, other: Meaning) -> bool:
        """As the other, but for a host that none had named."""
        hosts_agree = self.host == other.host or None in {self.host, other.host}
        return (self.method, self.target, self.body) == (other.method, other.target, other.body) and hosts_agree


def _without_port(host: bytes) -> bytes:
    return re.sub(rb":[0-9]*\Z", b"", host)


@dataclass(frozen=True, slots=True)
class Refused:
    """Requests that we pass on and others do not."""

    name: str
    peers: tuple[str, ...]
    fits: Callable[[strict.Request], bool]
    argument: str


@dataclass(frozen=True, slots=True)
class ReadOtherwise:
    """Requests that another proxy passes on with another meaning; `is_read` tells whether it is the one expected."""

    name: str
    peers: tuple[str, ...]
    fits: Callable[[strict.Request], bool]
    is_read: Callable[[strict.Request, Meaning], bool]
    argument: str


def _climbs(target: bytes) -> bool:
    """More ".." than segments, at some place of the path."""
    depth = 0
    for segment in re.sub(rb"(?i)%2e", b".", target.partition(b"?")[0]).split(b"/"):
        depth += {b"..": -1, b".": 0, b"": 0}.get(segment, 1)
        if depth < 0:
            return True
    return False


def _is_unusual(host: bytes) -> bool:
    return b".." not in host and _USUAL_HOST.fullmatch(host) is None


def _forwards_no_further(request: strict.Request) -> bool:
    said = request.all(b"max-forwards")
    return len(said) > 1 or any(not re.fullmatch(rb"0*[1-9][0-9]*", value) for value in said)


REFUSED = (
    Refused(
        "TRACE",
        (NGINX,),
        lambda asked: asked.method == b"TRACE",
        "a method like any other to a gateway (RFC 9110 9.3.8): whether to tell of the request is the backend's choice",
    ),
    Refused(
        "a tab beside the value",
        (NGINX,),
        lambda asked: _TAB_BESIDE.search(asked.raw) is not None,
        "RFC 9110 5.6.3: space or tab, and neither is of the value; the line is written anew, with one space",
    ),
    Refused(
        "Expect twice",
        (NGINX, APACHE),
        lambda asked: len(asked.all(b"expect")) > 1,
        "it is a list (RFC 9110 10.1.1), so two lines say what one would; one goes on",
    ),
    Refused(
        "a broken percent-encoding, or NUL in one",
        (NGINX, APACHE),
        lambda asked: _BROKEN_PERCENT.search(asked.target) is not None,
        "the target goes on byte for byte, so the backend judges what the client wrote; it frames nothing",
    ),
    Refused(
        "a path that climbs over the root",
        (NGINX, APACHE),
        lambda asked: _climbs(asked.target),
        "no file is served here, and the backend gets the path as it is; where routes depend on it, it is refused",
    ),
    Refused(
        "OPTIONS *",
        (NGINX, APACHE),
        lambda asked: asked.target == b"*",
        "RFC 9112 3.2.4; it asks about the server, and that is the backend",
    ),
    Refused(
        "a method of other letters",
        (NGINX,),
        lambda asked: _USUAL_METHOD.fullmatch(asked.method) is None,
        "any token is a method (RFC 9110 9.1), and it ends at the space for every reader",
    ),
    Refused(
        "Max-Forwards: 0, twice or no number, with other methods than OPTIONS and TRACE",
        (APACHE,),
        _forwards_no_further,
        "for methods but OPTIONS and TRACE it may be ignored (RFC 9110 7.6.2)",
    ),
    Refused(
        "a host as the URI's grammar allows it",
        (NGINX, APACHE),
        lambda asked: any(_is_unusual(host) for host in {asked.host, *asked.all(b"host")} - {None}),
        "sub-delims, numbers, any port and an empty one are valid there (RFC 3986 3.2.2, 3.2.3), and separate nothing",
    ),
    Refused(
        "HTTP/1.0 without Host",
        (APACHE,),
        lambda asked: asked.version == b"1.0" and not asked.all(b"host"),
        "it need not have one; the backend gets the site's own name",
    ),
)

OTHERWISE = (
    ReadOtherwise(
        "the dot behind a host",
        (NGINX,),
        lambda asked: (Meaning.of(asked).host or b"").endswith(b"."),
        lambda asked, theirs: _is_but_for_host(asked, theirs, (Meaning.of(asked).host or b"")[:-1]),
        "the client's spelling; the backend may care",
    ),
    ReadOtherwise(
        "several slashes",
        (APACHE,),
        lambda asked: b"//" in asked.target,
        lambda asked, theirs: _is_but_for_target(asked, theirs, re.sub(rb"/+", b"/", asked.target.partition(b"?")[0])),
        "two slashes are another path than one (RFC 3986 6.2.2), and the backend's to judge",
    ),
    ReadOtherwise(
        "Host beside an absolute target",
        (APACHE,),
        lambda asked: _ABSOLUTE.match(asked.raw) is not None,
        lambda asked, theirs: _is_but_for_host(asked, theirs, *asked.all(b"host")),
        "RFC 9112 3.2.2: a proxy must ignore Host then, and send the target's",
    ),
    ReadOtherwise(
        "OPTIONS of a whole server",
        (NGINX,),
        lambda asked: asked.target == b"*" and _ABSOLUTE.match(asked.raw) is not None,
        lambda asked, theirs: _is_but_for_target(asked, theirs, b"/"),
        "RFC 9112 3.2.4: an absolute target without a path is the asterisk at the last proxy",
    ),
)


def _is_but_for_host(asked: strict.Request, theirs: Meaning, *hosts: bytes) -> bool:
    same_but_host = theirs.is_same(replace(Meaning.of(asked), host=None))
    return same_but_host and theirs.host in {_without_port(host.lower()) for host in hosts}


def _is_but_for_target(asked: strict.Request, theirs: Meaning, path: bytes) -> bool:
    """Apache writes such a path with an encoding of its own."""
    same_but_target = theirs.is_same(replace(Meaning.of(asked), target=theirs.target))
    return same_but_target and unquote_to_bytes(theirs.target.partition(b"?")[0]) == unquote_to_bytes(path)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be said of one case."""

    findings: tuple[str, ...]
    """What should not be, each in a line; empty: all is well."""
    classes: frozenset[tuple[str, str]]
    """Peer and name of what was excused."""


def judge(data: bytes, outcomes: Mapping[str, Outcome]) -> Verdict:
    """Compare what the proxies made of the same bytes."""
    read = strict.read(data)
    findings = _own(read, outcomes[OURS])
    classes: set[tuple[str, str]] = set()
    for peer, theirs in outcomes.items():
        if peer != OURS and not findings:
            findings += _compare(peer, read, outcomes[OURS], theirs, classes)
    return Verdict(tuple(findings), frozenset(classes))


def _own(read: strict.Reading, ours: Outcome) -> list[str]:
    got = ours.record.requests
    found = [f"our own output has a fault: {fault}" for fault in ours.record.faults]
    if ours.record.open_halves:
        found.append("half a request stands on a connection that is still open")
    if not ours.has_ended:
        found.append("the client's connection is not closed")
    for at, request in enumerate(got):
        if at >= len(read.requests):
            found.append(f"passed on, but strictly refused ({read.fault or 'not whole'}): {request.raw[:200]!r}")
        elif not _is_what_was_asked(request, read.requests[at]):
            found.append(f"passed on as {request.raw[:200]!r}, but it was {read.requests[at].raw[:200]!r}")
        if not request.is_rewritten:
            found.append(f"not in the form for a backend: {request.raw[:200]!r}")
    answers = ours.statuses
    if answers[: len(got)] != [200] * len(got) or len(answers) > len(got) + 1:
        found.append(f"{len(got)} requests reached the backend, and the client got {answers}")
    if len(got) < len(read.requests) and (
        len(answers) <= len(got) or (answers[-1] < 400 and not _ends_here(read.requests[len(got)]))
    ):
        found.append(f"{len(read.requests)} requests were sent, {len(got)} arrived, and the client got {answers}")
    return found


def _ends_here(request: strict.Request) -> bool:
    """The proxy answers it in place of the backend (RFC 9110 7.6.2)."""
    said = request.all(b"max-forwards")
    return request.method == b"OPTIONS" and len(said) == 1 and re.fullmatch(rb"0+", said[0]) is not None


def _is_what_was_asked(request: strict.Request, asked: strict.Request) -> bool:
    """The same, port included; HTTP/1.0 that names no host is given one."""
    return Meaning.of(request).is_same(Meaning.of(asked)) and asked.host in {request.host, None}


def _compare(
    peer: str, read: strict.Reading, ours: Outcome, theirs: Outcome, classes: set[tuple[str, str]]
) -> list[str]:
    others = [Meaning.of(request) for request in theirs.record.requests]
    at = 0
    for number, request in enumerate(ours.record.requests):
        asked = read.requests[number]
        has_more = at < len(others)
        if has_more and others[at].is_same(Meaning.of(asked)):
            at += 1
            continue
        otherwise = [each for each in OTHERWISE if peer in each.peers and each.fits(asked)]
        read_so = [each.name for each in otherwise if has_more and each.is_read(asked, others[at])]
        refused = [each.name for each in REFUSED if peer in each.peers and each.fits(asked)]
        if read_so:
            classes.add((peer, read_so[0]))
            at += 1
        elif refused:
            classes.add((peer, refused[0]))
            if not has_more:
                return []  # and nothing behind it was read
        elif not has_more and (theirs.record.faults or _may_close(peer, read.requests[:number])):
            return []
        else:
            got = theirs.record.requests[at].raw[:200] if has_more else None
            return [f"{peer} passed on {got!r} and answered {theirs.statuses}; ours passed on {request.raw[:200]!r}"]
    return []


def _may_close(peer: str, before: list[strict.Request]) -> bool:
    """Whether a peer closes behind a request where that is allowed, and going on is too.

    nginx does if Connection has "close" as a part of another word, Apache if it has a word with which "close" begins,
    and if the request expects 100 and has no body.
    """
    if not before:
        return False
    connection = b",".join(before[-1].all(b"connection")).lower()
    if peer == NGINX:
        return b"close" in connection
    begun = any(b"close".startswith(word) for word in re.findall(rb"[a-z]+", connection))
    return begun or (bool(before[-1].all(b"expect")) and not before[-1].body)
