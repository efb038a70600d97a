"""Where the admin interface is reached, and by which secret: opened and read by the master, used by the keeper."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.errors import ConfigError, Problem

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from pathlib import Path

LEAST_CHARACTERS = 16
_MAX_BYTES = 1_024
_WHERE = "admin.token_file"
_OTHERS_MAY_READ_OR_WRITE = 0o006


@dataclass(frozen=True, slots=True, eq=False)
class AdminDoors:
    """What the keeper answers at; all that is empty: at nothing."""

    unix: socket.socket | None = None
    tcp: Sequence[socket.socket] = ()
    """Of `admin.listen`; several where that is a name with several addresses."""
    token: bytes | None = None
    """What clients of `tcp` must send; None: nothing."""

    def close(self) -> None:
        for sock in (*([self.unix] if self.unix else []), *self.tcp):
            sock.close()


def read_token(path: Path) -> bytes:
    """Give the secret, without the white space round it; ConfigError says why it is none."""
    try:
        # Without blocking: nobody may ever write to a pipe of that name.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            mode, content = os.fstat(descriptor).st_mode, os.read(descriptor, _MAX_BYTES + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ConfigError(Problem(_WHERE, f"cannot read {path}: {error.strerror or error}")) from None
    if what := _unfit(path, mode, content):
        raise ConfigError(Problem(_WHERE, what))
    return content.strip()


def _unfit(path: Path, mode: int, content: bytes) -> str:
    token = content.strip()
    if mode & _OTHERS_MAY_READ_OR_WRITE:
        return f"{path}: every user of this machine can read or write it (mode {stat.S_IMODE(mode):04o}): chmod 600"
    if len(content) > _MAX_BYTES:
        return f"{path}: it is longer than {_MAX_BYTES} bytes: is it another file?"
    if not all(0x21 <= byte <= 0x7E for byte in token):  # what a header can hold, and no white space
        return f"{path}: it must hold one word of letters, digits and signs, such as `openssl rand -hex 32` writes"
    if len(token) < LEAST_CHARACTERS:
        return (
            f"{path}: the secret has less than {LEAST_CHARACTERS} characters; `openssl rand -hex 32` writes a good one"
        )
    return ""
