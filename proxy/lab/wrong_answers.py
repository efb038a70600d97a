"""How a right answer becomes each of the wrong ones, and of the odd ones that are right all the same.

Each function makes DER out of an `Occasion`; nothing here reads a clock or draws lots.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from proxy.lab import answers, der
from proxy.lab.answers import CertId
from proxy.lab.delegates import DELEGATE_KEY, Delegation
from proxy.lab.signing import Party

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from proxy.lab.answers import Answer
    from proxy.lab.signing import Signing

HOUR = timedelta(hours=1)
PRIVATE_EXTENSION = "1.3.6.1.4.1.99999.1"
SCT_LIST = "1.3.6.1.4.1.11129.2.4.5"


@dataclass(frozen=True, slots=True)
class Occasion:
    """A question that came, as those who answer it wrongly see it."""

    right: Answer
    """What a right responder says."""
    signing: Signing
    now: datetime
    seed: int = 0
    """Another number, another chance: where to cut, what garbage."""


# --- what it says about the certificate ---


def with_status(status: bytes) -> Callable[[Occasion], bytes]:
    return lambda occasion: _about(occasion, status=status)


def revoked(reason_code: int | None) -> Callable[[Occasion], bytes]:
    """Revoked an hour ago; None: without a reason."""
    return lambda o: _about(o, status=answers.revoked(o.now - HOUR, reason_code))


def lasting(begin: timedelta, end: timedelta | None) -> Callable[[Occasion], bytes]:
    """Put thisUpdate and nextUpdate so far from now; None: no nextUpdate."""

    def build(occasion: Occasion) -> bytes:
        now = occasion.right.produced_at
        single = replace(occasion.right.single, this_update=now + begin, next_update=None if end is None else now + end)
        return replace(occasion.right.saying(single), produced_at=min(now, now + begin)).encoded

    return build


def moved(begin: timedelta, end: timedelta) -> Callable[[Occasion], bytes]:
    """Put thisUpdate and nextUpdate, if there is one, so far from where they were."""

    def build(occasion: Occasion) -> bytes:
        right = occasion.right
        next_update = right.single.next_update and right.single.next_update + end
        single = replace(right.single, this_update=right.single.this_update + begin, next_update=next_update)
        return replace(right.saying(single), produced_at=right.produced_at + begin).encoded

    return build


def fractional_seconds(occasion: Occasion) -> bytes:
    return occasion.right.saying(replace(occasion.right.single, fraction=".5")).encoded


def _about(occasion: Occasion, *, status: bytes) -> bytes:
    return occasion.right.saying(replace(occasion.right.single, status=status)).encoded


# --- which certificate it is about ---


def about(change: Callable[[CertId, Signing], CertId]) -> Callable[[Occasion], bytes]:
    """Name another certificate."""

    def build(occasion: Occasion) -> bytes:
        single = occasion.right.single
        return occasion.right.saying(replace(single, cert_id=change(single.cert_id, occasion.signing))).encoded

    return build


def other_serial(cert_id: CertId, _: Signing) -> CertId:
    return replace(cert_id, serial=cert_id.serial + 1)


def other_name_hash(cert_id: CertId, _: Signing) -> CertId:
    return replace(cert_id, name_hash=_inverted(cert_id.name_hash))


def other_key_hash(cert_id: CertId, _: Signing) -> CertId:
    return replace(cert_id, key_hash=_inverted(cert_id.key_hash))


def of_another_ca(cert_id: CertId, signing: Signing) -> CertId:
    return CertId.of(signing.root.certificate, cert_id.serial, cert_id.algorithm)


def hashed_with(algorithm: str) -> Callable[[CertId, Signing], CertId]:
    return lambda cert_id, signing: CertId.of(signing.issuer.certificate, cert_id.serial, algorithm)


def several(*serial_offsets: int) -> Callable[[Occasion], bytes]:
    """Speak about certificates with neighbouring serial numbers; 0 is the one that was asked for."""

    def build(occasion: Occasion) -> bytes:
        single = occasion.right.single
        ids = [replace(single.cert_id, serial=single.cert_id.serial + offset) for offset in serial_offsets]
        return occasion.right.saying(*(replace(single, cert_id=cert_id) for cert_id in ids)).encoded

    return build


# --- extensions ---


def with_extensions(*extensions: bytes) -> Callable[[Occasion], bytes]:
    """Add to the response as a whole; none: an empty list, unless a nonce stands there."""
    return lambda o: replace(o.right, extensions=(*(o.right.extensions or ()), *extensions)).encoded


def with_single_extensions(*extensions: bytes) -> Callable[[Occasion], bytes]:
    return lambda o: o.right.saying(replace(o.right.single, extensions=extensions)).encoded


def nonce_missing(occasion: Occasion) -> bytes:
    return replace(occasion.right, extensions=None).encoded


def nonce_wrong(occasion: Occasion) -> bytes:
    """Another nonce than was sent; a right answer to a request without one."""
    if occasion.right.extensions is None:
        return occasion.right.encoded
    return replace(occasion.right, extensions=(_nonce(occasion),)).encoded


def nonce_unasked(occasion: Occasion) -> bytes:
    """A nonce although none was sent; a right answer to a request with one."""
    return replace(occasion.right, extensions=occasion.right.extensions or (_nonce(occasion),)).encoded


def padded(count: int) -> Callable[[Occasion], bytes]:
    """Make it longer by so many bytes, which a client has to skip."""
    return with_extensions(der.extension(PRIVATE_EXTENSION, bytes(count)))


def _nonce(occasion: Occasion) -> bytes:
    return der.extension(answers.NONCE, der.octets(hashlib.sha256(b"%d" % occasion.seed).digest()))


# --- signatures and signers ---


def tampered(occasion: Occasion) -> bytes:
    """A 'revoked' that somebody on the way made into 'good'."""
    single = replace(occasion.right.single, status=answers.revoked(occasion.now - HOUR))
    return occasion.right.wrap(occasion.right.to_be_signed, occasion.right.saying(single).to_be_signed)


def signature_of_other_key(occasion: Occasion) -> bytes:
    """The signer's name and certificate over a signature by another key."""
    return replace(occasion.right, signer=Party(occasion.right.signer.certificate, DELEGATE_KEY)).encoded


def signed_with_sha1(occasion: Occasion) -> bytes:
    return replace(occasion.right, digest="sha1").encoded


def by_issuer(occasion: Occasion) -> bytes:
    issuer = Party(occasion.signing.issuer.certificate, occasion.signing.issuer.key)
    return replace(occasion.right, signer=issuer, responder=issuer.by_key, certificates=()).encoded


def by_delegate(delegation: Delegation) -> Callable[[Occasion], bytes]:
    return lambda o: o.right.signed_by(delegation.carry_out(o.signing, o.now)).encoded


def named_by_name(occasion: Occasion) -> bytes:
    return replace(occasion.right, responder=occasion.right.signer.by_name).encoded


def responder_of_another(occasion: Occasion) -> bytes:
    """A delegate's signature under the root's name."""
    root = Party(occasion.signing.root.certificate, occasion.signing.root.key)
    return replace(_delegated(occasion), responder=root.by_key).encoded


def sent_with(*which: Literal["delegate", "issuer", "stranger"]) -> Callable[[Occasion], bytes]:
    """Send these certificates, in this order, with an answer that a delegate signed."""

    def build(occasion: Occasion) -> bytes:
        answer = _delegated(occasion)
        known = {
            "delegate": answer.signer.certificate,
            "issuer": occasion.signing.issuer.certificate,
            "stranger": Delegation(by="itself").carry_out(occasion.signing, occasion.now).certificate,
        }
        return replace(answer, certificates=tuple(known[name] for name in which)).encoded

    return build


def _delegated(occasion: Occasion) -> Answer:
    """The right answer, but by a delegate where the issuer signs by itself."""
    if occasion.right.certificates:
        return occasion.right
    return occasion.right.signed_by(Delegation().carry_out(occasion.signing, occasion.now))


# --- the form ---


def cut(occasion: Occasion) -> bytes:
    """Some of the answer's bytes, at least one and never all."""
    whole = occasion.right.encoded
    return whole[: 1 + occasion.seed * 7919 % (len(whole) - 1)]  # a prime: neighbouring seeds cut far from each other


def garbage(occasion: Occasion) -> bytes:
    return hashlib.shake_128(b"%d" % occasion.seed).digest(600)


def indefinite_length(occasion: Occasion) -> bytes:
    """BER that is no DER: the outermost length is left open (X.690 8.1.3.6)."""
    response = occasion.right.encoded
    return b"\x30\x80" + response[2 + (response[1] & 0x7F) :] + b"\x00\x00"


def other_type(occasion: Occasion) -> bytes:
    return replace(occasion.right, kind=PRIVATE_EXTENSION).encoded


def base64_text(occasion: Occasion) -> bytes:
    return base64.encodebytes(occasion.right.encoded)


def followed_by(more: bytes) -> Callable[[Occasion], bytes]:
    return lambda occasion: occasion.right.encoded + more


def always(response: bytes) -> Callable[[Occasion], bytes]:
    return lambda _: response


def _inverted(octets: bytes) -> bytes:
    return bytes(octet ^ 0xFF for octet in octets)
