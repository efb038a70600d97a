"""Which HTTP proxy stands before a responder, if any: by the setting, or by urllib.request's rules for environments."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy as it may be told to anyone, and the secret apart."""

    url: str
    """``http://HOST:PORT``: no user, no password."""
    authorization: str | None = field(default=None, repr=False)
    """The value of Proxy-Authorization."""

    @classmethod
    def parse(cls, text: str) -> Proxy:
        """Read ``[SCHEME://][USER[:PASSWORD]@]HOST[:PORT][/]``. Whether anything answers there is not known here."""
        scheme, separator, rest = text.partition("://")
        if not separator:
            scheme, rest = "http", text
        # From the right and before the slash is looked for: a password that was not escaped stays out of the address.
        user_and_password, _, address = rest.rpartition("@")
        return cls(f"{scheme.lower()}://{address.partition('/')[0]}", _basic(user_and_password))

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True, slots=True)
class Ways:
    """How to reach responders."""

    http: Proxy | None = None
    """Before ``http://`` responders."""
    https: Proxy | None = None
    no_proxy: str = ""
    """Hosts to reach without a proxy, as NO_PROXY lists them."""

    @classmethod
    def of(cls, setting: str, environment: Mapping[str, str]) -> Ways:
        """From the setting: a URL, ``none`` or ``environment``."""
        if setting == "environment":
            return cls._of_environment(environment)
        return cls() if setting == "none" else cls(Proxy.parse(setting), Proxy.parse(setting))

    @classmethod
    def _of_environment(cls, environment: Mapping[str, str]) -> Ways:
        def value(name: str) -> str:
            # The lower-case one wins, an empty one too.
            return environment.get(name, environment.get(name.upper(), "")).strip()

        http, https = value("http_proxy"), value("https_proxy")
        if "REQUEST_METHOD" in environment:  # CGI: HTTP_PROXY is then a client's "Proxy:" header (CVE-2016-1000110)
            http = environment.get("http_proxy", "").strip()
        return cls(Proxy.parse(http) if http else None, Proxy.parse(https) if https else None, value("no_proxy"))

    def proxy_for(self, url: str) -> Proxy | None:
        """Which proxy to ask for `url`; None: go straight. ValueError: it is no URL."""
        parts = urlsplit(url)
        if _is_listed(parts.netloc.rpartition("@")[2].lower(), self.no_proxy):
            return None
        return self.https if parts.scheme == "https" else self.http


def _is_listed(address: str, no_proxy: str) -> bool:
    """Is HOST or HOST:PORT among them, or below one of them? A leading dot changes nothing."""
    if no_proxy == "*":
        return True
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():  # "[::1]" has colons and no port
        host = address
    names = {host, address, host.strip("[]")}
    listed = [name.strip().lstrip(".").lower() for name in no_proxy.split(",") if name.strip()]
    return any(name == each or name.endswith("." + each) for name in names for each in listed)


def _basic(user_and_password: str) -> str | None:
    if not user_and_password:
        return None
    # The environment's bytes, whatever they are; RFC 7617 2 wants the colon even without a password.
    secret = unquote_to_bytes(user_and_password.encode("utf-8", "surrogateescape"))
    return "Basic " + base64.b64encode(secret if b":" in secret else secret + b":").decode("ascii")
