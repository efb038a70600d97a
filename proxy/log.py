"""One line an event, on stderr: for people on a terminal, JSON for programs elsewhere."""

from __future__ import annotations

import errno
import logging
import math
import os
import sys
import time
from typing import TYPE_CHECKING, Literal, TextIO

from proxy.errors import ConfigError, Problem
from proxy.log_lines import About, HumanLine, JsonLine
from proxy.log_repeats import Repeats

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from proxy.log_repeats import Told
    from proxy.settings.model import Settings

Form = Literal["human", "json"]

FORM_VARIABLE = "STAPLEPROXY_LOG_FORMAT"
"""Says it where the configuration does not: for containers, and for `serve`, which has no configuration."""

_OUR_ERRNOS = frozenset({errno.EBADF, errno.EFAULT, errno.EINVAL, errno.ENOTSOCK})
"""Whoever uses a descriptor so has made a mistake; all others tell of the world outside."""

_OF_CLIENTS = "aiohttp.http_exceptions"
"""Where the errors live that the admin page's server logs with a traceback when a client speaks no HTTP."""

_AS_APACHE = "stapleproxy.httpd"
"""Apache repeats itself, and these lines are compared with its own: each is written as it comes."""


def about(
    *,
    certificate: str = "",
    site: str = "",
    responder: str = "",
    upstream: str = "",
    reasons: Iterable[str] = (),
    is_over: bool = False,
) -> dict[str, About]:
    """Make the `extra` of a logging call."""
    return {"about": About(certificate, site, responder, upstream, tuple(map(str, reasons)), is_over)}


class Seldom:
    """Lets what may happen very often be told once in a while; `every_s` is the least time between two."""

    __slots__ = ("_every_s", "_told_at")

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._told_at = -math.inf

    def is_due(self, now: float) -> bool:
        """Whether to tell it now; then not again for a while. `now` is of a clock that is not set back."""
        if now - self._told_at < self._every_s:
            return False
        self._told_at = now
        return True


def find_form(settings: Settings, environment: Mapping[str, str], *, is_terminal: bool) -> Form:
    """Choose how lines are written; raises ConfigError.

    Under Apache's profiles it is lines for people everywhere: they are there to be held against Apache's error log.
    """
    if settings.log_format != "auto":
        return settings.log_format
    asked = environment.get(FORM_VARIABLE, "auto")
    match asked:
        case "human" | "json":
            return asked
        case "" | "auto":
            return "human" if is_terminal or settings.stapling.profile != "prefetch" else "json"
    where = f"environment variable {FORM_VARIABLE}"
    raise ConfigError(Problem(where, f'must be "human", "json" or "auto", found "{asked}"'))


def set_up(settings: Settings, role: str) -> None:
    """Log as the settings say; `role` is which process this is, such as worker-0.

    Call it again after a fork, and for new settings. Raises ConfigError.
    """
    form = find_form(settings, os.environ, is_terminal=sys.stderr.isatty())
    root = logging.getLogger()
    for handler in root.handlers:
        if isinstance(handler, _Handler):
            handler.close()
    root.handlers[:] = [_Handler(HumanLine(role) if form == "human" else JsonLine(role))]
    root.setLevel(logging.WARNING)  # the libraries'
    logging.getLogger("stapleproxy").setLevel(settings.log_level.upper())


def end() -> None:
    """Write what is held back; to be called where a process ends without the interpreter's farewell."""
    logging.shutdown()


class _Handler(logging.StreamHandler[TextIO]):
    """Tells repeated identical trouble together."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(formatter)
        self._repeats: Repeats[logging.LogRecord] = Repeats()
        self._owner = os.getpid()

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and (cause := _outside_cause(record.exc_info[1])):
            # Without the address: with it each client would be another trouble, and some have as many as they like.
            is_clients = _is_clients(record.exc_info[1])
            first_line = "the admin interface" if is_clients else record.getMessage().partition("\n")[0]
            record = logging.makeLogRecord(
                vars(record) | {"msg": "%s: %s", "args": (first_line, cause), "exc_info": None, "exc_text": None}
            )
        now = time.monotonic()
        self._write(self._repeats.due(now))
        known = getattr(record, "about", None) or About()
        if known.is_over:
            self._write(self._repeats.over(known.subject, now))
        if known.is_over or record.levelno < logging.WARNING or record.exc_info or record.name == _AS_APACHE:
            super().emit(record)
        else:
            self._write(self._repeats.trouble(*_identity(record, known), record, now))

    def close(self) -> None:
        if self._owner == os.getpid():  # else what is held back is another process', which will tell it
            self._write(self._repeats.end(time.monotonic()))
        super().close()

    def _write(self, all_told: Iterable[Told[logging.LogRecord]]) -> None:
        for told in all_told:
            fields = vars(told.event) | ({"told": told} if told.times else {})
            super().emit(logging.makeLogRecord(fields))


def _identity(record: logging.LogRecord, known: About) -> tuple[str, tuple[object, ...]]:
    """Say what has the trouble, and which: with reasons these say it, since the words have times in them."""
    what = known.reasons or str(record.args)
    return known.subject or record.name, (record.msg, what)


def _outside_cause(error: BaseException | None) -> str:
    """Say in words what this machine did not give; empty: it is a mistake of ours, whose traceback is wanted."""
    if isinstance(error, MemoryError):
        return "out of memory"
    if isinstance(error, OSError) and error.errno not in _OUR_ERRNOS:
        return str(error) or type(error).__name__
    if _is_clients(error):
        return f"a client's mistake ({type(error).__name__})"  # without its words: who knows what is among them
    return ""


def _is_clients(error: BaseException | None) -> bool:
    return type(error).__module__ == _OF_CLIENTS
