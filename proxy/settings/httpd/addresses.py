"""Which server answers at which address: `Listen` and the addresses of virtual hosts, matched as Apache does. PURE."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import TYPE_CHECKING

from proxy.settings.httpd.numbers import atoi
from proxy.settings.httpd.tree import Directive
from proxy.settings.values import ListenAddress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.settings.httpd.block import Block, Server
    from proxy.settings.httpd.told import Told
    from proxy.settings.httpd.tree import Where

_PORT = re.compile(r"(?:(?P<host>.*):)?(?P<port>\d+|\*)", re.ASCII | re.DOTALL)
_INVALID = "The address or port is invalid"


@dataclass(frozen=True, slots=True)
class Listener:
    """One `Listen`."""

    address: ListenAddress
    """The host is empty for every address."""
    directive: Directive


@dataclass(frozen=True, slots=True)
class Entrance:
    """An address with the servers that are served there, the default first."""

    address: ListenAddress
    servers: tuple[Server, ...]
    directive: Directive
    """The `Listen`."""


def listeners(main: Block, hosts: Sequence[Block], told: Told) -> tuple[Listener, ...]:
    """Read all `Listen`."""
    found: dict[ListenAddress, Listener] = {}
    for directive in main.all("listen") or _implied(hosts, told):
        if not 1 <= len(directive.arguments) <= 2:
            told.mistake(directive.where, "Listen requires 1 or 2 arguments.")
            continue
        address = _listen_address(directive, told)
        if address is None:
            continue
        if address in found:
            told.warn(directive.where, f"Listen {directive.arguments[0]} is there already: Apache could not start")
        # The word "https" behind it is for AcceptFilter only: it turns no TLS on.
        found.setdefault(address, Listener(address, directive))
    return tuple(found.values())


def _implied(hosts: Sequence[Block], told: Told) -> list[Directive]:
    """Make up what a file of virtual hosts alone lacks: elsewhere, in ports.conf or so, there is a Listen for them."""
    found: dict[tuple[str, int], Where] = {}
    for host in hosts:
        for address, port in _host_addresses(host, told):
            if port is not None and host.where is not None:
                found.setdefault((address, port), host.where)
    made = []
    for (address, port), where in found.items():
        if not address or ("", port) not in found:
            text = str(ListenAddress(address, port)) if address else str(port)
            made.append(Directive("Listen", (text,), text, where))
    if made:
        told.warn(made[0].where, f"no Listen: as if there were Listen {', '.join(each.text for each in made)}")
    return made


def entrances(listening: Sequence[Listener], main: Server, hosts: Sequence[Server], told: Told) -> list[Entrance]:
    """Say who is served at each address; a virtual host for one address goes before those for all."""
    wanted = [(host, _host_addresses(host.own, told)) for host in hosts]
    exact = {each.address for each in listening}
    # A listener for every address takes connections to those as well that a virtual host names.
    further: dict[ListenAddress, Listener] = {}
    for listener in listening:
        if not listener.address.host:
            for _, addresses in wanted:
                for name, port in addresses:
                    address = ListenAddress(name, listener.address.port)
                    if name and port in {None, address.port} and address not in exact:
                        further.setdefault(address, listener)
    everything = [(each.address, each) for each in listening] + list(further.items())
    return [
        Entrance(address, _servers_at(address, wanted) or (main,), listener.directive)
        for address, listener in everything
    ]


def _servers_at(
    address: ListenAddress, wanted: Sequence[tuple[Server, Sequence[tuple[str, int | None]]]]
) -> tuple[Server, ...]:
    for name in dict.fromkeys((address.host, "")):
        here = tuple(
            host
            for host, addresses in wanted
            if any(each == name and port in {None, address.port} for each, port in addresses)
        )
        if here:
            return here
    return ()


def _listen_address(directive: Directive, told: Told) -> ListenAddress | None:
    text = directive.arguments[0]
    host, colon, port_text = text.rpartition(":")
    if not port_text.isascii() or not port_text.isdigit():
        told.mistake(directive.where, "Port must be specified")
        return None
    port = atoi(port_text)
    if not 0 < port <= 65_535 or len(port_text) > 5 or (colon and not host):
        told.mistake(directive.where, "Invalid address or port")
        return None
    usable = _usable_host(host)
    if usable is None:
        told.mistake(directive.where, f"Listen {text}: write an address instead of a name: names are not looked up")
        return None
    return ListenAddress(usable, port)


def _host_addresses(block: Block, told: Told) -> list[tuple[str, int | None]]:
    """Read the addresses of a virtual host; an empty host is every address, and no port every port."""
    assert block.where is not None
    found: list[tuple[str, int | None]] = []
    for text in block.addresses:
        if text.isascii() and text.isdigit():
            told.mistake(block.where, "Missing address for VirtualHost")
            continue
        match = None if text.endswith("]") else _PORT.fullmatch(text)
        host, port = (match["host"] or "", match["port"]) if match else (text, "*")
        if (port != "*" and not 0 < atoi(port) <= 65_535) or len(port) > 5 or host.startswith("[") > host.endswith("]"):
            told.mistake(block.where, _INVALID)
            continue
        usable = _usable_host(host)
        if usable is None:
            what = f"<VirtualHost {text}>: write an address instead of a name: names are not looked up"
            told.unlike(block.where, what)
            continue
        found.append((usable, None if port == "*" else atoi(port)))
    return found


def _usable_host(text: str) -> str | None:
    """Give an address without brackets, empty for every address; None: it is no address."""
    if text.lower() in {"", "*", "_default_"}:
        return ""
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        if inner is text:
            return str(IPv4Address(text))
        return "" if (six := IPv6Address(inner)) == IPv6Address(0) else str(six)
    except (AddressValueError, ValueError):
        return None
