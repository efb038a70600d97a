"""What pyOpenSSL stands on, for where its public calls cost too much or do not exist; its private names are named here.

Its `recv` allocates a buffer for each call, and each of its calls goes through three Python functions: together a fifth
of what a small request costs. A new major version of pyOpenSSL may rename these, so pyproject.toml has an upper bound.
"""

from __future__ import annotations

from typing import Any, Protocol, cast

from OpenSSL import SSL

lib: Any = SSL._lib  # type: ignore[attr-defined]  # noqa: SLF001  # see above
ffi: Any = SSL._ffi  # type: ignore[attr-defined]  # noqa: SLF001  # see above
_memory = lib.BIO_s_mem()


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

    def __init__(self, context: SSL.Context) -> None:
        ssl = lib.SSL_new(context._context)  # noqa: SLF001  # see above
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


shaking: list[ServerConnection | None] = [None]
"""Whose handshake OpenSSL works on just now, one at a time in a process."""


def raw(connection: SSL.Connection) -> Raw:
    """Look at a connection from its private side."""
    return cast("Raw", connection)
