"""Whether the files that a configuration names have changed: certificates and keys that some program renews."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from proxy.staplefile import Mark

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from proxy.settings.model import Settings

Marks = dict["Path", Mark | None]
"""None: it cannot be looked at, it is being replaced perhaps."""


def files_of(settings: Settings) -> list[Path]:
    """List what is read once: the keeper looks at staple files itself."""
    files: list[Path | None] = [each.certificate for each in settings.stapling.issuer]
    for site in settings.site:
        for each in site.certificate:
            files += [each.chain, each.key, each.intermediates, each.issuer]
        files += [site.upstream_ca, site.stapling.issuers, site.client_certificate.ca, site.client_certificate.crl]
    return list(dict.fromkeys(file for file in files if file))


def marks_of(files: list[Path]) -> Marks:
    """Look at them; links are followed, as certbot's are."""
    return {file: _mark(file) for file in files}


def _mark(file: Path) -> Mark | None:
    try:
        return Mark.of(file.stat())
    except OSError:
        return None


class Watcher:
    """Looks at the files of a configuration so often as that says; times are time.monotonic's."""

    def __init__(self, settings: Settings, taken: Marks, now_at: float) -> None:
        """`taken`: how the files were when it was read, where that was looked at."""
        self._files = files_of(settings)
        self._watch = Watch(marks_of(self._files) | {file: taken[file] for file in self._files if file in taken})
        self._every_s = settings.reload.watch_certificates_s or math.inf
        self.due_at = now_at + self._every_s

    def look(self, now_at: float) -> bool:
        """Tell whether files have changed, if it is time to look."""
        if now_at < self.due_at:
            return False
        self.due_at = now_at + self._every_s
        return self._watch.look(marks_of(self._files))


class Watch:
    """Says once of each change that it is over: several files are written, and one after the other. Pure."""

    def __init__(self, taken: Marks) -> None:
        self._taken = taken
        self._seen = taken

    def look(self, found: Mapping[Path, Mark | None]) -> bool:
        """Tell whether they are others than the last time, and have been still since the last look."""
        was_seen, self._seen = self._seen == found, dict(found)
        if not was_seen or found == self._taken:
            return False
        self._taken = self._seen
        return True
