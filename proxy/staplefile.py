"""Staple files: responses that the operator puts beside a certificate. Read within bounds, judged before the start."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from proxy.errors import Problem, Reason, StapleRejected
from proxy.ocsp.response import CertStatus, Rules, require_good, verify
from proxy.pem import read_bounded
from proxy.sites import why_not_stapled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from proxy.identity import CacheKey
    from proxy.ocsp.response import Staple
    from proxy.settings.model import Settings
    from proxy.sites import LoadedSite

BY_THE_CLOCK = frozenset({Reason.EXPIRED, Reason.NOT_YET_VALID, Reason.SIGNER_OUT_OF_DATE, Reason.CERTIFICATE_EXPIRED})
"""What befalls a good file as time goes by, or will pass: no reason not to start."""


class Mark(NamedTuple):
    """What tells one state of a file from another without reading it."""

    modified_ns: int
    size_bytes: int
    inode: int

    @classmethod
    def of(cls, found: os.stat_result) -> Mark:
        return cls(found.st_mtime_ns, found.st_size, found.st_ino)


@dataclass(frozen=True, slots=True)
class Proved:
    """Responses that were verified by the certificates' keys, so that it is not done twice at a start."""

    at: datetime
    staples: Mapping[CacheKey, Staple] = field(default_factory=dict)

    def find(self, key: CacheKey, der: bytes, now: datetime) -> Staple | None:
        """Give what `verify` would say of `der`; None: ask it. As time goes on nothing changes but at the end."""
        staple = self.staples.get(key)
        return staple if staple and self.at <= now < staple.serve_until and staple.der == der else None


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the operator is to hear before the start."""

    mistakes: tuple[Problem, ...]
    """With these nothing starts: such a file never was of use."""
    warnings: tuple[Problem, ...]
    proved: Proved


def read_marked(path: Path, limit_bytes: int) -> tuple[bytes, Mark]:
    """Give the first `limit_bytes` + 1 of a file, and the mark of what was read; raises OSError."""
    # Without blocking: nobody may ever write to a pipe of that name.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(None, "it is no file")
        return read_bounded(descriptor, limit_bytes + 1), Mark.of(found)
    finally:
        os.close(descriptor)


def judge(sites: Sequence[LoadedSite], settings: Settings, now: datetime) -> Judgement:
    """Read and verify all staple files that are of use."""
    rules = Rules.from_settings(settings.stapling)
    mistakes: list[Problem] = []
    warnings: list[Problem] = []
    proved: dict[CacheKey, Staple] = {}
    for index, site in enumerate(sites):
        for number, identity in enumerate(site.identities):
            path = identity.staple_file
            if path is None or why_not_stapled(identity, site.settings, settings):
                continue
            where = f"site[{index}].certificate[{number}].staple"
            try:
                der, _ = read_marked(path, rules.max_response_bytes)
            except OSError as error:
                mistakes.append(Problem(where, f"cannot read {path}: {error.strerror or error}"))
                continue
            if identity.issuer is None:  # to be fetched; the keeper verifies the response with it
                continue
            try:
                staple = verify(der, leaf=identity.leaf, issuer=identity.issuer, now=now, rules=rules)
                if staple.status is CertStatus.UNKNOWN:  # 'revoked' is stapled: the operator chose this very response
                    require_good(staple)
                proved[identity.cache_key] = staple
            except StapleRejected as refusal:
                what = f"{path} is not stapled: {refusal}{_advice(der, refusal.reason)}"
                (warnings if refusal.reason in BY_THE_CLOCK else mistakes).append(Problem(where, what))
    return Judgement(tuple(mistakes), tuple(warnings), Proved(now, proved))


def _advice(der: bytes, reason: Reason) -> str:
    match reason:
        case Reason.EXPIRED:
            return ": put a newer one there"
        case Reason.UNPARSABLE if der.lstrip().startswith(b"-----BEGIN"):
            return ": it must be DER, as openssl ocsp -respout writes it, not PEM"
        case Reason.CERTID_MISMATCH:
            return ": it is another certificate's response"
    return ""
