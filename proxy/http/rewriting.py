"""What a site changes in the heads that pass, as Apache's mod_headers and mod_proxy do. Pure.

Of a request (RequestHeader, ProxyPass, ProxyPreserveHost):
- The edits act on what the client has sent and may say. What we tell of it comes after them, so X-Forwarded-For ends
  with its address whatever was set before; an X-Forwarded-Proto or -Host that was set stands instead of ours.
- "-" and "_" in names are one: no client can write an edited header in another way that a gateway takes for the same.
  Nor behind the body: trailers of such names are dropped, both ways.
- A path is looked for as `routes` does it, and refused where two readers could disagree about what it leads to.

Of an answer (ProxyPassReverse, Header): first the addresses, then the edits. They are for each final answer and for our
own error pages, as with `Header always`, and act on the backend's lines too, as without. (Apache keeps two lists:
`Header set` leaves its own error pages alone, and `Header always set` leaves what the backend sent beside it.)

Nothing here touches framing: the settings let nobody edit such a header.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from proxy.errors import ClientError
from proxy.http.fields import FORWARDED, REQUEST_FIELDS, as_gateways_read
from proxy.http.messages import End

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from proxy.http.fields import Field
    from proxy.http.routes import Routes

_LOCATIONS = frozenset({b"location", b"content-location", b"uri"})


class Edit(NamedTuple):
    """One change of a list of lines; `key` is the name in the form in which names are compared."""

    action: Literal["set", "append", "add", "unset"]
    key: bytes
    name: bytes
    value: bytes


class Location(NamedTuple):
    """An address of a backend and what clients have in its place, both without "/" at the end; `url` in lower case."""

    url: bytes
    path: bytes


class PathMap(NamedTuple):
    """A prefix and what the backend has in its place, both without "/" at the end."""

    prefix: bytes
    path: bytes


@dataclass(frozen=True, slots=True)
class Rewriting:
    """All of one site."""

    preserve_host: bool = True
    request: tuple[Edit, ...] = ()
    response: tuple[Edit, ...] = ()
    locations: tuple[Location, ...] = ()
    paths: Routes[PathMap | None] | None = None
    """None: all go on as they are."""

    @property
    def is_of_requests(self) -> bool:
        """Whether anything changes before a backend is chosen."""
        return bool(self.request) or self.paths is not None

    def target(self, target: bytes) -> bytes:
        """The target for the backend, of one in origin or asterisk form. Raises ClientError."""
        found = None if self.paths is None else self.paths.choose(target)
        if found is None or target == b"*":
            return target
        path, mark, query = target.partition(b"?")
        path = found.path + path[len(found.prefix) :]
        if path.startswith(b"//"):  # which many take for the beginning of a host
            raise ClientError(400, "this path could be read as another one")
        return (path or b"/") + mark + query

    def fields(self, forwarded: Iterable[Field], lines: bytes) -> tuple[list[Field], bytes]:
        """What an edited request says of who it speaks for, and the rest, as `RequestFields` has them."""
        written = b"".join([field.line for field in forwarded]) + lines
        passed: list[bytes] = []
        told: list[Field] = []
        for line in edited(written.split(b"\r\n")[:-1], self.request, as_gateways_read):
            if REQUEST_FIELDS.kind(line.partition(b":")[0].lower()) == FORWARDED:
                told.append(REQUEST_FIELDS[line])
            else:
                passed.append(line + b"\r\n")
        return told, b"".join(passed)

    def request_end(self, end: End) -> End:
        """The end of a request's body without trailers that are edited: some backends take them for headers."""
        return _without(end, self.request, as_gateways_read)

    def answer_end(self, end: End) -> End:
        """The end of an answer's body, likewise."""
        return _without(end, self.response, bytes.lower)

    def answer(self, answer: bytes, host: bytes = b"") -> bytes:
        """A final head for the client, with or without a body; `host` is what it asked."""
        if not self.response and not self.locations:
            return answer
        head, end, body = answer.partition(b"\r\n\r\n")
        status, *lines = head.split(b"\r\n")
        if self.locations:
            lines = [self._moved(line, host) for line in lines]
        return b"\r\n".join([status, *edited(lines, self.response, bytes.lower)]) + end + body

    def _moved(self, line: bytes, host: bytes) -> bytes:
        name, _, value = line.partition(b": ")
        if name.lower() not in _LOCATIONS:
            return line
        for url, path in self.locations:
            rest = _behind(url, value)
            if rest is not None:
                between = b"" if path or rest.startswith(b"/") else b"/"
                return b"%b: https://%b%b%b%b" % (name, host, path, between, rest)
        return line


def _behind(url: bytes, value: bytes) -> bytes | None:
    """What follows an address in a Location; None: the Location is another one. Letters are compared as by mod_proxy.

    Unlike there the address ends at the end of a segment: http://10.0.0.1:80 is not the beginning of 10.0.0.1:8000.
    """
    if not url or url.startswith(b"/"):  # a path, behind any host or none
        scheme, mark, rest = value.partition(b"://")
        if mark and scheme.isalpha():
            _, slash, path = rest.partition(b"/")
            value = slash + path
        elif not value.startswith(b"/") or value.startswith(b"//"):
            return None
    rest = value[len(url) :]
    if not value:
        return None
    is_whole = rest[:1] in {b"", b"/", b"?", b"#"}
    return rest if is_whole and value[: len(url)].lower() == url else None


def edited(lines: Sequence[bytes], edits: Iterable[Edit], key: Callable[[bytes], bytes]) -> list[bytes]:
    """Header lines, without CRLF, after the edits; `key` gives the form in which names are compared."""
    found = [(key(line.partition(b":")[0]), line) for line in lines]
    for edit in edits:
        line = b"%b: %b" % (edit.name, edit.value)
        places = [at for at, (name, _) in enumerate(found) if name == edit.key]
        if edit.action == "append" and places:
            found[places[-1]] = edit.key, b"%b, %b" % (found[places[-1]][1], edit.value)
        elif edit.action in {"append", "add"}:
            found.append((edit.key, line))
        else:
            kept = [each for each in found if each[0] != edit.key]
            if edit.action == "set":
                kept.insert(places[0] if places else len(kept), (edit.key, line))
            found = kept
    return [line for _, line in found]


def _without(end: End, edits: Iterable[Edit], key: Callable[[bytes], bytes]) -> End:
    keys = {edit.key for edit in edits}
    return End(tuple(line for line in end.trailers if key(line.partition(b":")[0]) not in keys))


def host_of_backend(address: str) -> bytes:
    """The Host of a server by its own name: without a port that its scheme has anyway (RFC 9110 4.2.3)."""
    scheme, _, authority = address.partition("://")
    if not authority:
        return b"localhost"  # a Unix socket has no name
    port = ":443" if scheme == "https" else ":80"
    return authority.removesuffix(port).encode("ascii", "replace")


def with_host(head: bytes, host: bytes) -> bytes:
    """Put this Host into a head for a backend, where it is the second line."""
    line, _, rest = head.partition(b"\r\n")
    return b"%b\r\nHost: %b\r\n%b" % (line, host, rest.partition(b"\r\n")[2])
