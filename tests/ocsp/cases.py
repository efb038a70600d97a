"""What the tests of a response have in common: how it is judged, and answers with one thing about them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from ocsp import pki
from ocsp.pki import CA, LEAF, NOW, Answer, cert_id, delegated, single

from proxy.errors import Reason, StapleRejected
from proxy.ocsp.response import Rules, Staple, check

RULES = Rules()
SECOND = timedelta(seconds=1)
GOOD = Answer()

CRITICAL = pki.extension(pki.UNKNOWN_EXTENSION, critical=True)
HARMLESS = pki.extension(pki.UNKNOWN_EXTENSION, critical=False)

RSA_CA = pki.issue("RSA CA", pki.ROOT, own_key=pki.key("rsa ca", "rsa2048"), ca=True)
RSA_LEAF = pki.issue("rsa-leaf.example", RSA_CA)
RSA = {"issuer": RSA_CA, "leaf": RSA_LEAF}


def checked(der: bytes, *, leaf=LEAF, issuer=CA, now=NOW, rules=RULES) -> Staple:
    return check(der, leaf=leaf.cert, issuer=issuer.cert, now=now, rules=rules)


def refusal(der: bytes, **how) -> StapleRejected:
    with pytest.raises(StapleRejected) as caught:
        checked(der, **how)
    return caught.value


def der_from(answer: Answer | bytes) -> bytes:
    return answer if isinstance(answer, bytes) else answer.der


def row(name: str, reason: Reason, answer: Answer | bytes, **how) -> object:
    """A case that is refused."""
    return pytest.param(der_from(answer), reason, how, id=name)


def ok(name: str, answer: Answer | bytes, **how) -> object:
    """A case that is stapled."""
    return pytest.param(der_from(answer), how, id=name)


def by(issuer: pki.Party, leaf: pki.Party, **parts) -> Answer:
    """An answer for `leaf` by its issuer."""
    return Answer(signer=issuer, singles=(single(cert_id(leaf, issuer)),), **parts)


def delegate(name: str = "odd delegate", issuer: pki.Party = CA, **parts) -> Answer:
    """An answer by a delegate that has something wrong with its certificate."""
    return delegated(pki.issue(name, issuer, **{"eku": pki.OCSP_EKU, **parts}))


def one(cid: bytes | None = None, **parts) -> Answer:
    """An answer by the issuer with one single response."""
    return Answer(singles=(single(cid, **parts),))


def rsa(algorithm: str | tuple) -> Answer:
    return by(RSA_CA, RSA_LEAF, algorithm=algorithm)


def unrecognized(*, critical: bool) -> tuple[x509.ExtensionType, bool]:
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(pki.UNKNOWN_EXTENSION), b"\x05\x00"), critical
