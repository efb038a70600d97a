"""Settings about more than HTTP: how each is written, and what does not go together."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest

from proxy.errors import ConfigError
from proxy.settings.build import build
from proxy.settings.modes import contradictions

CERTIFICATE = {"chain": "c.pem", "key": "k.pem"}


def settings(site=None, **tables):
    given = {"certificate": [CERTIFICATE], "upstream": "http://127.0.0.1:8000", **(site or {})}
    return build({"site": [given], **tables}, folder=Path("/etc/x"))


def mistakes(site=None, **tables) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        settings(site, **tables)
    return [str(each) for each in caught.value.problems]


def told(site=None, **tables) -> list[str]:
    return [str(each) for each in contradictions(settings(site, **tables))]


def test_networks_are_read():
    """Single addresses too."""
    trusted = ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "::1"]
    assert settings(proxy_protocol={"trusted": trusted}).proxy_protocol.trusted == tuple(map(ip_network, trusted))


@pytest.mark.parametrize("text", ["10.0.0.1/8", "lb.test", "10.0.0.0/33", "", 10, "10.0.0.0-10.0.0.9"])
def test_what_is_no_network_is_told(text):
    (said,) = mistakes(proxy_protocol={"trusted": [text]})
    assert said.startswith("proxy_protocol.trusted[0]: must be an address or a network")


@pytest.mark.parametrize("name", ["", "x" * 256, "h\xe92", "a\nb"])
def test_what_is_no_protocol_is_told(name):
    (said,) = mistakes({"mode": "tcp", "upstream": "tcp://127.0.0.1:1", "alpn": [name]})
    assert said.startswith("site[0].alpn[0]: must be the name of a protocol")


def test_files_are_relative_to_the_folder():
    made = settings(
        {"client_certificate": {"mode": "require", "ca": "ca.pem", "crl": "x.crl"}}, redirect={"acme_folder": "acme"}
    )
    clients = made.site[0].client_certificate
    assert (clients.ca, clients.crl) == (Path("/etc/x/ca.pem"), Path("/etc/x/x.crl"))
    assert made.redirect.acme_folder == Path("/etc/x/acme")


@pytest.mark.parametrize("mode", ["optional", "require"])
def test_who_asks_for_certificates_names_a_ca(mode):
    (said,) = mistakes({"client_certificate": {"mode": mode}})
    assert said == "site[0].client_certificate.ca: is missing: the file with the CAs of client certificates"


@pytest.mark.parametrize("url", ["tcp://127.0.0.1", "tcp://:25", "tcp://127.0.0.1:0", "tcp://127.0.0.1:25/x"])
def test_a_raw_backend_has_a_host_and_a_port(url):
    assert len(mistakes({"mode": "tcp", "upstream": url})) == 1


TCP = {"mode": "tcp", "upstream": "tcp://127.0.0.1:25"}
HTTP_ONLY = [
    {"route": [{"prefix": "/a/", "upstream": "http://127.0.0.1:1"}]},
    {"hsts_max_age_s": 0},
    {"hsts_preload": True},
    {"health": {"path": "/"}},
    {"upstream_name": "a.test"},
    {"upstream_ca": "ca.pem"},
    {"balance": "least-connections"},
    {"upstream": "http://127.0.0.1:25"},
    {"upstream": "https://127.0.0.1:25"},
    {"upstream": [{"url": "tcp://127.0.0.1:25", "weight": 2}]},
]


@pytest.mark.parametrize("extra", HTTP_ONLY, ids=str)
def test_what_is_about_http_does_not_go_with_mode_tcp(extra):
    """One sentence, where it is."""
    (said,) = told(TCP | extra)
    key = next(iter(extra)).replace("balance", "upstream")
    assert said.startswith(f"site[0].{key}")


@pytest.mark.parametrize(
    "extra",
    [
        {"alpn": ["h2"]},
        {"proxy_protocol": "v2"},
        {"upstream": "tcp://127.0.0.1:25"},
        {"route": [{"prefix": "/a/", "upstream": "tcp://127.0.0.1:25"}]},
        {"hsts_include_subdomains": True},
        {"hsts_max_age_s": 3600, "hsts_preload": True},
        {"hsts_max_age_s": 31_536_000, "hsts_preload": True},
    ],
    ids=str,
)
def test_what_is_about_tcp_or_half_said_does_not_go_with_mode_http(extra):
    assert len(told(extra)) == 1


@pytest.mark.parametrize("site", [{}, TCP, TCP | {"upstream": "unix:/run/x", "proxy_protocol": "v1", "alpn": ["imap"]},
                                  {"hsts_max_age_s": 0}, {"upstream": "unix:/run/x"}])  # fmt: skip
def test_the_rest_goes_together(site):
    assert told(site) == []


def test_one_port_is_not_both():
    """Port 0 is another port each time."""
    assert told(listen=["127.0.0.1:0"], redirect={"listen": ["127.0.0.1:0"]}) == []
    assert len(told(listen=["127.0.0.1:80"], redirect={"listen": ["127.0.0.1:80", ":80"]})) == 1
