"""How one event is written as one line: for people, and for programs."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.log_repeats import Told


@dataclass(frozen=True, slots=True)
class About:
    """What an event is about, for programs: the line for people says it in words."""

    certificate: str = ""
    """Its label: file and kind of key."""
    site: str = ""
    responder: str = ""
    """URL."""
    upstream: str = ""
    reasons: tuple[str, ...] = ()
    """Codes of `errors`, or of what else a log line is found by."""
    is_over: bool = False
    """What went wrong with it before is over: it is well again, or it is another thing now."""

    @property
    def subject(self) -> str:
        """What has the trouble; empty: nothing that could get well."""
        return self.certificate or self.upstream or self.site

    def to_json(self) -> dict[str, object]:
        fields = {
            "certificate": self.certificate,
            "site": self.site,
            "responder": self.responder,
            "upstream": self.upstream,
            "reasons": list(self.reasons),
        }
        return {name: value for name, value in fields.items() if value}


class HumanLine(logging.Formatter):
    """What strangers say (a responder, a certificate) ends up here: it may not steer a terminal, or forge a line."""

    def __init__(self, role: str) -> None:
        super().__init__(f"%(asctime)s %(levelname)s {role}[{os.getpid()}] %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        record.message = printable(record.message + _together(record))
        return super().formatMessage(record)

    def formatException(self, ei: logging._SysExcInfoType) -> str:  # noqa: N802  # logging's name
        """Only a mistake of ours has a traceback: it is left in its lines, which people read."""
        return "\n".join(map(printable, super().formatException(ei).split("\n")))


_in_unicode = json.JSONEncoder(ensure_ascii=False).encode
"""What json.dumps makes anew for each line."""


class JsonLine(logging.Formatter):
    """The same facts for programs; a traceback too is within its one line, and no character steers a terminal."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._who = {"role": role, "pid": os.getpid()}

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, object] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            **self._who,
            "logger": record.name,
            "message": record.getMessage() + _together(record),
        }
        known = getattr(record, "about", None)
        if isinstance(known, About):
            line |= known.to_json()
        if told := _told(record):
            line |= {"times": told.times, "within_s": round(told.within_s, 3)}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        text = _in_unicode(line)
        return text if text.isprintable() else json.dumps(line)


def _told(record: logging.LogRecord) -> Told[logging.LogRecord] | None:
    return getattr(record, "told", None)


def _together(record: logging.LogRecord) -> str:
    told = _told(record)
    if told is None:
        return ""
    count = "once more" if told.times == 1 else f"{told.times} more times"
    return f" ({count} in the last {_span(told.within_s)})"


def _span(seconds: float) -> str:
    for unit_s, unit in ((1, "s"), (60, "min")):
        if seconds < 120 * unit_s:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{seconds / 3600:.0f} h"


def printable(text: str) -> str:
    """Take out of one line what steers a terminal, turns the direction of writing, or cannot be encoded."""
    return text if text.isprintable() else "".join(char if char.isprintable() else "?" for char in text)
