"""What all clients of one process share, and how each of them is counted when it is over."""

from __future__ import annotations

import time
import warnings
from typing import TYPE_CHECKING

from cryptography import x509

from proxy.bench.outcomes import StapleOutcome
from proxy.bench.staples import Judge
from proxy.bench.tally import Tally
from proxy.tls.binding import ffi, lib

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from OpenSSL import SSL

    from proxy.bench.attempt import Attempt
    from proxy.bench.channel import Channel
    from proxy.bench.context import Offer
    from proxy.bench.plan import Work
    from proxy.bench.samples import SampleFile

# One for the process: each call copies out of them before the next begins.
_digest = ffi.new("unsigned char[]", 64)
_digest_length = ffi.new("unsigned int *")
_staple = ffi.new("unsigned char **")
_SHA256 = lib.EVP_get_digestbyname(b"SHA256")


class Crowd:
    """The clients of one process: `tally`, `asks_staple` and `on_over` are another round's after each round."""

    __slots__ = (
        "_requests",
        "asks_staple",
        "judge",
        "loop",
        "offer",
        "on_over",
        "open",
        "samples",
        "sessions",
        "tally",
        "work",
    )

    def __init__(
        self, work: Work, offer: Offer, loop: asyncio.AbstractEventLoop, samples: SampleFile | None = None
    ) -> None:
        self.work = work
        self.offer = offer
        self.samples = samples
        self.loop = loop
        self.tally = Tally(0)
        self.asks_staple = True
        self.on_over: Callable[[Attempt], None] = _ignore
        """Told of each client, once, after it was counted; never while it begins."""
        self.judge = Judge(tuple(map(x509.load_der_x509_certificate, work.more_certificates)))
        self.sessions: dict[str, SSL.Session] = {}
        """The newest of each server name."""
        self.open: set[Attempt] = set()
        self._requests: dict[str, tuple[bytes, bytes]] = {}

    def sweep(self, now_ns: int) -> None:
        """End those whose time is over; to be called now and then."""
        for each in [each for each in self.open if each.deadline_ns <= now_ns]:
            each.time_is_over()

    def request(self, name: str, *, is_last: bool) -> bytes:
        """A request for this server name, which says on the last of a connection that it is."""
        both = self._requests.get(name)
        if both is None:
            host = name or self.work.authority
            head = f"GET {self.work.path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: stapleproxy-bench\r\nAccept: */*\r\n"
            both = self._requests[name] = (f"{head}\r\n".encode(), f"{head}Connection: close\r\n\r\n".encode())
        return both[is_last]

    def count(self, attempt: Attempt) -> None:
        """Count a client that is over. A handshake is one that both sides took for complete, whatever came after."""
        tally, failure = self.tally, attempt.failure
        if attempt.connected_ns:
            tally.connections += 1
        outcome: tuple[StapleOutcome, str] | None = None
        if not attempt.is_counted:
            tally.warmup.add(
                is_done=attempt.done_ns > 0, is_resumed=attempt.channel.is_resumed, has_failed=bool(failure)
            )
        else:
            if failure:
                tally.fail(*failure, time.monotonic_ns())
            if attempt.done_ns:
                outcome = self._count_handshake(attempt)
        if self.samples is not None:
            self.samples.add(attempt, outcome)

    def _count_handshake(self, attempt: Attempt) -> tuple[StapleOutcome, str]:
        tally, channel, done_ns, due_ns = self.tally, attempt.channel, attempt.done_ns, attempt.due_ns
        latencies = tally.latencies
        latencies.total.add(done_ns - due_ns)
        latencies.late.add(attempt.begun_ns - due_ns)
        latencies.connect.add(attempt.connected_ns - attempt.begun_ns)
        latencies.handshake.add(done_ns - attempt.connected_ns)
        is_resumed = channel.is_resumed
        if is_resumed:
            tally.resumed += 1
        outcome = self._outcome(channel, is_resumed=is_resumed)
        tally.staples[outcome] += 1
        tally.second(done_ns).add(done_ns - due_ns, outcome[0])
        tally.protocols[_protocol(channel.ssl)] += 1
        return outcome

    def _outcome(self, channel: Channel, *, is_resumed: bool) -> tuple[StapleOutcome, str]:
        if not self.asks_staple:
            return StapleOutcome.NOT_ASKED, ""
        length = lib.SSL_get_tlsext_status_ocsp_resp(channel.ssl, _staple)
        if length <= 0:
            return (StapleOutcome.RESUMED if is_resumed else StapleOutcome.MISSING), ""
        der = bytes(ffi.buffer(_staple[0], length))
        now = time.time()
        verdict = self.judge.judge(der, _leaf_digest(channel.ssl), lambda: _chain(channel), now)
        self.tally.see(verdict, now)
        return verdict.outcome, verdict.reason


def _ignore(_attempt: Attempt) -> None:
    """Before the first round nobody listens."""


def _protocol(ssl: object) -> tuple[str, str, str]:
    group, cipher = lib.SSL_get0_group_name(ssl), lib.SSL_get_current_cipher(ssl)
    words = (lib.SSL_get_version(ssl), lib.SSL_CIPHER_get_name(cipher), group)
    return tuple("" if word == ffi.NULL else ffi.string(word).decode("ascii") for word in words)  # type: ignore[return-value]  # three in, three out


def _leaf_digest(ssl: object) -> bytes:
    leaf = lib.SSL_get_peer_certificate(ssl)
    if leaf == ffi.NULL:
        return b""
    try:
        lib.X509_digest(leaf, _SHA256, _digest, _digest_length)
    finally:
        lib.X509_free(leaf)
    return bytes(ffi.buffer(_digest, _digest_length[0]))


def _chain(channel: Channel) -> tuple[x509.Certificate, ...]:
    # Of a serial number that is not positive, say: the run is not about that, and its progress would be torn.
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        try:
            return tuple(channel.connection.get_peer_cert_chain(as_cryptography=True) or ())
        except (ValueError, x509.InvalidVersion):  # a certificate that OpenSSL can read and cryptography cannot
            return ()
