"""BER as OpenSSL's d2i functions take it: what Apache calls an OCSP response is what these let through.

They are kinder than DER (lengths with leading zeros, indefinite lengths, strings in pieces, any bytes behind the whole)
and stricter in some contents. A type is a tree of the classes below, which `parse` walks; it answers with the contents
of primitives as bytes, of sequences as a tuple with None for what is not there, of repeated elements as a list, of a
choice as a tuple with None for all options but one.

As in OpenSSL's crypto/asn1/tasn_dec.c; a test compares with the library of the machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.ocsp import ber
from proxy.ocsp.ber import NotParsedError, Span

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from proxy.ocsp.ber import Head

UNIVERSAL, CONTEXT = 0x00, 0x80

BOOLEAN, INTEGER, BITS, OCTETS, NULL, OID, ENUMERATED = 1, 2, 3, 4, 5, 6, 10
SEQUENCE, SET, UTC_TIME, TIME = 16, 17, 23, 24
_UTF8, _UNIVERSAL_STRING, _BMP = 12, 28, 30
_ENCODINGS = {_UTF8: "utf-8", _UNIVERSAL_STRING: "utf-32-be", _BMP: "utf-16-be"}
_NEVER_IN_PIECES = {BOOLEAN, INTEGER, NULL, OID, ENUMERATED}

Value = bytes | tuple["Value | None", ...] | list["Value"]


@dataclass(frozen=True, slots=True)
class Primitive:
    """One of these universal tags, or the context tag if it is implicit."""

    tags: tuple[int, ...]
    implicit: int | None = None
    is_text: bool = False
    """It must be possible to decode it, as OpenSSL does with the strings of a name."""


@dataclass(frozen=True, slots=True)
class Sequence:
    fields: tuple[Type, ...]
    implicit: int | None = None


@dataclass(frozen=True, slots=True)
class Repeated:
    """SEQUENCE OF, or SET OF."""

    item: Type
    tag: int = SEQUENCE


@dataclass(frozen=True, slots=True)
class Choice:
    options: tuple[Type, ...]


@dataclass(frozen=True, slots=True)
class Explicit:
    number: int
    inner: Type


@dataclass(frozen=True, slots=True)
class Optional:
    inner: Type


@dataclass(frozen=True, slots=True)
class Anything:
    """ASN1_ANY: the contents are not given back."""


Type = Primitive | Sequence | Repeated | Choice | Explicit | Optional | Anything


def parse(kind: Type, data: bytes) -> Value:
    """Read the element that `data` begins with; what follows it is not looked at. Raises NotParsedError."""
    found = _read(kind, data, Span(0, len(data)), is_optional=False, depth=0)
    assert found is not None  # it was not optional
    return found[0]


def _tagged(data: bytes, span: Span, kind: int, tag: int, *, is_optional: bool) -> Head | None:
    head = ber.head(data, span)
    if (head.kind, head.tag) == (kind, tag):
        return head
    if is_optional:
        return None
    raise NotParsedError(f"tag {tag} expected, {head.tag} found")


def _read(kind: Type, data: bytes, span: Span, *, is_optional: bool, depth: int) -> tuple[Value, int] | None:
    """Give the value and where it ends; None: it is optional, and something else stands there."""
    if depth > ber.MAX_DEPTH:
        raise NotParsedError("it is nested too deeply")
    match kind:
        case Optional():
            return _read(kind.inner, data, span, is_optional=is_optional, depth=depth)
        case Primitive():
            return _primitive(kind, data, span, is_optional=is_optional)
        case Anything():
            return _anything(data, span)
        case Choice():
            for number, option in enumerate(kind.options):
                if found := _read(option, data, span, is_optional=True, depth=depth + 1):
                    return tuple(found[0] if n == number else None for n in range(len(kind.options))), found[1]
            if is_optional:
                return None
            raise NotParsedError("none of the choices stands there")
        case Explicit():
            head = _tagged(data, span, CONTEXT, kind.number, is_optional=is_optional)
            if head is None:
                return None
            if not head.is_constructed:
                raise NotParsedError("an explicit tag is not constructed")
            inner = _read(kind.inner, data, head.contents, is_optional=False, depth=depth + 1)
            assert inner is not None  # it was not optional
            return inner[0], ber.closed(data, head.contents._replace(at=inner[1]))
        case Sequence():
            found_class, tag = (UNIVERSAL, SEQUENCE) if kind.implicit is None else (CONTEXT, kind.implicit)
            read = _fields
        case Repeated():
            found_class, tag, read = UNIVERSAL, kind.tag, _items
    head = _tagged(data, span, found_class, tag, is_optional=is_optional)
    if head is None:
        return None
    if not head.is_constructed and isinstance(kind, Sequence):  # of SEQUENCE OF it is not asked
        raise NotParsedError("a sequence is not constructed")
    return read(kind, data, head.contents, depth)


def _fields(kind: Type, data: bytes, span: Span, depth: int) -> tuple[Value, int]:
    assert isinstance(kind, Sequence)
    values: list[Value | None] = []
    last = len(kind.fields) - 1
    for number, each in enumerate(kind.fields):
        found = None
        if not ber.is_over(data, span):
            # The last one must be what is left, or nothing may be left.
            may_lack = isinstance(each, Optional) and number != last
            found = _read(each, data, span, is_optional=may_lack, depth=depth + 1)
        if found is None and not isinstance(each, Optional):
            raise NotParsedError("a field is missing")
        values.append(found and found[0])
        if found:
            span = span._replace(at=found[1])
    return tuple(values), ber.closed(data, span)


def _items(kind: Type, data: bytes, span: Span, depth: int) -> tuple[Value, int]:
    assert isinstance(kind, Repeated)
    items: list[Value] = []
    while not ber.is_over(data, span):
        found = _read(kind.item, data, span, is_optional=False, depth=depth + 1)
        assert found is not None  # it was not optional
        items.append(found[0])
        span = span._replace(at=found[1])
    return items, ber.closed(data, span)


def _primitive(kind: Primitive, data: bytes, span: Span, *, is_optional: bool) -> tuple[bytes, int] | None:
    head = ber.head(data, span)
    if kind.implicit is None:
        is_it, tag = head.kind == UNIVERSAL and head.tag in kind.tags, head.tag
    else:
        is_it, tag = (head.kind, head.tag) == (CONTEXT, kind.implicit), kind.tags[0]
    if not is_it:
        if is_optional:
            return None
        raise NotParsedError(f"one of the tags {kind.tags} expected, {head.tag} found")
    if tag == SEQUENCE:
        return _anything(data, span)
    contents, end = _contents(tag, data, head)
    if kind.is_text and tag in _ENCODINGS:
        try:
            contents.decode(_ENCODINGS[tag])
        except UnicodeDecodeError:
            raise NotParsedError("a name is no text") from None
    return contents, end


def _anything(data: bytes, span: Span) -> tuple[bytes, int]:
    head = ber.head(data, span)
    if head.kind == UNIVERSAL and head.tag not in {SEQUENCE, SET}:
        return _contents(head.tag, data, head)
    if head.kind == UNIVERSAL and not head.is_constructed:
        raise NotParsedError("a sequence is not constructed")
    return b"", ber.after(data, head.contents, 0) if head.contents.open else head.contents.end


def _contents(tag: int, data: bytes, head: Head) -> tuple[bytes, int]:
    if not head.is_constructed:
        contents, end = data[head.contents.at : head.contents.end], head.contents.end
    elif tag in _NEVER_IN_PIECES:
        raise NotParsedError("a primitive is constructed")
    else:
        contents, end = ber.collected(data, head.contents, 0)
    if not _is_right(tag, contents):
        raise NotParsedError(f"the contents are wrong for tag {tag}")
    return contents, end


def _is_right(tag: int, contents: bytes) -> bool:
    """Whether OpenSSL takes this as contents of the universal type (asn1_ex_c2i)."""
    judge = _CONTENTS.get(tag)
    return judge is None or judge(contents)


def _is_whole_number(contents: bytes) -> bool:
    """In as few octets as it takes (X.690 8.3.2)."""
    if len(contents) < 2:
        return bool(contents)
    return contents[0] not in {0x00, 0xFF} or contents[0] & 0x80 != contents[1] & 0x80


def _is_object_id(contents: bytes) -> bool:
    if not contents:
        return False
    starts = b"\x7f" + contents[:-1]  # an octet below 0x80 ends a number
    is_padded = any(before < 0x80 and first == 0x80 for before, first in zip(starts, contents, strict=True))
    return contents[-1] < 0x80 and not is_padded


_CONTENTS: Mapping[int, Callable[[bytes], bool]] = {
    BOOLEAN: lambda contents: len(contents) == 1,
    INTEGER: _is_whole_number,
    BITS: lambda contents: bool(contents) and contents[0] < 8,  # so many bits of the last octet do not count
    NULL: lambda contents: not contents,
    OID: _is_object_id,
    ENUMERATED: _is_whole_number,
    _BMP: lambda contents: len(contents) % 2 == 0,
    _UNIVERSAL_STRING: lambda contents: len(contents) % 4 == 0,
}
