"""Profile httpd-2.4 end to end: a real process, real clients, a responder that a test scripts."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.x509 import ocsp
from integration.admin import ask
from integration.clients import alert_number, is_not_stapled, s_client
from integration.front import run, site, toml, wait_until
from integration.httpd_responder import says_good, scripted
from OpenSSL import SSL

from proxy.lab.client import probe

TRY_LATER = bytes.fromhex("30030a0103")
PROFILE = {"profile": "httpd-2.4"}
TLS = {"1.2": "-tls1_2", "1.3": "-tls1_3"}


def configuration(sites: str, *, httpd: str = "", workers: int = 1, **stapling) -> str:
    text = toml("", workers=workers, log_level="debug", stapling={**PROFILE, **stapling})
    return f"{text}[stapling.httpd]\n{httpd}\n{sites}"


def staple(port: int, lab, name: str = "localhost", **more) -> bytes | None:
    return probe("127.0.0.1", port, name, roots=lab.root, timeout_s=20, **more).staple_der


def numbers(front, since: int = 0) -> list[int]:
    """Those of the log lines, in their order."""
    return [int(number) for number in re.findall(r"AH(\d{5}): ", front.log[since:])]


FETCH = [1951, 1952, 1930, 1954, 1930, 3238, 1938, 1973, 1975, 1987, 1942, 3040, 1956]
HIT = [1951, 1952, 1933, 1953, 1956]


@pytest.mark.parametrize("tls", TLS)
def test_the_first_handshake_fetches_and_the_next_ones_staple_from_the_cache(lab, backend, tmp_path, tls):
    """Nothing is asked at the start; the log's numbers are in Apache's order."""
    pair = lab.issue("localhost")
    with (
        scripted(lab.port, says_good(lab, pair[0])) as responder,
        run(tmp_path, configuration(site(backend, pair))) as front,
    ):
        assert responder.requests == []
        first = staple(front.port, lab, tls=tls)
        assert first is not None
        assert [staple(front.port, lab, tls=tls) for _ in range(2)] == [first, first]
        assert len(responder.requests) == 1
        assert numbers(front) == FETCH + HIT * 2


def test_clients_that_do_not_ask_and_resumptions_fetch_nothing(lab, backend, tmp_path):
    """The callback runs for neither."""
    pair = lab.issue("localhost")
    with (
        scripted(lab.port, says_good(lab, pair[0])) as responder,
        run(tmp_path, configuration(site(backend, pair), httpd="standard_cache_timeout_s = 0")) as front,
    ):
        assert "OCSP response" not in s_client(front.port, ca=lab.root)
        assert responder.requests == []
        for tls in ("1.2", "1.3"):
            before = probe("127.0.0.1", front.port, "localhost", roots=lab.root, tls=tls, request_path="/")
            count = len(responder.requests)
            again = probe(
                "127.0.0.1", front.port, "localhost", roots=lab.root, tls=tls, request_path="/", session=before.session
            )
            assert (again.resumed, again.staple_der) == (True, None)
            assert len(responder.requests) == count
        assert len(responder.requests) == 2


@pytest.mark.slow
@pytest.mark.parametrize("tls", TLS)
def test_a_uri_that_cannot_be_asked_is_an_alert(lab, backend, tmp_path, tls):
    """Rows I and J: internal_error, each time; the server lives."""
    pair = lab.issue("localhost")
    for url, number in (("https://127.0.0.1/", 1940), ("http://x:y/", 1939), ("foo", 1940)):
        with run(tmp_path, configuration(site(backend, pair), httpd=f'force_url = "{url}"')) as front:
            for _ in range(2):
                assert alert_number(s_client(front.port, "-status", TLS[tls], ca=lab.root)) == 80
            assert numbers(front)[-3:] == [1938, number, 1955]


def test_concurrent_handshakes_share_one_fetch_and_others_wait_for_it(lab, backend, tmp_path):
    """Three clients of A, two of B, two workers: one question each, in turn; who finds A in the cache never waits."""
    a, b, c = (lab.issue(name) for name in ("localhost", "b.localhost", "c.localhost"))
    text = configuration(site(backend, a) + site(backend, b) + site(backend, c), workers=2)
    with (
        scripted(lab.port, says_good(lab, a[0], b[0], c[0])) as responder,
        run(tmp_path, text) as front,
        ThreadPoolExecutor(8) as pool,
    ):
        responder.gate.clear()
        of_a = [pool.submit(staple, front.port, lab) for _ in range(3)]
        wait_until(lambda: numbers(front).count(1954) == 3 and responder.requests, what="three that wait")
        of_b = [pool.submit(staple, front.port, lab, "b.localhost") for _ in range(2)]
        wait_until(lambda: numbers(front).count(1954) == 5, what="five that wait")
        assert len(responder.requests) == 1
        responder.gate.set()
        assert len({each.result(20) for each in of_a}) == 1
        assert len({each.result(20) for each in of_b}) == 1
        assert len(responder.requests) == 2
        assert numbers(front).count(3237) == 3
        responder.gate.clear()
        of_c = pool.submit(staple, front.port, lab, "c.localhost")
        wait_until(lambda: len(responder.requests) == 3, what="a fetch for C")
        assert staple(front.port, lab) == of_a[0].result(), "what is in the cache waits for nobody"
        responder.gate.set()
        assert of_c.result(20) is not None


@pytest.mark.slow
def test_without_made_up_answers_each_handshake_asks_in_its_turn(lab, backend, tmp_path):
    """Row C3, four clients, a responder that hangs: one after another, four questions, no staple."""
    pair = lab.issue("localhost")
    flags = "responder_timeout_s = 1\nfake_try_later = false\nreturn_responder_errors = false"
    with (
        scripted(lab.port, says_good(lab, pair[0])) as responder,
        run(tmp_path, configuration(site(backend, pair), httpd=flags)) as front,
        ThreadPoolExecutor(4) as pool,
    ):
        responder.gate.clear()
        began = time.monotonic()
        ends = list(pool.map(lambda _: (staple(front.port, lab), time.monotonic() - began), range(4)))
        assert [each for each, _ in ends] == [None] * 4
        assert len(responder.requests) == 4
        assert [end_s >= number for number, (_, end_s) in enumerate(sorted(ends, key=lambda each: each[1]), 1)] == [
            True
        ] * 4


def test_a_made_up_answer_is_kept_though_the_responder_is_back(lab, backend, tmp_path):
    """Row C1: one question, tryLater for all."""
    pair = lab.issue("localhost")
    with (
        scripted(lab.port, says_good(lab, pair[0])) as responder,
        run(tmp_path, configuration(site(backend, pair))) as front,
    ):
        responder.status = b"500 No"
        assert staple(front.port, lab) == TRY_LATER
        responder.status = b"200 OK"
        assert staple(front.port, lab) == TRY_LATER
        assert len(responder.requests) == 1


@pytest.mark.parametrize(
    ("flags", "expected"), [("fake_try_later = false", 80), ("return_responder_errors = false", None)]
)
def test_the_next_version_ends_or_withholds_where_this_one_makes_up_an_answer(lab, backend, tmp_path, flags, expected):
    """httpd-trunk, rows C3 and C2: an alert each time; or no staple, and no second question."""
    pair = lab.issue("localhost")
    text = configuration(site(backend, pair), httpd=flags, profile="httpd-trunk")
    with (
        scripted(lab.port, lambda _request: b"no") as responder,
        run(tmp_path, text) as front,
    ):
        for _ in range(2):
            said = s_client(front.port, "-status", ca=lab.root)
            assert alert_number(said) == expected
            assert expected or is_not_stapled(said)
        assert len(responder.requests) == (2 if expected else 1)


@pytest.mark.parametrize("flags", ["", "standard_cache_timeout_s = 0"])
def test_a_client_that_is_sent_a_hello_retry_request(lab, backend, tmp_path, flags):
    """OpenSSL asks twice in such a handshake, and so the cache, or the responder, is asked twice, as in Apache."""
    pair = lab.issue("localhost")
    text = configuration(site(backend, pair), httpd=flags)
    text = text.replace("[stapling.httpd]", '[tls]\ngroups = "P-256"\n[stapling.httpd]')
    with (
        scripted(lab.port, says_good(lab, pair[0])) as responder,
        run(tmp_path, text) as front,
    ):
        said = s_client(front.port, "-status", "-tls1_3", "-groups", "P-521:P-256", ca=lab.root)
        assert "OCSP Response Status: successful" in said, said
        assert numbers(front) == (FETCH * 2 if flags else FETCH + HIT)
        assert len(responder.requests) == (2 if flags else 1)


def test_a_keeper_that_is_killed_while_a_client_waits(lab, backend, tmp_path):
    """Its successor is asked for what is waited for, and the client gets its staple."""
    pair = lab.issue("localhost")
    with (
        scripted(lab.port, says_good(lab, pair[0])) as responder,
        run(tmp_path, configuration(site(backend, pair))) as front,
        ThreadPoolExecutor(1) as pool,
    ):
        responder.gate.clear()
        waiting = pool.submit(staple, front.port, lab)
        wait_until(lambda: responder.requests, what="the question")
        (keeper,) = front.pids("keeper")
        os.kill(keeper, signal.SIGKILL)
        wait_until(lambda: len(responder.requests) == 2, what="the question of the next keeper")
        responder.gate.set()
        first = waiting.result(20)
        assert first is not None
        # What a keeper has stored is there for the next.
        (keeper,) = front.pids("keeper")
        os.kill(keeper, signal.SIGKILL)
        assert staple(front.port, lab) == first
        assert len(responder.requests) == 2


def test_a_client_that_leaves_while_it_waits(lab, backend, tmp_path):
    """The fetch goes on, as in Apache, and the next client finds what it has brought. Nothing else is disturbed."""
    pair = lab.issue("localhost")
    with (
        scripted(lab.port, says_good(lab, pair[0])) as responder,
        run(tmp_path, configuration(site(backend, pair))) as front,
    ):
        responder.gate.clear()
        leaving = threading.Thread(target=leave, args=(front.port, lab, responder))
        leaving.start()
        front.wait_for_log("the client left during the handshake")
        leaving.join(20)
        responder.gate.set()
        assert staple(front.port, lab) is not None
        assert len(responder.requests) == 1


def leave(port: int, lab, responder) -> None:
    """Be a client that asks for a staple, and goes before there is one."""
    with socket.create_connection(("127.0.0.1", port)) as raw:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            client = threading.Thread(target=_hello, args=(theirs,))
            client.start()
            raw.sendall(ours.recv(65_536))
            wait_until(lambda: responder.requests, what="the question")
        client.join(20)


def _hello(sock: socket.socket) -> None:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    connection = SSL.Connection(context)
    connection.request_ocsp()
    connection.set_connect_state()
    with contextlib.suppress(SSL.WantReadError):
        connection.do_handshake()
    sock.sendall(connection.bio_read(65_536))


@pytest.mark.slow
def test_the_deadline_of_the_handshake_does_not_run_meanwhile(lab, backend, tmp_path):
    """Apache waits for its mutex as long as it takes."""
    pair = lab.issue("localhost")
    text = configuration(site(backend, pair)).replace(
        "[stapling.httpd]", "[tls]\nhandshake_timeout_s = 1\n[stapling.httpd]"
    )
    with (
        scripted(lab.port, says_good(lab, pair[0])) as responder,
        run(tmp_path, text) as front,
    ):
        responder.delay_s = 3.5
        assert staple(front.port, lab) is not None


@pytest.mark.slow
def test_a_stop_does_not_wait_for_a_responder(lab, backend, tmp_path):
    """Those who wait are cut off when the time to drain is over."""
    pair = lab.issue("localhost")
    text = f"drain_timeout_s = 1\n{configuration(site(backend, pair))}"
    with (
        scripted(lab.port, says_good(lab, pair[0])) as responder,
        run(tmp_path, text) as front,
        ThreadPoolExecutor(1) as pool,
    ):
        responder.gate.clear()
        waiting = pool.submit(s_client, front.port, "-status", ca=lab.root)
        wait_until(lambda: responder.requests, what="the question")
        assert front.stop() == 0
        assert "Cipher is (NONE)" in waiting.result(20)


def test_settings_of_the_site_that_the_client_names(lab, backend, tmp_path):
    """A site without stapling says nothing; no name and an unknown one get the first site's."""
    a, b = lab.issue("localhost"), lab.issue("b.localhost")
    sites = site(backend, a) + site(backend, b, stapling={"enabled": False})
    with (
        scripted(lab.port, says_good(lab, a[0], b[0])) as responder,
        run(tmp_path, configuration(sites)) as front,
    ):
        assert is_not_stapled(s_client(front.port, "-status", ca=lab.root, name="b.localhost"))
        assert responder.requests == []
        assert "OCSP Response Status: successful" in s_client(front.port, "-status", ca=lab.root, name=None)
        assert "OCSP Response Status: successful" in s_client(front.port, "-status", ca=lab.root, name="x.localhost")
        assert len(responder.requests) == 1


def test_a_certificate_that_cannot_be_stapled_stops_nobody(lab, backend, tmp_path):
    """Without a URI: two lines at the start, one at each handshake that asks; must-staple or not."""
    pair = lab.issue("localhost", with_uri=False, must_staple=True)
    with run(tmp_path, configuration(site(backend, pair))) as front:
        assert numbers(front) == [2218, 2604]
        assert is_not_stapled(s_client(front.port, "-status", ca=lab.root))
        assert numbers(front) == [2218, 2604, 1951, 1926]


def test_one_certificate_in_two_sites_only_one_of_which_has_a_url(lab, backend, tmp_path):
    """Clients of the other get the alert until the first has filled the cache that both have."""
    pair = lab.issue("localhost", "b.localhost", with_uri=False)
    table = f'[site.stapling.httpd]\nforce_url = "http://127.0.0.1:{lab.port}/"\n'
    sites = site(backend, pair, names=["localhost"]) + table + site(backend, pair, names=["b.localhost"])
    with (
        scripted(lab.port, says_good(lab, pair[0])),
        run(tmp_path, configuration(sites)) as front,
    ):
        assert numbers(front) == [2218, 2604]
        assert alert_number(s_client(front.port, "-status", ca=lab.root, name="b.localhost")) == 80
        assert numbers(front)[-3:] == [1938, 2621, 1955]
        first = staple(front.port, lab)
        assert staple(front.port, lab, "b.localhost") == first


def test_what_this_openssl_does_not_staple_is_said_once(lab, backend, tmp_path):
    """Found by a probe at the start, and true."""
    a, b = lab.issue("localhost"), lab.issue("b.localhost")
    with (
        scripted(lab.port, lambda _request: about_b) as responder,
        run(tmp_path, configuration(site(backend, a), workers=2)) as front,
    ):
        say = says_good(lab, b[0])
        leaf = x509.load_pem_x509_certificates(b[0].read_bytes())
        about_b = say(ocsp.OCSPRequestBuilder().add_certificate(leaf[0], leaf[1], SHA1()).build())  # noqa: S303  the name of a certificate
        told = re.findall("not as in Apache: clients do not get a response that is (.*); OpenSSL", front.log)
        assert len(told) == len(set(told))
        assert (staple(front.port, lab) is None) == ("about a certificate of another serial number" in told)
        assert numbers(front)[-1] == 1956, "as far as we are concerned, it is stapled"
        assert len(responder.requests) == 1


def test_the_admin_socket_answers(lab, backend, tmp_path):
    """Ready from the start; each certificate, and the cache's figures."""
    pair = lab.issue("localhost")
    text = configuration(site(backend, pair)).replace(
        "[stapling.httpd]", f'[admin]\nsocket = "{tmp_path}/admin"\n[stapling.httpd]'
    )
    with scripted(lab.port, says_good(lab, pair[0])), run(tmp_path, text) as front:
        staple(front.port, lab)
        assert ask(tmp_path / "admin", "/readyz")[0] == 200
        staples = json.loads(ask(tmp_path / "admin", "/api/staples")[1])["staples"]
        assert [each["certificate"] for each in staples] == ["localhost.ec.pem (EC secp256r1)"], staples
        metrics = ask(tmp_path / "admin", "/metrics")[1]
        assert re.search(r"^stapleproxy_ocsp_exchanges_total\{.*\} 1$", metrics, re.MULTILINE), metrics
        assert "stapleproxy_cache_" in metrics
