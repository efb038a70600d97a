"""Apache's files on the command line: the options for them, mistakes at their lines, and TOML made of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from certs import make_chain
from cli.httpd_files import SAMPLES, install
from click.testing import CliRunner
from toml_file import load

from proxy.cli import main
from proxy.settings.source import HttpdOptions, read_source

CONFIG = Path(__file__).parents[2] / "config"
SITE = """\
Listen 127.0.0.1:8443
<VirtualHost *:8443>
ServerName www.test
SSLEngine on
SSLCertificateFile ec.chain.pem
SSLCertificateKeyFile ec.key.pem
ProxyPass / http://127.0.0.1:8000/
</VirtualHost>
"""


@pytest.fixture
def stapleproxy(tmp_path):
    """Run a command on a file with this text; exit status, and what it says without the folder's name."""

    def stapleproxy(command, text, *options):
        (tmp_path / "x.conf").write_text(text)
        result = CliRunner().invoke(main, [command, *options, str(tmp_path / "x.conf")])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, *(said.replace(f"{tmp_path}/", "") for said in (result.stdout, result.stderr))

    return stapleproxy


@pytest.mark.parametrize("command", ["check", "convert", "run", "explain", "staples"])
def test_mistakes_of_the_syntax(stapleproxy, command):
    """All commands that take a configuration take Apache's, and tell all mistakes at once."""
    status, out, err = stapleproxy(command, "<A b>\n</B>\n</A>\nInclude none.conf\n")
    assert (status, out) == (2, "")
    assert err == (
        "x.conf:2: Expected </A> but saw </B>\n"
        "x.conf:4: Could not open configuration file none.conf: No such file or directory\n"
    )


@pytest.mark.parametrize("command", ["check", "run", "explain"])
def test_mistakes_in_certificates_are_told_at_their_lines(stapleproxy, command):
    """Not at a key path, which the file does not have."""
    status, _, err = stapleproxy(command, SITE)
    assert status == 2
    assert err == (
        "x.conf:5: cannot read ec.chain.pem: No such file or directory\n"
        "x.conf:6: cannot read ec.key.pem: No such file or directory\n"
    )


def test_mistakes_in_directives_are_told_together(stapleproxy):
    """Unknown ones, wrong values, and what cannot be done here."""
    status, _, err = stapleproxy(
        "check", SITE + "SSLStapling on\nSSLUseStapling maybe\nSSLStaplingResponseMaxAge -1\nSSLFIPS on\n"
    )
    assert status == 2
    assert sorted(line.split(": ")[0] for line in err.splitlines()) == [f"x.conf:{line}" for line in (10, 11, 12, 9)]
    assert "x.conf:9: Invalid command 'SSLStapling', perhaps misspelled" in err
    assert "x.conf:10: SSLUseStapling must be On or Off\n" in err


def test_check_says_what_would_be_served(stapleproxy, tmp_path):
    """As of a TOML file, and its warnings with their lines."""
    make_chain(tmp_path)
    status, out, err = stapleproxy("check", SITE + "SSLUseStapling on\nSSLStaplingCache shmcb:\nPidFile ${RUN}/x\n")
    assert (status, err) == (0, "")
    assert "www.test (default) -> http://127.0.0.1:8000" in out
    assert "  stapling  yes, asking ocsp.test:80" in out
    assert "x.conf:11: warning: AH00111: Config variable ${RUN} is not defined\n" in out
    assert out.endswith("x.conf: ok\n")


def test_lenient(stapleproxy, tmp_path):
    """What cannot be done is told, and is no mistake; what Apache would refuse stays one."""
    make_chain(tmp_path)
    text = SITE + "SSLFIPS on\n"
    strict, lenient = stapleproxy("check", text), stapleproxy("check", text, "--lenient")
    assert (strict[0], lenient[0]) == (2, 0)
    assert strict[2].startswith("x.conf:9: SSLFIPS: ")
    assert strict[2].replace("x.conf:9:", "x.conf:9: warning:") in lenient[1]
    assert stapleproxy("check", text + "Nope\n", "--lenient")[0] == 2


def test_profile_and_defines(stapleproxy, tmp_path):
    """The profile is httpd-2.4 unless the option says otherwise; -D is as Apache's, and may have a value."""
    text = (
        SITE.replace("www.test", "${Name}")
        + "<IfDefine Staple>\nSSLUseStapling on\nSSLStaplingCache shmcb:\n</IfDefine>\n"
    )
    status, out, _ = stapleproxy("convert", text, "-D", "Name=www.test")
    assert status == 0
    assert 'profile = "httpd-2.4"' in out
    assert "enabled = false" in out
    for profile in ("prefetch", "httpd-trunk"):
        status, out, _ = stapleproxy("convert", text, "-DName=a.test", "-D", "Staple", "--profile", profile)
        assert status == 0
        (tmp_path / "x.toml").write_text(out)
        settings = load(tmp_path / "x.toml")
        assert (settings.stapling.profile, settings.site[0].names) == (profile, ("a.test",))
        assert settings.stapling.enabled


@pytest.mark.parametrize("command", ["check", "convert", "run", "explain", "staples"])
@pytest.mark.parametrize("option", ["--lenient", "--profile=prefetch", "-DX"])
def test_the_options_are_for_files_of_apaches(tmp_path, command, option):
    """With TOML they would mean nothing, and say so."""
    result = CliRunner().invoke(main, [command, option, str(tmp_path / "x.toml")])
    assert result.exit_code == 2
    assert "--lenient, --profile and -D are for Apache's files, named *.conf" in result.stderr


def test_a_folder_named_by_a_variable_that_is_not_defined(stapleproxy, tmp_path):
    """As in Debian's files without their envvars: it is the variable that is missing, not a folder of that name."""
    make_chain(tmp_path)
    text = SITE + "CustomLog ${NO_SUCH_LOG_DIR}/access.log combined\n"
    status, _, err = stapleproxy("check", text)
    assert status == 2
    assert err.startswith(
        "x.conf:9: the folder ${NO_SUCH_LOG_DIR} does not exist: NO_SUCH_LOG_DIR is not defined: give"
    )
    (tmp_path / "logs").mkdir()
    assert stapleproxy("check", text, "-D", "NO_SUCH_LOG_DIR=logs")[0] == 0


def test_explain(stapleproxy, tmp_path):
    """Of the configuration's certificates."""
    make_chain(tmp_path)
    status, out, _ = stapleproxy("explain", SITE + "SSLUseStapling on\nSSLStaplingCache shmcb:\n", "--json")
    assert status == 0
    (certificate,) = json.loads(out)["certificates"]
    assert certificate["names"] == ["www.test", "*.www.test"]


def test_staples_of_a_cache_in_memory(stapleproxy, tmp_path):
    """As with TOML, it says why it cannot look into it."""
    make_chain(tmp_path)
    status, _, err = stapleproxy("staples", SITE + "SSLUseStapling on\nSSLStaplingCache shmcb:\n")
    assert status == 2
    assert err.startswith("x.conf:10: this cache is in memory only")


@pytest.mark.parametrize("profile", ["httpd-2.4", "httpd-trunk", "prefetch"])
@pytest.mark.parametrize("name", SAMPLES)
def test_toml_says_the_same(tmp_path, name, profile):
    """What convert prints is read again to equal settings, of all that people have, in each profile."""
    pairs = [(tmp_path / f"{n}.pem", tmp_path / f"{n}.key") for n in range(len(SAMPLES[name].names))]
    path = install(name, tmp_path / "conf", pairs, port=8443, http_port=8080)
    options = ["--lenient"] if SAMPLES[name].needs_lenient else []
    result = CliRunner().invoke(main, ["convert", "--profile", profile, *options, str(path)])
    assert result.exit_code == 0, result.stderr
    converted = tmp_path / "elsewhere.toml"
    converted.write_text(result.stdout)
    expected = read_source(path, HttpdOptions(bool(options), profile)).settings()
    assert load(converted) == expected
    assert "\n# from " in result.stdout


def test_the_example():
    """The one beside config/reference.toml is right, without --lenient and without a warning."""
    source = read_source(CONFIG / "httpd-example.conf")
    settings = source.settings()
    assert source.warnings == ()
    assert [each.names for each in settings.site] == [("www.example.com",), ("static.example.com",)]
    assert [each.stapling.enabled for each in settings.site] == [None, False]
    assert (settings.stapling.profile, settings.stapling.enabled) == ("httpd-2.4", True)
