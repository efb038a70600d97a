"""Who may read or change the file of a secret, judged as OpenSSH judges those of its keys."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from shlex import quote
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Exposure:
    """What is wrong with the rights of a secret's file."""

    what: str
    """One sentence, with the command that mends it."""
    is_refused: bool
    """Everybody can get at it, and who reads it could mend that; else it is worth a warning."""


def exposure(path: Path, what: str) -> Exposure | None:
    """Judge a file that exists; `what` it holds, such as "the private key". None: there is nothing to say."""
    try:
        status = path.stat()
    except OSError:
        return None  # whoever reads it tells why it cannot be read
    return judge(status.st_mode, status.st_uid, os.geteuid(), f"{what} in {path}", str(path))


def judge(mode: int, owner: int, reader: int, what: str, path: str) -> Exposure | None:
    """Judge the rights of a file that user `reader` reads; `path` for the command.

    OpenSSH refuses a key that its owner has left open to others, and says nothing of one that is somebody else's: the
    secrets that containers mount are such. Root can mend any. A group that may read is what Debian's ssl-cert is for.
    """
    if mode & stat.S_IWOTH:
        who = "everybody on this machine may change"
    elif mode & stat.S_IROTH:
        who = "everybody on this machine may read"
    elif mode & stat.S_IWGRP:
        who = "the file's group may change"
    else:
        return None
    changes = [change for bits, change in ((stat.S_IWGRP, "g-w"), (stat.S_IRWXO, "o=")) if mode & bits]
    is_refused = bool(mode & (stat.S_IROTH | stat.S_IWOTH)) and reader in {0, owner}
    return Exposure(f"{who} {what}: chmod {','.join(changes)} {quote(path)}", is_refused)
