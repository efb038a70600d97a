"""What pyOpenSSL stands on, for where its public calls cost too much or do not exist; its private names are named here.

Its `recv` allocates a buffer for each call, and each of its calls goes through three Python functions: together a fifth
of what a small request costs. A new major version of pyOpenSSL may rename these, so pyproject.toml has an upper bound.
"""

from __future__ import annotations

from typing import Any, Protocol, cast

from OpenSSL import SSL

lib: Any = SSL._lib  # type: ignore[attr-defined]  # noqa: SLF001  # see above
ffi: Any = SSL._ffi  # type: ignore[attr-defined]  # noqa: SLF001  # see above


class Raw(Protocol):
    """The private side of an `SSL.Connection` over memory buffers."""

    _ssl: object
    _into_ssl: object
    _from_ssl: object

    def _raise_ssl_error(self, ssl: object, result: int) -> None: ...


def raw(connection: SSL.Connection) -> Raw:
    """Look at a connection from its private side."""
    return cast("Raw", connection)
