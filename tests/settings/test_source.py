"""What is wrong is told where it stands: at a key path of TOML, at a line of Apache's files."""

from pathlib import Path

from proxy.errors import ConfigError, Problem
from proxy.settings.httpd.tree import Where
from proxy.settings.source import Source, read_source

PLACES = {"site[0]": Where("x.conf", 3), "site[0].certificate[0]": Where("ssl.conf", 5), "tls.ciphers": Where("a", 7)}


def located(source, key_path):
    (problem,) = source.located(ConfigError(Problem(key_path, "is wrong"))).problems
    return str(problem)


def test_of_a_conf_file_the_line_is_told():
    """That of the key, or of what the key belongs to; where there is none, the file and the key."""
    source = Source(Path("x.conf"), {}, (), PLACES)
    assert located(source, "site[0].certificate[0].chain") == "ssl.conf:5: is wrong"
    assert located(source, "site[0].certificate[1].chain") == "x.conf:3: is wrong"
    assert located(source, "site[0].route[12].upstream[3].url") == "x.conf:3: is wrong"
    assert located(source, "tls.ciphers") == "a:7: is wrong"
    assert located(source, "tls.groups") == "x.conf: tls.groups: is wrong"
    assert located(source, "site[1]") == "x.conf: site[1]: is wrong"
    assert located(source, "") == "x.conf: is wrong"


def test_of_toml_the_key_path_is_told(tmp_path):
    path = tmp_path / "x.toml"
    path.write_text("[tls]\n")
    source = read_source(path)
    assert located(source, "site[0].certificate[0]") == f"{path}: site[0].certificate[0]: is wrong"
    assert source.warning(Problem("site[0]", "is odd")) == f"{path}: warning: site[0]: is odd"
    assert source.folder == tmp_path


def test_warnings_have_their_places_too():
    """Those of the reading have them from the beginning."""
    ours = Problem("y.conf:9", "is not honoured")
    source = Source(Path("x.conf"), {}, (ours,), PLACES)
    assert source.warning(ours) == "y.conf:9: warning: is not honoured"
    assert source.warning(Problem("site[0].names", "is odd")) == "x.conf:3: warning: is odd"
    assert source.warning(Problem("", "is odd")) == "x.conf: warning: is odd"
