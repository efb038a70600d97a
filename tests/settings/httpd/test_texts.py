"""Mistakes are told in Apache's own words."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from settings.httpd.said import HEAD, host, mistakes

APACHE = Path("/usr/sbin/apache2")
MODULES = Path("/usr/lib/apache2/modules")
LOADED = (
    *("mpm_event", "authn_core", "authz_core", "alias", "headers", "md", "proxy", "proxy_http"),
    *("proxy_balancer", "lbmethod_byrequests", "lbmethod_bybusyness", "slotmem_shm", "remoteip", "rewrite"),
    *("setenvif", "socache_shmcb", "ssl"),
)

INVALID = "SSLStaplingCache: Invalid argument: "
MECHANISMS = (
    "(Mutex mechanisms are: 'none', 'default', 'flock:/path/to/file', 'fcntl:/path/to/file', 'file:/path/to/file', "
    "'pthread', 'sysvsem', 'posixsem', 'sem')"
)
COMMAND = "perhaps misspelled or defined by a module not included in the server configuration"
HOST = "<VirtualHost *:444>\n{}\n</VirtualHost>"
LOCATION = "<Location /x>\n{}\n</Location>"
HEADER_ACTIONS = (
    "first argument must be 'add', 'set', 'setifempty', 'append', 'merge', 'unset', 'echo', 'note', 'edit', or 'edit*'."
)
LEVELS = "Log level keyword must be one of emerg/alert/crit/error/warn/notice/info/debug/trace1/.../trace8"


def _option(name, what):
    return f"{name} takes one argument, SSL stapling option {what}"


# (lines, what is said of them; None: they are right)
TEXTS: tuple[tuple[str, str | None], ...] = (
    *(
        (f"{name}{value}", f"{name} must be On or Off")
        for name in ("SSLUseStapling", "SSLStaplingReturnResponderErrors", "SSLStaplingFakeTryLater")
        for value in ("", " 1", " yes", ' ""')
    ),
    ("SSLUseStapling oN", None),
    ("SSLUseStapling on off", None),
    ("SSLStaplingResponderTimeout", _option("SSLStaplingResponderTimeout", "for OCSP responder timeout")),
    ("SSLStaplingResponderTimeout 1 2", _option("SSLStaplingResponderTimeout", "for OCSP responder timeout")),
    (
        "SSLStaplingResponseTimeSkew 1 2",
        _option("SSLStaplingResponseTimeSkew", "for maximum time difference in OCSP responses"),
    ),
    ("SSLStaplingResponseMaxAge", _option("SSLStaplingResponseMaxAge", "for maximum age of OCSP responses")),
    (
        "SSLStaplingStandardCacheTimeout a b",
        _option("SSLStaplingStandardCacheTimeout", "for normal OCSP Response Cache Lifetime"),
    ),
    (
        "SSLStaplingErrorCacheTimeout",
        _option("SSLStaplingErrorCacheTimeout", "for OCSP Response Error Cache Lifetime"),
    ),
    ("SSLStaplingForceURL a b", _option("SSLStaplingForceURL", "to Force the OCSP Stapling URL")),
    ("SSLOCSPProxyURL", "SSLOCSPProxyURL takes one argument, Proxy URL to use for OCSP requests"),
    (
        "SSLStaplingCache",
        "SSLStaplingCache takes one argument, SSL Stapling Response Cache storage (`dbm:/path/to/file')",
    ),
    *(
        (f"{name} -1", f"{name}: invalid argument")
        for name in (
            "SSLStaplingResponderTimeout",
            "SSLStaplingResponseTimeSkew",
            "SSLStaplingResponseMaxAge",
            "SSLStaplingStandardCacheTimeout",
            "SSLStaplingErrorCacheTimeout",
        )
    ),
    ("SSLStaplingResponderTimeout 4294967295", "SSLStaplingResponderTimeout: invalid argument"),
    ("SSLStaplingResponderTimeout 99999999999999999999", "SSLStaplingResponderTimeout: invalid argument"),
    ("SSLStaplingResponderTimeout 4294967296", None),
    ("SSLStaplingResponderTimeout abc", None),
    ("SSLStaplingResponderTimeout 5s", None),
    ("SSLStaplingResponderTimeout 0", None),
    ("SSLStaplingResponseMaxAge 0", None),
    ("SSLStaplingStandardCacheTimeout 0", None),
    ("SSLStaplingForceURL foo", None),
    ("SSLStaplingForceURL https://x/", None),
    (HOST.format("SSLStaplingCache shmcb:x"), "SSLStaplingCache cannot occur within <VirtualHost> section"),
    *(
        (LOCATION.format(f"{name} x"), f"{name} not allowed in <Location> context")
        for name in ("SSLUseStapling", "SSLStaplingCache", "SSLStaplingForceURL", "SSLOCSPProxyURL", "SSLEngine")
    ),
    ("<Directory /x>\nSSLUseStapling on\n</Directory>", "SSLUseStapling not allowed in <Directory> context"),
    ("<Files x>\nSSLUseStapling on\n</Files>", "SSLUseStapling not allowed in <Files> context"),
    (HOST.format(LOCATION.format("SSLStaplingCache shmcb:")), "SSLStaplingCache not allowed in <Location> context"),
    ("SSLOCSPProxyURL http://x:abc/", "SSLOCSPProxyURL: Cannot parse URL http://x:abc/"),
    ("SSLStaplingMutex default", f"Invalid command 'SSLStaplingMutex', {COMMAND}"),
    ("<FooBar x>\n</FooBar>", f"Invalid command '<FooBar', {COMMAND}"),
    *(
        (f"SSLStaplingCache shmcb:{argument}", INVALID + what)
        for argument, what in (
            ("x(", "no closing parenthesis or cache size missing after pathname with parenthesis"),
            ("x(9000", "no closing parenthesis or cache size missing after pathname with parenthesis"),
            ("x(9000)y", "no closing parenthesis or cache size missing after pathname with parenthesis"),
            ("x9000)", "no opening parenthesis"),
            ("x(64k)", "cache size not numerical"),
            ("x()", "size has to be >= 8192 bytes"),
            ("x(8191)", "size has to be >= 8192 bytes"),
            ("x(4294967295)", "size has to be < 4294967295 bytes on this platform"),
            ("x(-1)", "size has to be < 4294967295 bytes on this platform"),
        )
    ),
    ("SSLStaplingCache default:x(8191)", INVALID + "size has to be >= 8192 bytes"),
    ("SSLStaplingCache shmcb:a(b)(8192)", None),
    *(
        (
            f"SSLStaplingCache {name}:x",
            (
                f"SSLStaplingCache: '{name}' stapling cache not supported (known names: shmcb,default) "
                f"Maybe you need to load the appropriate socache module (mod_socache_{name}?)"
            ),
        )
        for name in ("none", "nonenotnull", "SHMCB", "foo")
    ),
    (
        "SSLSessionCache foo:x",
        (
            "SSLSessionCache: 'foo' session cache not supported (known names: shmcb,default). "
            "Maybe you need to load the appropriate socache module (mod_socache_foo?)."
        ),
    ),
    ("SSLSessionCache shmcb:x(64k)", "SSLSessionCache: Invalid argument: cache size not numerical"),
    ("SSLSessionCache none", None),
    ("SSLSessionCacheTimeout -1", "SSLSessionCacheTimeout: Invalid argument"),
    ("SSLSessionCacheTimeout abc", None),
    ("Mutex none ssl-stapling", "None is not allowed for mutex type ssl-stapling"),
    ("Mutex none ssl-stapling-refresh", "None is not allowed for mutex type ssl-stapling-refresh"),
    ("Mutex sem ssl-foo", "Mutex type ssl-foo is not valid"),
    ("Mutex bogus default", f"Invalid Mutex argument bogus {MECHANISMS}"),
    ("Mutex", f"Mutex requires at least a mechanism argument {MECHANISMS}"),
    ("Mutex sem default", None),
    ("MDStapling maybe", "unknown 'maybe', supported parameter values are 'on' and 'off'"),
    ("MDStapleOthers 1", "unknown '1', supported parameter values are 'on' and 'off'"),
    ("MDStaplingRenewWindow 100%", "MDStaplingRenewWindow with a length of 100% or more is not allowed."),
    ("MDStaplingRenewWindow abc", "MDStaplingRenewWindow has unrecognized format"),
    ("MDStaplingRenewWindow 33%", None),
    ("MDStaplingKeepResponse 7x", "MDStaplingKeepResponse has unrecognized format"),
    ("MDStaplingKeepResponse 7d", None),
    ("MDRetryDelay 0", "minimum delay must be greater than 0"),
    ("MDRetryDelay 5", None),
    ("SSLEngine maybe", "Argument must be On or Off"),
    ("SSLProtocol all foo", "SSLProtocol: Illegal protocol 'foo'"),
    ("SSLProtocol +SSLv2", "SSLProtocol: SSLv2 is no longer supported"),
    ("SSLProtocol all -SSLv2 -SSLv3", None),
    ("SSLCipherSuite SSLv2 foo", "protocol 'SSLv2' not supported"),
    ("SSLOpenSSLConfCmd Bogus x", "'Bogus': invalid OpenSSL configuration command"),
    ("SSLOpenSSLConfCmd groups X25519", None),
    ("SSLVerifyClient foo", "SSLVerifyClient: Invalid argument 'foo'"),
    ("SSLVerifyDepth -1", "SSLVerifyDepth: Invalid argument '-1'"),
    ("SSLVerifyDepth abc", None),
    ("SSLCARevocationCheck foo", "SSLCARevocationCheck: Invalid argument 'foo'"),
    ("Listen abc", "Port must be specified"),
    ("Listen 0", "Invalid address or port"),
    ("Listen 99999", "Invalid address or port"),
    ("Listen 1 b c", "Listen requires 1 or 2 arguments."),
    ("<VirtualHost *:99999>\n</VirtualHost>", "The address or port is invalid"),
    ("<VirtualHost [::1>\n</VirtualHost>", "The address or port is invalid"),
    ("<VirtualHost 443>\n</VirtualHost>", "Missing address for VirtualHost"),
    ("<VirtualHost>\n</VirtualHost>", "<VirtualHost> directive requires additional arguments"),
    (HOST.format(HOST.format("")), "<VirtualHost> cannot occur within <VirtualHost> section"),
    ("ServerName a:b", 'The port number "a:b" is outside the appropriate range (i.e., 1..65535).'),
    ("ServerName a b", "ServerName takes one argument, The hostname and port of the server"),
    ("ServerAlias x", "ServerAlias only used in <VirtualHost>"),
    ("KeepAlive 1", "KeepAlive must be On or Off"),
    ("KeepAliveTimeout x", "KeepAliveTimeout has wrong format"),
    ("KeepAliveTimeout -1", "KeepAliveTimeout has wrong format"),
    ("KeepAliveTimeout 500ms", None),
    ("LimitRequestBody -1", "LimitRequestBody requires a non-negative integer."),
    ("LimitRequestFields -1", 'LimitRequestFields "-1" must be a non-negative integer (0 = no limit)'),
    ("LimitRequestFieldSize -2", 'LimitRequestFieldsize "-2" must be a non-negative integer'),
    ("LimitRequestLine -1", 'LimitRequestLine "-1" must be a non-negative integer'),
    ("ProxyTimeout 0", "Proxy Timeout must be at least 1 second."),
    ("LogLevel foo", LEVELS),
    ("LogLevel ssl:foo", f"ssl:foo: {LEVELS}"),
    ("LogLevel warn ssl:debug", None),
    ('CustomLog x "%h" foo', "error in condition clause"),
    ("Header set X", "Header requires three arguments"),
    ("Header unset X y", "Unknown parameter: y"),
    ("Header foo X y", HEADER_ACTIONS),
    ("RequestHeader always set X y", HEADER_ACTIONS),
    ("RequestHeader echo X", "Header echo only valid on Header directives"),
    ('Header set X "a % b"', "Unrecognized header format %"),
    ("ProxyPass /x", "ProxyPass|ProxyPassMatch needs a path when not defined in a location"),
    ("ProxyPass /x y", "ProxyPass URL must be absolute!: y"),
    ("ProxyPass /x http://:80/", "ProxyPass URL must be absolute!: http://:80/"),
    (
        "ProxyPass /x http://127.0.0.1:9 foo",
        "Invalid ProxyPass|ProxyPassMatch parameter. Parameter must be in the form 'key=value'.",
    ),
    ("ProxyPass /x http://127.0.0.1:9 bogus=1", "ProxyPass unknown Worker parameter"),
    ("ProxyPass /x http://127.0.0.1:9 timeout=0", "ProxyPass Timeout must be at least one second"),
    ("ProxyPass /x http://127.0.0.1:9 retry=-1", "ProxyPass Retry must be a positive value"),
    ("ProxyPass /x http://127.0.0.1:9 keepalive=x", "ProxyPass KeepAlive must be On|Off"),
    (
        LOCATION.format("ProxyPass /y http://127.0.0.1:9/"),
        "ProxyPass|ProxyPassMatch can not have a path when defined in a location.",
    ),
    ("ProxyPassReverse http://127.0.0.1:9/", "ProxyPassReverse needs a path when not defined in a location"),
    (
        "<Proxy balancer://x>\nBalancerMember http://127.0.0.1:9 loadfactor=0\n</Proxy>\nProxyPass / balancer://x/",
        "BalancerMember LoadFactor must be a number between 1..100",
    ),
)


def _told(folder, lines: str) -> list[str]:
    """What is told of these lines, in front of a virtual host that is right."""
    said = mistakes(folder, "ServerName main.test\n" + HEAD + lines + "\n" + host())
    return [each.partition(": ")[2] for each in said]


@pytest.mark.parametrize(("lines", "text"), TEXTS)
def test_told_in_apaches_words(tmp_path, lines, text):
    """The first mistake told is Apache's, and what Apache takes is no mistake."""
    told = _told(tmp_path, lines)
    assert told[:1] == ([text] if text else [])


def test_each_mistake_has_its_line(tmp_path):
    """All of them are told at once."""
    said = mistakes(tmp_path, HEAD + "SSLUseStapling 1\nSSLStaplingFakeTryLater 2\nFoo\n" + host("KeepAlive x"))
    assert [each.split(": ")[0] for each in said] == ["x.conf:3", "x.conf:4", "x.conf:5", "x.conf:10"]


@pytest.mark.parametrize("lines", [("SSLUseStapling on", ""), ("", "SSLUseStapling on")])
def test_stapling_without_a_cache(tmp_path, lines):
    """Apache does not start then; here it is a mistake of the configuration, with the same numbers."""
    (said,) = mistakes(tmp_path, f"Listen 443\n{lines[0]}\n" + host(lines[1]))
    assert "AH01958: SSLStapling: no stapling cache available" in said
    assert "AH02312" in said


@pytest.mark.parametrize("name", ["dbm:x", "memcache:x", "dc:x"])
def test_providers_of_apache_that_are_not_here(tmp_path, name):
    """They are told, and with --lenient the default takes their place."""
    text = f"Listen 443\nSSLStaplingCache {name}\n" + host("SSLUseStapling on")
    (said,) = mistakes(tmp_path, text)
    assert "is not served here" in said
    assert mistakes(tmp_path, text, lenient=True) == []


def _by_apache(folder, lines: str) -> str | None:
    """What Apache itself says of these lines; None: they are right."""
    modules = "".join(f"LoadModule {name}_module {MODULES}/mod_{name}.so\n" for name in LOADED)
    path = folder / "apache.conf"
    head = f"ServerRoot {folder}\nDefaultRuntimeDir {folder}\nPidFile pid\nErrorLog error.log\n{modules}"
    path.write_text(f"{head}ServerName main.test\n{lines}\n")
    done = subprocess.run([APACHE, "-t", "-f", path], capture_output=True, text=True, timeout=30, check=False)
    if "Syntax OK" in done.stderr:
        return None
    found = re.search(r"Syntax error on line \d+ of .*:\n(.*)", done.stderr)
    return found[1].strip() if found else done.stderr.strip()


@pytest.mark.slow
@pytest.mark.skipif(not APACHE.exists(), reason="needs Debian's apache2")
def test_the_real_apache_says_the_same(tmp_path):
    """The table above is Apache's, word by word; the order of the known names is by chance there."""
    other = []
    for lines, text in TEXTS:
        said = _by_apache(tmp_path, lines)
        if (said and said.replace("default,shmcb", "shmcb,default")) != text:
            other.append((lines, said, text))
    assert other == []
