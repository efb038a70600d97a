"""The configurations of tests/settings/httpd/files, with certificates, ports and folders of a test."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

FILES = Path(__file__).parents[1] / "settings" / "httpd" / "files"


@dataclass(frozen=True)
class Sample:
    """A configuration as people have it."""

    main: str
    """The file that is given to the command."""
    names: tuple[str, ...]
    """Of its hosts with TLS, in order."""
    is_stapled: tuple[bool, ...]
    """Of each."""
    needs_lenient: str = ""
    """What in it cannot be done here."""


ON, OFF = True, False
SAMPLES = {
    "debian": Sample("debian/apache2.conf", ("www.test",), (OFF,), "files are served, icons, and Apache's status page"),
    "debian-site": Sample("debian/sites-enabled/default-ssl.conf", ("www.test",), (OFF,), "files are served"),
    "ssl-howto": Sample("ssl_howto.conf", ("www.example.com",), (ON,)),
    "mozilla": Sample("mozilla-intermediate.conf", ("www.test",), (ON,)),
    "certbot": Sample("certbot/sites-enabled/000-default-le-ssl.conf", ("www.example.com",), (ON,), "files are served"),
    "two-hosts": Sample("two-hosts.conf", ("on.example.com", "off.example.com"), (ON, OFF)),
}


def install(
    name: str, folder: Path, pairs: list[tuple[Path, Path]], *, port: int, http_port: int, backend: str = ""
) -> Path:
    """Copy the files into `folder`, with these chains, keys and ports; gives the file for the command."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(FILES, folder)
    for beside in ("apache2.conf", "envvars"):
        shutil.copy(folder / "debian" / beside, folder / "certbot")
    for made in ("run", "log", "logs"):
        (folder / made).mkdir()
    replaced = {
        "APACHE_RUN_USER=www-data": "APACHE_RUN_USER=root",  # another may not be able to read the Python that runs ours
        "/var/run/apache2": f"{folder}/run",
        "/var/log/apache2": f"{folder}/log",
        "/etc/letsencrypt/options-ssl-apache.conf": f"{folder}/certbot/options-ssl-apache.conf",
        "Listen 443": f"Listen 127.0.0.1:{port}",
        "Listen 80": f"Listen 127.0.0.1:{http_port}",
        "*:443": f"*:{port}",
        "*:80": f"*:{http_port}",
    }
    for path in folder.rglob("*"):
        if path.suffix == ".conf" or path.name == "envvars":
            text = path.read_text()
            for old, new in replaced.items():
                text = text.replace(old, new)
            chains, keys = ([str(pair[which]) for pair in pairs] for which in (0, 1))
            text = _with_files(_with_files(text, "SSLCertificateFile", chains), "SSLCertificateKeyFile", keys)
            path.write_text(text)
    return folder / SAMPLES[name].main


def _with_files(text: str, directive: str, files: list[str]) -> str:
    """Put a file in place of the first such directive's, another in place of the second's."""
    left = list(files)
    return re.sub(rf"(?m)^(\s*{directive}\s+)\S+", lambda found: found[1] + (left.pop(0) if left else "none.pem"), text)
