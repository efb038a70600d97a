"""What a virtual host does not say itself is as in the main server, field by field."""

from __future__ import annotations

from pathlib import Path

import pytest
from settings.httpd.said import HEAD, host, mistakes, read

from proxy.settings.build import build

BUILT_IN = {
    "responder_timeout_s": 10,
    "response_time_skew_s": 300,
    "response_max_age_s": None,
    "standard_cache_timeout_s": 3600,
    "error_cache_timeout_s": 600,
    "return_responder_errors": True,
    "fake_try_later": True,
    "force_url": None,
    "http_proxy": None,
}
TRUE, FALSE = True, False

# (directive, field, its value in the main server, what is read, its value in the virtual host, what is read)
FIELDS = (
    ("SSLStaplingResponderTimeout", "responder_timeout_s", "4", 4, "5s", 5),
    ("SSLStaplingResponseTimeSkew", "response_time_skew_s", "0", 0, "abc", 0),
    ("SSLStaplingResponseMaxAge", "response_max_age_s", "86400", 86400, "0", 0),
    ("SSLStaplingStandardCacheTimeout", "standard_cache_timeout_s", "7", 7, "8", 8),
    ("SSLStaplingErrorCacheTimeout", "error_cache_timeout_s", "9", 9, "10", 10),
    ("SSLStaplingReturnResponderErrors", "return_responder_errors", "off", FALSE, "on", TRUE),
    ("SSLStaplingFakeTryLater", "fake_try_later", "Off", FALSE, "ON", TRUE),
    ("SSLStaplingForceURL", "force_url", "foo", "foo", "http://r.test/", "http://r.test/"),
    ("SSLOCSPProxyURL", "http_proxy", "http://p.test:1/", "http://p.test:1/", "http://q.test:2", "http://q.test:2"),
)


def settings(folder, text, **further):
    return build(read(folder, text, **further).data, folder=Path("/"))


def stapling(folder, main: str, own: str):
    """What the one site staples by, and whether it does."""
    made = settings(folder, HEAD + main + "\n" + host(own))
    (site,) = made.site
    enabled = made.stapling.enabled if site.stapling.enabled is None else site.stapling.enabled
    return enabled, site.stapling.httpd.over(made.stapling.httpd)


@pytest.mark.parametrize(
    ("main", "own", "enabled"),
    [
        ("", "", FALSE),
        ("SSLUseStapling on", "", TRUE),
        ("", "SSLUseStapling on", TRUE),
        ("SSLUseStapling on", "SSLUseStapling off", FALSE),
        ("SSLUseStapling off", "SSLUseStapling On", TRUE),
        ("", "SSLUseStapling on\nSSLUseStapling off", FALSE),
    ],
)
def test_whether_it_staples(tmp_path, main, own, enabled):
    """Off is the default, and the last one counts."""
    assert stapling(tmp_path, main, own)[0] is enabled


@pytest.mark.parametrize(("directive", "field", "main", "of_main", "own", "of_own"), FIELDS)
def test_each_field(tmp_path, directive, field, main, of_main, own, of_own):
    """Unset it has Apache's default; and setting one changes no other."""
    for in_main, in_own, expected in (
        ("", "", BUILT_IN[field]),
        (f"{directive} {main}", "", of_main),
        ("", f"{directive} {own}", of_own),
        (f"{directive} {main}", f"{directive} {own}", of_own),
    ):
        found = stapling(tmp_path, in_main, in_own)[1].model_dump()
        assert found == {**BUILT_IN, field: expected}


def test_fields_of_both(tmp_path):
    """A virtual host that sets one field has the others of the main server."""
    _, found = stapling(
        tmp_path, "SSLStaplingFakeTryLater off\nSSLStaplingErrorCacheTimeout 5", "SSLStaplingReturnResponderErrors off"
    )
    assert (found.fake_try_later, found.error_cache_timeout_s, found.return_responder_errors) == (FALSE, 5, FALSE)


def test_main_servers_come_anywhere_in_the_file(tmp_path):
    """What stands behind a virtual host is inherited too."""
    made = settings(tmp_path, "Listen 443\n" + host() + "SSLUseStapling on\nSSLStaplingCache shmcb:\n")
    assert made.stapling.enabled


def test_certificates_are_merged_by_their_number(tmp_path):
    """The first of a virtual host takes the place of the first of the main server; a second one is inherited."""
    text = (
        "Listen 443\nSSLCertificateFile m1.pem\nSSLCertificateKeyFile m1.key\n"
        "SSLCertificateFile m2.pem\nSSLCertificateKeyFile m2.key\n"
    )
    own = "<VirtualHost *:443>\nSSLEngine on\nSSLCertificateFile o1.pem\nSSLCertificateKeyFile o1.key\n</VirtualHost>"
    (site,) = settings(tmp_path, text + own).site
    pairs = [(each.chain.name, each.key.name) for each in site.certificate]
    assert pairs == [("o1.pem", "o1.key"), ("m2.pem", "m2.key")]


@pytest.mark.parametrize(
    ("main", "own", "expected"),
    [
        ("", "", FALSE),
        ("SSLHonorCipherOrder on", "", TRUE),
        ("SSLHonorCipherOrder on", "SSLHonorCipherOrder off", FALSE),
    ],
)
def test_cipher_order(tmp_path, main, own, expected):
    """Apache's default is the client's order."""
    made = settings(tmp_path, HEAD + main + "\n" + host(own))
    assert made.site[0].tls.over(made.tls).prefer_server_ciphers is expected


def test_engine_is_inherited(tmp_path):
    """SSLEngine on for all, and off for none but who says so: and both at one address cannot be."""
    one = "<VirtualHost *:443>\nServerName a.test\n</VirtualHost>\n"
    made = settings(tmp_path, "Listen 443\nSSLEngine on\nSSLCertificateFile c.pem\n" + one)
    assert [site.names for site in made.site] == [("a.test",)]
    other = one.replace("a.test", "b.test\nSSLEngine off")
    (said,) = mistakes(tmp_path, "Listen 443\nSSLEngine on\nSSLCertificateFile c.pem\n" + one + other)
    assert said.startswith("x.conf:7: at :443 some virtual hosts have SSLEngine on, and others not")


def test_main_server_alone(tmp_path):
    """Without a virtual host the main server is the site."""
    text = "Listen 127.0.0.1:8443\nServerName m.test\nSSLEngine on\nSSLCertificateFile c.pem\nSSLUseStapling on\n"
    made = settings(tmp_path, text + "SSLStaplingCache shmcb:\n")
    (site,) = made.site
    assert (site.names, site.upstream, made.stapling.enabled) == (("m.test",), (), TRUE)


def test_headers_and_backends_of_the_main_server_come_first(tmp_path):
    main = "Header set A 1\nProxyPass /m http://127.0.0.1:1\n"
    made = settings(tmp_path, HEAD + main + host("Header set A 2", "ProxyPass / http://127.0.0.1:2/"))
    (site,) = made.site
    assert [edit.value for edit in site.response_header] == ["1", "2"]
    assert [route.prefix for route in site.route] == ["/m"]
