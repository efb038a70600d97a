"""Which running stapleproxy a command is for: found by its admin socket."""

from __future__ import annotations

import os
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING

import click

from proxy.errors import ConfigError, Problem
from proxy.settings.source import CONF_SUFFIX, read_source

if TYPE_CHECKING:
    from collections.abc import Callable

    Command = Callable[..., None]

SOCKET_VARIABLE = "STAPLEPROXY_SOCKET"
CONFIG_VARIABLE = "STAPLEPROXY_CONFIG"
USUAL_CONFIG = Path("/etc/stapleproxy/stapleproxy.toml")
"""Where the systemd unit has it: taken when nothing else says which one is meant."""

ANY_OF = f"FILE, --socket PATH, {CONFIG_VARIABLE} or {SOCKET_VARIABLE}"


def asks_running(command: Command) -> Command:
    """Give a command the argument FILE and the option --socket; it gets `path`, the socket."""

    @click.argument("file", required=False, type=click.Path(path_type=Path))
    @socket_option
    @wraps(command)
    def with_path(*args: object, file: Path | None, socket_path: Path | None, **others: object) -> None:
        command(*args, path=find_socket(file, socket_path), **others)

    return with_path


def socket_option(command: Command) -> Command:
    """Add the option --socket, as `socket_path`."""
    add = click.option(
        "--socket",
        "socket_path",
        metavar="PATH",
        type=click.Path(path_type=Path),
        help="The admin socket itself, instead of the configuration that names it.",
    )
    return add(command)


def find_socket(file: Path | None, socket_path: Path | None) -> Path:
    """Choose: what the command line says, then the environment, then the usual place. Raises ConfigError."""
    if socket_path is not None:
        return socket_path
    if file is not None:
        return socket_of(file)
    if named := os.environ.get(SOCKET_VARIABLE):
        return Path(named)
    if named := os.environ.get(CONFIG_VARIABLE):
        return socket_of(Path(named))
    if USUAL_CONFIG.exists():
        return socket_of(USUAL_CONFIG)
    raise click.UsageError(f"which stapleproxy is meant? Say it by one of: {ANY_OF}")


def socket_of(file: Path) -> Path:
    """Read the admin socket's path out of a configuration; no other mistake in it matters. Raises ConfigError."""
    if file.suffix == CONF_SUFFIX:
        what = "a file of Apache's names no admin socket: make TOML of it (stapleproxy convert), with socket in [admin]"
        raise ConfigError(Problem(str(file), what))
    source = read_source(file)
    admin = source.data.get("admin")
    found = admin.get("socket") if isinstance(admin, dict) else None
    if not isinstance(found, str) or not found:
        what = 'is not set, so there is nobody to ask: add [admin] with socket = "/run/stapleproxy/admin.sock"'
        raise ConfigError(Problem(f"{file}: admin.socket", what))
    return source.folder / found
