"""What has no effect here, and is read as Apache reads it: locks, and the cache of sessions. PURE."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.cache.layout import PROVIDERS, parse_argument
from proxy.settings.httpd.numbers import atoi
from proxy.settings.httpd.stapling import NOT_SERVED

if TYPE_CHECKING:
    from proxy.settings.httpd.block import Block
    from proxy.settings.httpd.told import Told
    from proxy.settings.httpd.tree import Directive

_MUTEXES = {
    *("default", "mpm-accept", "proxy", "proxy-balancer-shm", "rewrite-map", "ssl-cache", "ssl-stapling"),
    *("ssl-stapling-refresh", "watchdog-callback", "ldap-cache", "authdigest-client", "authdigest-opaque"),
    *("cache-socache", "authn-socache", "heartmonitor-shm", "lua-ivm-shm", "md-store", "slotmem-shm"),
}
_NEVER_NONE = ("default", "ssl-stapling", "ssl-stapling-refresh")
_MECHANISMS = ("none", "default", "flock", "fcntl", "file", "pthread", "sysvsem", "posixsem", "sem", "yes", "no")
_MECHANISMS_TEXT = (
    "'none', 'default', 'flock:/path/to/file', 'fcntl:/path/to/file', 'file:/path/to/file', 'pthread', 'sysvsem', "
    "'posixsem', 'sem'"
)


def check(main: Block, told: Told) -> None:
    """Tell what Apache finds wrong with it."""
    for directive in main.all("mutex"):
        _check_mutex(directive, told)
    for directive in main.all("sslsessioncache"):
        _check_session_cache(directive, told)
    for directive in main.all("sslsessioncachetimeout"):
        if atoi(directive.arguments[0]) < 0:
            told.mistake(directive.where, "SSLSessionCacheTimeout: Invalid argument")


def _check_mutex(directive: Directive, told: Told) -> None:
    if not directive.arguments:
        what = f"Mutex requires at least a mechanism argument (Mutex mechanisms are: {_MECHANISMS_TEXT})"
        told.mistake(directive.where, what)
        return
    mechanism, *names = directive.arguments
    if mechanism.partition(":")[0].lower() not in _MECHANISMS:
        told.mistake(directive.where, f"Invalid Mutex argument {mechanism} (Mutex mechanisms are: {_MECHANISMS_TEXT})")
        return
    for name in names:
        if name.lower() not in _MUTEXES:
            told.mistake(directive.where, f"Mutex type {name} is not valid")
        elif mechanism.lower() in {"none", "no"} and name.lower() in _NEVER_NONE:
            told.mistake(directive.where, f"None is not allowed for mutex type {name}")


def _check_session_cache(directive: Directive, told: Told) -> None:
    written = directive.arguments[0]
    provider = written.partition(":")[0]
    if written in {"none", "nonenotnull"} or provider in {*NOT_SERVED, "redis"}:
        return
    if provider not in PROVIDERS:
        what = (
            f"SSLSessionCache: '{provider}' session cache not supported (known names: {','.join(PROVIDERS)}). "
            f"Maybe you need to load the appropriate socache module (mod_socache_{provider}?)."
        )
        told.mistake(directive.where, what)
        return
    try:
        parse_argument(written)
    except ValueError as error:
        if "Invalid argument" in str(error):  # the geometry of the other cache is another one
            told.mistake(directive.where, str(error).replace("SSLStaplingCache", "SSLSessionCache"))
