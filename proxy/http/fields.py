"""One header line, judged once: what it says, how it is written, and what is to be done with it.

The grammar is RFC 9110 5.5 and 9112 5, without leave: no folding, no space before the colon, no control bytes, no bare
CR or LF. Clients and backends send the same lines, and the same heads, again and again. So what they mean is
remembered, for a bounded number of short ones; those that carry secrets are not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from proxy.clientcerts import is_ours

PASS, DROP, CONNECTION, LENGTH_FIELD, CODING, UPGRADE, HOST, EXPECT, ONCE, TE, TRAILER, FORWARDED, DATE = range(13)

_REQUEST_KINDS = {
    # Between two hops only (RFC 9110 7.6.1).
    b"connection": CONNECTION,
    b"transfer-encoding": CODING,
    b"upgrade": UPGRADE,
    b"te": TE,
    b"keep-alive": DROP,
    b"proxy-connection": DROP,
    b"http2-settings": DROP,
    b"proxy-authorization": DROP,
    b"proxy": DROP,  # CGI would make HTTP_PROXY of it ("httpoxy")
    b"trailer": TRAILER,
    b"content-length": LENGTH_FIELD,
    b"host": HOST,
    b"expect": EXPECT,
    # Whose first and last line two parsers might believe.
    b"authorization": ONCE,
    b"content-range": ONCE,
    b"content-type": ONCE,
    b"if-match": ONCE,
    b"if-modified-since": ONCE,
    b"if-none-match": ONCE,
    b"if-range": ONCE,
    b"if-unmodified-since": ONCE,
    b"range": ONCE,
    b"forwarded": FORWARDED,
    b"x-real-ip": FORWARDED,
}

_RESPONSE_KINDS = {
    b"connection": CONNECTION,
    b"transfer-encoding": CODING,
    b"upgrade": UPGRADE,
    b"te": DROP,
    b"keep-alive": DROP,
    b"proxy-connection": DROP,
    b"proxy-authenticate": DROP,
    b"trailer": TRAILER,
    b"content-length": LENGTH_FIELD,
    b"date": DATE,
}

# Frames, routes, authenticates, or changes how the message is read: too late after the body (RFC 9110 6.5.1).
_NEVER_TRAILERS = (
    _REQUEST_KINDS.keys()
    | _RESPONSE_KINDS.keys()
    | frozenset(
        b"age cache-control cookie expires location max-forwards pragma retry-after set-cookie vary via"
        b" www-authenticate warning".split()
    )
)
_SECRETS = frozenset({b"authorization", b"proxy-authorization", b"cookie", b"set-cookie"})
# `Connection: content-length` and the like would take the framing or the routing out of a message; the last four are
# for us.
_NOT_NAMED = frozenset(
    b"host content-length transfer-encoding authorization cookie date close keep-alive te upgrade".split()
)
MAX_REMEMBERED = 512
MAX_REMEMBERED_BYTES = 1024

# The quantifiers are possessive: a long line that does not fit is not tried in another way.
_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]++):[ \t]*+([\t -~\x80-\xff]*+)")


@dataclass(frozen=True, slots=True)
class Field:
    """`name` is in lower case, `value` without the space around it, `line` as it goes on."""

    kind: int
    name: bytes
    value: bytes
    line: bytes


class FieldError(ValueError):
    """Not a header line; the text says why, in a few words."""


class Fields(dict[bytes, Field]):
    """From a line, without its CRLF, to what it means. Raises FieldError."""

    __slots__ = ("_is_request",)

    def __init__(self, *, is_request: bool) -> None:
        super().__init__()
        self._is_request = is_request

    def __missing__(self, line: bytes) -> Field:
        match = _LINE.fullmatch(line)
        if match is None:
            raise FieldError("a header line is malformed")
        name, value = match[1], match[2].rstrip(b" \t")
        field = Field(self.kind(name.lower()), name.lower(), value, b"%b: %b\r\n" % (name, value))
        if len(line) <= MAX_REMEMBERED_BYTES and not is_secret(field):
            if len(self) >= MAX_REMEMBERED:
                self.clear()
            self[line] = field
        return field

    def kind(self, name: bytes) -> int:
        """What is to be done with a header of this name, in lower case."""
        if not self._is_request:
            return _RESPONSE_KINDS.get(name, PASS)
        if is_ours(name):
            return DROP
        if b"_" in name:
            # As nginx does: gateways (CGI, WSGI) write "-" and "_" alike, and gunicorn takes SCRIPT_NAME from a proxy
            # it trusts.
            return DROP
        return FORWARDED if name.startswith(b"x-forwarded") else _REQUEST_KINDS.get(name, PASS)


REQUEST_FIELDS = Fields(is_request=True)
RESPONSE_FIELDS = Fields(is_request=False)


def as_gateways_read(name: bytes) -> bytes:
    """The name of a request's header, in lower case, as CGI and WSGI tell names apart: not by "-" and "_"."""
    return name.lower().replace(b"_", b"-")


def is_secret(field: Field) -> bool:
    """Whether it says what only the two ends should have in memory for long."""
    return field.name in _SECRETS


def without_named(passed: list[Field], options: set[bytes]) -> list[Field]:
    """The fields but for those that `Connection` names (RFC 9110 7.6.1)."""
    named = options - _NOT_NAMED
    return [field for field in passed if field.name not in named] if named else passed


def may_trail(field: Field) -> bool:
    """Whether it may stand behind a body. What may not is dropped there, not obeyed."""
    name = field.name
    return field.kind == PASS and name not in _NEVER_TRAILERS and not name.startswith((b"content-", b"x-forwarded"))


def tokens(value: bytes) -> set[bytes]:
    """The members of a list, in lower case (RFC 9110 5.6.1)."""
    return {token.strip(b" \t") for token in value.lower().split(b",")} - {b""}


def length_of(value: bytes) -> int:
    """What Content-Length says (RFC 9110 8.6). Raises FieldError."""
    # 18 digits: what any program's 64 bits hold. int() alone would take signs, spaces and underscores.
    if not value.isdigit() or len(value) > 18:
        raise FieldError("Content-Length is not a number")
    return int(value)
