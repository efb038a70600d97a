"""The commands for a running stapleproxy, with the real one."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta

import pytest
from integration.clients import is_stapled, s_client
from integration.front import run, site, toml, wait_until
from integration.test_policies import FAST, response

from proxy.lab.client import probe


def stapleproxy(*arguments, stdin: bytes | None = None):
    """Run a command; its exit status, standard output and standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "proxy", *map(str, arguments)], input=stdin, capture_output=True, check=False, timeout=60
    )
    assert b"Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr.decode()


@pytest.fixture
def settings(tmp_path):
    """With an admin socket; the cache is in memory."""
    return {"admin": {"socket": str(tmp_path / "admin.sock")}, "stapling": FAST}


@pytest.mark.slow
def test_status_of_a_running_one(lab, backend, tmp_path, settings):
    """All well with the responder; without it, it needs attention and says why in one word."""
    pair = lab.issue("localhost")
    config = tmp_path / "front.toml"
    with lab.responder() as responder, run(tmp_path, toml(site(backend, pair), **settings)):
        status, out, err = stapleproxy("status", config)
        assert (status, err) == (0, "")
        text = out.decode()
        assert "localhost" in text
        assert f"127.0.0.1:{lab.port}" in text
        assert "1 certificate: 1 stapled" in text
        responder.kill()
        responder.wait()
        assert stapleproxy("staples", config, "refresh", "localhost")[0] == 1
        status, out, _ = stapleproxy("status", config)
        assert status == 3
        assert "1 certificate: 1 failing" in out.decode()
        assert f"http://127.0.0.1:{lab.port}: connect: " in out.decode()
        status, out, _ = stapleproxy("status", config, "--json", "--find", "localhost")
        assert (status, json.loads(out)["sites"][0]["state"]) == (3, "failing")
    status, _, err = stapleproxy("status", config)
    assert status == 1
    assert "is stapleproxy running with this configuration?" in err


@pytest.mark.slow
def test_staples_are_seen_fetched_exported_and_set(lab, backend, tmp_path, settings):
    """Over the socket alone: nobody else can look into a cache in memory."""
    pair = lab.issue("localhost")
    config = tmp_path / "front.toml"
    with lab.responder() as responder, run(tmp_path, toml(site(backend, pair), **settings)) as front:
        status, out, err = stapleproxy("staples", config)
        assert (status, err) == (0, "")
        assert "localhost" in out.decode()
        assert json.loads(stapleproxy("staples", config, "show", "--json")[1])["responses"][0]["status"] == "good"
        status, out, err = stapleproxy("staples", config, "refresh", "localhost")
        assert (status, err) == (0, "")
        assert b": good, stapled until " in out
        served = probe("127.0.0.1", front.port, "localhost", roots=lab.root).staple_der
        assert stapleproxy("staples", config, "export", "localhost")[1] == served
        text = stapleproxy("staples", config, "show", "localhost")[1]
        assert b"OCSP Response Status: successful" in text
        assert stapleproxy("staples", config, "export", "localhost", "--text")[1] == text
        pem = stapleproxy("staples", config, "export", "localhost", "--pem")[1]
        assert pem.startswith(b"-----BEGIN OCSP RESPONSE-----\n")
        responder.kill()
        responder.wait()
        status, out, err = stapleproxy("staples", config, "refresh", "--all")
        assert (status, out) == (1, b"")
        assert "no new staple, the one held lasts until" in err
        assert f"http://127.0.0.1:{lab.port}: connect: " in err
        newer = response(lab, pair, days=9, ago=timedelta())
        (tmp_path / "newer.der").write_bytes(newer)
        status, out, err = stapleproxy("staples", config, "set", "localhost", tmp_path / "newer.der")
        assert (status, err) == (0, "")
        assert b": good, stapled until " in out
        assert probe("127.0.0.1", front.port, "localhost", roots=lab.root).staple_der == newer
        assert is_stapled(s_client(front.port, "-status", ca=lab.root))
        status, out, err = stapleproxy("staples", config, "set", "localhost", "-", stdin=pem)
        assert (status, out) == (1, b"")
        assert "older-than-held" in err
        status, _, err = stapleproxy("staples", config, "set", "localhost", "-", stdin=b"hello")
        assert status == 1
        assert "unparsable" in err
        status, _, err = stapleproxy("staples", config, "refresh", "nobody.test")
        assert status == 1
        assert "no certificate for 'nobody.test' is stapled" in err


@pytest.mark.slow
def test_reload_and_stop(lab, backend, tmp_path, settings):
    """A mistake changes nothing and is told as `check` tells it; without one the new configuration serves."""
    one, two = lab.issue("one.test"), lab.issue("two.test")
    config = tmp_path / "front.toml"
    with lab.responder(), run(tmp_path, toml(site(backend, one), **settings)) as front:
        good = config.read_text()
        config.write_text(good.replace("workers = 1", 'workers = "many"\ndrain_timeout_s = -1'))
        status, out, err = stapleproxy("reload", config)
        assert (status, out) == (2, b"")
        assert err == stapleproxy("check", config)[2]
        assert len(err.splitlines()) == 2
        assert stapleproxy("status", config)[0] == 3, "a refused reload needs attention"
        config.write_text(good.replace(str(one[0]), str(two[0])).replace(str(one[1]), str(two[1])))
        assert stapleproxy("reload", config) == (0, b"generation 2 serves\n", "")
        wait_until(lambda: is_stapled(s_client(front.port, "-status", ca=lab.root, name="two.test")))
        status, out, _ = stapleproxy("status", config)
        assert status == 0
        assert b"generation 2" in out
        assert stapleproxy("stop", config) == (0, b"stopped\n", "")
        assert front.process.wait(20) == 0
