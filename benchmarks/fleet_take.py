"""What a keeper needs for one announcement of another machine's response."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.ocsp import OCSPCertStatus, OCSPResponderEncoding, OCSPResponseBuilder
from refresh_loop import unread_log
from refresh_real import stapled

from proxy.cache.layout import CacheArgument
from proxy.cache.segment import Segment
from proxy.cache.writer import CacheWriter
from proxy.keeper.fetch import Fetcher
from proxy.keeper.fleet.fleet import Fleet
from proxy.keeper.fleet.value import Head, encode
from proxy.keeper.refresher import Refresher
from proxy.lab.ca import LabCA
from proxy.settings.model import StaplingSettings

if TYPE_CHECKING:
    from fleet_redis import RedisProcess

_SEGMENT_BYTES = 1 << 24


async def take_s(server: RedisProcess, count: int) -> float:
    """CPU time of one, read, verified, put into a real cache, scheduled, told in the log: through the real keeper."""
    ca = LabCA.create(datetime.now(UTC))
    certificates = [stapled(ca, number, "http://responder.example/") for number in range(count)]
    now = datetime.now(UTC).replace(microsecond=0)
    issuer, messages = ca.intermediate, []
    for each in certificates:
        parts = (OCSPCertStatus.GOOD, now, now + timedelta(days=7), None, None)
        builder = OCSPResponseBuilder().add_response(each.identity.leaf, issuer.certificate, SHA1(), *parts)  # noqa: S303  as requests have it
        signed = builder.responder_id(OCSPResponderEncoding.HASH, issuer.certificate).sign(issuer.key, SHA256())
        value = encode(Head(int(now.timestamp()), time.time_ns() // 10**6), signed.public_bytes(Encoding.DER))
        messages.append(each.identity.cache_key.hex().encode() + b" " + value)
    settings = StaplingSettings()
    segment = Segment.create(CacheArgument("", _SEGMENT_BYTES))
    try:
        with unread_log() as log:
            async with Fetcher(settings, {}) as fetcher:
                fleet = Fleet(server.door(), settings)
                refresher = Refresher(
                    certificates, settings, CacheWriter(segment), fetcher=fetcher, log=log, sharing=fleet
                )
                fleet._watched = {each.identity.cache_key: each for each in refresher.watched()}  # noqa: SLF001  as `run` does, which would connect
                begun_s = time.process_time()
                for message in messages:
                    fleet._hear(message, refresher)  # noqa: SLF001  what `run` calls
                spent_s = time.process_time() - begun_s
                assert fleet.told().counts["taken"] == count
                return spent_s / count
    finally:
        segment.close()
