"""Contexts: what OpenSSL refuses is said, and a broken lookup costs a staple, not a connection."""

from __future__ import annotations

import contextlib
import logging

import pytest
from certs import make_chain
from OpenSSL import SSL

from proxy.errors import ConfigError
from proxy.identity import load_identity
from proxy.settings.model import TlsSettings
from proxy.tls.context import SiteTls, build_contexts
from proxy.tls.engine import Engine


@pytest.fixture
def identities(tmp_path):
    """An RSA and an ECDSA certificate of one site."""
    return tuple(load_identity(make_chain(tmp_path, kind=kind).files, where="site[0]") for kind in ("rsa", "ec"))


def build(identities, lookup=lambda _key, _now: None, **tls):
    return build_contexts([SiteTls("site[0]", identities, True, "the app")], TlsSettings(**tls), lookup)[0]


def shake(context, *, kind=b"ECDSA+SHA256") -> list[bytes]:
    """A handshake over memory by a client that asks for the status; what it was sent."""
    staples = []
    client_context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    client_context.set_ocsp_client_callback(lambda _connection, der, _data: staples.append(der) or True)
    SSL._lib.SSL_CTX_set1_sigalgs_list(client_context._context, kind)
    client, engine = SSL.Connection(client_context), Engine(context)
    client.set_connect_state()
    client.request_ocsp()
    while not engine.is_established:
        with contextlib.suppress(SSL.WantReadError):
            client.do_handshake()
        engine.receive(client.bio_read(65536))
        sent = engine.pending()
        if sent:
            client.bio_write(sent)
    return staples


def test_the_lookup_is_asked_for_the_certificate_that_was_chosen(identities):
    """Each kind by its own key, with the time of now."""
    asked = []

    def lookup(key, now_s):
        asked.append((key, now_s))

    context = build(identities, lookup)
    for kind, identity in ((b"RSA-PSS+SHA256", identities[0]), (b"ECDSA+SHA256", identities[1])):
        assert shake(context, kind=kind) == [b""]
        assert asked[-1][0] == identity.cache_key
        assert asked[-1][1] > 1_700_000_000


@pytest.mark.parametrize("count", [1, 2])
def test_a_broken_lookup_costs_the_staple_and_not_the_connection(identities, caplog, count):
    """An exception in OpenSSL's callback would end the handshake."""
    with caplog.at_level(logging.ERROR):
        assert shake(build(identities[-count:], lambda _key, _now: 1 / 0)) == [b""]
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    ("setting", "value"), [("ciphers", "NO-SUCH-CIPHER"), ("ciphersuites", "TLS_NONSENSE"), ("groups", "P-1:X1")]
)
def test_what_openssl_does_not_know_is_named(identities, setting, value):
    """Once, however many sites there are, and OpenSSL's error does not turn up in a later call."""
    with pytest.raises(ConfigError) as caught:
        build_contexts(
            [SiteTls(f"site[{number}]", identities, True, number) for number in range(3)],
            TlsSettings(**{setting: value}),
            lambda _key, _now: None,
        )
    (problem,) = caught.value.problems
    assert problem.where == f"tls.{setting}"
    assert value in problem.what
    assert shake(build(identities)) == [b""]


def test_idle_connections_give_their_buffers_back(identities):
    """SSL_MODE_RELEASE_BUFFERS halves what an idle connection takes. set_mode(0) tells the modes that are on."""
    assert build(identities).set_mode(0) & SSL.MODE_RELEASE_BUFFERS


def test_a_context_hands_back_its_sites_app(identities):
    """That is how a connection knows where it belongs."""
    engine = Engine(build(identities))
    assert engine.connection.get_context().get_app_data() == "the app"
