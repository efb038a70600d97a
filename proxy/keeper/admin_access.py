"""Who may see and order what, at which door. PURE.

The Unix socket is guarded by its file's mode: whoever may open it may do everything. On TCP there are other users of
the machine, and browsers, which send requests for any page that their user has open:

- `admin.allow` says from where requests may come at all;
- with a token, everything but ``/healthz`` needs it; without one the door is on loopback, and tells only;
- a page elsewhere can have its own name resolve to 127.0.0.1 and would then be of the same origin as we
  (DNS rebinding): without a token, requests must call us by a name of loopback. Where there is a token a browser has
  none for such a name, and a name of the operator's choice is right;
- a request that says it comes from another page (`Origin`) is refused, and orders must have a media type that no
  form can send: so a browser asks us first whether such a page may (CORS), and we never say yes.
"""

from __future__ import annotations

import hmac
from base64 import b64decode
from binascii import Error as Base64Error
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from proxy.settings.admin import AdminSettings
    from proxy.settings.values import Network

HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""What every answer says to browsers: do not guess, keep, frame, tell others, or run anything."""
_NAMES_OF_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_REALM = 'realm="stapleproxy"'


class Right(Enum):
    """What a request needs."""

    ALIVE = "alive"
    """To ask whether it runs: needs no token."""
    SEE = "see"
    ORDER = "order"
    """To change what is stapled, and when."""
    RULE = "rule"
    """To reload and to stop: the Unix socket alone."""


@dataclass(frozen=True, slots=True)
class Asking:
    """What of a request decides."""

    peer: str
    """Its IP address; empty on a Unix socket."""
    right: Right
    hosts: Sequence[str]
    """All its Host headers."""
    origin: str | None
    authorization: str | None
    media_type: str
    wanted_type: str = "application/json"
    """Which media type orders of this kind have."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why not."""

    status: int
    what: str
    challenges: tuple[str, ...] = ()
    """Values of WWW-Authenticate."""
    was_guess: bool = False
    """It came with a wrong token: the answer is not to be hurried."""


@dataclass(frozen=True, slots=True)
class Access:
    """One door."""

    is_unix: bool
    host: str = ""
    """What it listens on, TCP only."""
    allow: tuple[Network, ...] = ()
    token_hash: bytes | None = None
    """None: there is no token."""

    @classmethod
    def by_tcp(cls, settings: AdminSettings, token: bytes | None) -> Access:
        host = settings.listen.host if settings.listen else ""
        return cls(False, host.lower(), settings.allow, sha256(token).digest() if token else None)

    def may(self, right: Right) -> bool:
        """Tell whether anybody may do that by this door."""
        if self.is_unix or right in {Right.ALIVE, Right.SEE}:
            return True
        return right is Right.ORDER and self.token_hash is not None

    def judge(self, asking: Asking) -> Refusal | None:
        """Say why a request is refused; None: it is not."""
        if self.is_unix:
            return None
        if not self.is_allowed(asking.peer):
            return Refusal(403, "this address is not among those that admin.allow names")
        if len(asking.hosts) != 1:
            return Refusal(400, "a request has one Host header")
        if self.token_hash is None and not self._is_our_name(asking.hosts[0]):
            return Refusal(403, "the Host header must be the address of admin.listen or localhost")
        if asking.origin is not None and _place_of(asking.origin) != asking.hosts[0].lower():
            return Refusal(403, "requests of other web pages are refused (Origin)")
        if self.token_hash is not None and asking.right is not Right.ALIVE:
            token = token_in(asking.authorization)
            if token is None or not hmac.compare_digest(sha256(token).digest(), self.token_hash):
                # Basic, since it is what a browser can ask its user for; any user name will do.
                challenges = (f"Bearer {_REALM}", f'Basic {_REALM}, charset="UTF-8"')
                what = "wrong token" if token else "the token of admin.token_file is needed"
                return Refusal(401, what, challenges, was_guess=token is not None)
        if not self.may(asking.right):
            lacking = "" if asking.right is Right.RULE else ", or set admin.token_file and send the token"
            return Refusal(403, f"that can be ordered by the Unix socket (admin.socket){lacking}")
        if asking.right is Right.ORDER and asking.media_type != asking.wanted_type:
            return Refusal(415, f"orders have the header Content-Type: {asking.wanted_type}, which no form can send")
        return None

    def is_allowed(self, peer: str) -> bool:
        """Tell whether requests may come from this address at all."""
        if not self.allow:
            return True
        try:
            address = ip_address(peer.partition("%")[0])
        except ValueError:
            return False
        return any(address in network for network in self.allow)

    def _is_our_name(self, host_header: str) -> bool:
        try:
            name = urlsplit(f"//{host_header}").hostname
        except ValueError:
            return False
        return name == self.host or name in _NAMES_OF_LOOPBACK


def _place_of(origin: str) -> str:
    """Give the host and port of an Origin; empty where it has none, as "null" has."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def token_in(authorization: str | None) -> bytes | None:
    """Find the token: as it is, or as the password that a browser sends; None: there is none."""
    scheme, _, value = (authorization or "").strip().partition(" ")
    match scheme.lower():
        case "bearer":
            return value.strip().encode(errors="surrogateescape") or None
        case "basic":
            try:
                return b64decode(value.strip(), validate=True).partition(b":")[2] or None
            except (Base64Error, ValueError):
                return None
    return None
