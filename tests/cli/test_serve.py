"""``stapleproxy serve`` says its mistakes by the names of its options."""

import pytest
from certs import make_chain, pem, self_signed
from click.testing import CliRunner

from proxy.cli import main
from proxy.cli.serve import option


def serve(*arguments):
    result = CliRunner().invoke(main, ["serve", *map(str, arguments)])
    assert isinstance(result.exception, SystemExit)
    return result.exit_code, result.stderr


def test_all_mistakes_at_once(tmp_path, monkeypatch):
    """The same sentences as for a file."""
    monkeypatch.chdir(tmp_path)
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
        '--upstream: must be http://HOST:PORT, https://HOST:PORT, tcp://HOST:PORT or unix:/PATH, found "app:8000"',
        f"--cert: cannot read {tmp_path}/c.pem: No such file or directory",
        f"--key: cannot read {tmp_path}/k.pem: No such file or directory",
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


class TestIssuer:
    """One --issuer is for all certificates, and RSA and ECDSA often have two issuers."""

    @pytest.fixture
    def parts(self, tmp_path):
        """A certificate with its issuer, one without, and the issuer of neither."""
        whole, lone = make_chain(tmp_path), make_chain(tmp_path, kind="rsa")
        issuer, other = (
            lone.write("issuer.pem", pem(lone.issuer)),
            lone.write("other.pem", pem(self_signed(tmp_path).leaf)),
        )
        lone.files.chain.write_bytes(pem(lone.leaf))
        return whole.files, lone.files, issuer, other

    def problems(self, issuer, *files):
        pairs = [each for pair in files for each in ("--cert", pair.chain, "--key", pair.key)]
        # The doubtful port keeps it from being served when all else is right.
        status, err = serve(*pairs, "--issuer", issuer, "--upstream", "http://127.0.0.1:8000", "--listen", "here")
        assert status == 2
        first, *others = err.splitlines()
        assert first.startswith("--listen: a port is missing")
        return others

    def test_it_counts_where_the_chain_lacks_it(self, parts):
        whole, lone, issuer, other = parts
        assert self.problems(issuer, whole, lone) == []
        assert self.problems(other, whole) == []

    def test_a_certificate_that_has_none_needs_the_right_one(self, parts):
        whole, lone, _, other = parts
        assert self.problems(other, whole, lone) == [f"--issuer: {other} does not hold the issuer of {lone.chain}"]

    def test_it_must_be_readable_also_where_it_is_not_needed(self, parts, tmp_path):
        whole, *_ = parts
        assert self.problems(tmp_path / "no.pem", whole) == [
            f"--issuer: cannot read {tmp_path}/no.pem: No such file or directory"
        ]


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
