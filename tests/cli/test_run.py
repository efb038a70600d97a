"""``stapleproxy run`` with what it cannot serve: a sentence on standard error and an exit status, never a traceback."""

import socket
import subprocess
import sys

import pytest
from certs import make_chain


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "proxy", *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def write(tmp_path):
    def write(listen):
        path = tmp_path / "x.toml"
        path.write_text(
            f'listen = ["{listen}"]\n[[site]]\nupstream = "http://127.0.0.1:1"\n'
            '[[site.certificate]]\nchain = "ec.chain.pem"\nkey = "ec.key.pem"\n'
        )
        return path

    return write


def test_no_file(tmp_path):
    result = run("run", tmp_path / "no.toml")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"{tmp_path}/no.toml: cannot read the configuration: No such file or directory\n"


def test_no_argument():
    result = run("run")
    assert result.returncode == 2
    assert "Missing argument 'FILE'" in result.stderr


def test_mistakes_in_certificates_name_the_file(write, tmp_path):
    """The master finds them, and knows no file; the sentence does."""
    path = write("127.0.0.1:0")
    result = run("run", path)
    assert result.returncode == 2
    assert result.stderr.splitlines() == [
        f"{path}: site[0].certificate[0].{key}: cannot read {tmp_path}/ec.{key}.pem: No such file or directory"
        for key in ("chain", "key")
    ]


def test_mistakes_of_each_kind_are_told_together(write, tmp_path):
    """Of the file, of the certificates and of what OpenSSL knows: one round is enough to mend them."""
    path = write("127.0.0.1:0")
    path.write_text('wokers = 1\ntls.groups = "NOPE"\n' + path.read_text())
    result = run("run", path)
    assert result.returncode == 2
    assert [line.removeprefix(f"{path}: ").partition(":")[0] for line in result.stderr.splitlines()] == [
        "wokers",
        "site[0].certificate[0].chain",
        "site[0].certificate[0].key",
        "tls.groups",
    ]


def test_a_port_in_use(write, tmp_path):
    make_chain(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = run("run", write(f"127.0.0.1:{port}"))
    assert result.returncode == 1
    assert f"127.0.0.1:{port}" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
