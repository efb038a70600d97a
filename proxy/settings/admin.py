"""Where the keeper tells how it stands, and who may see it."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from proxy.errors import Problem
from proxy.settings.base import Model
from proxy.settings.values import NOT_REPEATED, FileName, Listen, ListenAddress, TrustedNetwork, UnixPath

if TYPE_CHECKING:
    from collections.abc import Iterable

_ALL = frozenset({"", "0.0.0.0", "::"})  # noqa: S104  nothing is bound here


class AdminSettings(Model):
    """Where the keeper tells how it stands, and takes orders."""

    socket: UnixPath | None = Field(
        None, description="path of a Unix socket, mode 0600: whoever may open it may see and order everything"
    )
    allow: tuple[TrustedNetwork, ...] = Field(
        (), description="networks that may use `listen`, and get 403 otherwise; none: all that reach it"
    )
    token_file: FileName | None = Field(
        None, description="file with a secret of at least 16 characters that only its owner and group may read"
    )
    # The last of them: only then its validator sees whether the others are there.
    listen: Listen | None = Field(
        None, description="HOST:PORT of loopback; any other address needs `allow` and `token_file`"
    )

    @field_validator("listen")
    @classmethod
    def _is_loopback_or_guarded(cls, listen: ListenAddress | None, info: ValidationInfo) -> ListenAddress | None:
        # What is wrong itself is missing from the data: that is told already.
        lacking = [name for name in ("allow", "token_file") if name in info.data and not info.data[name]]
        if listen is not None and lacking and not is_loopback(listen.host):
            said = {"address": str(listen), "lacking": " and ".join(lacking)}
            what = "{address} can be reached from other machines: set {lacking} too, or write 127.0.0.1"
            raise PydanticCustomError(NOT_REPEATED, what, said)
        return listen


def contradictions(admin: AdminSettings, others: Iterable[ListenAddress]) -> tuple[Problem, ...]:
    """Find out whether `others` take connections that are meant for `admin.listen`."""
    mine = admin.listen
    if mine is None or not mine.port:
        return ()
    taken = [
        each for each in others if each.port == mine.port and (each.host == mine.host or {each.host, mine.host} & _ALL)
    ]
    what = "the same port as that of {}, where clients are served: give it another"
    return tuple(Problem("admin.listen", what.format(each)) for each in taken[:1])


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach what listens on `host`; a name says nothing, but for one."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
