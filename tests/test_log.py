"""The log: one line an event, for people or for programs, whatever strangers say."""

from __future__ import annotations

import json
import logging
import os
import pty
import re
import subprocess
import sys
from datetime import datetime

import pytest

from proxy.errors import ConfigError
from proxy.log import FORM_VARIABLE, find_form
from proxy.settings.model import Settings, StaplingSettings

HEAD = """
import logging
from proxy import log
from proxy.log import about
from proxy.settings.model import Settings
log.set_up(Settings.model_construct(log_format={form!r}, log_level="debug"), "keeper")
logger = logging.getLogger("stapleproxy.x")
"""


def lines_of(form, program):
    done = subprocess.run(
        [sys.executable, "-c", HEAD.format(form=form) + program],
        capture_output=True,
        check=True,
        timeout=20,
        encoding="utf-8",
    )
    return done.stderr.splitlines()


def test_what_a_stranger_says_cannot_steer_a_terminal_or_forge_a_line():
    """Escapes and line ends come out as question marks; letters of any script stay."""
    said = "503 \x1b[2J\n2026 ERROR all is lost\x07"
    others = "\x9b2J\u2028\udc80"
    (line,) = lines_of("human", f'logger.info("%s said %s", "caf\xe9", {said!r})')
    assert line.endswith("café said 503 ?[2J?2026 ERROR all is lost?")
    assert logging.getLevelName(logging.INFO) in line
    (line,) = lines_of("json", f'logger.info("%s said %s", "caf\xe9", {said!r})')
    assert json.loads(line)["message"] == f"café said {said}"
    assert line.isprintable()
    (line,) = lines_of("json", f"logger.info({others!r})")
    assert json.loads(line)["message"] == others
    assert line.isprintable()
    (line,) = lines_of("human", f"logger.info({others!r})")
    assert line.endswith(" ?2J??")


def test_a_line_for_programs_has_the_facts_in_fields():
    """When, how bad, who, what, about what, and why in one word."""
    (line,) = lines_of(
        "json",
        'extra = about(certificate="a.pem", responder="http://r/", reasons=["timeout"])\n'
        'logger.warning("%s: no", "a.pem", extra=extra)',
    )
    told = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", told["time"])
    assert datetime.fromisoformat(told["time"]).tzinfo is not None
    del told["time"], told["pid"]
    assert told == {
        "level": "warning",
        "role": "keeper",
        "logger": "stapleproxy.x",
        "message": "a.pem: no",
        "certificate": "a.pem",
        "responder": "http://r/",
        "reasons": ["timeout"],
    }


@pytest.mark.parametrize("form", ["human", "json"])
def test_a_mistake_of_ours_has_its_traceback(form):
    """For programs within the one line; for people in lines that no stranger's words can steer."""
    lines = lines_of(
        form, 'try:\n    raise ValueError("odd\\x1b[2J")\nexcept ValueError:\n    logger.exception("a bug")\n'
    )
    text = json.loads(lines[0])["traceback"] if form == "json" else "\n".join(lines)
    assert len(lines) == 1 or form == "human"
    assert "Traceback (most recent call last)" in text
    assert "ValueError: odd" in text
    assert "\x1b" not in text or form == "json"


@pytest.mark.parametrize("form", ["human", "json"])
@pytest.mark.parametrize(
    ("cause", "words"),
    [
        ('OSError(errno.EMFILE, "Too many open files")', "[Errno 24] Too many open files"),
        ("ConnectionResetError()", "ConnectionResetError"),
        ("MemoryError()", "out of memory"),
        ('OSError(errno.EBADF, "Bad file descriptor")', None),
        ('ValueError("odd")', None),
    ],
)
def test_a_cause_outside_is_one_sentence(form, cause, words):
    """Also where a library of ours logs it with a traceback; what only a mistake of ours can cause keeps it."""
    lines = lines_of(
        form,
        f"""
import errno
try:
    raise {cause}
except Exception:
    logging.getLogger("asyncio").exception("accept failed\\nprotocol: <x>")
""",
    )
    assert ("Traceback" in "".join(lines)) is (words is None)
    if words:
        (line,) = lines
        assert f"accept failed: {words}" in line


@pytest.mark.parametrize("form", ["human", "json"])
def test_mistakes_of_many_clients_are_one_trouble(form):
    """Who has a network of addresses cannot fill the disk with them, and their words are in no line."""
    lines = lines_of(
        form,
        """
from aiohttp.http_exceptions import BadHttpMessage
for number in range(1000):
    try:
        raise BadHttpMessage("odd words")
    except Exception:
        logging.getLogger("aiohttp.server").exception("Error handling request from %s", f"2001:db8::{number:x}")
""",
    )
    first, count = lines
    assert "the admin interface: a client's mistake (BadHttpMessage)" in first
    assert "999 more times" in count
    assert "odd words" not in first + count


@pytest.mark.parametrize("form", ["human", "json"])
def test_identical_trouble_is_counted_and_the_count_is_told_at_the_end(form):
    """The first is told at once; with a reason the words may differ, since they have times in them."""
    lines = lines_of(
        form,
        """
for pause_s in (5, 10, 20):
    logger.warning("no staple, trying again in %d s", pause_s, extra=about(certificate="a", reasons=["timeout"]))
for _ in range(3):
    logger.error("same")
    logger.info("no trouble")
""",
    )
    texts = [json.loads(line)["message"] if form == "json" else line.partition("] ")[2] for line in lines]
    assert texts == [
        "no staple, trying again in 5 s",
        "same",
        *3 * ["no trouble"],
        "no staple, trying again in 20 s (2 more times in the last 0 s)",
        "same (2 more times in the last 0 s)",
    ]
    if form == "json":
        assert [json.loads(line).get("times") for line in lines[-2:]] == [2, 2]


def test_what_is_over_is_always_told_and_the_next_trouble_is_news():
    """A server that comes and goes is told each time."""
    lines = lines_of(
        "human",
        """
for _ in range(2):
    for _ in range(3):
        logger.warning("fails", extra=about(upstream="b:1"))
    logger.warning("works again", extra=about(upstream="b:1", is_over=True))
""",
    )
    texts = [line.partition("] ")[2] for line in lines]
    assert texts == 2 * ["fails", "fails (2 more times in the last 0 s)", "works again"]


def test_lines_as_apaches_are_written_as_they_come():
    """They are compared with its own, line by line."""
    lines = lines_of("human", 'for _ in range(3): logging.getLogger("stapleproxy.httpd").error("AH01980: bad")')
    assert len(lines) == 3


@pytest.mark.parametrize(
    ("setting", "profile", "variable", "is_terminal", "form"),
    [
        ("auto", "prefetch", None, True, "human"),
        ("auto", "prefetch", None, False, "json"),
        ("auto", "prefetch", "", False, "json"),
        ("auto", "prefetch", "human", False, "human"),
        ("auto", "prefetch", "json", True, "json"),
        ("auto", "httpd-2.4", None, False, "human"),
        ("human", "prefetch", "json", False, "human"),
        ("json", "httpd-2.4", "human", True, "json"),
    ],
)
def test_who_chooses_the_form(setting, profile, variable, is_terminal, form):
    """The configuration, then the environment, then what the log goes to."""
    settings = Settings.model_construct(log_format=setting, stapling=StaplingSettings(profile=profile))
    environment = {} if variable is None else {FORM_VARIABLE: variable}
    assert find_form(settings, environment, is_terminal=is_terminal) == form


def test_a_form_that_there_is_not_is_refused():
    """In one sentence that says where it stands."""
    with pytest.raises(ConfigError) as caught:
        find_form(Settings.model_construct(), {FORM_VARIABLE: "xml"}, is_terminal=True)
    assert (
        str(caught.value)
        == 'environment variable STAPLEPROXY_LOG_FORMAT: must be "human", "json" or "auto", found "xml"'
    )


def test_on_a_terminal_lines_are_for_people():
    """Without a word from anybody."""
    program = HEAD.format(form="auto") + 'logger.info("hello")'
    environment = {name: value for name, value in os.environ.items() if name != FORM_VARIABLE}
    ours, terminal = pty.openpty()
    try:
        subprocess.run([sys.executable, "-c", program], stderr=terminal, check=True, timeout=20, env=environment)
        assert re.search(rb" INFO keeper\[\d+\] hello\r\n", os.read(ours, 4096))
    finally:
        os.close(ours)
        os.close(terminal)
    done = subprocess.run(
        [sys.executable, "-c", program], stderr=subprocess.PIPE, check=True, timeout=20, env=environment
    )
    assert json.loads(done.stderr)["message"] == "hello"
