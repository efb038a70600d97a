"""The parts of a refresh for real: verifications, calls of the cache's writer, and questions to the lab's responder."""

from __future__ import annotations

import asyncio
import random
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.ocsp import OCSPCertStatus, OCSPResponderEncoding, OCSPResponseBuilder
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from refresh_loop import unread_log

from proxy.cache.layout import CacheArgument, geometry
from proxy.cache.room import TYPICAL_RESPONSE_BYTES, size_for_all
from proxy.cache.segment import Segment
from proxy.cache.writer import CacheWriter
from proxy.identity import CacheKey, Identity
from proxy.keeper.fetch import Fetcher
from proxy.keeper.refresher import Refresher
from proxy.lab.ca import LabCA
from proxy.ocsp.response import Rules, verify
from proxy.settings.model import StaplingSettings
from proxy.sites import StapledCertificate

if TYPE_CHECKING:
    from collections.abc import Callable

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
NOW = datetime(2030, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
KEYS: dict[str, Callable[[], PrivateKey]] = {
    "ECDSA P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "RSA 2048": lambda: rsa.generate_private_key(65537, 2048),
}
SIGNERS = ("issuer", "delegate")
_ROUND_S = 0.5


class RealRunError(Exception):
    """The responder, or a response, is not what it should be."""


def seconds_of(operation: Callable[[], object], rounds: int, round_s: float = _ROUND_S) -> float:
    """CPU seconds of one operation: the median of the rounds."""
    operation()
    found = []
    for _ in range(rounds):
        count, begun_s = 0, time.process_time()
        while (spent_s := time.process_time() - begun_s) < round_s:
            for _ in range(10):
                operation()
            count += 10
        found.append(spent_s / count)
    return statistics.median(found)


# --- verifications


def verifications(rounds: int, round_s: float) -> dict[tuple[str, str], float]:
    """CPU seconds of one `verify`, by kind of the signing key and by signer."""
    found = {}
    for kind, make_key in KEYS.items():
        for signer in SIGNERS:
            der, leaf, issuer = _response(make_key, signer)

            def once(der: bytes = der, leaf: x509.Certificate = leaf, issuer: x509.Certificate = issuer) -> None:
                verify(der, leaf=leaf, issuer=issuer, now=NOW, rules=Rules())

            found[kind, signer] = seconds_of(once, rounds, round_s)
    return found


def _response(make_key: Callable[[], PrivateKey], by: str) -> tuple[bytes, x509.Certificate, x509.Certificate]:
    ca_key, delegate_key = make_key(), make_key()
    ca = _certificate("CA", ca_key, "CA", ca_key, x509.BasicConstraints(ca=True, path_length=0))
    delegate = _certificate(
        "OCSP", delegate_key, "CA", ca_key, x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING])
    )
    leaf = _certificate("leaf", make_key(), "CA", ca_key, x509.SubjectAlternativeName([x509.DNSName("leaf.example")]))
    builder = OCSPResponseBuilder().add_response(
        *(leaf, ca, SHA1(), OCSPCertStatus.GOOD, NOW - DAY, NOW + DAY, None, None)  # noqa: S303  as requests have it
    )
    signer, key = (ca, ca_key) if by == "issuer" else (delegate, delegate_key)
    builder = builder.responder_id(OCSPResponderEncoding.HASH, signer)
    if by == "delegate":
        builder = builder.certificates([delegate])
    return builder.sign(key, SHA256()).public_bytes(Encoding.DER), leaf, ca


def _certificate(
    subject: str, key: PrivateKey, issuer: str, issuer_key: PrivateKey, extension: x509.ExtensionType
) -> x509.Certificate:
    subject_name, issuer_name = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, n)]) for n in (subject, issuer))
    return (
        x509.CertificateBuilder()
        .subject_name(subject_name)
        .issuer_name(issuer_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - 10 * DAY)
        .not_valid_after(NOW + 10 * DAY)
        .add_extension(extension, critical=False)
        .sign(issuer_key, SHA256())
    )


# --- the cache


def cache_seconds(entries: int, rounds: int, round_s: float) -> tuple[float, float, float, float]:
    """CPU seconds of `put`, `get`, `note_refresh` and `vouch_for` in a segment that holds so many.

    Only the one subcache that is worked on is filled: the others have no part in it.
    """
    chance = random.Random(entries)
    keys = [chance.randbytes(20) for _ in range(entries)]
    size = size_for_all(dict.fromkeys(keys, TYPICAL_RESPONSE_BYTES), "lru", 1 << 20)
    if size is None:
        raise RealRunError(f"no cache holds {entries} responses")
    mask = geometry(size).subcaches - 1
    together = [key for key in keys if key[0] & mask == keys[0][0] & mask]
    response = chance.randbytes(TYPICAL_RESPONSE_BYTES)
    now_s = NOW.timestamp()
    with_segment = Segment.create(CacheArgument("", size))
    try:
        writer = CacheWriter(with_segment)
        for key in together:
            writer.put(key, response, now_s + 60, now_s)

        def put() -> None:
            writer.put(chance.choice(together), response, now_s + 60, now_s)

        def get() -> None:
            if writer.get(chance.choice(together)) is None:
                raise RealRunError("the cache does not hold what was put there")

        def note() -> None:
            writer.note_refresh(chance.choice(together), now_s)

        def vouch() -> None:
            writer.vouch_for(chance.choice(together))

        put_s, get_s, note_s, vouch_s = (seconds_of(each, rounds, round_s) for each in (put, get, note, vouch))
        return put_s, get_s, note_s, vouch_s
    finally:
        with_segment.close()


# --- questions over loopback


@dataclass(frozen=True, slots=True)
class RealRun:
    """Refreshes of all certificates, round after round, as fast as it goes."""

    certificates: int
    rounds: int
    at_once: int
    per_second: float
    cpu_per_refresh_s: float
    """Of the process that asks."""
    connections: int
    failures: int


class _CountingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        super().__init__()
        self.connections = 0

    async def create_connection(self, *arguments: Any, **more: Any) -> Any:
        self.connections += 1
        return await super().create_connection(*arguments, **more)


def real_run(certificates: int, rounds: int, at_once: int) -> RealRun:
    """Ask the lab's responder, another process, for all of them, and again for so many rounds."""
    with tempfile.TemporaryDirectory(prefix="stapleproxy-benchmark-") as name:
        folder = Path(name)
        ca = LabCA.create(datetime.now(UTC))
        ca.write(folder)
        command = [sys.executable, "-m", "proxy.lab.responder", "--folder", name, "--exit-with-stdin"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as responder:
            try:
                assert responder.stdout is not None
                url = responder.stdout.readline().split()[-1:]
                if not url:
                    raise RealRunError("the lab's responder did not start")
                watched = [stapled(ca, number, url[0]) for number in range(certificates)]
                with asyncio.Runner(loop_factory=_CountingLoop) as runner:
                    return runner.run(_ask_for_all(watched, rounds, at_once))
            finally:
                responder.kill()


def stapled(ca: LabCA, number: int, url: str) -> StapledCertificate:
    name = f"host{number}.example"
    issued = ca.issue([name], ocsp_urls=[url])
    ca.issued.clear()
    key = CacheKey(issued.leaf.fingerprint(SHA1()))  # noqa: S303  the cache's key, as Apache's
    issuer = ca.intermediate.certificate
    identity = Identity(name, issued.leaf, (issuer,), issuer, issued.key, (name,), (url,), False, key)
    return StapledCertificate(identity, (url,), (name,))


def _all_asked(refresher: Refresher, rounds: int) -> bool:
    """Whether each certificate was asked for so often, or could not be."""
    return all(each.successes >= rounds or each.failures for each in refresher.watched())


async def _ask_for_all(certificates: list[StapledCertificate], rounds: int, at_once: int) -> RealRun:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, _CountingLoop)
    keys = [each.identity.cache_key for each in certificates]
    size = size_for_all(dict.fromkeys(keys, TYPICAL_RESPONSE_BYTES), "lru", 1 << 20)
    assert size is not None
    settings = StaplingSettings(
        max_fetches_per_responder=at_once, max_fetches_per_responder_per_second=10_000.0, warmup_timeout_s=600.0
    )
    segment = Segment.create(CacheArgument("", size))
    try:
        with unread_log() as log:
            async with Fetcher(settings, {}) as fetcher:
                refresher = Refresher(certificates, settings, CacheWriter(segment), fetcher=fetcher, log=log)
                begun_s, begun_cpu_s = time.perf_counter(), time.process_time()
                await refresher.warm_up()
                work = asyncio.create_task(refresher.run())
                for number in range(2, rounds + 1):
                    for key in keys:
                        refresher.refresh(key)
                    while not _all_asked(refresher, number):  # noqa: ASYNC110  it tells nobody when all are done
                        await asyncio.sleep(0.05)
                taken_s, cpu_s = time.perf_counter() - begun_s, time.process_time() - begun_cpu_s
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)
        asked = sum(each.successes + each.failures for each in refresher.watched())
        failures = sum(each.failures for each in refresher.watched())
        return RealRun(len(keys), rounds, at_once, asked / taken_s, cpu_s / asked, loop.connections, failures)
    finally:
        segment.close()
