"""`stapling.cache` of Redis, as Apache writes it and as a URL, and what a URL should not hold."""

from __future__ import annotations

import sys

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from ocsp.pki import CA, issue
from toml_file import load

from proxy.errors import ConfigError
from proxy.redisdoor import PASSWORD_VARIABLE, SENTINEL_PASSWORD_VARIABLE, Credentials, read_door
from proxy.settings.caching import RedisServers, RedisStapling, parse_redis, redis_contradictions
from proxy.settings.model import StaplingSettings

SITE = '\n[[site]]\nupstream = "http://127.0.0.1:8000"\n[[site.certificate]]\nchain = "chain.pem"\nkey = "key.pem"\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis:a", RedisServers((("a", None),), is_tls=False, database=0)),
        ("redis:a:1,b", RedisServers((("a", 1), ("b", None)), is_tls=False, database=0)),
        ("redis:[::1]:7000,[::2]", RedisServers((("::1", 7000), ("::2", None)), is_tls=False, database=0)),
        ("redis://a", RedisServers((("a", None),), is_tls=False, database=0)),
        ("redis://a:1/", RedisServers((("a", 1),), is_tls=False, database=0)),
        ("rediss://a:1,b:2/3", RedisServers((("a", 1), ("b", 2)), is_tls=True, database=3)),
    ],
)
def test_servers(text, expected):
    assert parse_redis(text) == expected
    assert parse_redis(str(expected)) == expected


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("redis:", "List of server names required to create redis socache"),
        ("redis://", "List of server names required"),
        ("redis://u:secret@a", "user and password do not belong here"),
        ("redis:u:secret@a", "user and password do not belong here"),
        ("rediss:a", "write rediss://HOST"),
        ("redis://a/x", "only the number of a database"),
        ("redis://a?password=secret", "host"),
        ("redis:a:0", "port above 0"),
        ("redis:a:99999", "port"),
        ("redis:a,a", "more than once"),
        ("redis:a,,b", "a host"),
        ("redis:::1", "in brackets"),
    ],
)
def test_what_is_wrong_is_one_sentence_without_the_value(text, what):
    with pytest.raises(ValueError, match=r"\w") as caught:
        parse_redis(text)
    assert what in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ('cache = "valkey://u:secret@a"', "stapling.cache", "rediss://HOST, for Valkey too"),
        ('cache = "redis:u:secret@a"', "stapling.cache", "user and password do not belong here"),
        ('cache = "redis:a"\nredis.local_cache = "redis:b"', "stapling.redis.local_cache", "this machine's own"),
        ('cache = "redis:a"\nredis.key_prefix = "a{b}"', "stapling.redis.key_prefix", "1 to 100 letters"),
        ('cache = "redis:a"\nredis = {sentinel_master = "m", cluster = true}', "stapling.redis.cluster", "either"),
        ('cache = "redis:a"\nredis.timeout_s = 0', "stapling.redis.timeout_s", "above 0"),
        ('cache = "redis:a"\nredis.password = "secret"', "stapling.redis.password", "password_file"),
    ],
)
def test_mistakes_of_the_table(tmp_path, text, where, what):
    path = tmp_path / "x.toml"
    path.write_text(f"[stapling]\n{text}\n{SITE}")
    with pytest.raises(ConfigError) as caught:
        load(path)
    said = str(caught.value)
    assert where in said
    assert what in said
    assert "secret" not in said.replace("secret@", "") or "password_file" in said


def door(tmp_path, *, mode=0o600, text="hidden\n", environment=None, **redis):
    path = tmp_path / "password"
    path.write_text(text)
    path.chmod(mode)
    return read_door(StaplingSettings(cache="redis:a", redis=redis | {"password_file": path}), environment or {})


def test_the_password_is_from_a_file_or_the_environment(tmp_path):
    """The file goes before; its line end does not count; nobody sees it where the rest is shown."""
    assert door(tmp_path, environment={PASSWORD_VARIABLE: "other"}).credentials.password == "hidden"
    assert "hidden" not in repr(door(tmp_path))
    of_environment = read_door(StaplingSettings(cache="redis:a"), {PASSWORD_VARIABLE: "other"})
    assert of_environment.credentials.password == "other"
    assert read_door(StaplingSettings(cache="redis:a"), {}).credentials.password is None
    assert read_door(StaplingSettings(), {PASSWORD_VARIABLE: "other"}) is None


@pytest.mark.parametrize(("more", "what"), [({"mode": 0o644}, "chmod"), ({"text": "\n"}, "empty")])
def test_a_password_file_that_is_not_fit(tmp_path, more, what):
    with pytest.raises(ConfigError, match=what) as caught:
        door(tmp_path, **more)
    assert "stapling.redis.password_file" in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_files_that_are_not_there(tmp_path):
    redis = {"password_file": tmp_path / "none", "ca_file": tmp_path / "none.pem"}
    with pytest.raises(ConfigError) as caught:
        read_door(StaplingSettings(cache="rediss://a", redis=redis), {})
    assert [problem.where for problem in caught.value.problems] == [
        "stapling.redis.password_file",
        "stapling.redis.ca_file",
    ]


@pytest.mark.parametrize(
    ("package", "what"),
    [
        (None, "redis needs the Python package of that name"),
        ("import nowhere_to_be_found", "cannot be used: No module named 'nowhere_to_be_found'"),
        ("raise OSError('broken')", "cannot be used: broken"),
        ("", "too old, or another one"),
    ],
)
def test_a_package_that_is_missing_or_of_no_use_is_told_before_anything_runs(monkeypatch, tmp_path, package, what):
    """Else the keeper would fall over it at each start."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "redis"]:
        monkeypatch.delitem(sys.modules, name)
    if package is None:
        monkeypatch.setitem(sys.modules, "redis", None)
    else:
        (tmp_path / "redis").mkdir()
        (tmp_path / "redis" / "__init__.py").write_text(package)
        monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match=what) as caught:
        read_door(StaplingSettings(cache="redis:a"), {})
    assert "pip install" in str(caught.value)


@pytest.mark.parametrize(
    ("redis", "where", "what"),
    [
        ({"client_certificate": "chain.pem"}, "client_certificate", "client_key is needed"),
        ({"client_key": "key.pem"}, "client_key", "client_certificate is needed"),
        ({"client_certificate": "chain.pem", "client_key": "other.pem"}, "client_certificate", "key values mismatch"),
        ({"client_certificate": "key.pem", "client_key": "key.pem"}, "client_certificate", "no certificate with its"),
        ({"client_certificate": "chain.pem", "client_key": "open.pem"}, "client_key", "chmod"),
        ({"ca_file": "key.pem"}, "ca_file", "no certificates"),
    ],
)
def test_what_tls_needs_is_tried_before_anything_runs(tmp_path, redis, where, what):
    """A certificate that is not that of the key, or a key that all may read, is told by the file's name."""
    for name, party in (("key", CA), ("other", issue("x.example", CA)), ("open", CA)):
        (tmp_path / f"{name}.pem").write_bytes(
            party.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        (tmp_path / f"{name}.pem").chmod(0o644 if name == "open" else 0o600)
    (tmp_path / "chain.pem").write_bytes(CA.cert.public_bytes(Encoding.PEM))
    files = {name: tmp_path / file for name, file in redis.items()}
    with pytest.raises(ConfigError) as caught:
        read_door(StaplingSettings(cache="rediss://a", redis=files), {})
    (problem,) = caught.value.problems
    assert problem.where == f"stapling.redis.{where}"
    assert what in problem.what


def test_the_sentinels_have_a_password_of_their_own(tmp_path):
    path = tmp_path / "password"
    path.write_text("hidden\n")
    path.chmod(0o600)
    redis = {"sentinel_master": "m", "sentinel_username": "u", "sentinel_password_file": path}
    found = read_door(StaplingSettings(cache="redis:a", redis=redis), {PASSWORD_VARIABLE: "other"})
    assert (found.credentials, found.sentinel_credentials) == (Credentials(None, "other"), Credentials("u", "hidden"))
    found = read_door(StaplingSettings(cache="redis:a"), {SENTINEL_PASSWORD_VARIABLE: "of-the-sentinels"})
    assert found.sentinel_credentials.password == "of-the-sentinels"
    assert "hidden" not in repr(found)


@pytest.mark.parametrize(
    ("cache", "redis", "where"),
    [
        ("redis:a", {"ca_file": "x"}, "ca_file"),
        ("redis:a", {"client_certificate": "x"}, "client_certificate"),
        ("redis:a", {"sentinel_username": "x"}, "sentinel_username"),
        ("redis:a", {"sentinel_password_file": "x"}, "sentinel_password_file"),
    ],
)
def test_what_would_be_of_no_use_is_a_mistake(cache, redis, where):
    """Without TLS nobody is vouched for, without Sentinels nobody asks for their password."""
    found = redis_contradictions(cache, RedisStapling(**redis), profile="prefetch", nonce=False)
    assert [place for place, _ in found] == [f"stapling.redis.{where}"]
