"""``stapleproxy serve`` says its mistakes by the names of its options."""

import pytest
from certs import make_chain
from click.testing import CliRunner

from proxy.cli import main
from proxy.cli.serve import option


def serve(*arguments):
    result = CliRunner().invoke(main, ["serve", *map(str, arguments)])
    assert isinstance(result.exception, SystemExit)
    return result.exit_code, result.stderr


def test_all_mistakes_at_once():
    """The same sentences as for a file."""
    options = "--listen 8443 --cert c.pem --key k.pem --upstream app:8000 --name a..b --workers 999 --cache shmcb:x()"
    status, err = serve(*options.split(), "--responder-url", "ocsp.test", "--issuer", "")
    assert status == 2
    assert err.splitlines() == [
        '--listen: a port is missing: write HOST:PORT, found "8443"',
        "--workers: must be from 0 to 256, found 999",
        '--cache: SSLStaplingCache: Invalid argument: size has to be >= 8192 bytes, found "shmcb:x()"',
        '--responder-url: must be a URL such as http://ocsp.example.com/, found "ocsp.test"',
        '--name: write a host name without scheme and port: www.example.com or *.example.com, found "a..b"',
        '--issuer: must be the name of a file, found ""',
        '--upstream: must be http://HOST:PORT or unix:/PATH, found "app:8000"',
    ]


def test_files_are_relative_to_where_one_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, err = serve("--cert", "c.pem", "--key", "k.pem", "--upstream", "http://127.0.0.1:8000")
    assert status == 2
    assert err.splitlines() == [
        f"--cert: cannot read {tmp_path}/c.pem: No such file or directory",
        f"--key: cannot read {tmp_path}/k.pem: No such file or directory",
    ]


def test_a_key_of_another_certificate(tmp_path):
    ec, rsa = make_chain(tmp_path).files, make_chain(tmp_path, kind="rsa").files
    pairs = ["--cert", ec.chain, "--key", rsa.key, "--cert", rsa.chain, "--key", rsa.key]
    assert serve(*pairs, "--upstream", "http://127.0.0.1:8000") == (
        2,
        f"--key: the private key in {rsa.key} does not belong to the first certificate in {ec.chain}\n",
    )


def test_each_certificate_needs_its_key():
    status, err = serve("--cert", "a", "--cert", "b", "--key", "c", "--upstream", "http://a")
    assert status == 2
    assert "each --cert needs its --key: 2 and 1 are given" in err


def test_what_is_required_is_told_by_click():
    status, err = serve("--cert", "a")
    assert status == 2
    assert "Missing option" in err


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("site[0].certificate[1].chain", "--cert"),
        ("site[0].certificate[1]", "--cert"),
        ("site[0].names[3]", "--name"),
        ("tls.ciphers", "tls.ciphers"),
    ],
)
def test_options_by_key_path(where, expected):
    assert option(where) == expected
