"""Responses altered at random: in their bytes, and in their DER elements with all lengths put right again.

The second kind is what finds holes: to a parser it is a response that some other responder might have sent.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

OCTETS, BITS = 0x04, 0x03
CONSTRUCTED = 0x20
SAMPLES = (
    b"\x05\x00",  # NULL
    b"\x30\x00",  # an empty list
    b"\xa0\x02\x30\x00",  # certs, without any
    b"\xa0\x03\x02\x01\x00",  # version 1, the default
    b"\xa1\x02\x30\x00",  # extensions, without any
    b"\x0a\x01\x00",
    b"\x02\x01\x00",
    b"\x04\x00",
    b"\x00\x00",  # the end of an indefinite length
)


@dataclass
class Element:
    """An element; one that holds others, or an OCTET STRING around DER, has them as a list."""

    tag: int
    body: bytes | list[Element]
    padded: int = 0
    """So many more octets of length than DER has."""

    @property
    def der(self) -> bytes:
        body = self.body if isinstance(self.body, bytes) else b"".join(each.der for each in self.body)
        length = len(body)
        if length < 0x80 and not self.padded:
            return bytes([self.tag, length]) + body
        octets = max(1, (length.bit_length() + 7) // 8) + self.padded
        return bytes([self.tag, 0x80 | octets]) + length.to_bytes(octets) + body

    def walk(self) -> Iterator[Element]:
        yield self
        if isinstance(self.body, list):
            for each in self.body:
                yield from each.walk()


def parse(der: bytes) -> list[Element]:
    """All elements; ValueError where it is no DER of the kind that responses are."""
    elements, at = [], 0
    while at < len(der):
        if at + 2 > len(der):
            raise ValueError
        tag, length, at = der[at], der[at + 1], at + 2
        if length >= 0x80:
            octets = length & 0x7F
            length, at = int.from_bytes(der[at : at + octets]), at + octets
        body = der[at : at + length]
        if len(body) != length:
            raise ValueError
        at += length
        elements.append(Element(tag, parse(body) if tag & CONSTRUCTED else _inside(tag, body)))
    return elements


def _inside(tag: int, body: bytes) -> bytes | list[Element]:
    if tag == OCTETS and body[:1] == b"\x30":
        try:
            return parse(body)
        except ValueError:
            pass
    return body


def alter_bytes(der: bytes, chance: random.Random) -> bytes:
    """One to three changes that know nothing of DER."""
    body = bytearray(der)
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(body))
        match chance.randrange(7):
            case 0:
                body[at] ^= 1 << chance.randrange(8)
            case 1:
                body[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
            case 2:
                del body[at + 1 :]
            case 3:
                del body[at : at + chance.randint(1, 8)]
            case 4:
                body[at:at] = chance.choice((*SAMPLES, chance.randbytes(chance.randint(1, 8))))
            case 5:
                body += chance.choice((*SAMPLES, chance.randbytes(chance.randint(1, 8))))
            case _:
                start = chance.randrange(len(body))
                piece = body[start : start + chance.randint(1, 40)]
                body[at : at + len(piece)] = piece
        if not body:
            break
    return bytes(body)


def alter_elements(der: bytes, chance: random.Random) -> bytes:
    """One or two changes of elements, with the lengths around them put right."""
    (root,) = parse(der)
    for _ in range(chance.randint(1, 2)):
        _alter(chance.choice(list(root.walk())), chance)
    return root.der


def _alter(element: Element, chance: random.Random) -> None:
    kind = chance.randrange(8)
    body = element.body
    if kind == 0:
        element.padded = chance.randint(1, 3)
    elif kind == 1:
        element.tag = chance.choice((element.tag ^ 1 << chance.randrange(8), chance.choice(SAMPLES)[0]))
    elif isinstance(body, bytes):
        element.body = _altered_contents(body, kind, chance)
    elif not body or kind == 2:
        body.insert(chance.randint(0, len(body)), parse_sample(chance))
    elif kind == 3:
        body.pop(chance.randrange(len(body)))
    elif kind == 4:
        body.insert(chance.randint(0, len(body)), chance.choice(body))
    elif kind == 5:
        chance.shuffle(body)
    elif kind == 6:
        one, other = chance.randrange(len(body)), chance.choice(list(element.walk()))
        body[one] = copy.deepcopy(other)
    else:
        element.body = b"".join(each.der for each in body) + chance.randbytes(chance.randint(1, 3))


def _altered_contents(body: bytes, kind: int, chance: random.Random) -> bytes:
    if kind == 2 or not body:
        return body + chance.randbytes(chance.randint(1, 3))
    if kind == 3:
        return b"\x00" + body
    if kind == 4:
        return body[:-1]
    if kind == 5:
        return b""
    at = chance.randrange(len(body))
    return body[:at] + bytes([body[at] ^ 1 << chance.randrange(8)]) + body[at + 1 :]


def parse_sample(chance: random.Random) -> Element:
    sample = chance.choice(SAMPLES)
    return Element(sample[0], sample[2:])
