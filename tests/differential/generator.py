"""Cases by chance: valid requests with up to three things wrong in them. One seed and number give one case."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from differential.corpus import CASES, NEXT

if TYPE_CHECKING:
    from collections.abc import Callable

# What some parser takes for a space, an end, a separator or nothing.
_BYTES = [bytes([each]) for each in (*range(0x21), *b'",:;=@#%\\/?&+-_.0aZ', 0x7F, 0x80, 0x85, 0xA0, 0xFF)]
_BYTES += [b"\r\n", b"\r\n ", b"\r\n\t", b"\n\r", b"\r\r\n", b"\r\n\r\n", b"\xe2\x80\xa8", b"0x", b"  ", b": "]
_LINES = [
    *(b"Content-Length: 0", b"Content-Length: 5", b"Content-Length: 44", b"Content-Length: +5"),
    *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked, identity"),
    *(b"Transfer-Encoding : chunked", b"Transfer-Encoding:\tchunked", b"Transfer-Encoding: x\r\n chunked"),
    *(b"Host: localhost", b"Host: other", b"Host: a/b", b"Host:", b"Content_Length: 5", b"Transfer_Encoding: chunked"),
    *(b"Connection: close", b"Connection: keep-alive", b"Connection: content-length", b"Connection: transfer-encoding"),
    *(b"Expect: 100-continue", b"Expect: x", b"Connection: upgrade\r\nUpgrade: websocket", b"Upgrade: h2c"),
    *(b"X: y\r\n z", b" X: y", b"X : y", b"X: y\rz", b"X: y\nz", b"X\x00: y", b"", b"Max-Forwards: 0"),
    *(b"Content-Length: 5, 5", b"TE: trailers", b"Trailer: X"),
]  # fmt: skip
_METHODS = [b"GET", b"POST", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"PATCH", b"TRACE", b"CONNECT", b"get", b"QUERY"]
_TARGETS = [
    b"/first",
    b"/",
    b"*",
    b"//",
    b"/?",
    b"/a#b",
    b"/%00",
    b"http://localhost/",
    b"http://other",
    b"other:80",
    b"/../",
]
_VERSIONS = [b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.1", b"HTTP/0.9", b"HTTP/1.2", b"HTTP/2.0", b"http/1.1", b""]
_CHUNKED_BODIES = [
    b"5\r\n01234\r\n0\r\n\r\n",
    b"5;a=b\r\n01234\r\n0;c\r\n\r\n",
    b"5\r\n01234\r\n0\r\nX-Sum: 1\r\n\r\n",
    b"1\r\na\r\n2\r\nbc\r\n000\r\nContent-Length: 44\r\n\r\n",
    b"2c\r\nGET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n\r\n0\r\n\r\n",
    b"0\r\n\r\n",
]


def case(seed: int, number: int) -> bytes:
    """The bytes of one connection."""
    chance = random.Random(f"{seed}:{number}")
    if chance.random() < 0.2:
        data = chance.choice(list(CASES.values()))
    else:
        data = b"".join(_request(chance) for _ in range(chance.randint(1, 2))) + NEXT
    for _ in range(chance.choice((0, 1, 1, 1, 2, 3))):
        data = chance.choice(_MUTATIONS)(data, chance)
    return data


def _request(chance: random.Random) -> bytes:
    usual = chance.random() < 0.7
    method = chance.choice((b"GET", b"POST") if usual else _METHODS)
    target = b"/first" if usual else chance.choice(_TARGETS)
    version = b"HTTP/1.1" if chance.random() < 0.8 else chance.choice(_VERSIONS)
    lines = [b"Host: localhost"]
    body = b""
    match chance.randrange(4):
        case 0:
            body = bytes(chance.choices(b"ab\r\n0", k=chance.randint(0, 9)))
            lines.append(b"Content-Length: %d" % len(body))
        case 1:
            body = chance.choice(_CHUNKED_BODIES)
            lines.append(b"Transfer-Encoding: chunked")
        case 2:
            lines.append(b"X-Some: thing")
    chance.shuffle(lines)
    return b"%b %b %b\r\n%b\r\n\r\n%b" % (method, target, version, b"\r\n".join(lines), body)


def _insert(data: bytes, chance: random.Random) -> bytes:
    at = chance.randint(0, len(data))
    return data[:at] + chance.choice(_BYTES) + data[at:]


def _insert_at_edge(data: bytes, chance: random.Random) -> bytes:
    """Beside what ends a name, a value or a line."""
    edges = [
        at
        for at in range(len(data) + 1)
        if data[at : at + 1] in {b":", b"\r", b" "} or data[at - 1 : at] in {b"\n", b":"}
    ]
    at = chance.choice(edges or [0])
    return data[:at] + chance.choice(_BYTES) + data[at:]


def _replace(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data) or 1)
    return data[:at] + chance.choice(_BYTES) + data[at + 1 :]


def _delete(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data) or 1)
    return data[:at] + data[at + chance.choice((1, 1, 2, 4)) :]


def _swap_line_end(data: bytes, chance: random.Random) -> bytes:
    ends = [at for at in range(len(data)) if data.startswith(b"\r\n", at)]
    if not ends:
        return data
    at = chance.choice(ends)
    return data[:at] + chance.choice((b"\n", b"\r", b"", b"\r\r\n", b"\n\n", b"\r\n\r\n", b"\r\n ")) + data[at + 2 :]


def _add_line(data: bytes, chance: random.Random) -> bytes:
    ends = [at for at in range(len(data)) if data.startswith(b"\r\n", at)]
    at = chance.choice(ends or [0])
    return data[:at] + b"\r\n" + chance.choice(_LINES) + data[at:]


def _repeat_line(data: bytes, chance: random.Random) -> bytes:
    lines = data.split(b"\r\n")
    at = chance.randrange(len(lines))
    return b"\r\n".join([*lines[: at + 1], *lines[at:]])


def _swap_lines(data: bytes, chance: random.Random) -> bytes:
    lines = data.split(b"\r\n")
    one, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]
    return b"\r\n".join(lines)


def _swap_case(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data) or 1)
    return data[:at] + data[at : at + 8].swapcase() + data[at + 8 :]


def _cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randint(0, len(data))]


_MUTATIONS: list[Callable[[bytes, random.Random], bytes]] = [
    *(_insert, _insert_at_edge, _insert_at_edge, _replace, _delete, _swap_line_end),
    *(_add_line, _add_line, _repeat_line, _swap_lines, _swap_case, _cut),
]  # fmt: skip
