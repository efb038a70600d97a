"""``stapleproxy staples`` at a running stapleproxy: what it asks for, and what it says of each outcome."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest
from cli.admin_socket import admin_socket
from click.testing import CliRunner
from ocsp.pki import Answer

from proxy.cli import main
from proxy.ocsp.text import response_text

KEYS = ("0123456789" * 4, "abcdef0123" * 4)
TROUBLE = {"url": "http://r/", "reason": "timeout", "detail": "no answer within 10 s"}
TOLD = "http://r/: timeout: no answer within 10 s"


def staple(number=0, **facts):
    return {
        "key": KEYS[number],
        "certificate": f"{number}.pem (EC secp256r1)",
        "names": [f"{number}.test", f"*.{number}.test"],
        "serial": f"{number}f",
        "responders": ["http://r/"],
        "status": "good",
        "this_update": "2026-03-01T12:00:00Z",
        "next_update": "2026-03-02T12:00:00Z",
        "stapled_until": "2026-03-02T12:00:00Z",
        "next_attempt": "2026-03-02T00:00:00Z",
        "successes": 1,
        "failures": 0,
        "troubles": [],
    } | facts


def staples(*all_of_them):
    return 200, {"staples": list(all_of_them)}


def run(path, *arguments, stdin=None):
    result = CliRunner().invoke(main, ["staples", *map(str, arguments), "--socket", str(path)], input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout_bytes, result.stderr


REFRESHED = staple(successes=2, stapled_until="2026-03-03T12:00:00Z")
FAILED = staple(failures=1, troubles=[TROUBLE])


@pytest.mark.parametrize(
    ("after", "status", "out", "err"),
    [
        (REFRESHED, 0, "0.pem (EC secp256r1): good, stapled until 2026-03-03 12:00:00Z\n", ""),
        (
            FAILED,
            1,
            "",
            f"0.pem (EC secp256r1): no new staple, the one held lasts until 2026-03-02 12:00:00Z; {TOLD}\n",
        ),
        (
            staple(),
            1,
            "",
            "1 of 1 were not answered within 0.5 s: 0.pem (EC secp256r1); they are still being asked for\n",
        ),
    ],
    ids=["good", "refused", "nothing"],
)
@pytest.mark.parametrize("answer", [(202, {"refreshing": "x"}), (409, {"error": "it is being asked for already"})])
def test_refresh_waits_for_the_outcome(tmp_path, after, status, out, err, answer):
    """Whoever had it asked for: a new response, a refusal with its reason, or nothing in time."""
    replies = {
        "GET /api/staples": [staples(staple(), staple(1)), staples(staple(), staple(1)), staples(after, staple(1))],
        f"POST /api/staples/{KEYS[0]}/refresh": [answer],
    }
    with admin_socket(tmp_path / "s", **replies) as served:
        assert run(served.path, "refresh", "0.test", "--timeout-s", "0.5") == (status, out.encode(), err)
    assert sum(what.startswith("POST") for what, _ in served.asked) == 1


def test_refresh_of_all_tells_those_that_were_refused(tmp_path):
    """One line for each, and how many went well."""
    replies = {"GET /api/staples": [staples(staple(), staple(1)), staples(FAILED, staple(1, successes=2))]}
    replies |= {f"POST /api/staples/{key}/refresh": [(202, {})] for key in KEYS}
    with admin_socket(tmp_path / "s", **replies) as served:
        status, out, err = run(served.path, "refresh", "--all")
    assert (status, out) == (1, b"1 of 2 refreshed\n")
    assert err.startswith("0.pem (EC secp256r1): no new staple")


def test_a_responders_words_do_not_steer_the_terminal(tmp_path):
    """In the list, and in the outcome of a refresh."""
    hostile = "\x1b]0;title\x07\x9b2J\u202emoc"
    after = staple(certificate=hostile, failures=1, troubles=[TROUBLE | {"detail": hostile}])
    replies = {
        "GET /api/staples": [staples(staple()), staples(after)],
        f"POST /api/staples/{KEYS[0]}/refresh": [(202, {})],
    }
    with admin_socket(tmp_path / "s", **replies) as served:
        for command in (["refresh", "0.test"], ["list"]):
            _, out, err = run(served.path, *command)
            assert "moc" in out.decode() + err
            assert all(line.isprintable() for line in (out.decode() + err).split("\n"))


def test_where_nobody_can_be_asked(tmp_path):
    """A staple from a file, say, of a certificate that names no responder."""
    replies = {
        "GET /api/staples": [staples(staple(responders=[]))],
        f"POST /api/staples/{KEYS[0]}/refresh": [(409, {"error": "no responder is known for it"})],
    }
    with admin_socket(tmp_path / "s", **replies) as served:
        status, _, err = run(served.path, "refresh", "0.test")
    assert (status, "no responder is known for it" in err) == (1, True)


@pytest.mark.parametrize("name", ["0.test", "www.0.test", "0f", "0123456789"])
def test_one_is_found_by_name_serial_or_key(tmp_path, name):
    """As in a cache's file."""
    der = Answer().der
    replies = {
        "GET /api/staples": [staples(staple(), staple(1))],
        f"GET /api/staples/{KEYS[0]}/response": [(200, der)],
    }
    with admin_socket(tmp_path / "s", **replies) as served:
        assert run(served.path, "export", name) == (0, der, "")
        assert run(served.path, "show", name) == (0, response_text(der).encode(), "")
        assert run(served.path, "export", name, "--text", "-o", tmp_path / "x")[0] == 0
    assert (tmp_path / "x").read_text() == response_text(der)


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "0.test", "--socket", "SOCKET"],
        ["--socket", "SOCKET", "show", "0.test"],
        ["--socket=SOCKET", "show", "0.test"],
        ["CONFIG", "show", "0.test"],
        ["show", "0.test", "-c", "CONFIG"],
        ["--config", "CONFIG", "show", "0.test"],
        ["show", "-c", "CONFIG", "0.test"],
    ],
)
def test_the_file_and_the_options_stand_where_people_write_them(tmp_path, arguments):
    """Before the command or behind it."""
    config = tmp_path / "x.toml"
    site = '[[site]]\nupstream = "http://a:1"\n[[site.certificate]]\nchain = "a"\nkey = "b"\n'
    config.write_text(f'[admin]\nsocket = "s"\n{site}')
    replies = {
        "GET /api/staples": [staples(staple())],
        f"GET /api/staples/{KEYS[0]}/response": [(200, Answer().der)],
    }
    with admin_socket(tmp_path / "s", **replies) as served:
        given = [each.replace("SOCKET", str(served.path)).replace("CONFIG", str(config)) for each in arguments]
        result = CliRunner().invoke(main, ["staples", *given])
    assert result.exit_code == 0, result.stderr
    assert "OCSP Response Status: successful" in result.stdout


def test_set_takes_der_and_pem_and_tells_a_refusal(tmp_path):
    """What is sent is DER; the keeper judges it."""
    der = Answer().der
    replies = {
        "GET /api/staples": [staples(staple(status=None), staple(1))],
        f"GET /api/staples/{KEYS[0]}/response": [(200, der)],
        f"PUT /api/staples/{KEYS[0]}": [(200, staple()), (422, {"error": "it is over", "reason": "expired"})],
    }
    (tmp_path / "x.der").write_bytes(der)
    with admin_socket(tmp_path / "s", **replies) as served:
        said = b"0.pem (EC secp256r1): good, stapled until 2026-03-02T12:00:00Z\n"
        assert run(served.path, "set", "0.test", tmp_path / "x.der") == (0, said, "")
        status, out, err = run(served.path, "set", "0.test", "-", stdin=der)
        assert (status, out, err) == (1, b"", f"admin.socket {served.path}: expired: it is over\n")
        served.replies["GET /api/staples"] = [staples(staple())]
        pem = run(served.path, "export", "0.test", "--pem")[1]
        run(served.path, "set", "0.test", "-", stdin=pem)
    assert [body for what, body in served.asked if what.startswith("PUT")] == [der, der, der]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (b"-----BEGIN OCSP RESPONSE-----\nAAAA", "is no OCSP response in PEM: "),
        (b"-----BEGIN OCSP RESPONSE-----\n!!\n-----END OCSP RESPONSE-----\n", "is no OCSP response in PEM: "),
        (b"x" * ((4 << 20) + 1), "is longer than 4194304 bytes"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_what_cannot_be_a_response_is_not_sent(tmp_path, text, what):
    """One sentence says why."""
    path = tmp_path / "x.der"
    if text is not None:
        path.write_bytes(text)
    with admin_socket(tmp_path / "s") as served:
        status, out, err = run(served.path, "set", "0.test", path)
    assert (status, out) == (2, b"")
    assert err.startswith(f"{path}: {what}")
    assert served.asked == []


def test_der_is_not_written_to_a_terminal(tmp_path):
    """It would garble it."""
    der = Answer().der
    replies = {
        "GET /api/staples": [staples(staple())],
        f"GET /api/staples/{KEYS[0]}/response": [(200, der)],
    }
    ours, terminal = pty.openpty()
    with admin_socket(tmp_path / "s", **replies) as served, os.fdopen(ours, "rb"), os.fdopen(terminal, "wb") as screen:
        done = subprocess.run(
            [sys.executable, "-m", "proxy", "staples", "export", "0.test", "--socket", str(served.path)],
            stdout=screen,
            stderr=subprocess.PIPE,
            check=False,
            timeout=30,
        )
    assert done.returncode == 2
    assert b"DER would garble the terminal: give -o FILE, --pem or --text" in done.stderr


def test_the_list_of_a_running_one(tmp_path):
    """The same columns as of a cache's file, as far as they are known."""
    with admin_socket(tmp_path / "s", **{"GET /api/staples": [staples(staple(), staple(1, status=None))]}) as served:
        status, out, _ = run(served.path, "list")
        assert status == 0
        assert "0.test, *.0.test (0.pem (EC secp256r1))" in out.decode()
        assert "not held" in out.decode()
        assert run(served.path)[1] == out
        assert run(served.path, "show")[1] == out
        assert run(served.path, "--figures", "apache")[0] == 2
