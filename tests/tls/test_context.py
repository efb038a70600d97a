"""Contexts: what OpenSSL refuses is said, and a broken lookup costs a staple, not a connection."""

from __future__ import annotations

import contextlib
import logging

import pytest
from certs import make_chain, pem
from OpenSSL import SSL

from proxy.errors import ConfigError
from proxy.identity import load_identity
from proxy.settings.model import TlsSettings
from proxy.tls.context import SiteTls, build_contexts
from proxy.tls.engine import Engine, TlsError


@pytest.fixture
def identities(tmp_path):
    """An RSA and an ECDSA certificate of one site."""
    return tuple(load_identity(make_chain(tmp_path, kind=kind).files, where="site[0]") for kind in ("rsa", "ec"))


def build(identities, lookup=lambda _key, _now: None, *, required=False, **tls):
    site = SiteTls("site[0]", identities, TlsSettings(**tls), True, "the app", staple_required=required)
    return build_contexts([site], lookup)[0]


VERSIONS = [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION]


def new_client(version=None, *, kind=b"ECDSA+SHA256", asking=True) -> tuple[SSL.Connection, list[bytes]]:
    """A client, and the list in which the staples that it is sent will be."""
    staples = []
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_ocsp_client_callback(lambda _connection, der, _data: staples.append(der) or True)
    SSL._lib.SSL_CTX_set1_sigalgs_list(context._context, kind)
    if version is not None:
        context.set_min_proto_version(version)
        context.set_max_proto_version(version)
    client = SSL.Connection(context)
    client.set_connect_state()
    if asking:
        client.request_ocsp()
    return client, staples


def shake(context, client) -> None:
    """A handshake over memory, until the server ends it; SSL.Error is the client's."""
    engine = Engine(context)
    while not engine.is_established:
        with contextlib.suppress(SSL.WantReadError):
            client.do_handshake()
        try:
            engine.receive(client.bio_read(65536))
        finally:
            if sent := engine.pending():
                client.bio_write(sent)
    with contextlib.suppress(SSL.WantReadError):
        client.recv(1)  # the tickets of TLS 1.3


def staples_of(context, **how) -> list[bytes]:
    client, staples = new_client(**how)
    shake(context, client)
    return staples


def test_the_lookup_is_asked_for_the_certificate_that_was_chosen(identities):
    """Each kind by its own key, with the time of now."""
    asked = []

    def lookup(key, now_s):
        asked.append((key, now_s))

    context = build(identities, lookup)
    for kind, identity in ((b"RSA-PSS+SHA256", identities[0]), (b"ECDSA+SHA256", identities[1])):
        assert staples_of(context, kind=kind) == [b""]
        assert asked[-1][0] == identity.cache_key
        assert asked[-1][1] > 1_700_000_000


@pytest.mark.parametrize("count", [1, 2])
def test_a_broken_lookup_costs_the_staple_and_not_the_connection(identities, caplog, count):
    """An exception in OpenSSL's callback would end the handshake."""
    with caplog.at_level(logging.ERROR):
        assert staples_of(build(identities[-count:], lambda _key, _now: 1 / 0)) == [b""]
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    ("setting", "value"), [("ciphers", "NO-SUCH-CIPHER"), ("ciphersuites", "TLS_NONSENSE"), ("groups", "P-1:X1")]
)
def test_what_openssl_does_not_know_is_named(identities, setting, value):
    """Once, however many sites there are, and OpenSSL's error does not turn up in a later call."""
    with pytest.raises(ConfigError) as caught:
        build_contexts(
            [SiteTls(f"site[{n}]", identities, TlsSettings(**{setting: value}), True, n) for n in range(3)],
            lambda _key, _now: None,
        )
    (problem,) = caught.value.problems
    assert problem.where == f"tls.{setting}"
    assert value in problem.what
    assert staples_of(build(identities)) == [b""]


def test_without_room_for_a_temporary_file_it_is_said_what_lacks(identities, monkeypatch, tmp_path):
    """OpenSSL takes a chain from a file only."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match=r"site\[0\]: a temporary file cannot be made.*No such file.*set TMPDIR"):
        build(identities)


def test_idle_connections_give_their_buffers_back(identities):
    """SSL_MODE_RELEASE_BUFFERS halves what an idle connection takes. set_mode(0) tells the modes that are on."""
    assert build(identities).context.set_mode(0) & SSL.MODE_RELEASE_BUFFERS


def test_a_connection_hands_back_its_sites_app(identities):
    """That is how a connection knows where it belongs."""
    engine = Engine(build(identities))
    assert engine.site == "the app"


def refused(context, version) -> str:
    """OpenSSL's word, at the client, for how the handshake of one that asks for a staple ended."""
    client, _ = new_client(version)
    with pytest.raises(TlsError, match="there is none"):
        shake(context, client)
    with pytest.raises(SSL.Error) as caught:
        client.do_handshake()
    return caught.value.args[0][0][-1]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("lookup", [lambda _key, _now: None, lambda _key, _now: 1 / 0], ids=["none", "broken"])
def test_a_client_that_asks_in_vain_is_refused_where_the_site_says_so(identities, version, lookup):
    """With the fatal alert internal_error, the only one that OpenSSL sends when the callback says no."""
    context = build(identities, lookup, required=True)
    assert refused(context, version) in {"tlsv1 alert internal error", "ssl/tls alert internal error"}
    assert refused(context, version), "and so is the next one"


@pytest.mark.parametrize("version", VERSIONS)
def test_clients_that_do_not_ask_are_served_where_a_staple_is_required(identities, version):
    """So is one that resumes: its certificate is not sent, so there is nothing to staple to."""
    held = [b"a response"]
    context = build(identities, lambda _key, _now: held[0], required=True)
    first, _ = new_client(version)
    shake(context, first)
    held[0] = None
    shake(context, new_client(version, asking=False)[0])
    again = SSL.Connection(first.get_context())
    again.set_connect_state()
    again.request_ocsp()
    again.set_session(first.get_session())
    shake(context, again)
    assert SSL._lib.SSL_session_reused(again._ssl)


def test_refusals_are_logged_once_in_a_while(identities, caplog):
    """Every client may be refused, and the operator needs one line."""
    context = build(identities, required=True)
    for _ in range(3):
        refused(context, SSL.TLS1_3_VERSION)
    assert [record.message for record in caplog.records] == [
        "site[0]: clients that ask for a staple are refused: there is none, and on_missing says so"
    ]


@pytest.fixture(params=[2, 3], ids=["shared", "apart"])
def three_sites(tmp_path, request):
    """Two that differ in certificate and key only, and one whose chain ends with its own certificate.

    By their number the first two share a context, or not yet.
    """
    made = [make_chain(tmp_path, kind=kind, label=f"site {n}") for n, kind in enumerate(("ec", "rsa", "ec"))]
    made[1].issuer = made[0].issuer
    made[1].write("site 1.chain.pem", pem(made[1].leaf, made[0].issuer))
    made[2].write("site 2.chain.pem", pem(made[2].leaf))
    sites = [
        SiteTls(f"site[{n}]", (load_identity(each.files, where=f"site[{n}]"),), TlsSettings(), False, n)
        for n, each in enumerate(made)
    ]
    contexts = build_contexts(sites, lambda _key, _now: None, shared_from=request.param)
    assert (contexts[0].context is contexts[1].context) is (request.param == 2)
    assert contexts[0].context is not contexts[2].context
    return contexts, made


@pytest.mark.parametrize("version", VERSIONS)
def test_each_site_shows_its_own_chain(three_sites, version):
    """In turns, so that nothing of one is left for the next."""
    contexts, made = three_sites
    for context, chain in (*zip(contexts, made, strict=True), *zip(contexts, made, strict=True)):
        client, _ = new_client(version, kind=b"ECDSA+SHA256:RSA-PSS+SHA256")
        shake(context, client)
        shown = client.get_peer_cert_chain(as_cryptography=True)
        assert shown == ([chain.leaf] if context is contexts[2] else [chain.leaf, chain.issuer])


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_resumes_at_its_site_only(three_sites, version):
    """RFC 6066 3: also where the sites share a context, and with it the keys of the tickets."""
    (first, second, _), _ = three_sites
    kind = b"ECDSA+SHA256:RSA-PSS+SHA256"
    client, _ = new_client(version, kind=kind)
    shake(first, client)
    for site, is_resumed in ((second, False), (first, True), (second, False)):
        again = SSL.Connection(client.get_context())
        again.set_connect_state()
        again.set_session(client.get_session())
        shake(site, again)
        assert bool(SSL._lib.SSL_session_reused(again._ssl)) is is_resumed


@pytest.mark.parametrize("shared_from", [2, 9])
def test_a_key_that_openssl_finds_too_short_is_told_at_the_start(tmp_path, shared_from):
    """Not to the first client; of each such site, also of those that share a context."""
    made = [make_chain(tmp_path, kind=kind, label=kind) for kind in ("ec", "rsa")]
    tls = TlsSettings(ciphers="DEFAULT@SECLEVEL=3")  # 3072 bits of RSA
    identities = [load_identity(each.files, where="") for each in made]
    sites = [SiteTls(f"site[{n}]", (each,), tls, False, n) for n, each in enumerate([*identities, identities[1]])]
    with pytest.raises(ConfigError) as caught:
        build_contexts(sites, lambda _key, _now: None, shared_from=shared_from)
    assert [each.where for each in caught.value.problems] == ["site[1]", "site[2]"]
    assert all("key too small" in each.what for each in caught.value.problems)


def test_a_site_whose_certificates_cannot_be_read_does_not_hide_the_mistakes_of_others(identities):
    """It is there without any when the mistakes of a configuration are gathered."""
    assert len(build_contexts([SiteTls("site[0]", (), TlsSettings(), False, 0)], lambda _key, _now: None)) == 1
