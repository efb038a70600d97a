"""The one table of what a line can tell, by nginx's names and by Apache's. Pure.

A field's value is None or empty (written ``-``), a number, `str` of our own making, or `bytes` that a stranger chose.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from datetime import datetime

from proxy.accesslog.record import CLIENT_LEFT, Entry

Value = bytes | str | int | float | None
Get = Callable[[Entry], Value]
LocalTime = Callable[[float], datetime]
"""From unix time to the time of the place, aware."""

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def request_header(name: bytes) -> Get:
    """The first value of a header of the request; `name` in lower case."""
    find = _finder(name)

    def get(entry: Entry) -> Value:
        if entry.request is None:
            return None
        fields = entry.request.fields
        if name == b"host":
            return fields.host
        found = find(fields.lines)
        return found or next((each.value for each in fields.forwarded if each.name == name), None)

    return get


def answer_header(name: bytes) -> Get:
    """The first value of a header of the backend's answer; `name` in lower case."""
    find = _finder(name)

    def get(entry: Entry) -> Value:
        if entry.response is None:
            return None
        if name == b"content-length":
            return entry.response.length if entry.response.length >= 0 else None
        return find(entry.response.lines)

    return get


def _finder(name: bytes) -> Callable[[bytes], bytes | None]:
    """Look for a header among lines that each end with CR LF."""
    first, later = name + b":", b"\n" + name + b":"

    def find(lines: bytes) -> bytes | None:
        lower = lines.lower()  # a fifth of what a regular expression takes that ignores the case
        if lower.startswith(first):
            at = len(first)
        else:
            at = lower.find(later)
            if at < 0:
                return None
            at += len(later)
        return lines[at : lines.index(b"\r", at)].strip(b" \t")

    return find


_authorization = request_header(b"authorization")


def _request_line(entry: Entry) -> Value:
    head = entry.request
    return None if head is None else b"%b %b HTTP/%b" % (head.method, head.target, head.fields.version.encode())


def _path(entry: Entry) -> Value:
    return None if entry.request is None else entry.request.target.partition(b"?")[0]


def _query(entry: Entry) -> Value:
    return None if entry.request is None else entry.request.target.partition(b"?")[2]


def _apache_query(entry: Entry) -> Value:
    query = _query(entry)
    return b"?%b" % query if isinstance(query, bytes) and query else ""


def _host(entry: Entry) -> Value:
    host = b"" if entry.request is None else entry.request.fields.host or b""
    name, colon, port = host.rpartition(b":")
    return (name if colon and port.isdigit() else host).lower() or entry.connection.site


def _user(entry: Entry) -> Value:
    """The name in ``Authorization: Basic`` (RFC 7617); nobody has looked at the password here."""
    value = _authorization(entry)
    scheme, _, credentials = value.partition(b" ") if isinstance(value, bytes) else (b"", b"", b"")
    if scheme.lower() != b"basic":
        return None
    try:
        return base64.b64decode(credentials, validate=True).partition(b":")[0]
    except binascii.Error:
        return None


def _status(entry: Entry) -> Value:
    # Three digits always, as nginx writes it: 000 for a connection that was turned away before any request.
    return f"{_status_number(entry):03}"


def _status_number(entry: Entry) -> int:
    return entry.status or (CLIENT_LEFT if entry.request is not None else 0)


def _body_bytes(entry: Entry) -> int:
    return max(0, entry.sent_bytes - entry.head_bytes)


def _duration_s(entry: Entry) -> float:
    return max(0.0, entry.ended_at - entry.began_at)


def _upstream_s(entry: Entry) -> Value:
    return max(0.0, entry.ended_at - entry.asked_at) if entry.upstream else None


def _upstream_header_s(entry: Entry) -> Value:
    return max(0.0, entry.answered_at - entry.asked_at) if entry.response is not None else None


def _upstream_status(entry: Entry) -> Value:
    return None if entry.response is None else entry.response.status


def _connection_state(entry: Entry) -> Value:
    if not entry.is_whole:
        return "X"
    return "+" if entry.is_kept else "-"


def _of_tls(get: Get) -> Get:
    """Nothing where a connection had no TLS."""
    return lambda entry: None if entry.connection.is_plain else get(entry)


def _of_certificate(attribute: str) -> Get:
    def get(entry: Entry) -> Value:
        certificate = entry.connection.tls.certificate
        value: Value = None if certificate is None else getattr(certificate, attribute)
        return value

    return get


def _verified(entry: Entry) -> Value:
    return "NONE" if entry.connection.tls.certificate is None else "SUCCESS"


# What both know, or only we do: nginx's name (after the $), Apache's (after the %), how to get it.
_TABLE: tuple[tuple[str, str, Get], ...] = (
    ("remote_addr", "h", lambda e: e.connection.peer[0]),
    ("remote_addr", "a", lambda e: e.connection.peer[0]),
    ("remote_addr", "{c}a", lambda e: e.connection.peer[0]),
    ("remote_port", "{remote}p", lambda e: e.connection.peer[1]),
    ("server_addr", "A", lambda e: e.connection.local[0]),
    ("server_port", "p", lambda e: e.connection.local[1]),
    ("server_port", "{canonical}p", lambda e: e.connection.local[1]),
    ("server_port", "{local}p", lambda e: e.connection.local[1]),
    ("server_name", "v", lambda e: e.connection.site),
    ("", "l", lambda _: None),  # identd, which nobody asks any more
    ("remote_user", "u", _user),
    ("request", "r", _request_line),
    ("request_method", "m", lambda e: None if e.request is None else e.request.method),
    ("request_uri", "", lambda e: None if e.request is None else e.request.target),
    ("uri", "U", _path),
    ("", "q", _apache_query),
    ("args", "", _query),
    ("query_string", "", _query),
    ("server_protocol", "H", lambda e: None if e.request is None else f"HTTP/{e.request.fields.version}"),
    ("scheme", "", lambda e: "http" if e.connection.is_plain else "https"),
    ("https", "{HTTPS}x", _of_tls(lambda _: "on")),
    ("protocol", "", lambda _: "TCP"),  # nginx's streams may be UDP
    ("host", "V", _host),
    ("status", "s", _status),
    ("body_bytes_sent", "B", _body_bytes),
    ("", "b", lambda e: _body_bytes(e) or None),
    ("bytes_sent", "O", lambda e: e.sent_bytes),
    ("request_length", "I", lambda e: e.received_bytes),
    ("bytes_received", "", lambda e: e.received_bytes),
    ("", "S", lambda e: e.sent_bytes + e.received_bytes),
    ("request_time", "", _duration_s),
    ("session_time", "", _duration_s),
    ("", "D", lambda e: round(_duration_s(e) * 1e6)),
    ("", "T", lambda e: int(_duration_s(e))),
    ("", "{s}T", lambda e: int(_duration_s(e))),
    ("", "{ms}T", lambda e: round(_duration_s(e) * 1e3)),
    ("", "{us}T", lambda e: round(_duration_s(e) * 1e6)),
    ("request_completion", "", lambda e: "OK" if e.is_whole else None),
    ("", "X", _connection_state),
    ("", "k", lambda e: max(0, e.connection.requests - 1)),
    ("connection", "", lambda e: e.connection.number),
    ("connection_requests", "", lambda e: e.connection.requests),
    ("pid", "P", lambda e: e.connection.pid),
    ("upstream_addr", "", lambda e: e.upstream),
    ("upstream_status", "", _upstream_status),
    ("upstream_header_time", "", _upstream_header_s),
    ("upstream_response_time", "", _upstream_s),
    ("ssl_protocol", "{SSL_PROTOCOL}x", lambda e: e.connection.tls.protocol),
    ("ssl_cipher", "{SSL_CIPHER}x", lambda e: e.connection.tls.cipher),
    ("ssl_server_name", "{SSL_TLS_SNI}x", lambda e: e.connection.tls.server_name),
    ("ssl_session_reused", "", _of_tls(lambda e: "r" if e.connection.tls.is_resumed else ".")),
    ("", "{SSL_SESSION_RESUMED}x", _of_tls(lambda e: "Resumed" if e.connection.tls.is_resumed else "Initial")),
    ("ssl_client_s_dn", "{SSL_CLIENT_S_DN}x", _of_certificate("subject")),
    ("ssl_client_i_dn", "{SSL_CLIENT_I_DN}x", _of_certificate("issuer")),
    ("ssl_client_serial", "{SSL_CLIENT_M_SERIAL}x", _of_certificate("serial")),
    ("ssl_client_verify", "{SSL_CLIENT_VERIFY}x", _of_tls(_verified)),
    ("staple", "{STAPLE}x", _of_tls(lambda e: str(e.connection.tls.staple))),
    ("staple_age", "{STAPLE_AGE}x", lambda e: e.connection.tls.staple_age_s),
    ("staple_bytes", "{STAPLE_BYTES}x", lambda e: e.connection.tls.staple_bytes),
)
_TIMES = {
    "msec": lambda e: e.ended_s,
    "{sec}t": lambda e: int(e.began_s),
    "{msec}t": lambda e: int(e.began_s * 1e3),
    "{usec}t": lambda e: int(e.began_s * 1e6),
}

NAMES: dict[str, Get] = {}
"""Each name as it is written, with its $ or %."""
for _nginx, _apache, _get in _TABLE:
    NAMES.update({f"{sign}{name}": _get for sign, name in (("$", _nginx), ("%", _apache)) if name})
NAMES.update({("%" if name.startswith("{") else "$") + name: get for name, get in _TIMES.items()})

LOCAL_TIMES = ("$time_local", "$time_iso8601", "%t")


def local_time_field(name: str, local_time: LocalTime) -> Get:
    """One of LOCAL_TIMES, which take the time zone; many requests end in one second, which is written once."""
    write = {"$time_local": _apache_time, "%t": lambda at: f"[{_apache_time(at)}]", "$time_iso8601": _iso}[name]
    is_begin = name == "%t"  # Apache tells when a request came, nginx when it was over
    last: tuple[int, str] = (-1, "")

    def get(entry: Entry) -> Value:
        nonlocal last
        second = int(entry.began_s if is_begin else entry.ended_s)
        if second != last[0]:
            last = second, write(local_time(second))
        return last[1]

    return get


def strftime_field(pattern: str, local_time: LocalTime) -> Get:
    """Apache's ``%{…}t``; the text is the operator's, so is what comes out."""
    is_end = pattern.startswith("end:")
    text = pattern.removeprefix("end:").removeprefix("begin:")
    return lambda entry: local_time(entry.ended_s if is_end else entry.began_s).strftime(text)


def _apache_time(at: datetime) -> str:
    # Not by strftime, which writes the months of the process' locale.
    return f"{at.day:02}/{_MONTHS[at.month - 1]}/{at.year}:{at:%H:%M:%S %z}"


def _iso(at: datetime) -> str:
    return at.isoformat(timespec="seconds")


JSON_FIELDS: tuple[tuple[str, Get | str], ...] = (
    ("time", "$time_iso8601"),
    ("msec", NAMES["$msec"]),
    ("remote_addr", NAMES["$remote_addr"]),
    ("remote_user", _user),
    ("request_method", NAMES["$request_method"]),
    ("request_uri", NAMES["$request_uri"]),
    ("server_protocol", NAMES["$server_protocol"]),
    ("host", _host),
    ("status", _status_number),
    ("body_bytes_sent", _body_bytes),
    ("bytes_sent", NAMES["$bytes_sent"]),
    ("request_length", NAMES["$request_length"]),
    ("request_time", _duration_s),
    ("request_completion", lambda e: e.is_whole),
    ("referer", request_header(b"referer")),
    ("user_agent", request_header(b"user-agent")),
    ("connection", NAMES["$connection"]),
    ("connection_requests", NAMES["$connection_requests"]),
    ("pid", NAMES["$pid"]),
    ("upstream_addr", NAMES["$upstream_addr"]),
    ("upstream_status", _upstream_status),
    ("upstream_response_time", _upstream_s),
    ("ssl_protocol", NAMES["$ssl_protocol"]),
    ("ssl_cipher", NAMES["$ssl_cipher"]),
    ("ssl_server_name", NAMES["$ssl_server_name"]),
    ("ssl_session_reused", _of_tls(lambda e: e.connection.tls.is_resumed)),
    ("staple", NAMES["$staple"]),
    ("staple_age", NAMES["$staple_age"]),
    ("staple_bytes", NAMES["$staple_bytes"]),
)
"""What the format ``json`` has, under nginx's names; numbers are numbers, and what is not known is null."""
