"""Fetching and keeping, with the real proxy: rows of the behaviours' table that no other file shows.

`ROWS` names all rows of that table with the tests that show them, and those tests must exist.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.x509 import ocsp
from integration.admin import ask, staples
from integration.clients import is_not_stapled, is_stapled, s_client, verify_with_openssl
from integration.conftest import Lab
from integration.front import run, site, toml, wait_until

from proxy.lab.ca import LabCA
from proxy.lab.client import probe

TESTS = Path(__file__).parents[1]
FAST = {"refresh_min_interval_s": 1, "retry_min_interval_s": 0.2, "retry_max_interval_s": 0.5, "fetch_timeout_s": 2}

ROWS = {
    "a certificate with an AIA and no staple is fetched for at once after start": (
        "keeper/test_refresher.py::test_fetched_at_once_after_start",
    ),
    "a staple loaded from a file and still long valid causes no fetch": (
        "integration/test_operator.py::test_a_staple_file_is_served_and_its_updates_too",
    ),
    "a configured responder goes before the AIA's": (
        "integration/test_stapling.py::test_a_configured_responder_goes_before_the_certificates",
    ),
    "fetched 'revoked' is not stapled, and 'good' of the other certificate still is": (
        "integration/test_stapling.py::test_a_revoked_certificate_is_not_stapled_and_the_other_still_is",
    ),
    "a staple from a file is sent as it is, revoked too": (
        "integration/test_operator.py::test_a_staple_file_is_served_and_its_updates_too",
    ),
    "the response's chain does not lead to a trusted root: not stapled": (
        "integration/test_keeping.py::test_a_response_of_another_ca_is_not_stapled",
    ),
    "the issuer is not in the chain file, but among the trusted: stapled": (
        "integration/test_stapling.py::test_the_issuer_may_stand_in_a_file_of_its_own",
        "integration/test_keeping.py::test_an_issuer_named_for_all_sites",
    ),
    "the responder answers with something else (an HTML page, 404): not stapled, nothing critical logged": (
        "integration/test_stapling.py::test_an_answer_that_is_no_response_is_not_stapled",
    ),
    "the operator can force an update, sees last and next update, successes and failures for each certificate, "
    "and can dump a response": ("integration/test_keeping.py::test_the_operator_sees_and_orders",),
    "a certificate added at run time is fetched for; one removed is no longer updated, its response stays until then": (
        "integration/test_keeping.py::test_a_certificate_added_and_one_removed",
    ),
    "one certificate told both 'update' and 'do not' is a configuration error, whatever the order": (
        "test_sites.py::test_one_certificate_told_two_things_is_a_mistake_whatever_the_order",
    ),
    "an update put in by hand replaces the served one at once; one in an open transaction does not until committed": (
        "integration/test_operator.py::test_a_staple_file_is_served_and_its_updates_too",
        "keeper/test_policies.py::test_a_response_given_by_hand_replaces_the_one_served_at_once",
    ),
    "a restart keeps a valid stored response (file unchanged, no new request)": (
        "integration/test_stapling.py::test_the_cache_file_lets_a_restart_staple_at_once",
    ),
    "older than the keep time: removed at restart, and fetched again": (
        "integration/test_keeping.py::test_what_grew_old_while_it_was_stopped_is_fetched_again",
    ),
    "inside the renew window: fetched again though valid; outside: not": (
        "keeper/test_refresher.py::test_a_stored_staple_past_half_life_is_served_and_renewed",
        "keeper/test_refresher.py::test_a_stored_staple_causes_no_fetch",
    ),
    "works for certificates from plain files as for managed ones": (
        "integration/test_stapling.py::test_the_staple_is_good_for_every_kind_of_certificate_and_version",
    ),
    "a stapling section that no host uses does no harm to the status page": (
        "integration/test_keeping.py::test_stapling_settings_that_no_site_uses_do_no_harm",
    ),
    "seven certificates at one responder with six connections: all fetched": (
        "integration/test_keeping.py::test_seven_certificates_at_one_responder_with_six_connections",
    ),
    "a staple file that does not verify is refused at start when verification is on, taken when off; "
    "connect and response time-outs are settings": (
        "integration/test_policies.py::test_a_staple_file_that_does_not_verify_is_refused_at_start",
        "integration/test_stapling.py::test_the_start_does_not_wait_for_a_silent_responder_for_ever",
    ),
    "fetch-and-verify needs leaf and issuer, and fails with a status when the responder does": (
        "integration/test_keeping.py::test_fetch_and_verify_fails_with_a_status",
    ),
}
"""All of "Fetching and keeping". Where ours differs: on and off of stapling is a matter of the site, so it is no
contradiction that one certificate has both, but whether a 'revoked' is stapled is; verification cannot be turned off;
a file replaced whole is the transaction; what is added or removed takes effect with a restart."""


@pytest.mark.parametrize("row", ROWS)
def test_each_row_has_its_tests(row):
    for where in ROWS[row]:
        path, _, name = where.partition("::")
        functions = {
            node.name for node in ast.walk(ast.parse((TESTS / path).read_text())) if isinstance(node, ast.FunctionDef)
        }
        assert name in functions, where


def stapleproxy(*arguments):
    command = [sys.executable, "-m", "proxy", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


def requests_at(lab):
    with urllib.request.urlopen(f"http://127.0.0.1:{lab.port}/-/requests", timeout=5) as answer:
        return json.load(answer)


def test_a_response_of_another_ca_is_not_stapled(lab, backend, tmp_path):
    """'the response's chain does not lead to a trusted root: not stapled': only the issuer's word counts."""
    other = Lab(tmp_path / "other", LabCA.create(datetime.now(UTC)), lab.port)
    other.ca.write(other.folder)
    pair = lab.issue("localhost")
    with other.responder(), run(tmp_path, toml(site(backend, pair), stapling=FAST)) as front:
        # It knows nothing of a certificate that another issued; and what it would sign, would be signed by a stranger.
        assert is_not_stapled(s_client(front.port, "-status", ca=lab.root))
        front.wait_for_log("unauthorized: ")


def test_an_issuer_named_for_all_sites(lab, backend, tmp_path):
    """'the issuer is not in the chain file, but among the trusted: stapled', with a responder of its own too."""
    chain, key = lab.issue("localhost", with_uri=False)
    chain.write_bytes(chain.read_bytes().split(b"-----END CERTIFICATE-----\n")[0] + b"-----END CERTIFICATE-----\n")
    named = f'[[stapling.issuer]]\ncertificate = "{lab.intermediate}"\nresponder_url = "http://127.0.0.1:{lab.port}/"\n'
    with lab.responder(), run(tmp_path, toml(named + site(backend, (chain, key)))) as front:
        trusted = tmp_path / "trusted.pem"
        trusted.write_bytes(lab.root.read_bytes() + lab.intermediate.read_bytes())
        assert is_stapled(s_client(front.port, "-status", ca=trusted))


@pytest.mark.slow
def test_the_operator_sees_and_orders(lab, backend, tmp_path):
    """'can force an update, sees last and next update, successes and failures …, and can dump a response'."""
    pair = lab.issue("localhost")
    socket, cache = tmp_path / "admin.sock", tmp_path / "cache"
    settings = {"admin": {"socket": str(socket)}, "stapling": {**FAST, "cache": f"shmcb:{cache}"}}
    with lab.responder() as responder, run(tmp_path, toml(site(backend, pair), **settings)) as front:
        first = staples(socket)["localhost"]
        assert (first["status"], first["successes"], first["failures"]) == ("good", 1, 0)
        assert first["this_update"] < first["next_attempt"] < first["next_update"]
        until = datetime.fromisoformat(first["stapled_until"]).timestamp()
        forecast = re.search(r'stapled_until_timestamp_seconds{site="localhost"} (\S+)', ask(socket, "/metrics")[1])
        assert float(forecast[1]) == until
        wait_until(lambda: f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}" > first["this_update"])
        done = stapleproxy("staples", tmp_path / "front.toml", "refresh", "localhost")
        assert (done.returncode, done.stderr) == (0, "")
        second = wait_until(lambda: (now := staples(socket)["localhost"])["successes"] == 2 and now)
        assert second["this_update"] > first["this_update"]
        der = tmp_path / "dumped.der"
        done = stapleproxy("staples", tmp_path / "front.toml", "export", "localhost", "-o", der)
        assert done.returncode == 0, done.stderr
        said = verify_with_openssl(der.read_bytes(), tmp_path, pair[0], issuer=lab.intermediate, root=lab.root)
        assert f"{pair[0]}: good" in said
        responder.kill()
        responder.wait()
        stapleproxy("staples", tmp_path / "front.toml", "refresh", "localhost")
        failed = wait_until(lambda: (now := staples(socket)["localhost"])["failures"] >= 1 and now)
        assert failed["troubles"][0]["reason"] == "connect"
        assert failed["stapled_until"] == second["stapled_until"]
        assert is_stapled(s_client(front.port, "-status", ca=lab.root))
    for arguments in (("refresh", "localhost"), ("refresh", "nobody.test")):
        done = stapleproxy("staples", tmp_path / "front.toml", *arguments)
        assert done.returncode == 1
        assert "is stapleproxy running with this configuration?" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_what_was_stapled_is_told_soon_and_at_the_end(lab, backend, tmp_path):
    """Hits are counted in the worker first: all of them are in the memory a second later, and after a drain."""
    pair = lab.issue("localhost")
    cache = tmp_path / "cache"

    def hits():
        (found,) = json.loads(stapleproxy("staples", cache, "--json").stdout)["responses"]
        return found["hits"]

    with (
        lab.responder(),
        run(tmp_path, toml(site(backend, pair), stapling={**FAST, "cache": f"shmcb:{cache}"})) as front,
    ):
        for _ in range(5):
            probe("127.0.0.1", front.port, "localhost", roots=lab.root)
        wait_until(lambda: hits() == 5)
        for _ in range(5):
            probe("127.0.0.1", front.port, "localhost", roots=lab.root)
        front.stop()
        assert hits() == 10


def test_a_must_staple_certificate_that_can_never_be_stapled_is_never_ready(lab, backend, tmp_path):
    """Readiness says why; stapling that the operator turned off is no reason."""
    pair = lab.issue("localhost", must_staple=True, with_uri=False)
    socket = tmp_path / "admin.sock"
    with run(tmp_path, toml(site(backend, pair), admin={"socket": str(socket)})):
        status, text = ask(socket, "/readyz")
        assert status == 503
        assert "nothing can be stapled (no-ocsp-uri)" in text
    with run(tmp_path, toml(site(backend, pair, stapling={"enabled": False}), admin={"socket": str(socket)})):
        assert ask(socket, "/readyz")[0] == 200


@pytest.mark.slow
def test_a_certificate_added_and_one_removed(lab, backend, tmp_path):
    """'a certificate added … is fetched for; one removed is no longer updated, its response stays until then'."""
    one, two = lab.issue("one.test"), lab.issue("two.test")
    stapling = {**FAST, "cache": f"shmcb:{tmp_path / 'cache'}"}
    with lab.responder():
        with run(tmp_path, toml(site(backend, one), stapling=stapling)):
            asked = requests_at(lab)["serials"]
        with run(tmp_path, toml(site(backend, two), stapling=stapling)) as front:
            assert is_stapled(s_client(front.port, "-status", ca=lab.root, name="two.test"))
            now = requests_at(lab)["serials"]
            assert {serial: now[serial] for serial in asked} == asked
            assert len(now) == 2
            listed = json.loads(stapleproxy("staples", tmp_path / "cache", "--json").stdout)
            assert {each["serial"] for each in listed["responses"]} == set(now)


@pytest.mark.slow
def test_what_grew_old_while_it_was_stopped_is_fetched_again(lab, backend, tmp_path):
    """'older than the keep time: removed at restart, and fetched again': it is not served for a moment."""
    pair = lab.issue("localhost")
    stapling = {**FAST, "cache": f"shmcb:{tmp_path / 'cache'}"}
    with lab.responder("--validity-s", "2"), run(tmp_path, toml(site(backend, pair), stapling=stapling)) as front:
        old = probe("127.0.0.1", front.port, "localhost", roots=lab.root).staple
    wait_until(lambda: datetime.now(UTC) > old.serve_until)
    with run(tmp_path, toml(site(backend, pair), stapling=stapling)) as front:
        assert is_not_stapled(s_client(front.port, "-status", ca=lab.root))
        assert re.search(r"the stored response is not stapled: expired: ", front.log)
        with lab.responder():
            wait_until(lambda: is_stapled(s_client(front.port, "-status", ca=lab.root)))


def test_stapling_settings_that_no_site_uses_do_no_harm(lab, backend, tmp_path):
    """'a stapling section that no host uses does no harm to the status page': all pages answer, and are empty."""
    pair = lab.issue("localhost")
    socket, cache = tmp_path / "admin.sock", tmp_path / "cache"
    text = toml(
        site(backend, pair, stapling={"enabled": False}),
        admin={"socket": str(socket)},
        stapling={**FAST, "cache": f"shmcb:{cache}"},
    )
    with run(tmp_path, text):
        assert staples(socket) == {}
        for page in ("/healthz", "/readyz", "/metrics"):
            assert ask(socket, page)[0] == 200
        done = stapleproxy("staples", tmp_path / "front.toml")
        assert (done.returncode, done.stderr) == (0, "")


def test_seven_certificates_at_one_responder_with_six_connections(lab, backend, tmp_path):
    """'seven certificates at one responder with six connections: all fetched'."""
    names = [f"{number}.test" for number in range(7)]
    sites = "".join(site(backend, lab.issue(name)) for name in names)
    with lab.responder(), run(tmp_path, toml(sites, stapling={**FAST, "max_fetches_per_responder": 6})) as front:
        assert all(is_stapled(s_client(front.port, "-status", ca=lab.root, name=name)) for name in names)
        assert sorted(requests_at(lab)["serials"].values()) == [1] * 7


@pytest.mark.slow
def test_fetch_and_verify_fails_with_a_status(lab):
    """'fetch-and-verify needs leaf and issuer, and fails with a status when the responder does': for scripts."""
    chain, _ = lab.issue("localhost")
    with lab.responder():
        done = stapleproxy("explain", "--live", "--json", chain)
        assert done.returncode == 0, done.stdout
        (found,) = json.loads(done.stdout)["certificates"]
        assert found["responders"][0]["answer"]["verdict"]["status"] == ocsp.OCSPCertStatus.GOOD.name.lower()
    assert stapleproxy("explain", "--live", chain).returncode == 1
    leaf_alone = chain.with_name("alone.pem")
    leaf_alone.write_bytes(chain.read_bytes().split(b"-----END CERTIFICATE-----\n")[0] + b"-----END CERTIFICATE-----\n")
    with lab.responder():
        done = stapleproxy("explain", "--live", leaf_alone)
        assert done.returncode == 1
        assert "issuer" in done.stdout
