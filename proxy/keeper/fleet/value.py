"""What a fleet keeps of one certificate on its server, as bytes. PURE.

    FORMAT THIS_UPDATE ASKED MAX_AGE LF DER

FORMAT is a number, 1 here. THIS_UPDATE are seconds since 1970, as in the response. ASKED are milliseconds since 1970 by
the server's clock, when a responder gave it last: so that a response which it repeats counts as asked for too. MAX_AGE
are seconds that caches may keep it from then on, or ``-``. The head is text, so that Lua on the server can read it, and
a person with redis-cli.

A value with another number is a newer program's: it is neither read nor overwritten. What has no number at all is
nobody's format: it is refused, and overwritten by the next one who has better.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

FORMAT = 1
MAX_HEAD_BYTES = 64
MAX_ANNOUNCED_BYTES = 8_192
"""An announcement has the value in it up to this length, which is all but very few; a longer one is fetched."""

_FORMAT = re.compile(rb"([0-9]{1,9}) ")
_HEAD = re.compile(rb"1 (-?[0-9]{1,12}) ([0-9]{1,15}) ([0-9]{1,9}|-)\n")
_KEY_DIGITS = 40


class UnknownFormatError(ValueError):
    """A newer program wrote it."""


@dataclass(frozen=True, slots=True)
class Head:
    """What is known of a stored response without reading it. None of it is proved."""

    this_update_s: int
    asked_ms: int
    max_age_s: int | None = None
    """From `asked_ms` on; None: the responder did not say."""

    @property
    def rank(self) -> tuple[int, int]:
        """The greater one is the newer."""
        return self.this_update_s, self.asked_ms


def encode(head: Head, der: bytes) -> bytes:
    """Write a value; the server does the same, in Lua."""
    max_age = "-" if head.max_age_s is None else head.max_age_s
    return f"{FORMAT} {head.this_update_s} {head.asked_ms} {max_age}\n".encode() + der


def decode(value: bytes) -> tuple[Head, bytes]:
    """Read a value; UnknownFormatError, or ValueError where it is nobody's format."""
    found = _HEAD.match(value)
    if found is None:
        number = _FORMAT.match(value)
        if number and int(number[1]) != FORMAT:
            raise UnknownFormatError(f"it has the format {int(number[1])}, which a newer version has written")
        raise ValueError("it does not begin as a stored response does")
    this_update, asked, max_age = found.groups()
    return Head(int(this_update), int(asked), None if max_age == b"-" else int(max_age)), value[found.end() :]


def read_announcement(message: bytes) -> tuple[bytes, bytes]:
    """Give the key and the value that was announced; the value is empty where it was too long. ValueError: neither."""
    digits, _, value = message.partition(b" ")
    if len(digits) != _KEY_DIGITS:
        raise ValueError("an announcement begins with the certificate's key")
    return bytes.fromhex(digits.decode("ascii", "replace")), value
