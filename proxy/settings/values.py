"""The kinds of values that settings have: how each is written, and the sentence when it is written otherwise."""

from __future__ import annotations

import os
import re
from collections import Counter
from ipaddress import AddressValueError, IPv4Network, IPv6Address, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainValidator,
)
from pydantic_core import PydanticCustomError

from proxy.names import host_name

MAX_UNIX_PATH_BYTES = 107
"""unix(7): sun_path holds 108 bytes with the final zero."""

NOT_REPEATED = "not_repeated"
"""The type of a mistake whose value is not told with it."""

_ACCOUNT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@\\-]{0,255}\$?")

Network = IPv4Network | IPv6Network


class ListenAddress(NamedTuple):
    """Where to accept connections; an IPv6 `host` is without brackets, and empty means every address."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class UpstreamAddress(NamedTuple):
    """Where the backend listens: either `path` of a Unix socket, or `host` and `port`."""

    host: str
    port: int
    path: str = ""
    is_tls: bool = False
    is_raw: bool = False
    """It speaks anything, and gets what the client sends as it is."""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        if self.is_raw:
            return f"tcp://{self.authority}"
        return f"http{'s' if self.is_tls else ''}://{self.authority}"

    @property
    def authority(self) -> str:
        """The host, in brackets if it is an IPv6 address, and the port."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def host_port(text: str, *, default_port: int | None = None) -> tuple[str, int]:
    """Read HOST:PORT, an IPv6 host in brackets; ValueError says what it lacks."""
    host, colon, port_text = text.rpartition(":")
    if text.endswith("]") or not colon:  # "[::1]" or "name": no port
        if default_port is None:
            raise ValueError("a port is missing: write HOST:PORT")
        host, port_text = text, str(default_port)
    if ":" in host or "[" in host or "]" in host:
        try:
            IPv6Address(host.removeprefix("[").removesuffix("]"))
        except AddressValueError:
            raise ValueError("must be only an address and a port: 127.0.0.1:8443 or [::1]:8443") from None
        if not (host.startswith("[") and host.endswith("]")):
            raise ValueError("an IPv6 address goes in brackets: [::1]:8443")
    elif not host.isascii() or not host.isprintable() or any(character in host for character in "/?#@* "):
        raise ValueError("must be only an address or a host name, and a port: 127.0.0.1:8443")
    # Five digits at most: what int() says about thousands of them helps nobody.
    if not (port_text.isascii() and port_text.isdigit() and len(port_text) <= 5 and int(port_text) <= 65_535):
        raise ValueError("the port must be a number from 0 to 65535")
    return host.strip("[]"), int(port_text)


def _parse_listen(value: object) -> ListenAddress:
    if isinstance(value, ListenAddress):
        return value
    if isinstance(value, str):
        return ListenAddress(*host_port(value))
    raise ValueError('must be text such as "127.0.0.1:8443", or ":8443" for every address')


def parse_upstream(value: object) -> UpstreamAddress:
    """Read the URL of a backend; ValueError says what it lacks."""
    if isinstance(value, UpstreamAddress):
        return value
    if isinstance(value, str) and value.startswith("unix:"):
        path = value.removeprefix("unix:")
        if not path.startswith("/") or not path.isprintable():
            raise ValueError("the path of a Unix socket must be absolute: unix:/run/app.sock")
        if len(os.fsencode(path)) > MAX_UNIX_PATH_BYTES:
            raise ValueError(f"the path of a Unix socket is at most {MAX_UNIX_PATH_BYTES} bytes long")
        return UpstreamAddress("", 0, path)
    if isinstance(value, str) and value.startswith(("http://", "https://")):
        scheme, _, rest = value.partition("://")
        authority = rest.removesuffix("/")
        if "/" in authority or "?" in authority:
            raise ValueError("an upstream takes no path, requests keep their own: http://127.0.0.1:8000")
        is_tls = scheme == "https"
        host, port = host_port(authority, default_port=443 if is_tls else 80)
        if not host or not port:
            raise ValueError("a host and a port above 0 are needed: http://127.0.0.1:8000")
        return UpstreamAddress(host, port, is_tls=is_tls)
    if isinstance(value, str) and value.startswith("tcp://"):
        host, port = host_port(value.removeprefix("tcp://"))
        if not host or not port:
            raise ValueError("a host and a port above 0 are needed: tcp://127.0.0.1:5432")
        return UpstreamAddress(host, port, is_raw=True)
    raise ValueError("must be http://HOST:PORT, https://HOST:PORT, tcp://HOST:PORT or unix:/PATH")


def check_http_url(text: str) -> str:
    """Return a responder's URL unchanged; ValueError when nothing could be asked there."""
    try:
        url = urlsplit(text)
        usable = url.scheme in {"http", "https"} and url.hostname and url.port != 0
    except ValueError:  # the port is no number, or the brackets hold no IPv6 address
        usable = False
    # urlsplit drops line breaks and tabs in silence: what it read would not be what is asked.
    plain = text.isascii() and text.isprintable() and not any(character in text for character in " @#")
    if not usable or not plain:
        raise ValueError("must be a URL such as http://ocsp.example.com/")
    return text


def _check_algorithms(text: str) -> str:
    # OpenSSL judges the names, and what it refuses is told with them.
    if not is_one_line(text):
        raise PydanticCustomError(NOT_REPEATED, "must be names in OpenSSL's syntax, on one line")
    return text


def is_one_line(text: str) -> bool:
    """Tell it from a key or a certificate that was pasted where a name belongs."""
    return text.isprintable() and "-----BEGIN" not in text


def _check_file_name(value: object) -> object:
    if isinstance(value, str) and not is_one_line(value):
        raise ValueError("must be the name of a file, not its contents")
    if value == "":
        raise ValueError("must be the name of a file")
    return value


def _parse_network(value: object) -> Network:
    if isinstance(value, Network):
        return value
    if isinstance(value, str):
        try:
            return ip_network(value)
        except ValueError:
            pass
    raise ValueError('must be an address or a network, without bits beyond its prefix: "192.0.2.7" or "10.0.0.0/8"')


def _check_unix_path(path: Path) -> Path:
    if len(os.fsencode(path)) > MAX_UNIX_PATH_BYTES:
        raise ValueError(f"the path of a Unix socket is at most {MAX_UNIX_PATH_BYTES} bytes long")
    return path


def _check_command(command: tuple[str, ...]) -> tuple[str, ...]:
    # No shell and no search: what runs is what is written here.
    if command and not command[0].startswith("/"):
        raise PydanticCustomError(NOT_REPEATED, 'must begin with the absolute path of the command: ["/path/command"]')
    if any("\0" in argument for argument in command):
        raise PydanticCustomError(NOT_REPEATED, "an argument of a command cannot hold a zero byte")
    return command


def _check_account(name: str) -> str:
    # As useradd(8) and groupadd(8) take them, and a little more: numbers, and the DOMAIN\\name of a directory.
    if not _ACCOUNT.fullmatch(name):
        raise ValueError('must be the name or the number of a user or a group, such as "www-data"')
    return name


def _check_addresses(addresses: tuple[ListenAddress, ...]) -> tuple[ListenAddress, ...]:
    # Found here and not when it is bound, so that `check` tells it too. Port 0 is another port each time.
    counts = Counter(each for each in addresses if each.port)
    if twice := next((each for each, count in counts.items() if count > 1), None):
        raise PydanticCustomError(NOT_REPEATED, "{address} is there more than once", {"address": str(twice)})
    return addresses


Listen = Annotated[ListenAddress, PlainValidator(_parse_listen)]
HttpUrl = Annotated[str, AfterValidator(check_http_url)]
Algorithms = Annotated[str, AfterValidator(_check_algorithms)]
FileName = Annotated[Path, BeforeValidator(_check_file_name)]
TrustedNetwork = Annotated[Network, PlainValidator(_parse_network)]
UnixPath = Annotated[FileName, AfterValidator(_check_unix_path)]
Command = Annotated[tuple[Annotated[str, Field(strict=True)], ...], AfterValidator(_check_command)]
HostName = Annotated[str, AfterValidator(host_name)]
AccountName = Annotated[str, Field(strict=True), AfterValidator(_check_account)]
# Strict: "4" is no number and 1 is not true, as everywhere in TOML.
Flag = Annotated[bool, Field(strict=True)]
Whole = Annotated[int, Field(strict=True)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Seconds = Annotated[Number, Field(gt=0, le=31_536_000)]


def _check_http_proxy(text: str) -> str:
    return text if text in {"environment", "none"} else check_http_url(text)


OnRevoked = Literal["withhold", "staple"]
OnMissing = Literal["omit", "refuse"]
HttpProxy = Annotated[str, AfterValidator(_check_http_proxy)]
ListenAddresses = Annotated[tuple[Listen, ...], AfterValidator(_check_addresses)]
