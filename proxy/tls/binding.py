"""What pyOpenSSL stands on, for where its public calls cost too much or do not exist; its private names are named here.

Its `recv` allocates a buffer for each call, and each of its calls goes through three Python functions: together a fifth
of what a small request costs. A new major version of pyOpenSSL may rename these, so pyproject.toml has an upper bound.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, Protocol, cast

from OpenSSL import SSL

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.tls.site import SiteContext

lib: Any = SSL._lib  # type: ignore[attr-defined]  # noqa: SLF001  # see above
ffi: Any = SSL._ffi  # type: ignore[attr-defined]  # noqa: SLF001  # see above
_memory = lib.BIO_s_mem()
_raise_current_error: Callable[[], NoReturn] = SSL._raise_current_error  # noqa: SLF001  # see above


class Raw(Protocol):
    """The private side of an `SSL.Connection` over memory buffers."""

    _ssl: object
    _into_ssl: object
    _from_ssl: object

    def _raise_ssl_error(self, ssl: object, result: int) -> None: ...


class ServerConnection(SSL.Connection):
    """The server's side over memory, made as pyOpenSSL makes it, without what nobody here asks it for.

    That is a mode which OpenSSL has set by itself since 1.1.1, callbacks that could be changed later (contexts here are
    never changed), and being found by callbacks where there is a shorter way, see callbacks.py. It is one of each
    handshake, and a fiftieth of one that resumes TLS 1.2.
    """

    # Of the class until they are set, which most connections never do.
    _app_data = None
    _alpn_select_callback_args = None
    _socket = None

    def __init__(self, site: SiteContext) -> None:
        self.site = site
        context, own = site.context, site.own
        pointer = context._context  # noqa: SLF001  # see above
        if own is not None:
            # SSL_new copies it: there is no call that sets it for a connection alone. Nothing else of a context that
            # many sites share is ever changed.
            lib.SSL_CTX_set_session_id_context(pointer, own.session_id, len(own.session_id))
        ssl = lib.SSL_new(pointer)
        into_ssl, from_ssl = lib.BIO_new(_memory), lib.BIO_new(_memory)
        if not (ssl and into_ssl and from_ssl):
            raise MemoryError
        self._ssl = ssl = ffi.gc(ssl, lib.SSL_free)
        self._context = context
        if context._verify_helper is not None:  # noqa: SLF001
            self._reverse_mapping[ssl] = self  # how pyOpenSSL's callback finds it
        self._into_ssl, self._from_ssl = into_ssl, from_ssl
        lib.SSL_set_bio(ssl, into_ssl, from_ssl)  # which frees them with itself
        lib.SSL_set_accept_state(ssl)
        if own is not None and not (
            lib.SSL_use_certificate(ssl, own.certificate) == 1 and lib.SSL_use_PrivateKey(ssl, own.key) == 1
        ):
            _raise_current_error()


shaking: list[ServerConnection | None] = [None]
"""Whose handshake OpenSSL works on just now, one at a time in a process."""


def raw(connection: SSL.Connection) -> Raw:
    """Look at a connection from its private side."""
    return cast("Raw", connection)


def certificate_from(der: bytes) -> object:
    """Make OpenSSL's certificate of it, which lives as long as what is returned."""
    return _object(der, lib.d2i_X509_bio, lib.X509_free)


def key_from(der: bytes) -> object:
    """Make OpenSSL's private key of it."""
    return _object(der, lib.d2i_PrivateKey_bio, lib.EVP_PKEY_free)


def _object(der: bytes, read: Callable[[object, object], object], free: Callable[[object], None]) -> object:
    source = lib.BIO_new_mem_buf(der, len(der))
    try:
        made = read(source, ffi.NULL)
    finally:
        lib.BIO_free(source)
    if made == ffi.NULL:
        _raise_current_error()
    return ffi.gc(made, free)
