"""Issuers' certificates that no file holds, from where the leaves say (RFC 5280 4.2.2.1, CA Issuers).

No trust is needed, neither in who sends such a certificate nor in the file that keeps it: `find_issuer` takes only the
one whose key signed the leaf.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import tempfile
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from warnings import catch_warnings

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from proxy.errors import FetchFailed, FetchReason
from proxy.identity import find_issuer
from proxy.ocsp.signer import PARSE_ERRORS

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterator

    from proxy.identity import Identity

LIMIT_BYTES = 262_144
"""A certificate is some kilobytes, and a collection of one CA's some dozens of them."""
MAX_KEPT = 1_000
_MAX_FILE_BYTES = 8_388_608
FAILURE_KEPT_S = 15.0
"""All leaves of an issuer ask for the same file: what failed for one is not tried for the next one at once."""

_BEGIN, _END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"


class Downloading(Protocol):
    """What is asked of the fetcher."""

    async def download(self, uri: str, *, limit_bytes: int) -> bytes:
        """Get the file at `uri`; raises FetchFailed."""


@dataclass(frozen=True, slots=True)
class _Got:
    """What one address gave."""

    certificates: tuple[x509.Certificate, ...]
    failure: FetchFailed | None
    asked_at: float


class Issuers:
    """Finds issuers; to be used as `find_issuer` of the refresher.

    `path`: where they are kept, so that a restart downloads none; None: nowhere. What is in that file, and cannot be
    read, is told and forgotten.
    """

    def __init__(self, fetcher: Downloading, path: Path | None, log: logging.Logger) -> None:
        self._fetcher = fetcher
        self._path = path
        self._log = log
        self._kept: deque[x509.Certificate] = deque(maxlen=MAX_KEPT)  # the oldest first
        self._failed: dict[str, _Got] = {}
        self._under_way: dict[str, asyncio.Task[_Got]] = {}
        self._load()

    async def find(self, identity: Identity) -> x509.Certificate:
        """Give the certificate of who signed the leaf; raises FetchFailed."""
        if kept := self.kept(identity.leaf):
            return kept
        troubles, retry_after_s = [], None
        for uri in identity.ca_issuers:
            got = await self._get(uri)
            if kept := self.kept(identity.leaf):  # meanwhile, by another address too
                return kept
            if got.failure is None:
                if (found := find_issuer(identity.leaf, got.certificates)) is not None:
                    self._keep(found, uri)
                    return found
                troubles.append(f"{uri}: it is not there")
            else:
                troubles.append(f"{uri}: {got.failure}")
                retry_after_s = max(retry_after_s or 0, got.failure.retry_after_s or 0) or None
        why = "; ".join(troubles) or "the certificate does not say where it is"
        raise FetchFailed(
            FetchReason.NO_ISSUER, f"the issuer's certificate was not found: {why}", retry_after_s=retry_after_s
        )

    def kept(self, leaf: x509.Certificate) -> x509.Certificate | None:
        """Give it if it was found before; None: it was not."""
        return find_issuer(leaf, tuple(self._kept))

    async def _get(self, uri: str) -> _Got:
        """Download, once for all who want it now; a failure is remembered for a moment."""
        now_at = asyncio.get_running_loop().time()
        failed = self._failed.get(uri)
        if failed is not None and now_at < failed.asked_at + FAILURE_KEPT_S:
            return failed
        task = self._under_way.get(uri)
        if task is None:
            task = asyncio.create_task(self._download(uri))
            self._under_way[uri] = task
            task.add_done_callback(lambda _: self._under_way.pop(uri))
        # Shielded: who waits may be cancelled, and others wait too. The fetcher's deadline ends it.
        return await asyncio.shield(task)

    async def _download(self, uri: str) -> _Got:
        now_at = asyncio.get_running_loop().time()
        self._failed.pop(uri, None)
        try:
            return _Got(certificates_in(await self._fetcher.download(uri, limit_bytes=LIMIT_BYTES)), None, now_at)
        except FetchFailed as failure:
            if len(self._failed) >= MAX_KEPT:
                del self._failed[next(iter(self._failed))]
            got = self._failed[uri] = _Got((), failure, now_at)
            return got

    # --- what is kept

    def _keep(self, issuer: x509.Certificate, uri: str) -> None:
        self._log.info("issuer %s: found at %s", issuer.subject.rfc4514_string(), uri)
        self._kept.append(issuer)
        if self._path is None:
            return
        try:
            _write_whole(self._path, b"".join(each.public_bytes(Encoding.PEM) for each in self._kept))
        except OSError as error:
            self._log.warning("%s: issuers are not kept for a restart: %s", self._path, error.strerror or error)

    def _load(self) -> None:
        if self._path is None:
            return
        try:
            with open(self._path, "rb", opener=_open_file) as file:
                content = file.read(_MAX_FILE_BYTES)
            self._kept.extend(certificates_in(content) if content else ())
        except FileNotFoundError:
            pass
        except (OSError, FetchFailed) as error:
            self._log.warning("%s: this file of issuers is not used: %s", self._path, error)


def certificates_in(content: bytes) -> tuple[x509.Certificate, ...]:
    """Read a certificate, or a collection of them; raises FetchFailed.

    RFC 5280 4.2.2.1 wants a certificate in DER, or certs-only PKCS#7 in DER or BER. PEM is what some CAs have there.
    """
    # The library warns of what servers need not mind, such as BER or a serial number that is not positive.
    with catch_warnings(action="ignore", category=UserWarning):
        try:
            if blocks := list(_blocks(content)):
                return tuple(map(x509.load_pem_x509_certificate, blocks))
            if b"-----BEGIN PKCS7-----" in content:
                return tuple(pkcs7.load_pem_pkcs7_certificates(content))
        except PARSE_ERRORS as error:
            raise _unreadable(error) from error
        with contextlib.suppress(*PARSE_ERRORS):
            return (x509.load_der_x509_certificate(content),)
        try:
            return tuple(pkcs7.load_der_pkcs7_certificates(content))
        except PARSE_ERRORS as error:
            raise _unreadable(error) from error


def _blocks(content: bytes) -> Iterator[bytes]:
    """Give the certificates in a PEM file, in one pass: a regular expression would try to the end from each BEGIN."""
    end = 0
    while (begin := content.find(_BEGIN, end)) >= 0 and (end := content.find(_END, begin)) >= 0:
        end += len(_END)
        yield content[begin:end]


def _unreadable(error: Exception) -> FetchFailed:
    detail = f"neither a certificate nor a collection of them: {' '.join(str(error).split())}"
    return FetchFailed(FetchReason.PROTOCOL, detail)


def _open_file(path: str, flags: int) -> int:
    """Open a file, and wait for nobody: nobody may ever write to a pipe of that name."""
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(None, "it is no file")
    return descriptor


def _write_whole(path: Path, content: bytes) -> None:
    """Replace a file at once, readable by its owner alone."""
    descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)  # with mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(name).replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
