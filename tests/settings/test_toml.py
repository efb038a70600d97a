"""A configuration file is right, or every mistake in it is told at once, in the words of who wrote it."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toml_file import load

from proxy.errors import ConfigError
from proxy.settings.build import all_fields, build, what_is_right
from proxy.settings.upstreams import UpstreamServer
from proxy.settings.values import ListenAddress, UpstreamAddress

MINIMAL = """
[[site]]
upstream = "http://127.0.0.1:8000"
[[site.certificate]]
chain = "chain.pem"
key = "key.pem"
"""

SECRET = "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n"


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "x.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.fixture
def problems(write):
    """The problems of a file's text, without the file's name, which each must have."""

    def problems(text):
        path = write(text)
        with pytest.raises(ConfigError) as caught:
            load(path)
        told = [str(problem) for problem in caught.value.problems]
        assert all(line.startswith(f"{path}:") and "\n" not in line for line in told)
        return [line.removeprefix(f"{path}:").lstrip() for line in told]

    return problems


def test_the_smallest_file(write):
    loaded = load(write(MINIMAL))
    assert loaded.listen == (ListenAddress("127.0.0.1", 8443),)
    assert loaded.site[0].upstream == (UpstreamServer(UpstreamAddress("127.0.0.1", 8000)),)
    assert loaded.worker_count >= 1


def test_relative_paths_are_relative_to_the_file(write, tmp_path, monkeypatch):
    """Wherever the program is started; absolute ones stay, and so does the size of the cache."""
    stapling = '[stapling]\ncache = "shmcb:staples(65536)"\n'
    path = write(stapling + MINIMAL.replace("key.pem", "/etc/key.pem") + 'issuer = "sub/ca.pem"\n')
    monkeypatch.chdir("/")
    loaded = load(Path(os.path.relpath(path)))
    (files,) = loaded.site[0].certificate
    assert [files.chain, files.key] == [tmp_path / "chain.pem", Path("/etc/key.pem")]
    assert files.issuer == tmp_path / "sub/ca.pem"
    assert loaded.stapling.cache == f"shmcb:{tmp_path}/staples(65536)"


def test_a_folder_with_parentheses_does_not_change_the_caches_size(tmp_path):
    folder = tmp_path / "a (1)"
    folder.mkdir()
    path = folder / "x.toml"
    path.write_text('[stapling]\ncache = "shmcb:b"\n' + MINIMAL)
    assert load(path).stapling.cache == f"shmcb:{folder}/b(524288)"


def test_all_mistakes_at_once(problems):
    """One file with a mistake of each kind, told with key path, what is expected, and what is found."""
    assert problems(
        """
        workers = "4"
        log_level = "loud"
        drain_timeout_s = 0
        listen = "127.0.0.1:8443"
        drain_timeout = 3
        [tls]
        session_tickets = 1
        protocols = ["TLSv1.3", "SSLv3"]
        workers = 3
        [stapling]
        cache = "shmcb:x(8191)"
        responder_url = "ocsp.example.com"
        retry_min_interval_s = nan
        fetch_timeout_s = 2026-01-01
        [http]
        max_head_bytes = 99999999
        client_timeout_s = true
        tls = 1
        [[site]]
        names = ["www.test", "w*.test", 7]
        upstream = "ftp://127.0.0.1:8000"
        certificate = []
        [[site]]
        certificate = [{chain = "", key = ["k"], issuer = "a.pem"}, {chain = "c.pem"}]
        [site.stapling]
        enabled = "yes"
        """
    ) == [
        'listen: must be a list: [...], found "127.0.0.1:8443"',
        'workers: must be a whole number, found "4"',
        "drain_timeout_s: must be above 0 and at most 31536000, found 0",
        'log_level: must be "debug", "info", "warning" or "error", found "loud"',
        'tls.protocols[1]: must be "TLSv1.2" or "TLSv1.3", found "SSLv3"',
        "tls.session_tickets: must be true or false, found 1",
        "tls.workers: unknown key: it belongs to the top of the file, before the first [table]",
        'stapling.cache: SSLStaplingCache: Invalid argument: size has to be >= 8192 bytes, found "shmcb:x(8191)"',
        'stapling.responder_url: must be a URL such as http://ocsp.example.com/, found "ocsp.example.com"',
        "stapling.fetch_timeout_s: must be a number, found a date or a time",
        "stapling.retry_min_interval_s: must be a finite number, found nan",
        "http.max_head_bytes: must be from 1024 to 1048576, found 99999999",
        "http.client_timeout_s: must be a number, found true",
        "http.tls: unknown key",
        'site[0].names[1]: a wildcard stands for the whole first label: *.example.com, found "w*.test"',
        "site[0].names[2]: must be text in quotes, found 7",
        "site[0].certificate: must have at least one entry, found none",
        (
            "site[0].upstream: must be http://HOST:PORT, https://HOST:PORT, tcp://HOST:PORT or unix:/PATH, "
            'found "ftp://127.0.0.1:8000"'
        ),
        'site[1].certificate[0].chain: must be the name of a file, found ""',
        "site[1].certificate[0].key: must be the name of a file, found a list",
        "site[1].certificate[1].key: is missing: PEM: the private key, without a passphrase",
        (
            "site[1].upstream: is missing: the backend: http://HOST:PORT, https://HOST:PORT, tcp://HOST:PORT or "
            "unix:/PATH; or a list of these, or of { url, weight }; with [] requests are answered 404"
        ),
        'site[1].stapling.enabled: must be true or false, found "yes"',
        "drain_timeout: unknown key: did you mean drain_timeout_s?",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "site: is missing: add [[site]]"),
        ("[site]\nx = 1", "site: is a list of tables: write [[site]], found a table"),
        ("tls = 3\n" + MINIMAL, "tls: must be a table: [tls], found 3"),
        ("http.max_head_byte = 1\n" + MINIMAL, "http.max_head_byte: unknown key: did you mean max_head_bytes?"),
        ("site = [3]", "site[0]: must be a table: [[site]], found 3"),
        (
            MINIMAL.replace("[[site]]", "[[site]]\nkey = 'k'"),
            "site[0].key: unknown key: it belongs to [[site.certificate]]",
        ),
        ("fetch_timeout_s = 1\n" + MINIMAL, "fetch_timeout_s: unknown key: it belongs to [stapling]"),
        ("enabled = 1\n" + MINIMAL, "enabled: unknown key: it belongs to [stapling] or [site.stapling]"),
        (
            "[stapling]\nretry_min_interval_s = 9\nretry_max_interval_s = 8\n" + MINIMAL,
            "stapling.retry_max_interval_s: must not be below retry_min_interval_s: 8 is below 9",
        ),
        (
            "[stapling]\nrefresh_min_interval_s = 100000.5\n" + MINIMAL,
            "stapling.refresh_max_interval_s: must not be below refresh_min_interval_s: 86400 is below 100000.5",
        ),
        (
            'listen = ["127.0.0.1:8443", "[::1]:1", "127.0.0.1:8443"]\n' + MINIMAL,
            "listen: 127.0.0.1:8443 is there more than once",
        ),
        (
            MINIMAL.replace(":8000", ":8000/app"),
            (
                "site[0].upstream: an upstream takes no path, requests keep their own: http://127.0.0.1:8000, "
                'found "http://127.0.0.1:8000/app"'
            ),
        ),
        (
            'stapling.cache = "/tmp/x"\n' + MINIMAL,
            (
                "stapling.cache: SSLStaplingCache: '/tmp/x' stapling cache not supported (known names: shmcb,default): "
                'write shmcb:/tmp/x, found "/tmp/x"'
            ),
        ),
        (
            'stapling.cache = "redis:user:secret@a:1"\n' + MINIMAL,
            (
                "stapling.cache: SSLStaplingCache: user and password do not belong here: set stapling.redis.username "
                "and stapling.redis.password_file"
            ),
        ),
    ],
)
def test_one_mistake(problems, text, expected):
    assert problems(text) == [expected]


def test_intervals_out_of_order_are_told_beside_other_mistakes(problems):
    """Not a round later; nothing is compared with a bound that is wrong itself."""
    lines = ("enabled = 1", "refresh_min_interval_s = 9", "refresh_max_interval_s = 8", "retry_min_interval_s = -1")
    assert problems("\n".join(["[stapling]", *lines, MINIMAL])) == [
        "stapling.enabled: must be true or false, found 1",
        "stapling.refresh_max_interval_s: must not be below refresh_min_interval_s: 8 is below 9",
        "stapling.retry_min_interval_s: must be above 0 and at most 31536000, found -1",
    ]


def test_any_free_port_may_be_asked_for_twice(write):
    assert len(load(write('listen = ["127.0.0.1:0", "127.0.0.1:0"]\n' + MINIMAL)).listen) == 2


@pytest.mark.parametrize(
    ("listen", "hint"),
    [
        ("127.0.0.1", "a port is missing"),
        ("8443", "a port is missing"),
        ("[::1]", "a port is missing"),
        ("::1:8443", "in brackets"),
        ("[::1:8443", "in brackets"),
        ("https://127.0.0.1:8443", "must be only an address and a port"),
        ("*:8443", "must be only an address or a host name"),
        ("localhost:https", "from 0 to 65535"),
        ("localhost:65536", "from 0 to 65535"),
        ("localhost:" + "9" * 5000, "from 0 to 65535"),
        ("localhost:\u0663", "from 0 to 65535"),
    ],
)
def test_what_is_no_address_to_listen_on(problems, listen, hint):
    (problem,) = problems(f'listen = ["{listen}"]\n{MINIMAL}')
    assert problem.startswith("listen[0]: ")
    assert hint in problem
    assert len(problem) < 200


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("[::1]:8443", ("::1", 8443)),
        (":443", ("", 443)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),
        ("localhost:1", ("localhost", 1)),
    ],
)
def test_addresses_to_listen_on(write, text, address):
    (found,) = load(write(f'listen = ["{text}"]\n{MINIMAL}')).listen
    assert found == address
    assert str(found) == text


@pytest.mark.parametrize(
    ("upstream", "address"),
    [
        ("http://127.0.0.1", UpstreamAddress("127.0.0.1", 80)),
        ("https://127.0.0.1", UpstreamAddress("127.0.0.1", 443, is_tls=True)),
        ("http://app:8000/", UpstreamAddress("app", 8000)),
        ("http://[::1]:8000", UpstreamAddress("::1", 8000)),
        ("unix:/run/app.sock", UpstreamAddress("", 0, "/run/app.sock")),
    ],
)
def test_upstreams(write, upstream, address):
    assert load(write(MINIMAL.replace("http://127.0.0.1:8000", upstream))).site[0].upstream == (
        UpstreamServer(address),
    )


@pytest.mark.parametrize(
    "upstream",
    ["app:8000", "http://:8000", "http://app:0", "http://app/x", "unix:app.sock", f"unix:/{'x' * 107}", "http://"],
)
def test_what_is_no_upstream(problems, upstream):
    (problem,) = problems(MINIMAL.replace("http://127.0.0.1:8000", upstream))
    assert problem.startswith("site[0].upstream: ")


@pytest.mark.parametrize(
    "text",
    [
        MINIMAL.replace('"key.pem"', '"""' + SECRET + '"""'),
        MINIMAL.replace('"key.pem"', "12345678"),
        MINIMAL + 'passphrase = "hunter2"',
        f'stapling.cache = """{SECRET}"""' + MINIMAL,
        f'stapling.cache = """shmcb:{SECRET}"""' + MINIMAL,
        'stapling.cache = "hunter2/and+so=on=="' + MINIMAL,
        *(f'tls.{key} = """{SECRET}"""' + MINIMAL for key in ("ciphers", "ciphersuites", "groups")),
        f'listen = ["""{SECRET}"""]' + MINIMAL,
        MINIMAL.replace("http://", "http://user:hunter2@"),
        MINIMAL.replace("http://127.0.0.1:8000", "http://user:hunter2@app"),
    ],
)
def test_no_secret_is_repeated(problems, text):
    """Neither a key pasted where its file's name belongs, nor a password in a URL or below an unknown key."""
    assert "hunter2" not in str(problems(text)), problems(text)
    assert "12345678" not in str(problems(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = ", "1:5: not TOML: Invalid value, but the file ends"),
        ("\n\nworkers = 1x\n", "3:12: not TOML: Expected newline or end of document after a statement"),
        ("x = " + "[" * 5000, "not TOML that can be read: brackets are nested too deeply"),
        (b"# caf\xe9", "1: is not UTF-8 text, as TOML must be"),
        (b"#" * 4_194_305, "is no configuration: longer than 4194304 bytes"),
    ],
)
def test_what_is_no_toml(problems, text, expected):
    """With line and column, as far as they are known."""
    assert problems(text) == [expected]


def test_a_number_of_thousands_of_digits(problems):
    (problem,) = problems("workers = " + "9" * 5000)
    assert problem.startswith("not TOML: ")


def test_numbers_beyond_all_reason_are_not_printed(problems):
    assert problems(f"workers = {'9' * 4000}\n" + MINIMAL) == [
        "workers: must be from 0 to 256, found a number far out of range"
    ]


def test_files_that_cannot_be_read(tmp_path):
    for path, reason in ((tmp_path / "no.toml", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(ConfigError) as caught:
            load(path)
        assert str(caught.value) == f"{path}: cannot read the configuration: {reason}"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_any_value_in_any_place_is_taken_or_told(data):
    """Bad input never escapes as anything but ConfigError, and each problem is one line."""
    path = data.draw(st.sampled_from([name for name, _ in all_fields()] + ["site", "tls", "site.certificate", "x.y"]))
    tree = {"site": [{"upstream": "http://a:1", "certificate": [{"chain": "c", "key": "k"}]}]}
    *tables, key = path.split(".")
    place = tree
    for name in tables:
        place = place.setdefault(name, {})
        place = place[0] if isinstance(place, list) else place
    place[key] = data.draw(VALUES)
    told = ()
    assert set(what_is_right(tree, folder=Path("/etc")).sites) <= {0}
    try:
        build(tree, folder=Path("/etc"))
    except ConfigError as error:
        told = error.problems
    assert all(str(problem).isprintable() and len(str(problem)) < 1100 for problem in told)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=200) | st.text(alphabet='[]{}="\n.#\\au 1-:').map(str.encode))
def test_any_bytes_are_a_configuration_or_told(write, content):
    with pytest.raises(ConfigError):  # none of these can name a certificate
        load(write(content))
