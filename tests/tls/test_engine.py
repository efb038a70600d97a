"""The engine against OpenSSL's own client over memory: bytes in, bytes out, in whatever pieces."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from functools import cache

import pytest
from certs import make_chain
from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL

from proxy.identity import load_identity
from proxy.settings.model import TlsSettings
from proxy.tls.context import SiteTls, build_contexts
from proxy.tls.engine import MANY_BYTES, Engine, TlsError

VERSIONS = [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION]


@cache
def server_context(folder) -> SSL.Context:
    identity = load_identity(make_chain(folder).files, where="site[0]")
    (context,) = build_contexts([SiteTls("site[0]", (identity,), TlsSettings(), False, 0)], lambda _key, _now: None)
    return context


@pytest.fixture(scope="session")
def context(tmp_path_factory):
    return server_context(tmp_path_factory.mktemp("engine"))


class Client:
    """The other end."""

    def __init__(self, version: int, earlier: Client | None = None) -> None:
        """With `earlier` its session goes on."""
        if earlier is None:
            context = SSL.Context(SSL.TLS_CLIENT_METHOD)
            context.set_min_proto_version(version)
            context.set_max_proto_version(version)
        else:
            context = earlier.tls.get_context()
        self.tls = SSL.Connection(context)
        self.tls.set_connect_state()
        if earlier is not None:
            session = earlier.tls.get_session()
            assert session is not None
            self.tls.set_session(session)

    def out(self) -> bytes:
        with contextlib.suppress(SSL.WantReadError):
            return self.tls.bio_read(1 << 24)
        return b""

    def read(self, data: bytes) -> bytes:
        """Take what the server sent; the plaintext in it."""
        if data:
            self.tls.bio_write(data)
        pieces = []
        with contextlib.suppress(SSL.WantReadError, SSL.ZeroReturnError):
            while True:
                pieces.append(self.tls.recv(65536))
        return b"".join(pieces)


def connected(context: SSL.Context, version: int) -> tuple[Engine, Client]:
    engine, client = Engine(context), Client(version)
    while not engine.is_established:
        with contextlib.suppress(SSL.WantReadError):
            client.tls.do_handshake()
        assert engine.receive(client.out()) == b""
        client.read(engine.pending())
    return engine, client


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("step", [1, 3, 4, 5, 6, 100, 10**9])
def test_plaintext_comes_out_however_the_records_are_cut(context, version, step):
    """The count of whole records must hold at every boundary: in the header, behind it, in the body, at the end."""
    engine, client = connected(context, version)
    messages = [b"a", b"b" * 20_000, b"", b"c" * 16_384, b"d"]
    for message in messages:
        if message:
            client.tls.sendall(message)
    data = client.out()
    received = b"".join(engine.receive(data[at : at + step]) for at in range(0, len(data), step))
    assert received == b"".join(messages)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("step", [1, 3, 5, 17, 50, 100, 1000, 16_384, 10**9])
def test_what_comes_right_behind_the_handshake_is_read(context, version, step):
    """A client that speaks as soon as it may: its Finished, data and close_notify in one piece, or in any others."""
    before, earlier = connected(context, version)
    earlier.read(before.send(b"with the session"))
    engine, client = Engine(context), Client(version, earlier)  # in TLS 1.2 only a resumption ends with the client
    with contextlib.suppress(SSL.WantReadError):
        client.tls.do_handshake()
    assert engine.receive(client.out()) == b""
    client.tls.bio_write(engine.pending())
    client.tls.do_handshake()
    messages = [b"a", b"b" * 20_000, b"c"]
    for message in messages:
        client.tls.sendall(message)
    client.tls.shutdown()
    data = client.out()
    received = b"".join(engine.receive(data[at : at + step]) for at in range(0, len(data), step))
    assert received == b"".join(messages)
    assert engine.is_peer_done


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 40_000), min_size=1, max_size=5), st.data())
def test_both_directions_are_whole(context, sizes, data):
    """Any lengths of messages, any cuts."""
    engine, client = connected(context, data.draw(st.sampled_from(VERSIONS)))
    for number, size in enumerate(sizes):
        message = bytes([number]) * size
        assert client.read(engine.send(message)) == message
        client.tls.sendall(message)
        raw, received = client.out(), b""
        while raw:
            cut = data.draw(st.integers(1, len(raw)))
            received += engine.receive(raw[:cut])
            raw = raw[cut:]
        assert received == message


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("step", [16_385, 65_536, 100_003, MANY_BYTES, 10**9])
def test_much_comes_and_goes_whole(context, version, step):
    """Many records at once, from memory that is another's right after; their headers are cut anywhere."""
    engine, client = connected(context, version)
    message = bytes(range(251)) * 3_000
    for size in (1, 300, 16_384, len(message)):
        client.tls.sendall(message[:size])
    encrypted, received = client.out(), b""
    for at in range(0, len(encrypted), step):
        read = bytearray(encrypted[at : at + step])
        received += engine.receive_many(memoryview(read)) if len(read) <= MANY_BYTES else engine.receive(bytes(read))
        read[:] = bytes(len(read))
    assert received == b"".join(message[:size] for size in (1, 300, 16_384, len(message)))
    sent = b"".join(engine.send(message[at : at + step]) for at in range(0, len(message), step))
    assert client.read(sent) == message


def test_a_broken_record_among_many_is_an_error(context):
    """What came before it is lost: the connection is over."""
    engine, client = connected(context, SSL.TLS1_3_VERSION)
    client.tls.sendall(bytes(200_000))
    encrypted = bytearray(client.out())
    encrypted[100_000] ^= 1
    with pytest.raises(TlsError, match="record layer failure"):
        engine.receive(bytes(encrypted))
    assert engine.pending()  # the alert


@pytest.mark.parametrize("version", VERSIONS)
def test_close_notify_is_seen_behind_data(context, version):
    """Data and the end may come in one read; both count."""
    engine, client = connected(context, version)
    client.tls.sendall(b"last words")
    client.tls.shutdown()
    assert engine.receive(client.out()) == b"last words"
    assert engine.is_peer_done


@pytest.mark.parametrize("version", VERSIONS)
def test_our_close_is_a_close_notify(context, version):
    """The client sees an orderly end."""
    engine, client = connected(context, version)
    client.tls.bio_write(engine.close())
    with pytest.raises(SSL.ZeroReturnError):
        client.tls.recv(1)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_altered_record_is_an_error_with_an_alert(context, version):
    """bad_record_mac (20), ready to be sent after the error."""
    engine, client = connected(context, version)
    client.tls.sendall(b"hello")
    data = bytearray(client.out())
    data[-1] ^= 1
    with pytest.raises(TlsError):
        engine.receive(bytes(data))
    client.tls.bio_write(engine.pending())
    with pytest.raises(SSL.Error) as caught:
        client.tls.recv(1)
    assert "bad record mac" in str(caught.value)


def test_an_impossible_length_is_not_waited_for(context):
    """Nobody gets us to keep 64 kB for a record that can be none."""
    engine, _ = connected(context, SSL.TLS1_3_VERSION)
    with pytest.raises(TlsError):
        engine.receive(b"\x17\x03\x03\xff\xff")


def test_a_key_update_beside_data_is_to_be_answered(context):
    """Else the answers gather in memory while a client sends data and asks for more of them."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        command = ["openssl", "s_client", "-tls1_3", "-connect", address]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as client:
            sock, _ = listener.accept()
            with sock:
                sock.settimeout(5)
                engine = Engine(context)
                while not engine.is_established:
                    engine.receive(sock.recv(65536))
                    sock.sendall(engine.pending())
                # K: update keys, and ask for the same; OpenSSL answers the first with the second.
                for typed in (b"hello\n", b"K\n", b"hello\n", b"K\n", b"hello\n"):
                    time.sleep(0.1)  # it takes a command at the beginning of a read only
                    client.stdin.write(typed)
                    client.stdin.flush()
                time.sleep(0.2)
                assert engine.receive(sock.recv(65536)) == b"hello\n" * 3
                assert engine.has_answered
                assert engine.pending()
                assert not engine.has_answered
            client.kill()
