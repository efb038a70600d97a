"""The client's side of OpenSSL: one context for a process, built before anything is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from OpenSSL import SSL, crypto

from proxy.errors import ConfigError, Problem, StapleproxyError
from proxy.tls.binding import lib
from proxy.tls.offer import SIGNATURE_ALGORITHMS, VERSIONS

if TYPE_CHECKING:
    from proxy.bench.plan import Tls


class BenchError(StapleproxyError):
    """Nothing can be measured: one sentence says why."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What all clients of a process begin with."""

    context: SSL.Context
    verifies: bool
    """The chain must lead to a root, and the certificate be for the name that is asked for, if any is."""


def client_offer(tls: Tls) -> Offer:
    """Build the context; ConfigError names the option that OpenSSL refuses.

    Without roots the chain is taken as it comes: a load is made for a server that one knows. The staple is verified
    all the same (see `staples`).
    """
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(VERSIONS[tls.version or "1.2"])
    context.set_max_proto_version(VERSIONS[tls.version or "1.3"])
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    # Thousands may be open at once: buffers are let go while a connection waits.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    names = [name for name in tls.ciphers.split(":") if name]
    modern = [name for name in names if name.startswith("TLS_")]
    _set(context, "--groups", lib.SSL_CTX_set1_curves_list, tls.groups)
    _set(context, "--ciphers", lib.SSL_CTX_set_ciphersuites, ":".join(modern))
    _set(context, "--ciphers", lib.SSL_CTX_set_cipher_list, ":".join(name for name in names if name not in modern))
    if tls.key is not None:
        _set(context, "--key-type", lib.SSL_CTX_set1_sigalgs_list, SIGNATURE_ALGORITHMS[tls.key])
    if tls.roots:
        store = context.get_cert_store()
        assert store is not None  # a new Context has one
        for root in tls.roots:
            store.add_cert(crypto.load_certificate(crypto.FILETYPE_ASN1, root))
        context.set_verify(SSL.VERIFY_PEER)
    if tls.certificate:
        _present(context, tls)
    return Offer(context, verifies=bool(tls.roots))


def _set(context: SSL.Context, option: str, function: object, value: str) -> None:
    # pyOpenSSL has no public names for these, or raises errors that do not say which value was meant.
    if value and function(context._context, value.encode()) != 1:  # type: ignore[operator]  # noqa: SLF001  see above
        lib.ERR_clear_error()
        raise ConfigError(Problem(option, f"this OpenSSL knows nothing, or not all, of {value!r}"))


def _present(context: SSL.Context, tls: Tls) -> None:
    try:
        context.use_certificate_chain_file(tls.certificate)
    except SSL.Error as error:
        raise ConfigError(Problem("--cert", f"{tls.certificate} holds no certificate that can be read")) from error
    try:
        context.use_privatekey_file(tls.certificate_key)
        context.check_privatekey()
    except SSL.Error as error:
        what = f"{tls.certificate_key} holds no key of the certificate in {tls.certificate}"
        raise ConfigError(Problem("--key", what)) from error
