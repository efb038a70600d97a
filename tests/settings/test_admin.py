"""Where the admin interface may be: never open to others by mistake; and its secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.admindoors import read_token
from proxy.errors import ConfigError
from proxy.settings.admin import AdminSettings, contradictions, is_loopback
from proxy.settings.build import build
from proxy.settings.values import ListenAddress

SITE = [{"certificate": [{"chain": "a.pem", "key": "a.key"}], "upstream": "http://127.0.0.1:1"}]


def admin(**table):
    return build({"site": SITE, "admin": table}, folder=Path("/etc/x")).admin


def mistakes(**table):
    with pytest.raises(ConfigError) as caught:
        admin(**table)
    return [str(problem) for problem in caught.value.problems]


def test_paths_are_relative_to_the_folder_of_the_file():
    found = admin(socket="a.sock", token_file="token", listen="[::1]:9180", allow=["::1"])
    assert (found.socket, found.token_file) == (Path("/etc/x/a.sock"), Path("/etc/x/token"))
    assert found.listen == ListenAddress("::1", 9180)


@pytest.mark.parametrize("listen", ["127.0.0.1:9180", "127.3.2.1:1", "[::1]:9180", "localhost:0"])
def test_loopback_needs_nothing_else(listen):
    assert str(admin(listen=listen).listen) == listen


@pytest.mark.parametrize("listen", [":9180", "0.0.0.0:9180", "192.0.2.1:9180", "[::]:9180", "admin.example:9180"])
def test_what_others_can_reach_needs_both(listen):
    """One sentence says what is lacking; what is there but wrong is told for itself."""
    (told,) = mistakes(listen=listen)
    assert told.startswith("admin.listen: ")
    assert told.endswith("can be reached from other machines: set allow and token_file too, or write 127.0.0.1")
    (told,) = mistakes(listen=listen, allow=["10.0.0.0/8"])
    assert "set token_file too" in told
    (told,) = mistakes(listen=listen, token_file="token")
    assert "set allow too" in told
    (told,) = mistakes(listen=listen, token_file="token", allow=["nonsense"])
    assert told.startswith("admin.allow")
    assert str(admin(listen=listen, token_file="token", allow=["10.0.0.0/8"]).listen) == listen


def test_a_secret_in_the_place_of_its_file_is_not_repeated():
    (told,) = mistakes(token_file=17)
    assert "17" not in told


@pytest.mark.parametrize(
    ("mine", "other", "is_taken"),
    [
        ("127.0.0.1:8443", "127.0.0.1:8443", True),
        ("127.0.0.1:8443", ":8443", True),
        ("127.0.0.1:8443", "0.0.0.0:8443", True),
        ("127.0.0.1:8443", "192.0.2.1:8443", False),
        ("127.0.0.1:9180", ":8443", False),
        ("127.0.0.1:0", "127.0.0.1:0", False),
    ],
)
def test_the_port_is_no_site_s(mine, other, is_taken):
    """The kernel would give the clients of one to the other."""
    host, _, port = other.rpartition(":")
    assert bool(contradictions(AdminSettings(listen=mine), [ListenAddress(host, int(port))])) == is_taken


def test_a_name_is_not_believed_to_be_loopback():
    assert not is_loopback("loopback.example")


def token(folder, content, mode=0o600):
    path = folder / "token"
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640])
def test_a_token_is_read_without_the_white_space_round_it(tmp_path, mode):
    assert read_token(token(tmp_path, b" 0123456789abcdef\r\n", mode)) == b"0123456789abcdef"


@pytest.mark.parametrize(
    ("content", "mode", "what"),
    [
        (b"0123456789abcdef", 0o644, "can read or write it (mode 0644): chmod 600"),
        (b"0123456789abcdef", 0o602, "can read or write it"),
        (b"0123456789abcde\n", 0o600, "less than 16 characters"),
        (b"", 0o600, "less than 16 characters"),
        (b"two words that are long", 0o600, "one word"),
        ("ein-Schlüssel-mit-Umlaut".encode(), 0o600, "one word"),
        (b"x" * 2000, 0o600, "longer than 1024 bytes"),
    ],
)
def test_what_is_no_good_secret_is_a_mistake(tmp_path, content, mode, what):
    with pytest.raises(ConfigError, match=r"admin\.token_file") as caught:
        read_token(token(tmp_path, content, mode))
    assert what in str(caught.value)
    assert "0123456789abcde" not in str(caught.value)


@pytest.mark.parametrize("name", ["none", ".", "/dev/zero"])
def test_a_token_that_cannot_be_read_is_a_mistake(tmp_path, name):
    with pytest.raises(ConfigError):
        read_token(tmp_path / name)
