"""Writes DER, right or wrong as it is told: libraries rightly refuse to write most of what the lab has to show."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

NULL = b"\x05\x00"


def element(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    if len(body) < 0x80:
        return bytes([tag, len(body)]) + body
    digits = len(body).to_bytes((len(body).bit_length() + 7) // 8)
    return bytes([tag, 0x80 | len(digits)]) + digits + body


def sequence(*parts: bytes) -> bytes:
    return element(0x30, *parts)


def octets(body: bytes) -> bytes:
    return element(0x04, body)


def bits(body: bytes) -> bytes:
    """Write a BIT STRING of whole octets."""
    return element(0x03, b"\x00", body)


def enumerated(value: int) -> bytes:
    return element(0x0A, bytes([value]))


def integer(value: int) -> bytes:
    return element(0x02, value.to_bytes(value.bit_length() // 8 + 1, signed=True))


def moment(value: datetime, *, fraction: str = "") -> bytes:
    """Write a GeneralizedTime in UTC; `fraction` such as ``.5`` is what RFC 5280 4.1.2.5.2 forbids."""
    return element(0x18, f"{value:%Y%m%d%H%M%S}{fraction}Z".encode())


def object_id(dotted: str) -> bytes:
    first, second, *others = map(int, dotted.split("."))
    body = bytearray([first * 40 + second])
    for arc in others:
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(arc & 0x7F | 0x80)
        body += bytes(reversed(groups))
    return element(0x06, bytes(body))


def explicit(number: int, *parts: bytes) -> bytes:
    """Write what stands under a context tag of its own, such as ``[0] EXPLICIT``."""
    return element(0xA0 | number, *parts)


def extension(dotted: str, value: bytes, *, critical: bool = False) -> bytes:
    return sequence(object_id(dotted), element(0x01, b"\xff") if critical else b"", octets(value))
