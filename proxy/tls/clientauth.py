"""Client certificates: what a site's context asks of its clients, and what OpenSSL verifies.

No session of such a site is resumed: each handshake looks at the certificate, the dates and the CRL again. A ticket
holds the client's certificate without its chain, so nothing could verify it again in a resumption.
"""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING

from OpenSSL import SSL, crypto

from proxy.log import about

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.clientca import ClientCa

_log = logging.getLogger("stapleproxy.tls")

# openssl/x509_vfy.h: the CRL is of no use, and it is the operator who has to hear of it, not the client.
_CRL_TROUBLE = {
    3: "there is no CRL for its issuer",
    11: "the CRL is not valid yet",
    12: "the CRL is out of date",
}
_LOGGED_EVERY_S = 60.0
"""Every client of a site may be refused: one line a minute, from each worker and for each site, says so."""


def ask_for_certificate(context: SSL.Context, ca: ClientCa, where: str) -> None:
    """Let a new context ask for certificates of `ca`, verify them, and say in the handshake whose it takes."""
    store = context.get_cert_store()
    assert store is not None  # a new context has one
    for each in ca.authorities:
        authority = crypto.X509.from_cryptography(each)
        store.add_cert(authority)
        context.add_client_ca(authority)
    for crl in ca.crls:
        store.add_crl(crl)
    if ca.crls:
        store.set_flags(crypto.X509StoreFlags.CRL_CHECK | crypto.X509StoreFlags.CRL_CHECK_ALL)
    context.set_verify_depth(ca.depth)
    # Without a certificate where one is required: certificate_required (TLS 1.3) or handshake_failure. Both are
    # OpenSSL's, as are the alerts about a certificate that does not verify, which ends the handshake in either mode.
    mode = SSL.VERIFY_PEER | (SSL.VERIFY_FAIL_IF_NO_PEER_CERT if ca.is_required else 0)
    context.set_verify(mode, _verdict(where))


def _verdict(where: str) -> Callable[[SSL.Connection, crypto.X509, int, int, int], bool]:
    """Leave the verdict to OpenSSL, but say when it is for a reason that only the operator can mend."""
    logged_s = -math.inf

    def verdict(_connection: SSL.Connection, _certificate: crypto.X509, error: int, _depth: int, ok: int) -> bool:
        nonlocal logged_s
        now_s = time.time()
        # A clock that was set back does not silence it.
        if not ok and error in _CRL_TROUBLE and not 0 <= now_s - logged_s < _LOGGED_EVERY_S:
            logged_s = now_s
            what = "%s: a client certificate is refused: %s"
            _log.warning(what, where, _CRL_TROUBLE[error], extra=about(site=where))
        return bool(ok)

    return verdict
