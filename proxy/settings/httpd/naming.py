"""The names of servers: `ServerName` and `ServerAlias`. PURE."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from proxy.names import host_name
from proxy.settings.httpd.numbers import atoi

if TYPE_CHECKING:
    from proxy.settings.httpd.block import Block, Server
    from proxy.settings.httpd.told import Told

_SCHEME = re.compile(r"[A-Za-z]+://")


def check_names(block: Block, told: Told) -> None:
    """Tell what Apache itself finds wrong."""
    for directive in block.all("servername"):
        text = directive.arguments[0]
        _, colon, port = _SCHEME.sub("", text, count=1).rpartition(":")
        if colon and not text.endswith("]") and not 0 < atoi(port) <= 65_535:
            what = f'The port number "{text}" is outside the appropriate range (i.e., 1..65535).'
            told.mistake(directive.where, what)
    if block.where is None:
        for directive in block.all("serveralias"):
            told.mistake(directive.where, "ServerAlias only used in <VirtualHost>")


def server_name(server: Server) -> str | None:
    """Give the ServerName without scheme and port; None: it has none."""
    found = server.last("servername")
    if found is None:
        return None
    text = _SCHEME.sub("", found.arguments[0], count=1).removesuffix("/")
    return text if text.endswith("]") else text.partition(":")[0] if text.count(":") <= 1 else text


def names_of(server: Server, told: Told, *, is_alone: bool) -> list[str]:
    """List the names that choose this server; `is_alone`: it gets every name anyway."""
    names: dict[str, None] = {}
    found = server.last("servername")
    name = server_name(server)
    if found is not None and name and not name.startswith("[") and ":" not in name:
        try:
            names[host_name(name)] = None
        except ValueError as error:
            told.unlike(found.where, f"ServerName {name}: {error}")
    for directive in server.own.all("serveralias"):
        for alias in directive.arguments:
            if alias == "*" and is_alone:
                continue
            if "?" in alias or "*" in alias.removeprefix("*."):
                what = f"ServerAlias {alias}: of patterns only *.example.com is taken, for one label in front"
                told.unlike(directive.where, what)
                continue
            try:
                names[host_name(alias)] = None
            except ValueError as error:
                told.unlike(directive.where, f"ServerAlias {alias}: {error}")
    return list(names)
