"""The Compose example, read as far as a container without Docker needs it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from shipping.environments import ROOT
from shipping.roots import Mounts

if TYPE_CHECKING:
    from shipping.dockerfiles import Image

EXAMPLE = ROOT / "config" / "compose"


@dataclass(frozen=True, slots=True)
class Example:
    """compose.yaml in `folder`."""

    folder: Path
    content: dict[str, Any]

    @classmethod
    def read(cls, folder: Path = EXAMPLE) -> Example:
        return cls(folder, yaml.safe_load((folder / "compose.yaml").read_text()))

    def service(self, name: str) -> dict[str, Any]:
        return self.content["services"][name]

    def mounts(self, name: str, image: Image, volumes: Path) -> Mounts:
        """What the service `name` has: named volumes are in `volumes`, and begin as what the image has there."""
        service = self.service(name)
        folders = {}
        for each in service.get("volumes", ()):
            volume, path = each.split(":")
            assert volume in self.content["volumes"]
            assert path in image.volumes
            folders[path] = volumes / volume
            if not folders[path].exists():
                volumes.mkdir(exist_ok=True)
                shutil.copytree(image.root.inside(path), folders[path])
                status = image.root.inside(path).stat()
                shutil.chown(folders[path], status.st_uid, status.st_gid)
        files = {}
        for kind, place in (("configs", "/"), ("secrets", "/run/secrets/")):
            for each in service.get(kind, ()):
                source = self.folder / self.content[kind][each["source"]]["file"]
                files[str(Path(place) / each["target"])] = source.resolve()
        tmpfs = dict(each.split(":", 1) for each in service.get("tmpfs", ()))
        return Mounts(tmpfs, folders, files)
