"""A CA, a certificate with staples of all kinds, and a server that does what a test tells it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from bench.scripted import Scripted
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from lab.servers import build_response

from proxy.lab.ca import LabCA
from proxy.lab.signing import Signing

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="module")
def ca():
    return LabCA.create(NOW)


@pytest.fixture(scope="module")
def site(ca):
    return ca.issue(["lab.test"], key="ec")


@pytest.fixture(scope="module")
def staples(ca, site):
    """A good response, a revoked one, one that is over, and one whose signature is broken."""

    def build(revoked, at=NOW):
        request = ocsp.OCSPRequestBuilder().add_certificate(site.leaf, ca.intermediate.certificate, hashes.SHA256())
        der = request.build().public_bytes(Encoding.DER)
        return build_response(der, Signing.of(ca, "issuer"), at, validity=timedelta(hours=1), revoked=revoked)

    good = build({})
    return {
        "good": good,
        "revoked": build({site.leaf.serial_number: NOW}),
        "over": build({}, NOW - timedelta(hours=2)),
        "broken": good[:-1] + bytes([good[-1] ^ 1]),
    }


@pytest.fixture
def server(ca, site):
    """Make a scripted server with the site's certificate."""
    return lambda **script: Scripted((site.leaf, ca.intermediate.certificate), site.key, **script)
