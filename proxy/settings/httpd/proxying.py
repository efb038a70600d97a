"""ProxyPass and its kin: what a site sends where. PURE.

Of Apache's ProxyPass the first that matches counts, here the longest prefix: so what an earlier one hides is left out,
and the rest cannot meet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.settings.httpd.backends import Target, target
from proxy.settings.httpd.tls import VERIFY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.settings.httpd.backends import Wishes
    from proxy.settings.httpd.block import Server
    from proxy.settings.httpd.stapling import Base
    from proxy.settings.httpd.told import Told
    from proxy.settings.httpd.tree import Directive, Section

_NOBODY = Target((), "", None, ())


def table(server: Server, base: Base, wishes: Wishes, told: Told) -> tuple[dict[str, object], dict[str, Directive]]:
    """Make a site's upstream, routes and what goes with them; and say which directive each key is from."""
    balancers = [each for block in server.blocks for each in block.balancers]
    passes = _in_order(server)
    values: dict[str, object] = {"upstream": []}
    places: dict[str, Directive] = {}
    routes: list[dict[str, object]] = []
    taken: dict[str, Target] = {}
    to_tls: Directive | None = None
    for directive in passes:
        found = _read(directive, balancers, wishes, told)
        if found is None:
            continue
        path, where_to = found
        hiding = next((each for each in taken if _covers(each, path)), None)
        if hiding is not None:
            told.warn(directive.where, f"{directive.name} {path} is never reached: {hiding} stands before it")
            continue
        taken[path] = where_to
        if any(str(each["url"]).startswith("https:") for each in where_to.servers):
            to_tls = to_tls or directive
        entry: dict[str, object] = {"upstream": _upstream(where_to)}
        if where_to.balance not in {None, "round-robin"}:
            entry["balance"] = where_to.balance
        if where_to.servers and (replaced := _replaced(path, where_to.path, directive, told)) is not None:
            entry["upstream_path"] = replaced
        if path == "/":
            values.update(entry)
            places.update(dict.fromkeys(entry, directive))
        else:
            places.update({f"route[{len(routes)}].{key}": directive for key in (*entry, "prefix")})
            routes.append({"prefix": path, **entry})
    if routes:
        values["route"] = routes
    _check_files(server, taken, told)
    if any(each.servers for each in taken.values()):
        values["preserve_host"] = server.is_on("proxypreservehost", default=False)
    _rewrites(server, taken, values, places, told)
    if to_tls is not None:
        _tls(server, to_tls, base, values, told)
    return values, places


def _in_order(server: Server) -> list[Directive]:
    """List ProxyPass in the order in which Apache tries them: of ``<Location>``s the last first, then the others."""
    blocks = server.blocks if server.is_on("proxypassinherit", default=True) else (server.own,)
    located = [each for block in blocks for each in block.located]
    return [*reversed(located), *(each for block in blocks for each in block.all("proxypass"))]


def _read(directive: Directive, balancers: Sequence[Section], wishes: Wishes, told: Told) -> tuple[str, Target] | None:
    if len(directive.arguments) < 2:
        told.mistake(directive.where, "ProxyPass|ProxyPassMatch needs a path when not defined in a location")
        return None
    path, url, *parameters = directive.arguments
    if not path.startswith("/"):
        told.mistake(directive.where, f"ProxyPass {path}: no request has a path that does not begin with /")
        return None
    if url == "!":
        return path, _NOBODY
    where_to = target(directive, url, parameters, balancers, wishes, told)
    return None if where_to is None else (path, where_to)


def _covers(earlier: str, later: str) -> bool:
    """Whether each path below `later` is below `earlier` too."""
    whole = earlier.rstrip("/")
    return later == earlier or later.rstrip("/") == whole or later.startswith(f"{whole}/")


def _upstream(where_to: Target) -> object:
    if len(where_to.servers) == 1:
        return where_to.servers[0]["url"]
    return [each["url"] if each["weight"] == 1 else each for each in where_to.servers]


def _replaced(path: str, behind: str, directive: Directive, told: Told) -> str | None:
    """Give what the backend gets in place of the prefix; None: paths go on as they are."""
    if path.endswith("/") and path != "/":
        what = f"{directive.name} {path}: {path.rstrip('/')} goes to this backend too"
        told.warn(directive.where, what)
    # /x and http://b/ is the one pair of unequal ends of which Apache makes what was meant.
    if path.endswith("/") != behind.endswith("/") and (path.endswith("/") or behind != "/"):
        told.unlike(
            directive.where,
            f"{directive.name} {path}: path and URL must both end with / or neither, else other paths come out",
        )
    return None if path.rstrip("/") == behind.rstrip("/") else behind or "/"


def _check_files(server: Server, taken: dict[str, Target], told: Told) -> None:
    """Tell where Apache would look for a file."""
    root = server.last("documentroot")
    aliases = server.all("alias")
    for alias in aliases:
        path = alias.arguments[0]
        if not any(each.servers and _covers(prefix, path) for prefix, each in taken.items()):
            told.unlike(alias.where, f"Alias {path}: files are not served")
    if root is None:
        return  # what Apache has in place of it exists on no system: 404, as here
    if "/" not in taken or not taken["/"].servers:
        told.unlike(root.where, "DocumentRoot: files are not served: write ProxyPass / URL, or leave it out for 404")
    for path, where_to in taken.items():
        if not where_to.servers and path != "/":
            told.unlike(
                root.where, f"DocumentRoot: files are not served, and ProxyPass {path} ! wants them: it is 404 here"
            )


def _rewrites(
    server: Server, taken: dict[str, Target], values: dict[str, object], places: dict[str, Directive], told: Told
) -> None:
    rewrites: list[dict[str, object]] = []
    for directive in server.all("proxypassreverse"):
        arguments = [each for each in directive.arguments if each.lower() != "interpolate"]
        if len(arguments) != 2:
            told.mistake(directive.where, "ProxyPassReverse needs a path when not defined in a location")
            continue
        path, url = arguments
        url = url.partition("|")[2] or url
        if url.lower().startswith("balancer://"):
            known = {each.urls[0]: each.urls[1:] for each in taken.values() if each.urls}
            name, _, behind = url[len("balancer://") :].partition("/")
            urls = [each.rstrip("/") + f"/{behind}" for each in known.get(f"balancer://{name}/", ())]
        else:
            urls = [url]
        for each in urls:
            places[f"location_rewrite[{len(rewrites)}]"] = directive
            rewrites.append({"url": each, "path": path})
    if rewrites:
        values["location_rewrite"] = rewrites


def _tls(server: Server, to_tls: Directive, base: Base, values: dict[str, object], told: Told) -> None:
    """Look at TLS towards backends: Apache verifies nothing unless it is told to, and here it is always done."""
    engine, verify, ca = (server.last(f"sslproxy{name}") for name in ("engine", "verify", "cacertificatefile"))
    if engine is None or engine.arguments[0].lower() != "on":
        told.mistake(to_tls.where, "https:// backends: write SSLProxyEngine on: Apache answers 500 without")
    word = verify.arguments[0].lower() if verify else "none"
    if verify and word not in VERIFY:
        told.mistake(verify.where, f"SSLProxyVerify: Invalid argument '{verify.arguments[0]}'")
    elif VERIFY[word] != "require" or ca is None:
        told.unlike(
            (verify or to_tls).where,
            "certificates of https:// backends are always verified here: "
            "write SSLProxyVerify require and SSLProxyCACertificateFile",
        )
    if ca:
        values["upstream_ca"] = base.file(ca.arguments[0])
