"""What a responder says: OCSP responses, right and wrong, and the HTTP round them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from proxy.lab import answers, der, wrong_answers
from proxy.lab.wrong_answers import Occasion

if TYPE_CHECKING:
    from collections.abc import Callable

    from differential.modssl.responder import Call

    from proxy.lab.signing import Signing

    Act = Callable[[Call], None]
    Build = Callable[[Occasion], bytes]

HEAD = b"HTTP/1.0 200 OK\r\nContent-Type: application/ocsp-response\r\n\r\n"
SYNTHETIC = answers.TRY_LATER
"""What mod_ssl makes up; a responder's own tryLater has the same five bytes."""
WEEK = timedelta(days=7)
_TRIES = 2000


def good(occasion: Occasion) -> bytes:
    return occasion.right.encoded


def status(number: int) -> Build:
    return wrong_answers.always(answers.unsuccessful(number))


def times(begin_s: float, end_s: float | None) -> Build:
    """ThisUpdate and nextUpdate, so many seconds from now."""
    return wrong_answers.lasting(timedelta(seconds=begin_s), None if end_s is None else timedelta(seconds=end_s))


revoked = wrong_answers.revoked(1)
unknown = wrong_answers.with_status(answers.UNKNOWN)
other_serial = wrong_answers.about(wrong_answers.other_serial)
sha256 = wrong_answers.about(wrong_answers.hashed_with("sha256"))
unparsable_basic = wrong_answers.always(answers.successful(answers.BASIC, b"\x30\x03\x02\x01\x00"))
other_type = wrong_answers.other_type
successful_and_empty = wrong_answers.always(der.sequence(der.enumerated(0)))


def sized(build: Build, size: int) -> Build:
    """Pad until the whole has exactly this many bytes; the signature's own length is by chance, so several tries."""

    def pad(occasion: Occasion) -> bytes:
        count = size - len(build(occasion)) - 40
        for _ in range(_TRIES):
            padding = der.extension(wrong_answers.PRIVATE_EXTENSION, bytes(count))
            made = build(replace(occasion, right=replace(occasion.right, extensions=(padding,))))
            if len(made) == size:
                return made
            count += size - len(made)
        raise AssertionError(f"no response of {size} bytes")

    return pad


class Speaker:
    """Makes acts of responses, in the name of the CA."""

    def __init__(self, signing: Signing) -> None:
        self._signing = signing

    def _response(self, query: bytes, build: Build) -> bytes:
        now = datetime.now(UTC)
        right = answers.right_answer(query, self._signing, now, validity=WEEK, revoked_at={})
        assert isinstance(right, answers.Answer), "the query is no right one"
        # An hour old, and without the client's nonce: what the sequences look at is neither.
        single = replace(right.single, this_update=right.single.this_update - timedelta(hours=1))
        return build(Occasion(replace(right.saying(single), extensions=None), self._signing, now))

    def says(
        self, build: Build, *, head: bytes = HEAD, tail: bytes = b"", body: Callable[[bytes], bytes] = bytes
    ) -> Act:
        """Send this head, the response put through `body`, and `tail`; then close."""

        def act(call: Call) -> None:
            response = self._response(call.query.body, build)
            call.will_answer(response)
            call.send(head + body(response) + tail)

        return act

    def drips(self, build: Build, *, pieces: int, pause_s: float) -> Act:
        """Send in pieces with a pause before each."""

        def act(call: Call) -> None:
            response = self._response(call.query.body, build)
            call.will_answer(response)
            data = HEAD + response
            step = -(-len(data) // pieces)
            for at in range(0, len(data), step):
                call.pause(pause_s)
                call.send(data[at : at + step])

        return act

    def delayed(self, build: Build, delay_s: float) -> Act:
        said = self.says(build)

        def act(call: Call) -> None:
            call.pause(delay_s)
            said(call)

        return act


def sends(data: bytes) -> Act:
    """Send these bytes and close."""
    return lambda call: call.send(data)


def holds(data: bytes = b"") -> Act:
    """Send these bytes, then nothing, and do not close."""

    def act(call: Call) -> None:
        call.send(data)
        call.hold()

    return act


def resets(data: bytes = b"") -> Act:
    def act(call: Call) -> None:
        call.send(data)
        call.reset()

    return act


def chunked(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
