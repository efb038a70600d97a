"""The files in config/ say what settings/model.py does."""

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from click import Context
from toml_file import load

from proxy.cli import main
from proxy.settings.build import all_fields, range_text

CONFIG = Path(__file__).parents[2] / "config"
REFERENCE = (CONFIG / "reference.toml").read_text()
FIELDS = dict(all_fields())


def entries():
    """Each key of the reference by its path: (is it set, its text, the note behind it, the comment above it)."""
    found, table, comment = {}, "", []
    for line in REFERENCE.splitlines():
        if match := re.fullmatch(r"\[+([a-z_.]+)\]+", line):
            table, comment = match[1] + ".", []
        elif match := re.fullmatch(r"(#?)([a-z0-9_]+) = ([^#]+?)(?:  # (.*))?", line):
            found[table + match[2]] = (not match[1], match[3], match[4] or "", " ".join(comment))
            comment = []
        elif line.startswith("# "):
            comment.append(line[2:])
        else:
            assert not line.lstrip("#"), line
            comment = []
    return found


ENTRIES = entries()


@pytest.mark.parametrize("name", ["minimal.toml", "reference.toml"])
def test_it_loads(name):
    load(CONFIG / name)


def test_the_reference_has_every_key_and_no_other():
    assert set(ENTRIES) == set(FIELDS)


@pytest.mark.parametrize("path", FIELDS)
def test_the_reference_tells_default_meaning_unit_and_range(path):
    field, (is_set, text, note, comment) = FIELDS[path], ENTRIES[path]
    assert field.description.lower() in comment.lower()
    assert range_text(field) in note
    assert ("seconds" in note) == path.endswith("_s")
    assert ("bytes" in note) == path.endswith("_bytes")
    for choice in re.findall(r"Literal\[(.*?)\]", str(field.annotation)):
        assert choice.replace("'", '"') in note
    if field.is_required():
        assert (is_set, note) == (True, "required")
    elif field.default is None:
        assert (is_set, note.partition(";")[0]) == (False, "unset")
    else:
        default = field.default
        shown = [str(each) for each in default] if isinstance(default, tuple) else default
        assert (is_set, text) == (True, json.dumps(shown))


def test_the_systemd_unit_runs_commands_that_there_are():
    """And it names no package index: what bears the name there may be somebody else's."""
    unit = (CONFIG / "stapleproxy.service").read_text()
    commands = re.findall(r"(?m)^ExecStart(?:Pre)?=/opt/stapleproxy/bin/stapleproxy (\w+) ", unit)
    assert commands == ["check", "run"]
    assert set(commands) <= set(main.list_commands(Context(main)))
    assert not re.search(r"pip install (?!/)", unit)


def test_the_logs_are_rotated_where_they_are_written(tmp_path):
    """One folder in the reference, the unit and the rotation; the signal is the master's alone."""
    rotation = (CONFIG / "logrotate").read_text()
    path = ENTRIES["access_log.path"][1].strip('"')
    assert f"\n{path} {{\n" in rotation
    assert f"LogsDirectory={Path(path).parent.name}\n" in (CONFIG / "stapleproxy.service").read_text()
    assert "kill --kill-who=main --signal=USR1 stapleproxy.service" in rotation
    if logrotate := shutil.which("logrotate"):
        text = rotation.replace(path, str(tmp_path / "log")).replace("    su stapleproxy stapleproxy\n", "")
        (tmp_path / "conf").write_text(text)
        command = [logrotate, "--debug", "--state", str(tmp_path / "state"), str(tmp_path / "conf")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "error" not in done.stderr


def test_the_examples_of_unset_keys_are_right(tmp_path):
    """Who takes away a # gets a configuration that loads."""
    path = tmp_path / "all.toml"
    path.write_text(re.sub(r"(?m)^#(?=[a-z_]+ = )", "", REFERENCE))
    load(path)
    assert tomllib.loads(path.read_text())["tls"]["ciphers"]
