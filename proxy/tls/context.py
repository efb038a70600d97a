"""What each site's connections begin with, built before the workers are forked.

That they are built before the fork is what lets a session ticket issued by one worker resume on another: the ticket
keys live in the context. Sites share contexts (see site.py), and a ticket says of which site it is, so that it resumes
at no other.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from OpenSSL import SSL

from proxy.errors import ConfigError, Problem
from proxy.log import about
from proxy.tls.binding import ServerConnection, certificate_from, key_from, lib, raw
from proxy.tls.callbacks import choose_protocol_of, staple_with
from proxy.tls.clientauth import ask_for_certificate
from proxy.tls.inline import StapleFatalError, StapleWantedError
from proxy.tls.site import Own, SiteContext

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from proxy.clientca import ClientCa
    from proxy.identity import CacheKey, Identity
    from proxy.settings.model import TlsSettings
    from proxy.tls.callbacks import AnswerStatus
    from proxy.tls.inline import InlineLookup, Replay

_log = logging.getLogger("stapleproxy.tls")

StapleLookup = Callable[["CacheKey", float], bytes | None]
"""(cache key, now as unix seconds) -> DER of the response to staple, or None. Runs in handshakes: no I/O, no lock."""

HTTP_ALPN = (b"http/1.1", b"http/1.0")
"""Most wanted first; curl -0 offers the second alone."""

_VERSIONS = {"TLSv1.2": SSL.TLS1_2_VERSION, "TLSv1.3": SSL.TLS1_3_VERSION}

# OpenSSL's own DEFAULT, which must stand alone, spelled out behind the two that cost least: AES-128-GCM with SHA-256
# is a tenth cheaper than with SHA-384 on processors with SHA instructions, and is what clients expect everywhere.
_DEFAULT_CIPHERS = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ALL:!COMPLEMENTOFDEFAULT:!eNULL"

# pyOpenSSL sets SSL_MODE_ENABLE_PARTIAL_WRITE in every context and exports no name for it. On a memory BIO nothing
# blocks, so partial writes would only make `send` stop after each 16 kB record.
_MODE_ENABLE_PARTIAL_WRITE = 0x1

# OpenSSL resumes nothing under client certificates without one.
_SESSION_ID_CONTEXT = b"stapleproxy"

_REFUSALS_LOGGED_EVERY_S = 60.0
"""Every client of a site may be refused: one line a minute, from each worker and for each site, says so."""


class StapleMissingError(Exception):
    """The client asks for a staple, there is none, and the site wants it to be refused.

    OpenSSL ends the handshake with the fatal alert internal_error (80), in TLS 1.2 and 1.3. RFC 6066 10 made
    certificate_unobtainable for such a case, RFC 8446 6 has dropped it, and the callback cannot choose.
    """

    def __str__(self) -> str:
        return "the client asks for a staple, and there is none"


SHARED_FROM = 64
"""So many sites that differ in certificate and key only share a context. Fewer have one each, so that their handshakes
need not be given these two: a twenty-fifth of a handshake that resumes TLS 1.2."""


@dataclass(frozen=True, slots=True)
class SiteTls:
    """What a site is; `app` is handed back for each connection to it."""

    where: str
    identities: tuple[Identity, ...]
    tls: TlsSettings
    stapling: bool
    app: object
    staple_required: bool = False
    """A client that asks for a staple when there is none is refused; a resumption asks for none."""
    alpn: tuple[bytes, ...] = HTTP_ALPN
    """Application protocols, most wanted first; none: what a client offers is not looked at."""
    client_ca: ClientCa | None = None
    """Who may issue client certificates; None: they are not asked for."""
    inline: InlineLookup | None = None
    """Decides what is stapled, in place of the lookup that all sites share; may want a fetch first."""


def build_contexts(
    sites: Sequence[SiteTls],
    staple: StapleLookup,
    between: Callable[[], None] = lambda: None,
    *,
    shared_from: int = SHARED_FROM,
) -> list[SiteContext]:
    """What connections to each site begin with, in their order; ConfigError with all that OpenSSL refuses.

    `between` is called after each: many take long.
    """
    contexts: list[SiteContext] = []
    problems: list[Problem] = []
    traits = [_traits(site) for site in sites]
    alike = Counter(traits)
    shared: dict[object, SSL.Context] = {}
    for site, mine in zip(sites, traits, strict=True):
        try:
            if mine is not None and alike[mine] >= shared_from:
                contexts.append(_sharing(site, staple, shared, mine))
            else:
                contexts.append(_alone(site, staple))
        except ConfigError as error:
            problems.extend(problem for problem in error.problems if problem not in problems)
        between()
    if problems:
        raise ConfigError(*problems)
    return contexts


def check_algorithms(tls: TlsSettings, where: str = "tls") -> tuple[Problem, ...]:
    """List what OpenSSL refuses of the ciphers and groups; no certificate is needed for it."""
    try:
        _set_algorithms(SSL.Context(SSL.TLS_SERVER_METHOD), tls, where)
    except ConfigError as error:
        return error.problems
    return ()


def _traits(site: SiteTls) -> object:
    """What sites must have in common to share a context; None: it shares none.

    Of several chains a context has one for each kind of key, and a connection has not.
    """
    if len(site.identities) != 1 or site.client_ca:
        return None
    return site.tls, site.alpn, site.stapling, site.inline is None, site.identities[0].intermediates


def _alone(site: SiteTls, staple: StapleLookup) -> SiteContext:
    context = _build(site, staple)
    _use_all(context, site)
    if len(site.identities) == 1:
        return _made(site, context, None, site.identities[0].cache_key, _no_choice)
    return _made(site, context, None, None, _chosen_key(site.identities))


def _sharing(site: SiteTls, staple: StapleLookup, shared: dict[object, SSL.Context], traits: object) -> SiteContext:
    (only,) = site.identities
    context = shared.get(traits)
    if context is None:
        _use_all(_build(site, staple), site)  # OpenSSL judges a chain here, and the further ones below not before
        context = _build(site, staple)
        for each in only.intermediates:  # the first handshake
            context.add_extra_chain_cert(each)
        shared[traits] = context
    made = _made(site, context, _own(only, site.where), only.cache_key, _no_choice)
    with _refusing(only, site.where):
        ServerConnection(made)
    return made


def _made(
    site: SiteTls,
    context: SSL.Context,
    own: Own | None,
    cache_key: CacheKey | None,
    key_of: Callable[[SSL.Connection], CacheKey],
) -> SiteContext:
    return SiteContext(context, site.app, site.where, own, cache_key, key_of, site.staple_required, site.inline)


def _own(identity: Identity, where: str) -> Own:
    key = identity.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    with _refusing(identity, where):
        return Own(
            hashlib.sha256(where.encode()).digest(),
            certificate_from(identity.leaf.public_bytes(Encoding.DER)),
            key_from(key),
        )


def _build(site: SiteTls, staple: StapleLookup) -> SSL.Context:
    tls = site.tls
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    versions = [_VERSIONS[name] for name in tls.protocols]
    context.set_min_proto_version(min(versions))
    context.set_max_proto_version(max(versions))
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.clear_mode(_MODE_ENABLE_PARTIAL_WRITE)
    # OpenSSL 3 and 4 refuse renegotiation and compression by themselves; said, so that it holds whatever is linked.
    context.set_options(SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION)
    if tls.prefer_server_ciphers:
        context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE)
    # Tickets hold the session at the client; a cache here would be one worker's only.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_session_id(_SESSION_ID_CONTEXT)
    if not tls.session_tickets or site.client_ca:
        context.set_options(SSL.OP_NO_TICKET)
    if site.client_ca:
        ask_for_certificate(context, site.client_ca, site.where)
    _set_algorithms(context, tls, "tls")  # what a site has of its own was looked at by check_algorithms
    if site.alpn:
        choose_protocol_of(context, site.alpn)
    if site.stapling:
        staple_with(context, _status_callback(staple) if site.inline is None else _on_status_inline)
    return context


def _set_algorithms(context: SSL.Context, tls: TlsSettings, where: str) -> None:
    problems = []
    try:
        context.set_cipher_list((tls.ciphers or _DEFAULT_CIPHERS).encode())
    except SSL.Error:
        problems.append(
            Problem(f"{where}.ciphers", f"OpenSSL knows no cipher in {tls.ciphers!r}; try `openssl ciphers -v`")
        )
    try:
        context.set_tls13_ciphersuites(tls.ciphersuites.encode())
    except SSL.Error:
        problems.append(
            Problem(
                f"{where}.ciphersuites",
                f"OpenSSL knows not all of {tls.ciphersuites!r}; see `openssl ciphers -s -tls1_3`",
            )
        )
    if tls.groups is not None and not _set_groups(context, tls.groups):
        problems.append(
            Problem(f"{where}.groups", f"OpenSSL knows no groups {tls.groups!r}; write such as X25519:P-256")
        )
    if problems:
        raise ConfigError(*problems)


def _set_groups(context: SSL.Context, groups: str) -> bool:
    # pyOpenSSL has set_tmp_ecdh, for a single group; the list is reached only through the bindings it stands on.
    done = lib.SSL_CTX_set1_curves_list(context._context, groups.encode())  # noqa: SLF001
    if done != 1:
        lib.ERR_clear_error()  # else the next call reports it
    return bool(done == 1)


def _use_all(context: SSL.Context, site: SiteTls) -> None:
    for identity in site.identities:
        with _refusing(identity, site.where):
            _use(context, identity)


@contextlib.contextmanager
def _refusing(identity: Identity, where: str) -> Iterator[None]:
    """Say of what OpenSSL refuses whose it is."""
    try:
        yield
    except OSError as error:
        what = f"a temporary file cannot be made, by which OpenSSL is given certificates: {error.strerror or error}"
        raise ConfigError(Problem(where, f"{what}: make room in /tmp, or set TMPDIR to another folder")) from error
    except SSL.Error as error:
        # No reason: it could not open the file, for lack of descriptors perhaps.
        reason = (error.args and error.args[0] and error.args[0][0][-1]) or "no reason given"
        raise ConfigError(Problem(where, f"OpenSSL refuses {identity.label}: {reason}")) from error


def _use(context: SSL.Context, identity: Identity) -> None:
    # The chain goes in as a file, because only that call gives each certificate of a site its own chain, and as a copy
    # of what was parsed and checked, so that a file replaced meanwhile cannot bring in something else.
    chain = b"".join(cert.public_bytes(Encoding.PEM) for cert in (identity.leaf, *identity.intermediates))
    with tempfile.NamedTemporaryFile() as copy:
        copy.write(chain)
        copy.flush()
        context.use_certificate_chain_file(copy.name)
    context.use_privatekey(identity.key)
    context.check_privatekey()


def _status_callback(staple: StapleLookup) -> AnswerStatus:
    # Called only when the client sent status_request and the handshake is no resumption, after OpenSSL has chosen the
    # certificate. b"" leaves the extension out (RFC 6066 8: the server may).
    refuse = _refusal()

    def on_status_request(connection: ServerConnection) -> bytes:
        site = connection.site
        now_s = time.time()
        try:
            response = staple(site.cache_key or site.key_of(connection), now_s)
        except Exception:  # noqa: BLE001  # an OpenSSL callback's edge: it would end the handshake
            # A staple is less than a connection, unless the operator says otherwise.
            _log.exception("no staple: this is a bug in stapleproxy")
            response = None
        connection.set_app_data(response or b"")  # see Session.staple
        if not response and site.is_staple_required:
            raise refuse(site.where, now_s)  # it makes a fatal alert, and pyOpenSSL raises it again from the handshake
        return response or b""

    return on_status_request


def _on_status_inline(connection: ServerConnection) -> bytes:
    """See inline.py: each connection's app data is a Replay, which knows what was fetched for it."""
    replay: Replay = connection.get_app_data()
    site = connection.site
    decide = site.inline
    assert decide is not None  # else the context is another
    try:
        return replay.answer(lambda: decide(site.cache_key or site.key_of(connection), time.time()))
    except (StapleWantedError, StapleFatalError):  # pyOpenSSL raises it again from the handshake
        raise
    except Exception:  # noqa: BLE001  # an OpenSSL callback's edge: it would end the handshake
        _log.exception("no staple: this is a bug in stapleproxy")
        return b""


def _no_choice(_connection: SSL.Connection) -> CacheKey:
    raise AssertionError("a site with one certificate has its cache_key")


def _chosen_key(identities: tuple[Identity, ...]) -> Callable[[SSL.Connection], CacheKey]:
    """Tell the certificate that OpenSSL has chosen for a connection."""
    # X509.digest is the SHA-1 of the certificate, written as AB:CD:…: the cache key itself. It costs a fortieth of a
    # handshake, so it is asked for once; after that the context's own pointer to the certificate will do.
    by_digest = {identity.cache_key.hex(":").upper().encode(): identity.cache_key for identity in identities}
    by_pointer: dict[object, CacheKey] = {}

    def key_of(connection: SSL.Connection) -> CacheKey:
        pointer = lib.SSL_get_certificate(raw(connection)._ssl)  # noqa: SLF001  # see binding.py
        key = by_pointer.get(pointer)
        if key is None:
            chosen = connection.get_certificate()
            assert chosen is not None  # OpenSSL asks for its status
            key = by_pointer[pointer] = by_digest[chosen.digest("sha1")]
        return key

    return key_of


def _refusal() -> Callable[[str, float], StapleMissingError]:
    """Make the errors, with a line in the log once in a while for each site."""
    logged_s: dict[str, float] = {}

    def refuse(where: str, now_s: float) -> StapleMissingError:
        last_s = logged_s.get(where, -math.inf)
        if not 0 <= now_s - last_s < _REFUSALS_LOGGED_EVERY_S:  # a clock that was set back does not silence it
            logged_s[where] = now_s
            what = "%s: clients that ask for a staple are refused: there is none, and on_missing says so"
            _log.warning(what, where, extra=about(site=where))
        return StapleMissingError()

    return refuse
