"""The Compose example, as a text: what it names is there, and what it forbids stays forbidden."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import yaml
from shipping.compose import EXAMPLE, Example
from shipping.dockerfiles import Step, is_ignored, steps
from shipping.environments import ROOT

CONTEXTS = (ROOT, EXAMPLE / "app")


@pytest.fixture
def example() -> Example:
    return Example.read()


def test_all_that_is_named_is_there(example: Example) -> None:
    """Folders to build from, files, volumes, networks and services; the certificate is for the reader to put there."""
    for service in example.content["services"].values():
        assert (EXAMPLE / service["build"] / "Dockerfile").is_file()
        assert set(service["networks"]) <= set(example.content["networks"])
        assert set(service.get("depends_on", ())) <= set(example.content["services"])
        for kind in ("configs", "secrets"):
            assert {each["source"] for each in service.get(kind, ())} <= set(example.content[kind])
    for config in example.content["configs"].values():
        assert (EXAMPLE / config["file"]).is_file()
    told = (EXAMPLE / "README.md").read_text()
    for secret in example.content["secrets"].values():
        assert secret["file"] in told


def test_what_the_configuration_needs_is_mounted(example: Example) -> None:
    """Its port, backend, files, socket and cache are those of compose.yaml."""
    settings = tomllib.loads((EXAMPLE / "stapleproxy.toml").read_text())
    service = example.service("stapleproxy")
    assert service["ports"] == ["443" + settings["listen"][0]]
    (site,) = settings["site"]
    assert site["upstream"] == "http://app:8000"
    (pair,) = site["certificate"]
    assert {pair["chain"], pair["key"]} == {f"/run/secrets/{each['target']}" for each in service["secrets"]}
    tmpfs = [each.partition(":")[0] for each in service["tmpfs"]]
    assert settings["admin"]["socket"].rpartition("/")[0] in tmpfs
    assert [each.partition(":")[2] for each in service["volumes"]] == ["/var/lib/stapleproxy"]
    assert settings["stapling"]["cache"].startswith("shmcb:/var/lib/stapleproxy/")


@pytest.mark.parametrize("name", ["stapleproxy", "app"])
def test_nothing_more_than_needed(example: Example, name: str) -> None:
    """No writing to the image, no capability, no way to get one; the backend is not reached from outside."""
    service = example.service(name)
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    if name == "app":
        assert "ports" not in service
        assert [example.content["networks"][each] for each in service["networks"]] == [{"internal": True}]


def test_a_stop_lets_requests_end(example: Example) -> None:
    """Compose kills no sooner than a worker has drained."""
    reference = tomllib.loads((ROOT / "config" / "reference.toml").read_text())
    assert int(example.service("stapleproxy")["stop_grace_period"].removesuffix("s")) > reference["drain_timeout_s"]


@pytest.mark.parametrize("context", CONTEXTS, ids=["stapleproxy", "app"])
def test_dockerfiles(context) -> None:
    """A base with a version, not root by number, programs without a shell around them, a health check."""
    found = steps((context / "Dockerfile").read_text())
    stages = [step.words[0] for step in found if step.name == "FROM"]
    assert set(stages) == {"python:3.13-slim-trixie"}
    last = found[max(number for number, step in enumerate(found) if step.name == "FROM") :]
    assert [step.rest.split(":")[0] for step in last if step.name == "USER"][-1] not in {"0", "root"}
    assert all(step.exec_form for step in last if step.name in {"ENTRYPOINT", "CMD"})
    assert [step.name for step in last].count("HEALTHCHECK") == 1
    assert all("--no-cache-dir" in step.rest for step in found if "pip install" in step.rest)


def test_a_dockerfile_as_docker_reads_it() -> None:
    """Comments between joined lines, flags, and both forms of a command."""
    lines = ["# a", "FROM x AS y", "RUN a \\", "# between", "&& b", "COPY --from=y /a /b"]
    text = "\n".join([*lines, "HEALTHCHECK --timeout=1s --retries=3 \\", 'CMD ["c", "d"]', ""])
    assert steps(text) == [
        Step("FROM", {}, "x AS y"),
        Step("RUN", {}, "a  && b"),
        Step("COPY", {"from": "y"}, "/a /b"),
        Step("HEALTHCHECK", {"timeout": "1s", "retries": "3"}, 'CMD ["c", "d"]'),
    ]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("pyproject.toml", False), ("proxy/cache/file.py", False), ("proxy/__pycache__/a.pyc", True),
        ("proxy/cache/__pycache__", True), (".git/config", True), ("key.pem", True),
        ("config/compose/tls/key.pem", True),
    ],
)  # fmt: skip
def test_what_goes_into_the_build(path: str, expected: bool) -> None:
    """No key that lies about in the folder, no history, no cache."""
    patterns = (ROOT / ".dockerignore").read_text().splitlines()
    assert is_ignored(Path(path), patterns) is expected


def test_the_example_is_one_document() -> None:
    """Without keys given twice, of which YAML would keep the last."""

    class Strict(yaml.SafeLoader):
        def construct_mapping(self, node, deep=False):
            keys = [self.construct_object(key) for key, _ in node.value]
            assert len(keys) == len(set(keys)), keys
            return super().construct_mapping(node, deep)

    yaml.load((EXAMPLE / "compose.yaml").read_text(), Strict)  # noqa: S506  # a safe one
