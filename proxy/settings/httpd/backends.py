"""Backends: URLs, parameters of workers, and balancers. PURE."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from math import gcd
from typing import TYPE_CHECKING

from proxy.settings.httpd.numbers import atoi, interval_s
from proxy.settings.httpd.tree import Directive
from proxy.settings.values import parse_upstream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.settings.httpd.told import Told
    from proxy.settings.httpd.tree import Section

_URL = re.compile(r"(?P<scheme>[a-z]+)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?P<rest>[?#].*)?", re.DOTALL)
_SCHEMES = {"http": "http", "ws": "http", "https": "https", "wss": "https"}
_METHODS = {"byrequests": "round-robin", "bybusyness": "least-connections", "bytraffic": None, "heartbeat": None}

_HARMLESS = {
    *("min", "smax", "acquire", "ttl", "keepalive", "disablereuse", "enablereuse", "flushpackets", "flushwait"),
    *("iobuffersize", "receivebuffersize", "responsefieldsize", "addressttl", "ping", "upgrade", "secret", "timeout"),
    *(
        "max",
        "retry",
        "connectiontimeout",
        "loadfactor",
        "lbset",
        "route",
        "redirect",
        "status",
        "lbmethod",
        "nofailover",
    ),
    *("maxattempts", "forcerecovery", "growth", "nonce", "scolonpathdelim", "failonstatus", "failontimeout"),
    *("stickysession", "hcmethod", "hcexpr", "hcinterval", "hcpasses", "hcfails", "hcuri", "hctemplate"),
}
"""Keys that Apache knows; those that matter here are looked at by name."""
_MOST_WEIGHT = 1000
_BARE = {"nocanon", "interpolate", "noquery"}


@dataclass(slots=True)
class Wishes:
    """What the workers say that is one value for all backends here; None: one says nothing."""

    timeout_s: dict[float | None, Directive] = field(default_factory=dict)
    connect_timeout_s: dict[float | None, Directive] = field(default_factory=dict)
    max_connections: dict[float | None, Directive] = field(default_factory=dict)
    retry_s: dict[float | None, Directive] = field(default_factory=dict)

    def note(self, directive: Directive, parameters: Sequence[str]) -> None:
        """Note what one worker says; parameters that are wrong are told elsewhere."""
        for wished, key, read in (
            (self.timeout_s, "timeout", atoi),
            (self.connect_timeout_s, "connectiontimeout", interval_s),
            (self.max_connections, "max", atoi),
            (self.retry_s, "retry", atoi),
        ):
            text = _parameter(parameters, key)
            value = None if text is None else read(text)
            wished.setdefault(value if value is None or value >= 0 else None, directive)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a path is sent."""

    servers: tuple[dict[str, object], ...]
    """As `upstream` has them; none: nobody answers."""
    path: str
    """What stands in place of the prefix."""
    balance: str | None
    urls: tuple[str, ...]
    """By which a backend names itself."""


def target(
    directive: Directive, url: str, parameters: Sequence[str], balancers: Sequence[Section], wishes: Wishes, told: Told
) -> Target | None:
    """Read a URL of ProxyPass with its parameters; None: it is told why there is nothing to be made of it."""
    _check_parameters(directive, "ProxyPass", parameters, told)
    if url.lower().startswith("balancer://"):
        return _balancer(directive, url, parameters, balancers, wishes, told)
    server = _server(directive, url, told)
    if server is None:
        return None
    upstream, path = server
    wishes.note(directive, parameters)
    return Target(({"url": upstream, "weight": 1},), path, None, (_plain(url),))


def _server(directive: Directive, url: str, told: Told) -> tuple[str, str] | None:
    """Read the URL of one server: the `upstream`, and the path behind it."""
    socket, bar, behind = url.partition("|")
    if socket.lower().startswith("unix:") and bar:
        found = _URL.fullmatch(behind)
        if found is None or found["scheme"] not in _SCHEMES or found["rest"]:
            told.unlike(directive.where, f"{directive.name}: {url} is no backend here: write unix:/PATH|http://HOST/")
            return None
        if _SCHEMES[found["scheme"]] == "https":
            told.unlike(directive.where, f"{directive.name}: TLS through a Unix socket is not done")
            return None
        return _checked(directive, f"unix:{socket[5:]}", found["path"], told)
    found = _URL.fullmatch(_with_scheme_in_lower_case(url))
    if found is None or not found["authority"] or found["authority"].startswith(":"):
        told.mistake(directive.where, f"ProxyPass URL must be absolute!: {url}")
        return None
    if found["scheme"] not in _SCHEMES:
        told.unlike(directive.where, f"{directive.name}: backends speak HTTP: {found['scheme']}:// is not done")
        return None
    if found["rest"]:
        told.unlike(directive.where, f"{directive.name}: a URL with a query is not done: {url}")
        return None
    return _checked(directive, f"{_SCHEMES[found['scheme']]}://{found['authority']}", found["path"], told)


def _with_scheme_in_lower_case(url: str) -> str:
    scheme, mark, rest = url.partition("://")
    return f"{scheme.lower()}{mark}{rest}"


def _checked(directive: Directive, upstream: str, path: str, told: Told) -> tuple[str, str] | None:
    try:
        return str(parse_upstream(upstream)), path
    except ValueError as error:
        told.mistake(directive.where, f"{directive.name}: {upstream}: {error}")
        return None


def _plain(url: str) -> str:
    """Give the URL by which a backend names itself: of a socket, the one behind it."""
    return _with_scheme_in_lower_case(url.partition("|")[2] or url)


def _balancer(
    directive: Directive, url: str, parameters: Sequence[str], balancers: Sequence[Section], wishes: Wishes, told: Told
) -> Target | None:
    name, slash, path = url[len("balancer://") :].partition("/")
    found = _Members()
    method = _parameter(parameters, "lbmethod")
    for section in balancers:
        if section.text.strip()[len("balancer://") :].rstrip("/").lower() != name.lower():
            continue
        for child in section.children:
            if isinstance(child, Directive) and child.name.lower() == "balancermember":
                _member(child, found, wishes, told)
            elif isinstance(child, Directive) and child.name.lower() == "proxyset":
                _check_parameters(child, "ProxySet", child.arguments, told)
                method = _parameter(child.arguments, "lbmethod") or method
    if not found.factors:
        told.mistake(directive.where, f"there is no <Proxy balancer://{name}> with a BalancerMember that is in use")
        return None
    method = method or "byrequests"
    if method not in _METHODS:
        told.mistake(directive.where, "ProxyPass unknown lbmethod")
    elif _METHODS[method] is None:
        told.unlike(directive.where, f"lbmethod={method} is not done: there are byrequests and bybusyness")
    weights = _whole(list(found.factors.values()))
    servers = tuple({"url": each, "weight": weight} for each, weight in zip(found.factors, weights, strict=True))
    return Target(servers, slash + path, _METHODS.get(method), (f"balancer://{name}/", *found.urls))


@dataclass(slots=True)
class _Members:
    """The servers of a balancer."""

    factors: dict[str, float] = field(default_factory=dict)
    """By `upstream`."""
    urls: list[str] = field(default_factory=list)


def _member(directive: Directive, found: _Members, wishes: Wishes, told: Told) -> None:
    if not directive.arguments:
        told.mistake(directive.where, "BalancerMember must define remote proxy server")
        return
    url, *parameters = directive.arguments
    _check_parameters(directive, "BalancerMember", parameters, told)
    factor = _factor(_parameter(parameters, "loadfactor") or "1")
    if factor is None:
        told.mistake(directive.where, "BalancerMember LoadFactor must be a number between 1..100")
        return
    status = (_parameter(parameters, "status") or "").upper()
    if "-" not in status and any(flag in status for flag in "DSNHR"):
        if "H" in status or "R" in status:
            told.warn(directive.where, f"BalancerMember {url}: there are no standbys: it is left out")
        return  # disabled, stopped or draining: in Apache, too, it gets no new requests
    server = _server(directive, url, told)
    if server is None:
        return
    upstream, path = server
    if path not in {"", "/"}:
        told.unlike(directive.where, f"BalancerMember {url}: a path of one member is not done")
    if upstream in found.factors:
        told.warn(directive.where, f"BalancerMember {url} is there already")
        return
    wishes.note(directive, parameters)
    found.factors[upstream] = factor
    found.urls.append(_plain(url))


def _factor(text: str) -> float | None:
    try:
        factor = float(text) if len(text) < 20 else 0.0
    except ValueError:
        return None
    return factor if 1 <= factor <= 100 else None


def _whole(factors: list[float]) -> list[int]:
    """Make whole weights of factors, of which Apache keeps two decimals."""
    hundredths = [round(factor * 100) for factor in factors]
    common = gcd(*hundredths)
    return [max(1, each // common if max(hundredths) // common <= _MOST_WEIGHT else each // 10) for each in hundredths]


def _check_parameters(directive: Directive, where: str, parameters: Sequence[str], told: Told) -> None:
    """Read key=value; what no Apache takes, and what would be otherwise here, is told."""
    for parameter in parameters:
        key, equals, value = parameter.partition("=")
        key = key.lower()
        if not equals:
            if key not in _BARE:
                what = (
                    "Invalid ProxyPass|ProxyPassMatch parameter. Parameter must be in the form 'key=value'."
                    if where == "ProxyPass"
                    else f"{where} parameter must be in the form 'key=value'"
                )
                told.mistake(directive.where, what)
            elif key != "nocanon":
                told.unlike(directive.where, f"{where} {key} is not done")
            continue
        if key not in _HARMLESS:
            told.mistake(directive.where, f"{where} unknown Worker parameter")
        elif key in {"stickysession", "failonstatus", "hcmethod", "hcexpr"}:
            told.unlike(directive.where, f"{where} {key} is not done")
        elif mistake := _mistake(key, value):
            told.mistake(directive.where, f"{where} {mistake}")
        elif key == "upgrade" and value.lower() not in {"websocket", "any", "none"}:
            told.unlike(
                directive.where, f"upgrade={value}: every upgrade is passed on but those to HTTP/2, HTTP and TLS"
            )


def _mistake(key: str, value: str) -> str | None:
    match key:
        case "timeout" if atoi(value) < 1:
            return "Timeout must be at least one second"
        case "connectiontimeout" if not interval_s(value):
            return "Connectiontimeout must be at least one millisecond."
        case "retry" if atoi(value) < 0:
            return "Retry must be a positive value"
        case "max" if atoi(value) < 0:
            return "Max must be a positive number"
        case "keepalive" | "disablereuse" if value.lower() not in {"on", "off"}:
            return f"{'KeepAlive' if key == 'keepalive' else 'DisableReuse'} must be On|Off"
    return None


def _parameter(parameters: Sequence[str], name: str) -> str | None:
    found = None
    for parameter in parameters:
        key, equals, value = parameter.partition("=")
        if equals and key.lower() == name:
            found = value
    return found
