"""Virtual hosts without TLS: they may send everybody to https, and nothing else. PURE."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.settings.httpd.naming import server_name

if TYPE_CHECKING:
    from collections.abc import Collection

    from proxy.settings.httpd.block import Server
    from proxy.settings.httpd.stapling import Base
    from proxy.settings.httpd.told import Told
    from proxy.settings.httpd.tree import Directive

_CHALLENGES = "/.well-known/acme-challenge"
_STATUSES = {"permanent": 301, "temp": 302, "seeother": 303, "gone": 410}
_HTTPS = re.compile(r"https://(?P<host>\[[^\]]*\]|%\{[A-Z_]+\}|[^/:%$]*)(?::(?P<port>\d{1,5}))?(?P<path>.*)", re.DOTALL)
_SAME_HOST = {"%{HTTP_HOST}", "%{SERVER_NAME}"}
_WHOLE_PATH = {  # pattern -> what puts the path behind the host
    "^": {"%{REQUEST_URI}"},
    ".*": {"%{REQUEST_URI}"},
    "^.*$": {"%{REQUEST_URI}"},
    "^/": {"%{REQUEST_URI}"},
    "(.*)": {"%{REQUEST_URI}", "$1"},
    "^(.*)$": {"%{REQUEST_URI}", "$1"},
    "^(.*)": {"%{REQUEST_URI}", "$1"},
    "^/(.*)": {"%{REQUEST_URI}", "/$1"},
    "^/(.*)$": {"%{REQUEST_URI}", "/$1"},
    "^/?(.*)": {"%{REQUEST_URI}", "/$1"},
    "^/?(.*)$": {"%{REQUEST_URI}", "/$1"},
}
_NO_TLS_YET = {  # conditions that always hold where there is no TLS
    "%{HTTPS}": {"off", "!on", "!=on", "=off"},
    "%{SERVER_PORT}": {"80", "^80$", "=80", "!443", "!=443", "!^443$", "-eq 80"},
    "%{REQUEST_SCHEME}": {"http", "=http", "!https", "!=https", "^http$"},
}


@dataclass(frozen=True, slots=True)
class Redirection:
    """How a virtual host sends everybody to https."""

    status: int
    https_port: int
    acme_folder: str | None
    directive: Directive


def redirection(server: Server, names: Collection[str], base: Base, told: Told) -> Redirection | None:
    """Read what a server without TLS does; None: it sends nobody anywhere, and it is told what it does instead.

    `names` are those of the sites with TLS: to one of them a fixed name may send.
    """
    found: Redirection | None = None
    skips_challenges = False
    alias = _challenge_folder(server, base)
    # What a virtual host says goes before the main server's; of rewriting it inherits nothing.
    inherited = [] if server.is_main else [each for each in server.main.directives if _is_redirect(each)]
    for directive in (*server.own.directives, *inherited):
        read: tuple[int, str, str] | None = None
        match directive.name.lower():
            case "redirect" | "redirectpermanent" | "redirecttemp":
                read = _redirect(directive, told)
            case "redirectmatch":
                read = _redirect_match(directive, told)
            case "rewritecond":
                skips_challenges |= _condition(directive, told)
            case "rewriterule" if _rewrites(server):
                read = _rewrite(directive, told)
        if read and found is None:
            found = _made(directive, read, server, names, told)
    _other_uses(server, alias, told, is_redirecting=found is not None)
    if found is None:
        return None
    root = server.last("documentroot")
    folder = alias or (base.file(root.arguments[0]).rstrip("/") + _CHALLENGES if root and skips_challenges else None)
    return Redirection(found.status, found.https_port, folder, found.directive)


def check_rewriting(server: Server, upstream: object, told: Told) -> None:
    """Tell what a site with TLS would redirect or rewrite; `upstream` is where its requests go."""
    for block in server.blocks:
        for directive in filter(_is_redirect, block.directives):
            if upstream:
                told.warn(directive.where, f"{directive.name} is never reached: Apache looks at ProxyPass / first")
            else:
                told.unlike(directive.where, f"{directive.name}: where there is TLS nothing is redirected")
    if not _rewrites(server):
        return
    is_upgrade = False
    for directive in server.own.directives:
        match directive.name.lower(), directive.arguments:
            case "rewritecond", (tested, *_):
                is_upgrade = tested.lower() in {"%{http:upgrade}", "%{http:connection}"}
            case "rewriterule", (_, url, *_) if is_upgrade and _same_server(url, upstream):
                pass  # WebSocket, as it was done before upgrade=websocket: every upgrade goes to the backend here
            case "rewriterule", _:
                told.unlike(directive.where, "RewriteRule: where there is TLS nothing is rewritten")


def _same_server(url: str, upstream: object) -> bool:
    found = re.fullmatch(r"(?:ws|http)://([^/$%]+)/?(?:\$1|%\{REQUEST_URI\})", url)
    return found is not None and upstream in (f"http://{found[1]}", f"http://{found[1]}:80")


def _rewrites(server: Server) -> bool:
    found = server.own.last("rewriteengine")
    return found is not None and found.arguments[0].lower() == "on"


def _is_redirect(directive: Directive) -> bool:
    return directive.name.lower() in {"redirect", "redirectpermanent", "redirecttemp", "redirectmatch"}


def _made(
    directive: Directive, read: tuple[int, str, str], server: Server, names: Collection[str], told: Told
) -> Redirection | None:
    status, host, port_text = read
    port = int(port_text or 443)
    if not 0 < port <= 65_535:
        told.mistake(directive.where, f"{directive.name}: {port} is no port")
        return None
    if status not in {301, 308}:
        told.unlike(directive.where, f"{directive.name}: a redirection has status 301 or 308 here, not {status}")
        status = 308 if status == 307 else 301
    if host not in _SAME_HOST:
        if host.lower() not in names and host.lower() != (server_name(server) or "").lower():
            told.unlike(
                directive.where, f"{directive.name}: who asks is sent to the host that was asked, not to {host}"
            )
        else:
            told.warn(directive.where, f"{directive.name}: who asks for another host than {host} is sent to that one")
    return Redirection(status, port, None, directive)


def _redirect(directive: Directive, told: Told) -> tuple[int, str, str] | None:
    words = list(directive.arguments)
    name = directive.name.lower()
    status = {"redirectpermanent": 301}.get(name, 302)
    if name == "redirect" and words and not words[0].startswith("/") and not words[0].startswith("http"):
        word = words.pop(0).lower()
        if word not in _STATUSES and not (word.isascii() and word.isdigit() and len(word) == 3):
            told.mistake(directive.where, "Redirect: invalid first argument (of three)")
            return None
        status = _STATUSES.get(word) or int(word)
    path, url = words if len(words) == 2 else ("/", words[0] if words else "")
    if not url:
        told.mistake(directive.where, "URL to redirect to is missing")
        return None
    target = _HTTPS.fullmatch(url)
    if path != "/" or target is None or target["path"] != "/":
        what = f"{directive.name} {path} {url}: without TLS there is only a redirection of / to https://HOST/"
        told.unlike(directive.where, what)
        return None
    return status, target["host"], target["port"] or ""


def _redirect_match(directive: Directive, told: Told) -> tuple[int, str, str] | None:
    words = list(directive.arguments)
    status = 302
    if len(words) == 3:
        word = words.pop(0).lower()
        if word not in _STATUSES and not (word.isascii() and word.isdigit() and len(word) == 3):
            told.mistake(directive.where, "RedirectMatch: invalid first argument (of three)")
            return None
        status = _STATUSES.get(word) or int(word)
    pattern, url = words
    target = _HTTPS.fullmatch(url)
    if target is None or target["path"] not in _WHOLE_PATH.get(pattern, set()) - {"%{REQUEST_URI}"}:
        told.unlike(directive.where, "RedirectMatch: without TLS there is only ^(.*)$ to https://HOST$1")
        return None
    return status, target["host"], target["port"] or ""


def _rewrite(directive: Directive, told: Told) -> tuple[int, str, str] | None:
    if not 2 <= len(directive.arguments) <= 3:
        told.mistake(directive.where, f"RewriteRule: bad argument line '{directive.text}'")
        return None
    pattern, url, *flags_text = directive.arguments
    flags = [each.strip() for each in (flags_text[0].strip("[]").split(",") if flags_text else [])]
    if url == "-":
        told.unlike(directive.where, "RewriteRule: nothing is rewritten but redirections to https")
        return None
    target = _HTTPS.fullmatch(url)
    if target is None or target["path"] not in _WHOLE_PATH.get(pattern, set()):
        told.unlike(directive.where, "RewriteRule: nothing is rewritten but ^ to https://%{HTTP_HOST}%{REQUEST_URI}")
        return None
    status = 302
    for flag in flags:
        key, _, value = flag.partition("=")
        if key.lower() in {"r", "redirect"}:
            word = value.lower() or "302"
            if word not in _STATUSES and not (word.isascii() and word.isdigit() and len(word) == 3):
                told.unlike(directive.where, f"RewriteRule: {flag} is no status")
            else:
                status = _STATUSES.get(word) or int(word)
        elif key.lower() not in {"l", "last", "end", "ne", "noescape", "qsa", "qsappend", "nc", "nocase"}:
            told.unlike(directive.where, f"RewriteRule: the flag {flag} is not done")
    return status, target["host"], target["port"] or ""


def _condition(directive: Directive, told: Told) -> bool:
    """Look at a condition; true: it takes out what is asked for to prove the host to a CA."""
    if not 2 <= len(directive.arguments) <= 3:
        told.mistake(directive.where, f"RewriteCond: bad argument line '{directive.text}'")
        return False
    tested, pattern = directive.arguments[:2]
    if pattern in _NO_TLS_YET.get(tested, set()) or (tested == "%{HTTPS}" and pattern.lower() in {"off", "!on"}):
        return False
    if tested == "%{REQUEST_URI}" and pattern.startswith("!") and "well-known" in pattern.replace("\\", ""):
        return True
    if tested in {"%{SERVER_NAME}", "%{HTTP_HOST}"} and pattern.startswith(("=", "^")):
        # As certbot writes it, one for each name of the virtual host.
        told.warn(directive.where, "RewriteCond: clients that ask for another host are sent to https as well")
        return False
    told.unlike(directive.where, f"RewriteCond {tested} {pattern}: such a condition is not looked at")
    return False


def _challenge_folder(server: Server, base: Base) -> str | None:
    for alias in server.all("alias"):
        if len(alias.arguments) == 2 and alias.arguments[0].rstrip("/") == _CHALLENGES:
            return base.file(alias.arguments[1]).rstrip("/")
        if len(alias.arguments) == 2 and alias.arguments[0].rstrip("/") == "/.well-known":
            return base.file(alias.arguments[1]).rstrip("/") + "/acme-challenge"
    return None


def _other_uses(server: Server, challenge_folder: str | None, told: Told, *, is_redirecting: bool) -> None:
    """Tell what a server without TLS does besides redirecting."""
    blocks = server.blocks
    for block in blocks:
        for directive in (*block.located, *block.all("proxypass")):
            if directive.arguments[1:2] != ("!",):
                told.unlike(directive.where, "ProxyPass without TLS is not done: a port without it can only redirect")
        for alias in block.all("alias"):
            if challenge_folder is None or not alias.arguments[0].startswith("/.well-known"):
                told.unlike(alias.where, f"Alias {alias.arguments[0]}: files are not served")
    root = server.last("documentroot")
    if root is not None and not is_redirecting:
        told.unlike(root.where, "DocumentRoot: files are not served, and a port without TLS can only redirect")
