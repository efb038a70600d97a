"""Elements of BER, as OpenSSL finds their beginnings and ends; `d2i` makes sense of them.

As in its crypto/asn1/asn1_lib.c and tasn_dec.c.
"""

from __future__ import annotations

from typing import NamedTuple

_MAX_PIECES_DEPTH = 5
MAX_DEPTH = 30


class NotParsedError(ValueError):
    """OpenSSL refuses it."""


class Span(NamedTuple):
    """Bytes that are yet to be read; `open` if an end-of-contents is to come where they end."""

    at: int
    end: int
    open: bool = False


class Head(NamedTuple):
    """What an element begins with."""

    kind: int
    """Its class: universal, or of the context."""
    tag: int
    is_constructed: bool
    contents: Span


def head(data: bytes, span: Span) -> Head:
    """Read the header of the element at the beginning of `span` (X.690 8.1, ASN1_get_object)."""
    at, end = span.at, span.end
    try:
        if end - at < 2:
            raise NotParsedError("a header is cut short")
        first, at = data[at], at + 1
        tag = first & 0x1F
        if tag == 0x1F:
            tag = 0
            while True:
                tag = tag << 7 | data[at] & 0x7F
                at += 1
                if not data[at - 1] & 0x80:
                    break
                if tag > 0xFFFFFF or at >= end:
                    raise NotParsedError("a tag is too long")
        length, at = data[at], at + 1
        is_open = length == 0x80
        if is_open:
            length = end - at
        elif length & 0x80:
            digits = length & 0x7F
            if end - at < digits + 1:
                raise NotParsedError("a length is cut short")
            length = int.from_bytes(data[at : at + digits])
            at += digits
    except IndexError:
        raise NotParsedError("a header is cut short") from None
    if at > end or length > end - at or (is_open and not first & 0x20):
        raise NotParsedError("a length is wrong")
    return Head(first & 0xC0, tag, bool(first & 0x20), Span(at, at + length, is_open))


def is_over(data: bytes, span: Span) -> bool:
    """Whether the contents of an element end here; an end-of-contents where none is to come is an error."""
    if span.at == span.end:
        return True
    if not _is_end(data, span):
        return False
    if not span.open:
        raise NotParsedError("an end of contents was not to come")
    return True


def _is_end(data: bytes, span: Span) -> bool:
    return span.end - span.at >= 2 and data[span.at] == 0 == data[span.at + 1]


def closed(data: bytes, inside: Span) -> int:
    """Where an element ends whose contents have been read up to `inside.at`."""
    if inside.open:
        if not _is_end(data, inside):
            raise NotParsedError("an end of contents is missing")
        return inside.at + 2
    if inside.at != inside.end:
        raise NotParsedError("it holds more than it should")
    return inside.end


def after(data: bytes, span: Span, depth: int) -> int:
    """Where contents of indefinite length end."""
    if depth > MAX_DEPTH:
        raise NotParsedError("it is nested too deeply")
    while not _is_end(data, span):
        inner = head(data, span).contents
        span = span._replace(at=after(data, inner, depth + 1) if inner.open else inner.end)
    return span.at + 2


def collected(data: bytes, span: Span, depth: int) -> tuple[bytes, int]:
    """Put together a string in pieces, whatever their tags (asn1_collect)."""
    if depth > _MAX_PIECES_DEPTH:
        raise NotParsedError("it is nested too deeply")
    pieces: list[bytes] = []
    while not is_over(data, span):
        element = head(data, span)
        inside = element.contents
        if element.is_constructed:
            piece, end = collected(data, inside, depth + 1)
        else:
            piece, end = data[inside.at : inside.end], inside.end
        pieces.append(piece)
        span = span._replace(at=end)
    return b"".join(pieces), closed(data, span)
