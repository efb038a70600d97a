r"""From a format's text to a function that writes one line. Pure.

The text is nginx's log_format or Apache's LogFormat, or a mixture; it is read once, and its mistakes are told then.

What a stranger sent is escaped as nginx does it: quotes, backslashes, and all but printable ASCII become ``\xHH``.
Where the format does not put it in quotes, so do spaces and the character that ends the field there: nobody can forge a
line or a field.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from difflib import get_close_matches
from json.encoder import encode_basestring_ascii as _quote

from proxy.accesslog.fields import (
    JSON_FIELDS,
    LOCAL_TIMES,
    NAMES,
    Get,
    LocalTime,
    Value,
    answer_header,
    local_time_field,
    request_header,
    strftime_field,
)
from proxy.accesslog.record import Entry

Format = Callable[[Entry], bytes]

STDOUT = "-"
"""The path that is no file."""

COMMON = '%h %l %u %t "%r" %>s %b'
COMBINED = COMMON + ' "%{Referer}i" "%{User-Agent}i"'
_BY_NAME = {"common": COMMON, "combined": COMBINED}
_JSON_ESCAPE = "escape=json "
"""Before a format, as in nginx: for those that spell out JSON with the values between quotes."""

MAX_FORMAT_CHARACTERS = 4096

# A name in Apache's way (%>s: of a request that was redirected inside, the last; here it is the same), or in nginx's.
_TOKEN = re.compile(
    r"%%|%[<>]?(?P<apache>(?:\{[^{}]*\})?[A-Za-z])|\$(?P<nginx>[A-Za-z0-9_]+)|\$\{(?P<braced>[^{}]+)\}|%"
)
_HEADER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NEVER_PLAIN = rb'\x00-\x1f"\\\x7f-\xff'


class FormatError(ValueError):
    """The text is no format; one sentence says why."""


def compile_format(text: str, local_time: LocalTime) -> Format:
    """Read `text`: ``common``, ``combined``, ``json``, or a format of one's own. Raises FormatError."""
    if text == "json":
        return _json_format(local_time)
    text = _BY_NAME.get(text, text)
    if len(text) > MAX_FORMAT_CHARACTERS:
        raise FormatError(f"a format has at most {MAX_FORMAT_CHARACTERS} characters")
    if not text.replace("\t", " ").isprintable():
        raise FormatError("a format is one line, without control characters")
    is_json = text.startswith(_JSON_ESCAPE)
    text = text.removeprefix(_JSON_ESCAPE)
    if not _TOKEN.search(text):
        names = ", ".join((*_BY_NAME, "json"))
        raise FormatError(f"must be {names} or a format with fields such as $remote_addr or %h")
    return _line_format(text, local_time, is_json=is_json)


def _line_format(text: str, local_time: LocalTime, *, is_json: bool) -> Format:
    parts: list[str] = []
    renderers: list[tuple[Get, Callable[[Value], str]]] = []
    literal, at, is_quoted = "", 0, False
    for match in _TOKEN.finditer(text):
        literal += text[at : match.start()]
        at = match.end()
        if match[0] == "%%":
            literal += "%"
            continue
        is_quoted ^= literal.count('"') % 2 == 1
        parts.append(literal)
        literal = ""
        render: Callable[[Value], str]
        if is_json:
            render = _render_in_json_text if is_quoted else _render_json_value
        else:
            render = _renderer("" if is_quoted else " " + text[at : at + 1])
        renderers.append((_find(match, local_time), render))
    template = "".join(part.replace("%", "%%") + "%s" for part in parts) + (literal + text[at:]).replace("%", "%%")
    template += "\n"

    def write(entry: Entry) -> bytes:
        return (template % tuple([render(get(entry)) for get, render in renderers])).encode()

    return write


def _find(match: re.Match[str], local_time: LocalTime) -> Get:
    if name := match["apache"]:
        written = f"%{name}"
        argument, letter = name[1:-2], name[-1]
        if letter in "io" and name != letter and _HEADER.fullmatch(argument.encode()):
            return (answer_header if letter == "o" else request_header)(argument.lower().encode())
        if letter == "t" and "%" in argument:
            return strftime_field(argument, local_time)
    elif name := match["nginx"] or match["braced"]:
        written = f"${name}"
        for prefix, get in (("sent_http_", answer_header), ("http_", request_header)):
            if name.startswith(prefix) and name != prefix:
                return get(name.removeprefix(prefix).replace("_", "-").lower().encode())
    else:
        raise FormatError("a % that begins no field is written %%")
    if written in LOCAL_TIMES:
        return local_time_field(written, local_time)
    try:
        return NAMES[written]
    except KeyError:
        known = [*NAMES, *LOCAL_TIMES]
        near = get_close_matches(written, [each for each in known if each[0] == written[0]], n=1)
        raise FormatError(f"unknown field {written}" + (f": did you mean {near[0]}?" if near else "")) from None


def _renderer(forbidden: str) -> Callable[[Value], str]:
    """How a field is written; `forbidden` are characters that end it where it stands."""
    unsafe = re.compile(b"[%b%b]" % (_NEVER_PLAIN, re.escape(forbidden.encode("ascii", "ignore"))))

    def render(value: Value) -> str:
        if type(value) is bytes:
            if not value:
                return "-"
            return (unsafe.sub(_escape, value) if unsafe.search(value) else value).decode("ascii")
        if value is None or value == "":
            return "-"
        return f"{value:.3f}" if type(value) is float else str(value)

    return render


def _escape(match: re.Match[bytes]) -> bytes:
    return b"\\x%02X" % match[0][0]


def _render_in_json_text(value: Value) -> str:
    """Write a value where the format has the quotes; empty where nginx's is."""
    if value is None:
        return ""
    return _quote(_text(value) if isinstance(value, bytes) else _render_number(value))[1:-1]


def _render_json_value(value: Value) -> str:
    if value is None:
        return "null"
    if isinstance(value, str):
        return _quote(value) if value else "null"
    if isinstance(value, bytes):
        return _quote(_text(value)) if value else "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return _render_number(value)


def _render_number(value: str | float) -> str:
    return f"{value:.3f}" if type(value) is float else str(value)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")


def _json_format(local_time: LocalTime) -> Format:
    names = ",".join(f"{_quote(name)}:%s" for name, _ in JSON_FIELDS)
    template = "{" + names + "}\n"
    fields = [local_time_field(get, local_time) if isinstance(get, str) else get for _, get in JSON_FIELDS]

    def write(entry: Entry) -> bytes:
        return (template % tuple([_render_json_value(get(entry)) for get in fields])).encode()

    return write
