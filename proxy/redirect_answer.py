"""What the redirecting port says to a request. Pure: a head in, an answer out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv6Address
from typing import TYPE_CHECKING

from proxy.names import host_name

if TYPE_CHECKING:
    from proxy.settings.modes import RedirectSettings

_CHALLENGES = "/.well-known/acme-challenge/"  # RFC 8555 8.3
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,128}")

END_OF_HEAD = b"\r\n\r\n"
_REQUEST_LINE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~]+) HTTP/(1\.[01])")
_FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*)")
_ABSOLUTE = re.compile(r"(?i:https?)://([^/?]*)([^#]*)")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{0,5})?")

_REASONS = {
    200: "OK",
    301: "Moved Permanently",
    308: "Permanent Redirect",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said to one request."""

    status: int
    text: str = ""
    location: str = ""
    token: str = ""
    """The name of the file that is to be shown, if it is there."""
    is_head: bool = False


@dataclass(frozen=True, slots=True)
class Fields:
    """What the access log tells of a request besides its method and its target."""

    version: str
    host: bytes | None
    lines: bytes
    forwarded: tuple[()] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """One whose head could be read."""

    method: bytes
    target: bytes
    fields: Fields


def read(head: bytes) -> Request | None:
    """Read a head, which ends with the empty line; None: this is none."""
    request_line, *lines = head.removesuffix(END_OF_HEAD).decode("latin-1").split("\r\n")
    request, fields = _REQUEST_LINE.fullmatch(request_line), [_FIELD.fullmatch(line) for line in lines]
    hosts = [field[2].rstrip(" \t").encode("latin-1") for field in fields if field and field[1].lower() == "host"]
    if request is None or not all(fields) or len(hosts) > 1:
        return None
    method, target, version = request.groups()
    text = "".join(f"{line}\r\n" for line in lines).encode("latin-1")
    return Request(method.encode(), target.encode(), Fields(version, hosts[0] if hosts else None, text))


def decide(request: Request | None, settings: RedirectSettings) -> Answer:
    """Judge a request; None is one that could not be read."""
    if request is None:
        return Answer(400, "this is no request in HTTP/1.1")
    method, target = request.method.decode(), request.target.decode()
    host_field = request.fields.host
    hosts = [] if host_field is None else [host_field.decode("latin-1")]
    is_head = method == "HEAD"
    if absolute := _ABSOLUTE.fullmatch(target):
        # RFC 9112 3.2.2: its authority goes before Host.
        hosts, target = [absolute[1]], absolute[2] if absolute[2].startswith("/") else f"/{absolute[2]}"
    if not target.startswith("/") or "#" in target:
        return Answer(400, "the target is no path", is_head=is_head)
    host = usable_host(hosts[0]) if hosts else None
    if host is None:
        return Answer(400, "Host is missing, or is no host name", is_head=is_head)
    if settings.acme_folder is not None and target.startswith(_CHALLENGES):
        token = target.removeprefix(_CHALLENGES)
        if _TOKEN.fullmatch(token) is None:
            return Answer(404, "there is no such file", is_head=is_head)
        if method not in {"GET", "HEAD"}:
            return Answer(405, "only GET and HEAD", is_head=is_head)
        return Answer(200, token=token, is_head=is_head)
    port = "" if settings.https_port == 443 else f":{settings.https_port}"
    return Answer(settings.status, "it is on https", location=f"https://{host}{port}{target}", is_head=is_head)


def usable_host(text: str) -> str | None:
    """Give the host of a Host header without its port; None: it is none that a URL could have."""
    match = _HOST.fullmatch(text)
    if match is None:
        return None
    try:
        if match[1].startswith("["):
            return f"[{IPv6Address(match[1][1:-1])}]"
        return host_name(match[1])
    except (AddressValueError, ValueError):
        return None


def write(answer: Answer, content: bytes = b"", date: str = "") -> bytes:
    """Put an answer in bytes; `content` is that of the file, `date` (RFC 9110 6.6.1) may be unknown."""
    reason = f"{answer.status} {_REASONS[answer.status]}"
    kind, body = ("text/plain; charset=utf-8", f"{reason}: {answer.text}\n".encode())
    if answer.status == 200:
        kind, body = "application/octet-stream", content
    lines = [f"HTTP/1.1 {reason}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", "Connection: close"]
    if date:
        lines.append(f"Date: {date}")
    if answer.location:
        lines.append(f"Location: {answer.location}")
    if answer.status == 405:
        lines.append("Allow: GET, HEAD")  # RFC 9110 15.5.6
    return "\r\n".join([*lines, "", ""]).encode("ascii") + (b"" if answer.is_head else body)


PLAIN_HTTP = write(Answer(400, "the plain HTTP request was sent to an HTTPS port"))
"""For who speaks HTTP where TLS belongs."""
