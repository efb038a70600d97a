"""Apache's directives become the settings that mean the same, or it is told why not."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from settings.httpd.said import HEAD, host, mistakes, read, warnings

from proxy.errors import ConfigError
from proxy.settings.build import build
from proxy.settings.httpd.directives import BY_NAME, ROWS, page
from proxy.settings.httpd.lines import words
from proxy.settings.httpd.load import load
from proxy.settings.httpd.stapling import Base
from proxy.settings.httpd.table import Fate
from proxy.settings.httpd.tree import Directive, Section, Where, place_of


def data(folder, *lines, head=HEAD, **further):
    made = read(folder, head + host(*lines), **further)
    build(made.data, folder=Path("/"))
    return made.data


def site(folder, *lines, **further):
    return data(folder, *lines, **further)["site"][0]


def unlike(folder, *lines, head=HEAD):
    """The one thing that clients would see otherwise: a mistake, and when lenient a warning."""
    text = head + host(*lines)
    (said,) = mistakes(folder, text)
    assert said in warnings(folder, text, lenient=True)
    return said.partition(": ")[2]


def test_two_directives_of_a_guide(tmp_path):
    """What every guide has."""
    made = data(
        tmp_path, "SSLUseStapling on", head='Listen 443\nSSLStaplingCache "shmcb:logs/stapling_cache(128000)"\n'
    )
    assert made["stapling"] == {
        "enabled": False,
        "profile": "httpd-2.4",
        "cache_eviction": "fifo",
        "cache": "shmcb:(128000)",
    }
    assert made["site"] == [
        {
            "names": ["a.test"],
            "certificate": [{"chain": f"{tmp_path}/c.pem", "key": f"{tmp_path}/c.pem"}],
            "upstream": [],
            "stapling": {"enabled": True},
        }
    ]


def test_a_cache_of_prefetch_is_a_file(tmp_path):
    """It outlives the server there; Apache's does not."""
    made = data(tmp_path, head="Listen 443\nSSLStaplingCache shmcb:logs/s(65536)\n", profile="prefetch")
    assert made["stapling"]["cache"] == f"shmcb:{tmp_path}/logs/s(65536)"


def test_a_cache_of_redis_is_shared_when_responses_are_fetched_ahead(tmp_path):
    """Word for word; in Apache's profiles, which are a stand-in for one machine, it is told to be unlike Apache."""
    line = 'SSLStaplingCache "redis:one.example:7000,two.example"\nRedisTimeout 2\nRedisConnPoolTTL 9\n'
    line = f"<IfModule mod_socache_redis.c>\n{line}</IfModule>\n"
    made = data(tmp_path, "SSLUseStapling on", head=f"Listen 443\n{line}", profile="prefetch")
    assert made["stapling"]["cache"] == "redis:one.example:7000,two.example"
    (said,) = mistakes(tmp_path, f"Listen 443\n{line}" + host("SSLUseStapling on"))
    assert "'redis' is a provider of Apache that is not served here in this profile: write shmcb:, or" in said
    (said,) = mistakes(tmp_path, "Listen 443\nSSLStaplingCache redis:\n" + host(), profile="prefetch")
    assert "List of server names required to create redis socache" in said


def test_prefetch_has_what_means_the_same(tmp_path):
    lines = "SSLStaplingForceURL http://r.test/\nSSLStaplingResponderTimeout 3\nSSLOCSPProxyURL http://p.test:1\n"
    made = data(tmp_path, "SSLStaplingForceURL http://s.test/", head=HEAD + lines, profile="prefetch")
    found = made["stapling"]
    assert (found["responder_url"], found["fetch_timeout_s"], found["http_proxy"]) == (
        "http://r.test/",
        3,
        "http://p.test:1",
    )
    assert made["site"][0]["stapling"]["responder_url"] == "http://s.test/"


def test_mod_md_is_prefetch(tmp_path):
    """With a warning that names the differences; it needs no cache."""
    text = "Listen 443\nMDStapling on\nMDRetryDelay 40s\n" + host()
    made = read(tmp_path, text)
    assert made.data["stapling"]["profile"] == "prefetch"
    assert made.data["stapling"]["enabled"]
    assert made.data["stapling"]["retry_min_interval_s"] == 40
    assert any("MDStapling: responses are fetched ahead" in str(each) for each in made.warnings)


def test_mod_md_for_some(tmp_path):
    text = HEAD + host("MDStapling on") + host(name="b.test")
    (said,) = mistakes(tmp_path, text)
    assert "must be on for all virtual hosts with TLS or for none" in said


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("SSLProtocol all", ["TLSv1.2", "TLSv1.3"]),
        ("SSLProtocol all -SSLv3 -TLSv1 -TLSv1.1", ["TLSv1.2", "TLSv1.3"]),
        ("SSLProtocol -all +TLSv1.3", ["TLSv1.3"]),
        ("SSLProtocol TLSv1.1 TLSv1.2", ["TLSv1.2"]),
        ("SSLOpenSSLConfCmd MinProtocol TLSv1.3", ["TLSv1.3"]),
        ("SSLProtocol all\nSSLOpenSSLConfCmd MaxProtocol TLSv1.2", ["TLSv1.2"]),
    ],
)
def test_protocols(tmp_path, lines, expected):
    assert site(tmp_path, lines)["tls"]["protocols"] == expected


def test_only_old_protocols(tmp_path):
    assert "nothing is left" in unlike(tmp_path, "SSLProtocol TLSv1 +TLSv1.1")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("SSLCipherSuite HIGH:!aNULL", {"ciphers": "HIGH:!aNULL"}),
        ("SSLCipherSuite SSL HIGH", {"ciphers": "HIGH"}),
        ("SSLCipherSuite TLSv1.3 TLS_AES_256_GCM_SHA384", {"ciphersuites": "TLS_AES_256_GCM_SHA384"}),
        ("SSLOpenSSLConfCmd Curves X25519:prime256v1", {"groups": "X25519:prime256v1"}),
        ("SSLOpenSSLConfCmd Options -SessionTicket", {"session_tickets": False}),
        ("SSLOpenSSLConfCmd Options ServerPreference,-Compression", {"prefer_server_ciphers": True}),
        ("SSLSessionTickets off", {"session_tickets": False}),
    ],
)
def test_handshakes(tmp_path, line, expected):
    assert site(tmp_path, line)["tls"] == expected


def test_certificates_in_pairs(tmp_path):
    """RSA and ECDSA; a key may be in the certificate's file."""
    lines = ["SSLCertificateKeyFile k.pem", "SSLCertificateFile /abs/e.pem", "SSLCertificateChainFile chain.pem"]
    intermediates = f"{tmp_path}/chain.pem"
    assert site(tmp_path, *lines)["certificate"] == [
        {"chain": f"{tmp_path}/c.pem", "key": f"{tmp_path}/k.pem", "intermediates": intermediates},
        {"chain": "/abs/e.pem", "key": "/abs/e.pem", "intermediates": intermediates},
    ]


def test_no_certificate(tmp_path):
    (said,) = mistakes(tmp_path, "Listen 443\n<VirtualHost *:443>\nSSLEngine on\n</VirtualHost>\n")
    assert said.startswith("x.conf:2: AH02240")


def test_client_certificates(tmp_path):
    """Apache's depth counts the root, ours intermediates."""
    lines = ["SSLVerifyClient require", "SSLCACertificateFile ca.pem", "SSLVerifyDepth 3"]
    assert site(tmp_path, *lines)["client_certificate"] == {"mode": "require", "ca": f"{tmp_path}/ca.pem", "depth": 2}
    lines += ["SSLCARevocationCheck chain", "SSLCARevocationFile x.crl"]
    assert site(tmp_path, *lines)["client_certificate"]["crl"] == f"{tmp_path}/x.crl"
    (said,) = mistakes(tmp_path, HEAD + host("SSLVerifyClient require"))
    assert "write SSLCACertificateFile" in said


def test_the_issuer_is_looked_for_among_clients_cas(tmp_path):
    """Of its own virtual host, or of the main server; not of another virtual host."""
    text = HEAD + host("SSLUseStapling on", "SSLCACertificateFile ca.pem", name="a.test")
    sites = read(tmp_path, text + host("SSLUseStapling on", name="b.test")).data["site"]
    assert [each["stapling"].get("issuers") for each in sites] == [f"{tmp_path}/ca.pem", None]
    sites = read(tmp_path, "SSLCACertificateFile all.pem\n" + text).data["site"]
    assert [each["stapling"]["issuers"] for each in sites] == [f"{tmp_path}/ca.pem"]


# ---- Addresses and names ----


def served(folder, text):
    """Each site's first name with where it is served."""
    made = read(folder, text).data
    return made["listen"], [(each.get("names", ["-"])[0], each.get("listen", "all")) for each in made["site"]]


def test_one_address_goes_before_all(tmp_path):
    """A virtual host of an address is served there alone, and those of all addresses everywhere else."""
    text = HEAD + host(address="*:443", name="a.test") + host(address="192.0.2.1:443", name="b.test")
    assert served(tmp_path, text) == (
        [":443", "192.0.2.1:443"],
        [("a.test", [":443"]), ("b.test", ["192.0.2.1:443"])],
    )


@pytest.mark.parametrize("address", ["*:443", "_default_:443", "*", "*:*", "_DEFAULT_:443", "[::]:443"])
def test_all_addresses(tmp_path, address):
    assert served(tmp_path, HEAD + host(address=address)) == ([":443"], [("a.test", "all")])


def test_several_ports(tmp_path):
    text = "Listen 443\nListen [::1]:8443 https\n" + host(address="*:443 [::1]:8443") + host(name="b.test")
    assert served(tmp_path, text) == ([":443", "[::1]:8443"], [("a.test", "all"), ("b.test", [":443"])])


def test_nothing_leads_to_a_virtual_host(tmp_path):
    text = HEAD + host() + host(address="*:444", name="b.test")
    assert [each["names"] for each in read(tmp_path, text).data["site"]] == [["a.test"]]
    assert any("no Listen leads here" in each for each in warnings(tmp_path, text))


def test_a_name_is_the_first_ones(tmp_path):
    text = HEAD + host("ServerAlias b.test") + host(name="b.test")
    assert [each.get("names") for each in read(tmp_path, text).data["site"]] == [["a.test", "b.test"], ["_default_1"]]
    assert any("is a name of a virtual host before this one" in each for each in warnings(tmp_path, text))


def test_names(tmp_path):
    found = site(tmp_path, "ServerName https://A.test:444", "ServerAlias www.a.test *.b.test", "ServerAlias c.test")
    assert found["names"] == ["a.test", "www.a.test", "*.b.test", "c.test"]
    assert "only *.example.com" in unlike(tmp_path, "ServerAlias www.*.test")


def test_thousands_of_hosts_are_read_in_a_moment(tmp_path):
    """The time grows with their number, not with the square of what stands in the file."""
    text = HEAD + "".join(host(f"ServerAlias www{n}.test", name=f"h{n}.test") for n in range(3_000))
    began_s = time.process_time()
    assert len(read(tmp_path, text).data["site"]) == 3_000
    assert time.process_time() - began_s < 10


def test_no_tls_at_all(tmp_path):
    (said,) = mistakes(tmp_path, "Listen 80\n")
    assert "there is no virtual host with SSLEngine on" in said


# ---- Backends ----


def test_routes(tmp_path):
    found = site(
        tmp_path,
        "ProxyPass /static !",
        "ProxyPass /api/ http://127.0.0.1:1/v1/",
        "ProxyPass /same http://127.0.0.1:2/same",
        "ProxyPass / https://[::1]:3/",
        "ProxyPassReverse /api/ http://127.0.0.1:1/v1/",
        "ProxyPreserveHost on",
        "SSLProxyEngine on",
        "SSLProxyVerify require",
        "SSLProxyCACertificateFile b.pem",
    )
    assert found["upstream"] == "https://[::1]:3"
    assert found["route"] == [
        {"prefix": "/static", "upstream": []},
        {"prefix": "/api/", "upstream": "http://127.0.0.1:1", "upstream_path": "/v1/"},
        {"prefix": "/same", "upstream": "http://127.0.0.1:2"},
    ]
    assert found["location_rewrite"] == [{"url": "http://127.0.0.1:1/v1/", "path": "/api/"}]
    assert found["preserve_host"]
    assert found["upstream_ca"] == f"{tmp_path}/b.pem"


def test_host_of_the_backend_is_the_default(tmp_path):
    assert site(tmp_path, "ProxyPass / http://127.0.0.1:1/")["preserve_host"] is False


def test_what_is_never_reached_is_left_out(tmp_path):
    """The first ProxyPass that matches counts in Apache, the longest here."""
    lines = ["ProxyPass / http://127.0.0.1:1/", "ProxyPass /x http://127.0.0.1:2"]
    assert "route" not in site(tmp_path, *lines)
    assert any("ProxyPass /x is never reached" in each for each in warnings(tmp_path, HEAD + host(*lines)))


def test_locations(tmp_path):
    """A <Location> goes before a ProxyPass outside, and the last of them before the others."""
    found = site(
        tmp_path,
        "ProxyPass /a http://127.0.0.1:1",
        "<Location /a>",
        "ProxyPass ws://127.0.0.1:2",
        "ProxyPassReverse http://127.0.0.1:2",
        "</Location>",
        "<Location />",
        "Header set X 1",
        "Require all granted",
        "</Location>",
    )
    assert found["route"] == [{"prefix": "/a", "upstream": "http://127.0.0.1:2", "upstream_path": "/"}]
    assert found["location_rewrite"] == [{"url": "http://127.0.0.1:2", "path": "/a"}]
    assert found["response_header"] == [{"action": "set", "name": "X", "value": "1"}]


def test_unix_sockets(tmp_path):
    found = site(tmp_path, "ProxyPass / unix:/run/app.sock|http://app/")
    assert found["upstream"] == "unix:/run/app.sock"


def test_balancers(tmp_path):
    found = site(
        tmp_path,
        "<Proxy balancer://app>",
        "BalancerMember http://127.0.0.1:1 loadfactor=1.5",
        "BalancerMember http://127.0.0.1:2 retry=0",
        "BalancerMember http://127.0.0.1:3 status=+D",
        "ProxySet lbmethod=bybusyness",
        "</Proxy>",
        "ProxyPass / balancer://app/",
        "ProxyPassReverse / balancer://app/",
        lenient=True,
    )
    assert found["upstream"] == [
        {"url": "http://127.0.0.1:1", "weight": 3},
        {"url": "http://127.0.0.1:2", "weight": 2},
    ]
    assert found["balance"] == "least-connections"
    assert [each["url"] for each in found["location_rewrite"]] == ["http://127.0.0.1:1/", "http://127.0.0.1:2/"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("ProxyPass / http://127.0.0.1:1", "path and URL must both end with /"),
        ("ProxyPass /x http://127.0.0.1:1/y/", "path and URL must both end with /"),
        ("ProxyPassMatch ^/(.*) http://127.0.0.1:1/$1", "a pattern cannot choose the backend"),
        ("ProxyPass / ajp://127.0.0.1:1/", "backends speak HTTP"),
        ("ProxyPass / http://127.0.0.1:1/ stickysession=x", "stickysession is not done"),
        ("<LocationMatch x>\nHeader set X 1\n</LocationMatch>", "Header is not done in <LocationMatch>"),
        ("<Location /x>\nRequire all denied\n</Location>", "who may see what is not decided here"),
        ("<Location /x>\nHeader set X 1\n</Location>", "not done for a part of a site"),
        ("DocumentRoot /var/www", "files are not served"),
        ("Alias /x /var/www", "files are not served"),
        ("ErrorDocument 404 /x", "error pages are our own"),
        ("SSLStrictSNIVHostCheck on", "clients without a server name are served"),
        ("Header edit X a b", "Header edit is not done"),
        ("RequestHeader set X %{SSL_PROTOCOL}s", "%{SSL_PROTOCOL}s in a value is not done"),
        ("Header set X y env=z", "env is not done"),
        ("Header set Connection x", "cannot be edited"),
        ('CustomLog "|cat" common', "an access log is a file"),
        ("CustomLog x common env=!y", "env= is not done"),
        ("Timeout 0", "nothing may take no time"),
        ("SSLVerifyClient optional_no_ca\nSSLCACertificateFile c", "a certificate that is shown must be right"),
    ],
)
def test_what_clients_would_see_otherwise(tmp_path, line, said):
    """A mistake with its line; with --lenient a warning."""
    assert said in unlike(tmp_path, line)


@pytest.mark.parametrize(
    "line",
    [
        "Redirect permanent /x https://a.test/y",
        "RedirectMatch 301 ^/x https://a.test/",
        "RewriteEngine on\nRewriteRule ^/x /y",
        "RewriteEngine on\nRewriteCond %{HTTP:Upgrade} websocket\nRewriteRule /(.*) ws://127.0.0.1:2/$1 [P,L]",
    ],
)
def test_nothing_is_redirected_or_rewritten_with_tls(tmp_path, line):
    assert "where there is TLS nothing is re" in unlike(tmp_path, line)


def test_proxying_goes_before_redirecting(tmp_path):
    text = HEAD + host("ProxyPass / http://127.0.0.1:1/", "Redirect permanent /x https://a.test/y")
    assert any("Redirect is never reached" in each for each in warnings(tmp_path, text))


def test_the_old_way_of_websocket(tmp_path):
    """Upgrades go to the backend anyway."""
    lines = "RewriteEngine on\nRewriteCond %{HTTP:Upgrade} =websocket [NC]\nRewriteRule /(.*) ws://127.0.0.1:1/$1 [P,L]"
    assert warnings(tmp_path, HEAD + host("ProxyPass / http://127.0.0.1:1/", lines)) == []


def test_what_a_virtual_host_without_tls_says_is_looked_at_too(tmp_path):
    text = HEAD + "Listen 80\n<VirtualHost *:80>\nSSLStaplingErrorCacheTimeout -1\n</VirtualHost>\n" + host()
    assert "x.conf:5: SSLStaplingErrorCacheTimeout: invalid argument" in mistakes(tmp_path, text)


def test_backends_are_verified(tmp_path):
    """Which Apache does not do by itself."""
    lines = ["ProxyPass / https://127.0.0.1:1/", "SSLProxyEngine on"]
    assert "are always verified here" in unlike(tmp_path, *lines)


# ---- Headers, limits, logs ----


def test_headers(tmp_path):
    found = site(
        tmp_path,
        'Header always set Strict-Transport-Security "max-age=63072000"',
        "Header append X-A: 100%%",
        "Header unset Server",
        "RequestHeader set X-Forwarded-Proto https",
        "RequestHeader unset Proxy early",
    )
    assert found["response_header"] == [
        {"action": "set", "name": "Strict-Transport-Security", "value": "max-age=63072000"},
        {"action": "append", "name": "X-A", "value": "100%"},
        {"action": "unset", "name": "Server"},
    ]
    assert found["request_header"] == [
        {"action": "set", "name": "X-Forwarded-Proto", "value": "https"},
        {"action": "unset", "name": "Proxy"},
    ]


def test_apaches_limits_are_the_defaults(tmp_path):
    assert data(tmp_path)["http"] == {
        "client_timeout_s": 60,
        "upstream_timeout_s": 60,
        "client_idle_timeout_s": 5,
        "max_requests_per_connection": 100,
        "max_target_bytes": 8190,
        "max_head_bytes": 32768,
        "max_headers": 100,
        "max_body_bytes": 1073741824,
    }


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("Timeout 20", {"client_timeout_s": 20, "upstream_timeout_s": 20}),
        ("ProxyTimeout 5", {"upstream_timeout_s": 5}),
        ("ProxyPass / http://127.0.0.1:1/ timeout=9 retry=0", {"upstream_timeout_s": 9, "upstream_max_fails": 0}),
        ("ProxyPass / http://127.0.0.1:1/ connectiontimeout=500ms", {"upstream_connect_timeout_s": 0.5}),
        ("ProxyPass / http://127.0.0.1:1/ max=7", {"upstream_max_connections": 7}),
        ("KeepAlive Off", {"max_requests_per_connection": 1}),
        ("MaxKeepAliveRequests 0", {"max_requests_per_connection": 1_000_000_000}),
        ("KeepAliveTimeout 500ms", {"client_idle_timeout_s": 0.5}),
        ("LimitRequestLine 100", {"max_target_bytes": 256}),
        ("LimitRequestFieldSize 65536", {"max_head_bytes": 8190 + 65536}),
        ("LimitRequestFields 0", {"max_headers": 10_000}),
        ("LimitRequestBody 5", {"max_body_bytes": 5}),
        (
            "RemoteIPHeader X-Forwarded-For\nRemoteIPTrustedProxy 10.0.0.1/8 ::1",
            {"trusted_proxies": ["10.0.0.0/8", "::1/128"]},
        ),
    ],
)
def test_limits(tmp_path, lines, expected):
    found = data(tmp_path, lines)["http"]
    assert {key: found.get(key) for key in expected} == expected


def test_one_value_for_all(tmp_path):
    """A value that is the whole front's here must not differ between virtual hosts, nor between backends."""
    (said,) = mistakes(tmp_path, HEAD + host("Timeout 5") + host(name="b.test"))
    assert said == "x.conf:7: Timeout: there is one value for all sites, and they differ"
    lines = ["ProxyPass /x http://127.0.0.1:1 timeout=5", "ProxyPass / http://127.0.0.1:2/"]
    assert "timeout=: there is one value for all backends, and they differ" in unlike(tmp_path, *lines)


def test_access_log(tmp_path):
    head = HEAD + 'LogFormat "%h %>s" short\nCustomLog logs/a.log short\n'
    assert data(tmp_path, head=head)["access_log"] == {"path": f"{tmp_path}/logs/a.log", "format": "%h %>s"}
    (said,) = mistakes(tmp_path, head + host() + host("CustomLog b.log combined", name="b.test"))
    assert "there is one access log for all sites" in said


def test_user_and_group(tmp_path):
    """Names, and numbers behind a #."""
    made = data(tmp_path, head=HEAD + "User www-data\nGroup #33\n")
    assert (made["user"], made["group"]) == ("www-data", "33")
    text = HEAD + "Group www-data\n"
    assert "group" not in data(tmp_path, head=text)
    assert any("Group: has no effect without User" in each for each in warnings(tmp_path, text + host()))


def test_log_level(tmp_path):
    assert data(tmp_path, head=HEAD + "LogLevel warn ssl:debug\n")["log_level"] == "debug"
    assert data(tmp_path, head=HEAD + "LogLevel crit\n")["log_level"] == "error"


# ---- The port without TLS ----


@pytest.mark.parametrize(
    "lines",
    [
        "Redirect permanent / https://a.test/",
        "RedirectPermanent / https://a.test/",
        "Redirect 301 / https://a.test:443/",
        "RedirectMatch permanent ^(.*)$ https://a.test$1",
        "RewriteEngine on\nRewriteCond %{HTTPS} off\nRewriteRule ^ https://%{HTTP_HOST}%{REQUEST_URI} [R=301,L]",
        "RewriteEngine on\nRewriteRule ^/?(.*) https://%{SERVER_NAME}/$1 [R=301,L]",
        (
            "RewriteEngine on\nRewriteCond %{SERVER_NAME} =a.test [OR]\nRewriteCond %{SERVER_NAME} =b.test\n"
            "RewriteRule ^ https://%{SERVER_NAME}%{REQUEST_URI} [END,NE,R=permanent]"
        ),
        "<Location />\nRedirect permanent https://a.test/\n</Location>",
    ],
)
def test_redirections(tmp_path, lines):
    """The usual ways of sending everybody to https, certbot's among them."""
    text = (
        HEAD + f"Listen 80\n<VirtualHost *:80>\nServerName a.test\nDocumentRoot /x\n{lines}\n</VirtualHost>\n" + host()
    )
    assert read(tmp_path, text).data["redirect"] == {"listen": [":80"], "status": 301, "https_port": 443}


def test_other_redirections(tmp_path):
    text = HEAD + "Listen 80\n<VirtualHost *:80>\n{}\n</VirtualHost>\n" + host()
    made = read(tmp_path, text.format("Redirect 308 / https://a.test:8443/"))
    assert made.data["redirect"] == {"listen": [":80"], "status": 308, "https_port": 8443}
    for line, said in (
        ("Redirect / https://a.test/", "status 301 or 308 here, not 302"),
        ("Redirect permanent / https://other.test/", "not to other.test"),
        ("Redirect permanent /x https://a.test/", "only a redirection of /"),
        ("ProxyPass / http://127.0.0.1:1/", "ProxyPass without TLS is not done"),
        ("", "there can only be a redirection"),
    ):
        assert any(said in each for each in mistakes(tmp_path, text.format(line)))


def test_acme(tmp_path):
    text = HEAD + "Listen 80\n<VirtualHost *:80>\n{}\nRedirect permanent / https://a.test/\n</VirtualHost>\n" + host()
    made = read(tmp_path, text.format("Alias /.well-known/acme-challenge/ acme/"))
    assert made.data["redirect"]["acme_folder"] == f"{tmp_path}/acme"


# ---- The whole ----


def test_places(tmp_path):
    """Each key leads to the line that it is from, for what is found wrong later."""
    made = read(tmp_path, HEAD + host("ProxyPass / http://127.0.0.1:1/"))
    for key, line in (
        ("site[0].certificate[0].chain", 6),
        ("site[0].names", 3),
        ("site[0].upstream", 7),
        ("listen", 1),
    ):
        found = place_of(key, made.places)
        assert found is not None
        assert (Path(found.file).name, found.line) == ("x.conf", line)
    assert place_of("nowhere", made.places) is None


def test_what_is_quiet(tmp_path):
    """What changes nothing is accepted without a word."""
    lines = [
        "LoadModule ssl_module x.so",
        "<Directory />\nRequire all denied\nOptions None\nAllowOverride none\n</Directory>",
        '<FilesMatch "^\\.ht">\nRequire all denied\n</FilesMatch>',
        "ServerTokens Prod\nServerSignature Off\nHostnameLookups Off\nAccessFileName .htaccess\nPidFile x",
        "SSLRandomSeed startup builtin\nSSLCompression off\nSSLSessionCache shmcb:x(512000)",
        "Protocols h2 http/1.1\nErrorLog x",
        'BrowserMatch "MSIE [2-6]" nokeepalive ssl-unclean-shutdown',
    ]
    assert warnings(tmp_path, HEAD + "\n".join(lines) + "\n" + host("SSLOptions +StdEnvVars")) == []


def test_the_table_has_each_name_once():
    assert len(BY_NAME) == len(ROWS)
    assert all(row.note for row in ROWS)


def test_the_manual_is_written_from_the_table():
    """Every directive is in it."""
    text = (Path(__file__).parents[3] / "docs" / "httpd-directives.md").read_text()
    assert text == page(), "run: python -m proxy.settings.httpd.directives > docs/httpd-directives.md"
    assert all(f"`{row.name}`" in text for row in ROWS)


ARGUMENTS = st.sampled_from(
    [
        *(
            "",
            "on",
            "off",
            "-1",
            "0",
            "5",
            "9" * 40,
            "abc",
            "/",
            "/x",
            "!",
            "https://a.test/",
            "http://127.0.0.1:8000/",
        ),
        *("shmcb:", "shmcb:x(9000)", "shmcb:x(", "balancer://x", "balancer://x/", "a.test", "*", "*.a.test", "443"),
        *("127.0.0.1:443", "*:443", "[::1]:443", "set", "append", "unset", "X", "%{a}s", "%", "permanent", "TLSv1.3"),
        *("TLSv1.3", "all", "-all", "Groups", "MinProtocol", "Options", "timeout=5", "loadfactor=2.5", "require"),
        *(
            "c.pem",
            "^",
            "[R=301]",
            "%{HTTPS}",
            "combined",
            "env=x",
            "ssl:debug",
            "unix:/s|http://x/",
            "\0",
            "é",
            "10.0.0.0/8",
        ),
    ]
)
NAMES = st.sampled_from([row.name for row in ROWS if not row.name.startswith("<")] + ["Unknown"])
SECTIONS = st.sampled_from(["VirtualHost", "Location", "Proxy", "Directory", "If", "LocationMatch", "Limit", "Unknown"])
WHERE = Where("/x.conf", 1)


def _directive(name, arguments):
    return Directive(name, tuple(arguments), " ".join(arguments), WHERE)


def _section(name, arguments, children):
    return Section(name, tuple(arguments), " ".join(arguments), WHERE, tuple(children))


DIRECTIVES = st.builds(_directive, NAMES, st.lists(ARGUMENTS, max_size=4))
NODES = st.recursive(
    DIRECTIVES,
    lambda inner: st.builds(_section, SECTIONS, st.lists(ARGUMENTS, max_size=2), st.lists(inner, max_size=6)),
)
RIGHT = tuple(
    _directive(name, words(rest))
    for name, rest in (
        ("Listen", "443"),
        ("SSLEngine", "on"),
        ("SSLCertificateFile", "c.pem"),
        ("SSLStaplingCache", "shmcb:"),
    )
)


@pytest.mark.slow
@given(nodes=st.lists(NODES, max_size=12), is_right=st.booleans(), lenient=st.booleans())
@hypothesis_settings(max_examples=100, deadline=None)
def test_no_tree_makes_anything_else(nodes, is_right, lenient):
    """Any tree is settings that are right, or mistakes that are told."""
    given_nodes = (*(RIGHT if is_right else ()), *nodes)
    try:
        made = load(given_nodes, Base(Path("/etc/apache2")), where="/x.conf", lenient=lenient)
    except ConfigError as error:
        told = error.problems
    else:
        told = made.warnings
        build(made.data, folder=Path("/"))
    assert all(each.what.isprintable() for each in told)


def test_all_fates_are_used():
    assert {row.fate for row in ROWS} == set(Fate)
