"""An OCSP response for people to read, in the form of ``openssl ocsp -resp_text`` (OpenSSL 3.0).

Of the certificates that come with it only the PEM is written, which OpenSSL writes too, below all that is in them;
and of extensions other than the nonce the number and the bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import OCSPExtensionOID

from proxy.ocsp.signer import PARSE_ERRORS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from cryptography import x509

_STATUSES = {
    0: "successful",
    1: "malformedrequest",
    2: "internalerror",
    3: "trylater",
    5: "sigrequired",
    6: "unauthorized",
}
_REASONS = (  # RFC 5280 5.3.1; 7 is not used
    *("unspecified", "keyCompromise", "cACompromise", "affiliationChanged", "superseded", "cessationOfOperation"),
    *("certificateHold", "", "removeFromCRL", "privilegeWithdrawn", "aACompromise"),
)
_BYTES_IN_A_LINE = 18


def response_text(der: bytes) -> str:
    """Describe a response; ValueError when it cannot be read."""
    try:
        return "\n".join(_lines(ocsp.load_der_ocsp_response(der))) + "\n"
    except PARSE_ERRORS as error:
        raise ValueError(f"the response cannot be read: {error}") from error


def _lines(response: ocsp.OCSPResponse) -> Iterator[str]:
    status = response.response_status.value
    yield "OCSP Response Data:"
    yield f"    OCSP Response Status: {_STATUSES[status]} (0x{status:x})"
    if status != 0:
        return
    yield "    Response Type: Basic OCSP Response"
    yield "    Version: 1 (0x0)"
    yield f"    Responder Id: {_responder(response)}"
    yield f"    Produced At: {_time(response.produced_at_utc)}"
    yield "    Responses:"
    singles = list(response.responses)
    for single in singles:
        yield from _single(single)
        if len(singles) == 1:  # `cryptography` tells nobody about the extensions of more
            yield from _extensions("        Response Single Extensions:", response.single_extensions)
        yield ""
    yield from _extensions("    Response Extensions:", response.extensions)
    yield f"    Signature Algorithm: {response.signature_algorithm_oid._name}"  # noqa: SLF001  its only table of names
    yield "    Signature Value:"
    signature = response.signature.hex(":")
    width = 3 * _BYTES_IN_A_LINE
    for at in range(0, len(signature), width):
        yield f"        {signature[at : at + width]}"
    for certificate in response.certificates:
        yield certificate.public_bytes(Encoding.PEM).decode().rstrip()


def _single(single: ocsp.OCSPSingleResponse) -> Iterator[str]:
    serial = f"{single.serial_number:X}"
    yield "    Certificate ID:"
    yield f"      Hash Algorithm: {single.hash_algorithm.name}"
    yield f"      Issuer Name Hash: {single.issuer_name_hash.hex().upper()}"
    yield f"      Issuer Key Hash: {single.issuer_key_hash.hex().upper()}"
    yield f"      Serial Number: {'0' * (len(serial) % 2)}{serial}"
    yield f"    Cert Status: {single.certificate_status.name.lower()}"
    if single.revocation_time_utc is not None:
        yield f"    Revocation Time: {_time(single.revocation_time_utc)}"
    if single.revocation_reason is not None:
        reason = single.revocation_reason.value
        yield f"    Revocation Reason: {reason} (0x{_REASONS.index(reason):x})"
    yield f"    This Update: {_time(single.this_update_utc)}"
    if single.next_update_utc is not None:
        yield f"    Next Update: {_time(single.next_update_utc)}"


def _responder(response: ocsp.OCSPResponse) -> str:
    if response.responder_key_hash is not None:
        return response.responder_key_hash.hex().upper()
    parts = response.responder_name.rdns if response.responder_name else []
    text = ", ".join(" + ".join(f"{each.rfc4514_attribute_name} = {each.value!s}" for each in part) for part in parts)
    return "".join(c if c.isprintable() else "?" for c in text)


def _extensions(title: str, extensions: x509.Extensions) -> Iterator[str]:
    if len(extensions):
        yield title
    indent = " " * (len(title) - len(title.lstrip()) + 4)
    for extension in extensions:
        is_nonce = extension.oid == OCSPExtensionOID.NONCE
        name = "OCSP Nonce" if is_nonce else extension.oid.dotted_string
        yield f"{indent}{name}: {'critical' if extension.critical else ''}"
        yield f"{indent}    {extension.value.public_bytes().hex().upper()}"


def _time(moment: datetime) -> str:
    return f"{moment:%b %e %H:%M:%S %Y} GMT"
