"""Whose a certificate is, and whom it is for: the client's own reading, apart from the proxy's."""

from __future__ import annotations

import contextlib
import ipaddress
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature

if TYPE_CHECKING:
    from collections.abc import Iterable


def names_of(leaf: x509.Certificate) -> tuple[str, ...]:
    """List the DNS names and addresses that the certificate is for."""
    try:
        san = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return (*san.get_values_for_type(x509.DNSName), *map(str, san.get_values_for_type(x509.IPAddress)))


def is_for_name(leaf: x509.Certificate, server_name: str) -> bool:
    """Tell whether the certificate is for that name (RFC 6125 6.4: `*` is the whole first label) or address."""
    wanted = server_name.lower().rstrip(".")
    if is_address(wanted):
        return str(ipaddress.ip_address(wanted)) in names_of(leaf)
    parent = "*." + wanted.partition(".")[2]
    return any(name.lower() in {wanted, parent} for name in names_of(leaf))


def issuer_of(leaf: x509.Certificate, candidates: Iterable[x509.Certificate]) -> x509.Certificate | None:
    """Find the certificate whose key signed the leaf."""
    for candidate in candidates:
        # ValueError: another name; TypeError: a key of another kind; InvalidSignature: another key of that name.
        with contextlib.suppress(ValueError, TypeError, InvalidSignature):
            leaf.verify_directly_issued_by(candidate)
            return candidate
    return None


def is_address(name: str) -> bool:
    """Tell an IP address from a name."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
