"""OpenSSL alone: whether a server of a few lines sends a staple that its callback gives.

What it does not send, no program that stands on this OpenSSL can send, whatever its own code says.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from OpenSSL import SSL

if TYPE_CHECKING:
    from pathlib import Path

_PIECE = 1 << 16


@cache
def sends(staple: bytes, chain: Path, key: Path) -> bool:
    """Shake hands over memory, with this certificate, and see whether the staple arrives."""
    server_context = SSL.Context(SSL.TLS_SERVER_METHOD)
    server_context.use_certificate_chain_file(str(chain))
    server_context.use_privatekey_file(str(key))
    server_context.set_ocsp_server_callback(lambda _connection, _data: staple)
    came: list[bytes] = []
    client_context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    client_context.set_ocsp_client_callback(lambda _connection, der, _data: came.append(der) is None)
    server, client = SSL.Connection(server_context, None), SSL.Connection(client_context, None)
    server.set_accept_state()
    client.set_connect_state()
    client.request_ocsp()
    while not _is_done(client):
        _pass_on(client, server)
        _is_done(server)
        _pass_on(server, client)
    return came == [staple]


def _is_done(side: SSL.Connection) -> bool:
    try:
        side.do_handshake()
    except SSL.WantReadError:
        return False
    return True


def _pass_on(from_side: SSL.Connection, to_side: SSL.Connection) -> None:
    try:
        to_side.bio_write(from_side.bio_read(_PIECE))
    except SSL.WantReadError:
        return
