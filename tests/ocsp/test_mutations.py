"""Whatever happens to a response on its way: what is stapled is what the responder signed, or nothing.

Nothing else than StapleRejected is raised; and from an altered response nothing is stapled, unless what was altered is
left out of the staple, which then is byte for byte that of the response as it was.
"""

from __future__ import annotations

import contextlib
import functools
import random
import secrets
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ocsp import pki
from ocsp.cases import GOOD, HARMLESS, RSA, RSA_CA, RSA_LEAF, RULES, by, checked
from ocsp.mutate import alter_bytes, alter_elements
from ocsp.pki import CA, DELEGATE, LEAF, NOW, Answer, cert_id, delegated, der_of, single

from proxy.errors import Reason, StapleRejected
from proxy.ocsp.response import check

if TYPE_CHECKING:
    from proxy.ocsp.response import Staple

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of odd serials and names: no error to `cryptography`

RSA_DELEGATE = pki.issue("RSA delegate", RSA_CA, own_key=pki.key("rsa delegate", "rsa2048"), eku=pki.OCSP_EKU)
ED_CA = pki.issue("Ed CA", pki.ROOT, own_key=pki.key("ed ca", "ed25519"), ca=True)
ED_LEAF = pki.issue("ed-leaf.example", ED_CA)
SEVERAL = tuple(single(cert_id(leaf)) for leaf in (pki.OTHER_LEAF, LEAF, DELEGATE))
EXTENSIONS = (HARMLESS, pki.nonce(b"n" * 32))


@dataclass(frozen=True)
class Original:
    """A response as a responder sends it, and all that may be stapled of it."""

    der: bytes
    staples: frozenset[bytes]
    how: dict[str, pki.Party] = field(default_factory=dict)

    @classmethod
    def of(cls, answer: Answer, **how: pki.Party) -> Original:
        signed = answer.tbs
        identifier, sign = pki.ALGORITHMS[answer.algorithm] if isinstance(answer.algorithm, str) else answer.algorithm
        signature = sign(answer.signer.key, signed)
        answer = answer.but(algorithm=(identifier, lambda _key, _tbs: signature))
        der = answer.der
        staples = {checked(der, **how).der}
        if not answer.certs or checked(der, **how).signer == how.get("issuer", CA).cert.subject.rfc4514_string():
            # The issuer's own certificate may come along or not.
            staples |= {answer.but(certs=()).der, answer.but(certs=der_of(answer.signer)).der}
        return cls(der, frozenset(staples), how)

    def judge(self, altered: bytes) -> Staple | None:
        """None if it is refused; anything but that or what was signed fails the test."""
        try:
            staple = checked(altered, **self.how)
        except StapleRejected:
            return None
        assert staple.der in self.staples, altered.hex()
        return staple


ORIGINALS = {
    "ECDSA, issuer": Original.of(GOOD),
    "ECDSA, delegate by key hash": Original.of(delegated(by_key_hash=True)),
    "ECDSA, several and extensions": Original.of(
        GOOD.but(singles=(*SEVERAL[:1], single(extensions=[HARMLESS]), SEVERAL[2]), extensions=EXTENSIONS)
    ),
    "ECDSA, delegate among other certificates": Original.of(delegated(certs=der_of(CA, DELEGATE, pki.ROOT))),
    "ECDSA, issuer with certificates": Original.of(GOOD.but(certs=der_of(CA, pki.ROOT))),
    "RSA, issuer": Original.of(by(RSA_CA, RSA_LEAF, algorithm="rsa-sha256"), **RSA),
    "RSA, delegate": Original.of(
        by(RSA_CA, RSA_LEAF, algorithm="rsa-sha256", extensions=EXTENSIONS).but(
            signer=RSA_DELEGATE, certs=der_of(RSA_DELEGATE)
        ),
        **RSA,
    ),
    "RSASSA-PSS, issuer": Original.of(by(RSA_CA, RSA_LEAF, algorithm=pki.pss()), **RSA),
    "RSASSA-PSS, salt left out": Original.of(by(RSA_CA, RSA_LEAF, algorithm=pki.pss(salt=None)), **RSA),
    "Ed25519, issuer": Original.of(by(ED_CA, ED_LEAF, algorithm="ed25519"), issuer=ED_CA, leaf=ED_LEAF),
}
every_original = pytest.mark.parametrize("name", ORIGINALS)


@every_original
def test_the_originals_are_accepted(name):
    """Else the rest would prove nothing."""
    original = ORIGINALS[name]
    assert original.judge(original.der)


@every_original
def test_every_truncation_is_refused(name):
    original = ORIGINALS[name]
    for length in range(len(original.der)):
        assert original.judge(original.der[:length]) is None


@pytest.mark.parametrize("name", ["ECDSA, issuer", "ECDSA, delegate by key hash", "RSASSA-PSS, issuer"])
def test_every_flipped_bit_is_refused(name):
    """Each single bit counts where all is needed."""
    original = ORIGINALS[name]
    for position in range(len(original.der) * 8):
        altered = bytearray(original.der)
        altered[position // 8] ^= 1 << position % 8
        assert original.judge(bytes(altered)) is None, position


def alter_at_random(seed: int, rounds: int) -> Counter[str]:
    """Judges so many alterations of each original; returns how many were refused, and how many changed no staple."""
    chance = random.Random(seed)
    verdicts: Counter[str] = Counter()
    for _ in range(rounds):
        for original in ORIGINALS.values():
            for alter in (alter_bytes, alter_elements):
                altered = alter(original.der, chance)
                if altered == original.der:
                    continue
                verdicts["left out" if original.judge(altered) else "refused"] += 1
    return verdicts


@pytest.mark.slow
def test_ten_thousand_altered_responses():
    """The same ones each time, so that a failure can be repeated."""
    verdicts = alter_at_random(seed=20300615, rounds=1_000)
    assert verdicts.total() > 10_000
    assert verdicts["refused"] > 9_000


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_half_a_million_altered_responses():
    """Other ones each time; the seed is told."""
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # noqa: T201  pytest shows it when the test fails
    assert alter_at_random(seed, rounds=25_000).total() > 490_000


def test_odd_things_that_are_signed_break_nothing():
    """A responder, and a delegate's certificate, may say anything; it is taken or refused, and no more."""
    chance = random.Random(20300616)
    delegate = DELEGATE.cert.tbs_certificate_bytes
    for _ in range(1_000):
        for answer in (GOOD, delegated(extensions=EXTENSIONS, singles=SEVERAL)):
            tried(answer.wrap(alter_elements(answer.tbs, chance)))
        tried(delegated(certs=(pki.certified(alter_elements(delegate, chance), CA),)).der)


def tried(der: bytes) -> None:
    with contextlib.suppress(StapleRejected):
        checked(der)


@st.composite
def altered(draw: st.DrawFn) -> tuple[str, bytes]:
    name = draw(st.sampled_from(sorted(ORIGINALS)))
    body = bytearray(ORIGINALS[name].der)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(body)))
        end = draw(st.integers(at, min(len(body), at + 8)))
        body[at:end] = draw(st.binary(max_size=8))
    return name, bytes(body)


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(altered())
def test_no_altered_response_is_accepted(case):
    """Whatever is changed, inserted or cut, and Hypothesis makes small what fails."""
    name, der = case
    ORIGINALS[name].judge(der)


@given(st.binary(max_size=300))
def test_no_bytes_break_the_check(der):
    """Anything may come from a responder."""
    with pytest.raises(StapleRejected):
        checked(der)


SEEDS = Path(__file__).parents[1] / "seeds" / "ocsp"


@pytest.mark.parametrize("name", sorted(path.stem for path in SEEDS.glob("*.der")))
def test_seeds(name):
    """What was stapled once although it was altered: it is refused, or what is stapled is the original."""
    how = {"leaf": x509_from("leaf.pem"), "issuer": x509_from("issuer.pem"), "now": NOW, "rules": RULES}
    altered, original = ((SEEDS / f"{each}.der").read_bytes() for each in (name, name.split("--")[0]))
    assert check(original, **how).der == original
    try:
        assert check(altered, **how).der == original
    except StapleRejected as refusal:
        assert refusal.reason is Reason.WEAK_SIGNATURE  # noqa: PT017  refusing is one of two right answers


def x509_from(name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((SEEDS / name).read_bytes())


# --- what stays open (see the docstrings of proxy.ocsp.response and .signature) ---


def twin() -> bytes:
    """A response with the other ECDSA signature that fits: (r, n - s) instead of (r, s)."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    signed = GOOD.tbs
    sign = functools.partial(pki.ALGORITHMS["ecdsa-sha256"][1], CA.key)
    r, s = decode_dss_signature(sign(signed))
    other = encode_dss_signature(r, order - s)
    return GOOD.but(algorithm=(pki.ALGORITHMS["ecdsa-sha256"][0], lambda _key, _tbs: other)).wrap(signed)


OPEN = {
    "the issuer's certificate left out": GOOD.der,
    "the issuer's certificate put in": checked(GOOD.but(certs=der_of(CA)).der).der,
    "the twin of an ECDSA signature": twin(),
    "certificates that did not sign": checked(ORIGINALS["ECDSA, delegate among other certificates"].der).der,
}


def openssl(der: bytes, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "staple.der").write_bytes(der)
    for party, file in ((pki.ROOT, "root"), (CA, "ca"), (LEAF, "leaf")):
        (folder / f"{file}.pem").write_bytes(party.cert.public_bytes(Encoding.PEM))
    command = [
        *("openssl", "ocsp", "-respin", "staple.der", "-issuer", "ca.pem", "-cert", "leaf.pem", "-CAfile", "root.pem"),
        *("-verify_other", "ca.pem", "-attime", str(int(NOW.timestamp()))),
    ]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


@needs_openssl
@pytest.mark.parametrize("name", OPEN)
def test_what_can_be_altered_is_right_for_openssl(name, tmp_path):
    """Nobody is harmed by what can be done to a response unseen."""
    der = OPEN[name]
    assert checked(der).der == der
    said = openssl(der, tmp_path)
    assert "Response verify OK" in said.stderr, said.stderr
    assert "good\n" in said.stdout  # after a warning, since it compares the times with today


@needs_openssl
def test_an_altered_ca_in_the_list_does_no_harm(tmp_path):
    """OpenSSL builds the delegate's chain from what is in the response first; so it is not stapled as it came."""
    altered = delegated(certs=der_of(DELEGATE, pki.with_broken_signature(CA))).der
    assert "Response Verify Failure" in openssl(altered, tmp_path).stderr
    assert "Response verify OK" in openssl(checked(altered).der, tmp_path).stderr
