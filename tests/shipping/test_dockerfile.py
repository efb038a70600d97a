"""The Dockerfiles' steps in a fresh Debian, and the Compose example's two containers on top: a stapled handshake.

What no Docker engine is needed for: the steps succeed, and what they make runs as compose.yaml says, with its user,
mounts, read-only root, and without capabilities. Both containers are in one network that nothing else is in.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from integration.clients import curl, is_stapled, s_client
from integration.conftest import Lab
from integration.front import wait_until
from lab.servers import require_peer
from shipping.compose import EXAMPLE, Example
from shipping.dockerfiles import BASE_PATH, Image, build, steps
from shipping.environments import ROOT
from shipping.networks import own_network
from shipping.roots import Container, Root, container, fresh_debian

from proxy.lab.ca import LabCA

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make the root of a container"),
]
UP_WITHIN_S = 60
PORT = 8443


@dataclass(frozen=True, slots=True)
class Images:
    """What the two Dockerfiles make, and of what."""

    base: Root
    stapleproxy: Image
    app: Image


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    for peer in ("debootstrap", "openssl", "curl"):
        require_peer(peer)
    folder = tmp_path_factory.mktemp("images")
    suite = steps((ROOT / "Dockerfile").read_text())[0].words[0].rpartition("-")[2]
    base = fresh_debian(suite, folder / "base")
    try:
        yield Images(base, build(ROOT, base, folder / "stapleproxy"), build(EXAMPLE / "app", base, folder / "app"))
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def example(tmp_path: Path) -> Example:
    """A copy that certificates can be put into, in a folder that every user may look into."""
    return Example.read(shutil.copytree(EXAMPLE, tmp_path / "compose"))


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path / "ca", LabCA.create(datetime.now(UTC)))


def start(example: Example, name: str, image: Image, volumes: Path):
    """Start a service of the example."""
    return container(
        image.root,
        [*image.entrypoint, *image.arguments],
        image.env,
        example.mounts(name, image, volumes),
        user=image.user,
        folder=image.folder,
        log_path=volumes.parent / f"{name}.log",
    )


def health(image: Image, running: Container) -> int:
    return running.run(image.health).returncode


def wait_for_health(image: Image, running: Container) -> None:
    def is_healthy() -> bool:
        assert running.unshared.poll() is None, running.log
        return health(image, running) == 0

    wait_until(is_healthy, UP_WITHIN_S, f"health of {image.entrypoint}")


def test_the_image_has_what_it_needs_and_no_more(images: Images) -> None:
    """No sources, tests, pip or compiler; all is root's but two folders; nothing that everybody may write."""
    image = images.stapleproxy
    root = image.root
    environment = root.inside("/opt/stapleproxy")
    assert not root.inside("/src").exists()
    assert [*environment.glob("lib/python*/site-packages/proxy/py.typed")]
    assert not [*environment.glob("lib/python*/site-packages/pip")]
    assert not [*environment.glob("lib/python*/site-packages/tests")]
    assert not [path for name in ("cc", "gcc") for path in root.path.glob(f"usr/bin/{name}")]
    compiled = "lib/python*/site-packages/proxy/__pycache__/master.*.pyc"
    assert [*environment.glob(compiled)], "nobody can write them later"
    uid = int(image.user.split(":")[0])
    assert uid != 0
    own, open_to_all = [], []
    for folder, _, files in os.walk(root.path):
        for path in (Path(folder), *(Path(folder, name) for name in files)):
            status = path.lstat()
            if status.st_uid == uid:
                own.append("/" + str(path.relative_to(root.path)))
            if path.is_relative_to(environment) and not path.is_symlink() and status.st_mode & stat.S_IWOTH:
                open_to_all.append(path)
    assert sorted(own) == ["/run/stapleproxy", "/var/lib/stapleproxy"]
    assert not open_to_all
    assert image.volumes == ("/var/lib/stapleproxy",)


def test_the_example_staples_before_gunicorn(images: Images, example: Example, lab: Lab, tmp_path: Path) -> None:
    """As its README has it: the key for the container's user alone. A new container staples from the volume."""
    volumes = tmp_path / "volumes"
    tls = example.folder / "tls"
    tls.mkdir()
    chain, key = lab.issue("localhost")
    shutil.copyfile(chain, tls / "chain.pem")
    shutil.copyfile(key, tls / "key.pem")
    os.chown(tls / "key.pem", 10001, -1)
    (tls / "key.pem").chmod(0o400)
    with images.stapleproxy.root.inside("/etc/hosts").open("a") as hosts:
        hosts.write("127.0.0.1 app\n")  # what Compose's name server says
    with own_network(), start(example, "app", images.app, volumes) as app:
        wait_for_health(images.app, app)
        with lab.responder(), start(example, "stapleproxy", images.stapleproxy, volumes) as front:
            _check_service(images.stapleproxy, front, lab)
            _check_confined(front)
            _check_health(images.stapleproxy, front)
            reload = front.run(["stapleproxy", "reload"])
            assert reload.returncode == 0, reload
            assert front.stop(signal.Signals[images.stapleproxy.stop_signal]) == 0, front.log
        with start(example, "stapleproxy", images.stapleproxy, volumes) as front:
            wait_for_health(images.stapleproxy, front)
            assert is_stapled(s_client(PORT, "-status", ca=lab.root)), "no responder answers now"
            assert front.stop() == 0
        assert app.stop() == 0


def _check_service(image: Image, front: Container, lab: Lab) -> None:
    wait_for_health(image, front)
    assert is_stapled(s_client(PORT, "-status", ca=lab.root)), front.log
    answer = curl(f"https://localhost:{PORT}/hello", ca=lab.root)
    assert answer.stdout == "/hello for 127.0.0.1\n", answer
    assert "WARNING" not in front.log.upper(), front.log


def _check_confined(front: Container) -> None:
    """What the kernel says of the first process, and what a program beside it can do."""
    status = Path(f"/proc/{front.pid}/status").read_text()
    assert "Uid:\t10001\t10001\t10001\t10001\n" in status
    assert "CapEff:\t0000000000000000\n" in status
    assert "CapBnd:\t0000000000000000\n" in status
    assert "NoNewPrivs:\t1\n" in status
    assert front.run(["cat", "/proc/1/comm"]).stdout.strip() == "stapleproxy"
    told = [line.split() for line in Path(f"/proc/{front.pid}/mountinfo").read_text().splitlines()]
    options = {words[4]: words[5].split(",") for words in told}
    for path in ("/", "/etc/stapleproxy/stapleproxy.toml", "/run/secrets/chain.pem", "/run/secrets/key.pem"):
        assert "ro" in options[path], path
    assert "Read-only file system" in front.run(["touch", "/x"]).stderr
    for path in ("/tmp/x", "/run/stapleproxy/x", "/var/lib/stapleproxy/x"):
        assert front.run(["touch", path]).returncode == 0, path


def _check_health(image: Image, front: Container) -> None:
    """A keeper that hangs, with which nothing is fetched any more, is told; and so is its recovery."""
    (keeper,) = re.findall(r"keeper\[(\d+)\] started", front.log)
    assert front.run(["sh", "-c", f"kill -STOP {keeper}"]).returncode == 0
    assert health(image, front) == 1
    assert front.run(["sh", "-c", f"kill -CONT {keeper}"]).returncode == 0
    wait_for_health(image, front)


def test_compose_itself_reads_the_example(images: Images, example: Example) -> None:
    """Debian's Docker Compose, which needs no engine for that: keys and values are as the specification has them."""
    shutil.copytree(example.folder, images.base.inside("/compose"))
    for command in (
        "apt-get update",
        "apt-get install --yes --no-install-recommends docker-compose",
        "docker-compose --file /compose/compose.yaml config --quiet",
    ):
        images.base.run(["/bin/sh", "-c", command], {"PATH": BASE_PATH, "DEBIAN_FRONTEND": "noninteractive"})
