"""What OpenSSL asks in the middle of a handshake, and our answers, without pyOpenSSL's way between them.

That way finds the connection in a dictionary of weak references, in which each connection has to be entered, whether it
is asked or not: a hundredth of a handshake that resumes TLS 1.2, in which nothing is asked. But OpenSSL asks only while
SSL_do_handshake runs, which the engine calls; whose turn it is then stands in `binding.shaking`.

Like pyOpenSSL's, each helper keeps what an answer raised; pyOpenSSL raises it again when the handshake has failed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from OpenSSL import SSL

from proxy.tls.binding import ServerConnection, ffi, lib, shaking

if TYPE_CHECKING:
    from collections.abc import Sequence

# openssl/tls1.h: SSL_TLSEXT_ERR_*
_OK, _ALERT_FATAL, _NO_ACK = 0, 2, 3

AnswerStatus = Callable[[ServerConnection], bytes]
"""What is stapled, b"": nothing. What it raises ends the handshake."""


class NoApplicationProtocolError(Exception):
    """The client offers ALPN protocols, and none of ours is among them (RFC 7301 3.2: a fatal alert)."""

    def __str__(self) -> str:
        return "none of the application protocols that the client offers is spoken here"


class _Status(SSL._CallbackExceptionHelper):  # noqa: SLF001  # see binding.py
    def __init__(self, answer: AnswerStatus) -> None:
        super().__init__()

        def on_status_request(ssl: object, _data: object) -> int:
            try:
                connection = shaking[0]
                assert connection is not None  # the engine has set it
                staple = answer(connection)
            except Exception as error:  # noqa: BLE001  # raised again, see the head of this file
                self._problems.append(error)
                return _ALERT_FATAL
            if not staple:
                return _NO_ACK
            copy = lib.OPENSSL_malloc(len(staple))  # OpenSSL frees it
            ffi.memmove(copy, staple, len(staple))
            lib.SSL_set_tlsext_status_ocsp_resp(ssl, copy, len(staple))
            return _OK

        self.callback = ffi.callback("int (*)(SSL *, void *)", on_status_request)


class _Alpn(SSL._CallbackExceptionHelper):  # noqa: SLF001  # see binding.py
    def __init__(self, protocols: Sequence[bytes]) -> None:
        super().__init__()
        # OpenSSL copies the one that is chosen when it has been told where it stands: here, as long as the context.
        ours = [(each, len(each), ffi.new("unsigned char[]", each)) for each in protocols]

        def on_alpn(_ssl: object, out: Any, out_length: Any, offer: Any, length: int, _data: object) -> int:
            try:
                offered = _names(ffi.buffer(offer, length)[:])
                for name, name_length, where in ours:
                    if name in offered:
                        out[0], out_length[0] = where, name_length
                        return _OK
                raise NoApplicationProtocolError
            except Exception as error:  # noqa: BLE001  # raised again, see the head of this file
                self._problems.append(error)
                return _ALERT_FATAL

        signature = "int (*)(SSL *, unsigned char **, unsigned char *, const unsigned char *, unsigned int, void *)"
        self.callback = ffi.callback(signature, on_alpn)


def _names(offer: bytes) -> list[bytes]:
    """Split a ProtocolNameList, whose lengths OpenSSL has looked at."""
    names, at = [], 0
    while at < len(offer):
        end = at + 1 + offer[at]
        names.append(offer[at + 1 : end])
        at = end
    return names


def staple_with(context: SSL.Context, answer: AnswerStatus) -> None:
    """Let a new context ask for the staple of each client that wants one."""
    private: Any = context  # here and below: see binding.py
    private._set_ocsp_callback(_Status(answer), None)  # noqa: SLF001


def choose_protocol_of(context: SSL.Context, protocols: Sequence[bytes]) -> None:
    """Let a new context choose one of these application protocols, most wanted first."""
    private: Any = context
    private._alpn_select_helper = helper = _Alpn(protocols)  # noqa: SLF001
    lib.SSL_CTX_set_alpn_select_cb(private._context, helper.callback, ffi.NULL)  # noqa: SLF001
