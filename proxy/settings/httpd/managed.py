"""What mod_md's directives say: its stapling, which fetches ahead, is the profile prefetch. PURE."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.settings.httpd.numbers import md_duration_s
from proxy.settings.values import check_http_url

if TYPE_CHECKING:
    from proxy.settings.httpd.block import Block, Server
    from proxy.settings.httpd.told import Told
    from proxy.settings.httpd.tree import Directive
    from proxy.settings.stapling_httpd import Profile

_DIFFERENCES = (
    "MDStapling: responses are fetched ahead by the profile prefetch; other than mod_md it refreshes at half of the "
    "validity, verifies signatures, staples no expired and no revoked response, and sends no nonce"
)


def profile_of(sites: list[Server], asked: Profile | None, told: Told) -> Profile:
    """Choose the profile: what is asked for, or what MDStapling means, or Apache's own."""
    with_md = [each for each in sites if is_on(each)]
    if asked is not None or not with_md:
        return asked or "httpd-2.4"
    where = next(found.where for each in with_md if (found := each.last("mdstapling")))
    if len(with_md) < len(sites):
        told.unlike(where, "MDStapling: must be on for all virtual hosts with TLS or for none, the profile is for all")
    told.warn(where, _DIFFERENCES)
    return "prefetch"


def is_on(server: Server) -> bool:
    """Whether mod_md staples for a server: there are no managed domains here, so all certificates are others."""
    found, others = server.last("mdstapling"), server.last("mdstapleothers")
    return found is not None and _says_on(found) and (others is None or _says_on(others))


def check(block: Block, told: Told) -> None:
    """Tell what mod_md finds wrong in one server."""
    for name in ("mdstapling", "mdstapleothers"):
        for directive in block.all(name):
            value = directive.arguments[0]
            if value.lower() not in {"on", "off"}:
                told.mistake(directive.where, f"unknown '{value}', supported parameter values are 'on' and 'off'")
    for directive in (*block.all("mdstaplingrenewwindow"), *block.all("mdstaplingkeepresponse")):
        _check_time(directive, told)
    for directive in block.all("mdretrydelay"):
        delay_s = md_duration_s(directive.arguments[0], "s")
        if delay_s is None:
            told.mistake(directive.where, "unrecognized duration format")
        elif delay_s <= 0:
            told.mistake(directive.where, "minimum delay must be greater than 0")


def values(main: Block, told: Told) -> dict[str, object]:
    """Give what goes into [stapling]."""
    found: dict[str, object] = {}
    if (delay := main.last("mdretrydelay")) and (delay_s := md_duration_s(delay.arguments[0], "s")):
        found["retry_min_interval_s"] = min(delay_s, 3600)
    if proxy := main.last("mdhttpproxy"):
        try:
            found["http_proxy"] = check_http_url(proxy.arguments[0])
        except ValueError:
            told.mistake(proxy.where, "MDHttpProxy: must be http://HOST:PORT")
    return found


def _check_time(directive: Directive, told: Told) -> None:
    value, name = directive.arguments[0], _TIMES[directive.name.lower()]
    percent = value.removesuffix("%")
    if value.endswith("%") and "Window" in name and percent.isascii() and percent.isdigit() and len(percent) < 9:
        if int(percent) >= 100:
            told.mistake(directive.where, f"{name} with a length of 100% or more is not allowed.")
    elif md_duration_s(value, "d") is None:
        told.mistake(directive.where, f"{name} has unrecognized format")


_TIMES = {each.lower(): each for each in ("MDStaplingRenewWindow", "MDStaplingKeepResponse")}


def _says_on(directive: Directive) -> bool:
    return directive.arguments[0].lower() == "on"
