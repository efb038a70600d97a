"""Limits and times of HTTP, the access log, and who is believed about clients. One for all sites here. PURE."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from proxy.accesslog.formats import FormatError, compile_format
from proxy.settings.httpd.numbers import atoi, interval_s, network

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from proxy.settings.httpd.backends import Wishes
    from proxy.settings.httpd.block import Block, Server
    from proxy.settings.httpd.stapling import Base
    from proxy.settings.httpd.told import Told
    from proxy.settings.httpd.tree import Directive

T = TypeVar("T")

_LONGEST_S = 31_536_000
_MOST_REQUESTS = 1_000_000_000
_MOST_BODY_BYTES = 1_125_899_906_842_624
_HEAD_BYTES = 32_768
_MOST_HEAD_BYTES = 1_048_576
_REQUEST_LINE_BYTES = 8190
_LEVELS = {
    **dict.fromkeys(("emerg", "alert", "crit", "error"), "error"),
    **dict.fromkeys(("warn", "notice"), "warning"),
    "info": "info",
    **dict.fromkeys(("debug", *(f"trace{n}" for n in range(1, 9))), "debug"),
}
_LEVEL_ORDER = ("debug", "info", "warning", "error")
_WRONG_LEVEL = "Log level keyword must be one of emerg/alert/crit/error/warn/notice/info/debug/trace1/.../trace8"


def table(sites: Sequence[Server], wishes: Wishes, told: Told) -> dict[str, object]:
    """Make the table [http]: Apache's defaults where the file says nothing."""
    values: dict[str, object] = {}
    client_s = _agreed(sites, "timeout", _timeout_s, 60.0, told)
    values["client_timeout_s"] = client_s
    proxy_s = _agreed(sites, "proxytimeout", _proxy_timeout_s, None, told)
    worker_s = _only(wishes.timeout_s, "timeout", told)
    values["upstream_timeout_s"] = worker_s or proxy_s or client_s
    if connect_s := _only(wishes.connect_timeout_s, "connectiontimeout", told):
        values["upstream_connect_timeout_s"] = connect_s
    if most := _only(wishes.max_connections, "max", told):
        values["upstream_max_connections"] = min(int(most), 65_536)
    # Apache leaves a server out for 60 s after its first failure.
    retry_s = _only(wishes.retry_s, "retry", told)
    if retry_s == 0:
        values["upstream_max_fails"] = 0
    elif retry_s:
        values |= {"upstream_retry_min_s": min(retry_s, _LONGEST_S), "upstream_retry_max_s": min(retry_s, _LONGEST_S)}
    values["client_idle_timeout_s"] = _agreed(sites, "keepalivetimeout", _keep_alive_s, 5.0, told)
    most_requests = _agreed(sites, "maxkeepaliverequests", _count, 100, told) or _MOST_REQUESTS
    if not _agreed(sites, "keepalive", lambda each, _: each.arguments[0].lower() == "on", True, told):
        most_requests = 1
    values["max_requests_per_connection"] = most_requests
    line = _agreed(sites, "limitrequestline", _limit, _REQUEST_LINE_BYTES, told)
    field = _agreed(sites, "limitrequestfieldsize", _limit, _REQUEST_LINE_BYTES, told)
    values["max_target_bytes"] = min(max(line, 256), _MOST_HEAD_BYTES)
    values["max_head_bytes"] = min(max(line + field, _HEAD_BYTES), _MOST_HEAD_BYTES)
    fields = _agreed(sites, "limitrequestfields", _limit, 100, told) or 10_000
    values["max_headers"] = min(max(fields, 10), 10_000)
    values["max_body_bytes"] = _agreed(sites, "limitrequestbody", _body, 1_073_741_824, told) or _MOST_BODY_BYTES
    if trusted := _trusted(sites, told):
        values["trusted_proxies"] = trusted
    return values


def proxy_protocol(sites: Sequence[Server], told: Told) -> dict[str, object]:
    """Make the table [proxy_protocol]: with Apache everybody has to send a header, or nobody."""
    is_on = _agreed(sites, "remoteipproxyprotocol", lambda each, _: each.arguments[0].lower() == "on", False, told)
    return {"trusted": ["0.0.0.0/0", "::/0"]} if is_on else {}


def log_level(main: Block, told: Told) -> str | None:
    """Give the most detailed of what LogLevel wants: modules have no levels of their own here."""
    wanted = None
    for directive in main.all("loglevel"):
        levels = []
        for word in directive.arguments:
            _, colon, level = word.rpartition(":")
            if level.lower() not in _LEVELS:
                told.mistake(directive.where, f"{word}: {_WRONG_LEVEL}" if colon else _WRONG_LEVEL)
            else:
                levels.append(_LEVELS[level.lower()])
        if levels:
            wanted = min(levels, key=_LEVEL_ORDER.index)
    return wanted


def account(main: Block, told: Told) -> dict[str, object]:
    """Give the user and the group that children become; Apache writes numbers as #33."""
    user, group = main.last("user"), main.last("group")
    if group and not user:
        told.warn(group.where, "Group: has no effect without User")
        return {}
    return {each.name.lower(): each.arguments[0].removeprefix("#") for each in (user, group) if each}


def access_log(sites: Sequence[Server], base: Base, told: Told) -> dict[str, object]:
    """Make the table [access_log]: one for all sites."""
    chosen: dict[tuple[str, str], Directive] = {}
    for site in sites:
        block = site.own if _logs(site.own) else site.main
        for directive in _logs(block):
            if found := _log(directive, site, base, told):
                chosen.setdefault(found, directive)
    for directive in list(chosen.values())[1:]:
        told.unlike(
            directive.where, f"{directive.name}: there is one access log for all sites, and another stands before"
        )
    for path, text in chosen:
        return {"path": path, "format": text}
    return {}


def _logs(block: Block) -> list[Directive]:
    return [each for each in block.directives if each.name.lower() in {"customlog", "transferlog"}]


def _log(directive: Directive, site: Server, base: Base, told: Told) -> tuple[str, str] | None:
    path, *further = directive.arguments
    formats = {
        each.arguments[1].lower(): each.arguments[0] for each in site.all("logformat") if len(each.arguments) == 2
    }
    unnamed = next(
        (each.arguments[0] for each in reversed(site.all("logformat")) if len(each.arguments) == 1), "common"
    )
    if directive.name.lower() == "transferlog":
        text = unnamed
    else:
        text = formats.get(further[0].lower(), further[0]) if further else unnamed
        if len(further) == 2:
            if not further[1].startswith(("env=", "expr=")):
                told.mistake(directive.where, "error in condition clause")
                return None
            told.unlike(
                directive.where, f"CustomLog: {further[1].partition('=')[0]}= is not done: each request is logged"
            )
    try:
        compile_format(text, datetime.fromtimestamp)
    except FormatError as error:
        told.unlike(directive.where, f"{directive.name}: {error}")
        text = "combined"
    if path.startswith(("|", "syslog")):
        told.unlike(directive.where, f"{directive.name}: an access log is a file: programs and syslog get none")
        return None
    return base.file(path), text


def _trusted(sites: Sequence[Server], told: Told) -> list[str]:
    header = next((found for site in sites if (found := site.last("remoteipheader"))), None)
    if header is None:
        return []
    if header.arguments[0].lower() != "x-forwarded-for":
        told.unlike(header.where, "RemoteIPHeader: only X-Forwarded-For is believed")
        return []
    networks: dict[str, None] = {}
    for name in ("remoteipinternalproxy", "remoteiptrustedproxy"):
        for directive in {id(each): each for site in sites for each in site.all(name)}.values():
            for word in directive.arguments:
                address = network(word)
                if address is None:
                    told.unlike(directive.where, f"{directive.name} {word}: write an address or a network")
                else:
                    networks[address] = None
    if not networks:
        told.unlike(header.where, "RemoteIPHeader: everybody would be believed: write RemoteIPTrustedProxy as well")
    return list(networks)


def _agreed(
    sites: Sequence[Server], name: str, read: Callable[[Directive, Told], T | None], default: T, told: Told
) -> T:
    """Give the value of all sites; where they differ it is told, and the first counts."""
    values: dict[T, Directive | None] = {}
    for site in sites:
        found = site.last(name)
        value = read(found, told) if found else None
        values.setdefault(default if value is None else value, found)
    chosen, *others = values or {default: None}
    for other in others:
        directive = values[other] or values[chosen]
        assert directive is not None  # at most one value is the default
        told.unlike(directive.where, f"{directive.name}: there is one value for all sites, and they differ")
    return chosen


def _only(wished: dict[float | None, Directive], name: str, told: Told) -> float | None:
    for directive in list(wished.values())[1:]:
        told.unlike(directive.where, f"{name}=: there is one value for all backends, and they differ")
    return next(iter(wished), None)


def _timeout_s(directive: Directive, told: Told) -> float | None:
    value = atoi(directive.arguments[0])
    if value <= 0:
        told.unlike(
            directive.where, f"Timeout {directive.arguments[0]}: nothing may take no time: write seconds above 0"
        )
        return None
    return float(min(value, _LONGEST_S))


def _proxy_timeout_s(directive: Directive, told: Told) -> float | None:
    value = interval_s(directive.arguments[0])
    if not value or value < 1:
        told.mistake(directive.where, "Proxy Timeout must be at least 1 second.")
        return None
    return min(value, _LONGEST_S)


def _keep_alive_s(directive: Directive, told: Told) -> float | None:
    value = interval_s(directive.arguments[0])
    if value is None:
        told.mistake(directive.where, "KeepAliveTimeout has wrong format")
        return None
    return min(max(value, 0.001), _LONGEST_S)


def _count(directive: Directive, _told: Told) -> int | None:
    return max(0, min(atoi(directive.arguments[0]), _MOST_REQUESTS))


def _limit(directive: Directive, told: Told) -> int | None:
    value = atoi(directive.arguments[0])
    if value < 0:
        zero = " (0 = no limit)" if directive.name.lower() == "limitrequestfields" else ""
        name = {"limitrequestfieldsize": "LimitRequestFieldsize"}.get(directive.name.lower(), directive.name)
        told.mistake(directive.where, f'{name} "{directive.arguments[0]}" must be a non-negative integer{zero}')
        return None
    return value


def _body(directive: Directive, told: Told) -> int | None:
    text = directive.arguments[0]
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        told.mistake(directive.where, "LimitRequestBody requires a non-negative integer.")
        return None
    return min(int(text), _MOST_BODY_BYTES)
