"""The same files are given to the real Apache, which prints what it has read: the same tree, or the same mistake."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from proxy.errors import ConfigError
from proxy.settings.httpd.syntax import read_files
from proxy.settings.httpd.tree import Section

APACHE = shutil.which("apache2", path="/usr/sbin:/usr/bin") or "apache2"
MODULES = Path("/usr/lib/apache2/modules")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (MODULES / "mod_info.so").exists(), reason="Apache is not installed"),
]

HEAD = f"""\
LoadModule mpm_event_module {MODULES}/mod_mpm_event.so
LoadModule authz_core_module {MODULES}/mod_authz_core.so
LoadModule info_module {MODULES}/mod_info.so
LoadModule alias_module {MODULES}/mod_alias.so
ServerName head
ErrorLog /dev/null
PidFile pid
Listen 127.0.0.1:18181
"""
FILES = {
    "a/b.conf": "ServerAdmin ab\n",
    "a/c.conf": "ServerAdmin ac\\",
    "a/.hidden.conf": "ServerAdmin hidden\n",
    "a/d/e.conf": "ServerAdmin ade\n",
    "a/x.txt": "ServerAdmin ax\n",
    "other/x.txt": "",
    "open.conf": "<Directory /b>\n",
    "close.conf": "</Directory>\n",
    "deep.conf": "Include open.conf\n",
    "condition.conf": "<IfModule mod_alias.c>\nServerAdmin condition\n",
}
DIRECTIVES = frozenset({"serveradmin", "<virtualhost", "<directory"})

READ = r"""
ServerAdmin "a\"b\\c\d"
ServerAdmin 'it\'s'
ServerAdmin "no end
ServerAdmin a\
ServerAdmin
"ServerAdmin" a
ServerAdmin> a
Define X a|ServerAdmin ${x}${Y}z${X}${}$X
Define X ${Y}|Define Y 1|ServerAdmin ${X}
Define X|ServerAdmin ${X}
Define X a|UnDefine X|ServerAdmin ${X}
Define X "<Directory"|${X} /b>|</Directory>
<Directory /b>|Define X y|</Directory>|ServerAdmin ${X}
Define x a|<IfDefine X>|ServerAdmin up|</IfDefine>|<IfDefine x>|ServerAdmin low|</IfDefine>
<IfDefine !X> foo|ServerAdmin a|</IfDefine>
<IfDefine "X">|ServerAdmin a|</IfDefine>
<IfDefine !"X">|ServerAdmin a|</ifdefine>
<IfDefine X>|<Directory>|${Y}|</Directory>|Error no|Define|</IfDefine> foo
<IfDefine X><b>|</IfDefine>
<IfDefine !X>|ServerAdmin a
<IfDefine X>|<Foo|</Foo>|<Foo >|</Foo>|</IfDefine>
<IfModule mod_alias.c>|ServerAdmin a|</IfModule>
<IfModule alias_module>|ServerAdmin a|</IfModule>
<IfModule "mod_alias.c">|ServerAdmin a|</IfModule>
<IfModule mod_alias.c more>|ServerAdmin a|</IfModule>
<IfModule more mod_alias.c>|ServerAdmin a|</IfModule>
<IfModule mod_alias.c>x>|ServerAdmin a|</IfModule>
<IfModule ! mod_alias.c>|ServerAdmin a|</IfModule>
<IfModule !nope>|ServerAdmin a|</IfModule>
<IfModule mod_ALIAS.c>|ServerAdmin a|</IfModule>
<IfModule event.c>|ServerAdmin a|</IfModule>
<IfModule mpm_event_module>|ServerAdmin a|</IfModule>
<IfModule core.c>|ServerAdmin a|</IfModule>
<IfModule http_core.c>|ServerAdmin a|</IfModule>
<IfModule mod_so.c>|ServerAdmin a|</IfModule>
<IfModule unixd_module>|ServerAdmin a|</IfModule>
<IfModule log_config_module>|ServerAdmin a|</IfModule>
<IfModule logio_module>|ServerAdmin a|</IfModule>
<IfModule version_module>|ServerAdmin a|</IfModule>
<IfModule watchdog_module>|ServerAdmin a|</IfModule>
<IfFile a/b.conf>|ServerAdmin a|</IfFile>
<IfFile "a">|ServerAdmin a|</IfFile>
<IfFile a/*.conf>|ServerAdmin a|</IfFile>
<IfFile !a/none.conf>|ServerAdmin a|</IfFile>
<IfDirective serverAdmin>|ServerAdmin a|</IfDirective>
<IfDirective !Nope>|ServerAdmin a|</IfDirective>
<IfDirective <VirtualHost>|ServerAdmin a|</IfDirective>
<IfDirective VirtualHost>|ServerAdmin a|</IfDirective>
<IfSection VirtualHost>|ServerAdmin a|</IfSection>
<IfSection <VirtualHost>|ServerAdmin a|</IfSection>
<IfSection ServerAdmin>|ServerAdmin a|</IfSection>
<IfVersion 2.4>|ServerAdmin a|</IfVersion>
<IfVersion >= 2.4>|ServerAdmin a|</IfVersion>
<IfVersion >= 2.4.>|ServerAdmin a|</IfVersion>
<IfVersion >= 2>|ServerAdmin a|</IfVersion>
<IfVersion = 2>|ServerAdmin a|</IfVersion>
<IfVersion == 2.4>|ServerAdmin a|</IfVersion>
<IfVersion = /2\.4\../>|ServerAdmin a|</IfVersion>
<IfVersion == /2/>|ServerAdmin a|</IfVersion>
<IfVersion = //>|ServerAdmin a|</IfVersion>
<IfVersion /^2.3/>|ServerAdmin a|</IfVersion>
<IfVersion ~ 2\.4\.>|ServerAdmin a|</IfVersion>
<IfVersion ~ /2.4/>|ServerAdmin a|</IfVersion>
<IfVersion !~ /^2.3/>|ServerAdmin a|</IfVersion>
<IfVersion !>= 2.4>|ServerAdmin a|</IfVersion>
<IfVersion !< 2.4>|ServerAdmin a|</IfVersion>
<IfVersion "2.4" >|ServerAdmin a|</IfVersion>
<IfVersion < "2.5">|ServerAdmin a|</IfVersion>
Include a/b.conf
Include "a/b.conf"
Include a
Include a/*.conf
Include a/*
Include a/**
Include a/[bc].conf
Include a/[^b].conf
Include a/?.conf
Include ?/*.conf
Include ?/?/*.conf
Include a/.*.conf
IncludeOptional a
IncludeOptional none.conf
IncludeOptional none/x.conf
IncludeOptional none/*.conf
IncludeOptional a/n*/*.conf
<VirtualHost *:1>|Include a/b.conf|</VirtualHost>
<VirtualHost *:1>|</VirtualHost> foo
Include condition.conf|ServerAdmin a
ServerRoot /tmp|ServerAdmin a
""".strip().split("\n")
"""A bar stands for the end of a line."""

REFUSED = r"""
</Directory>
</
</>
<Directory /b>|</
<Directory /b>|</>
<Directory /b>|</Directory
<Directory /b>|</VirtualHost>
<Directory /b>|ServerAdmin a
<Directory /b|</Directory>
<IfDefine X>|ServerAdmin a
<IfDefine X>|<IfDefine Y>|</IfDefine>
<IfDefine X>|</IfDefine|ServerAdmin a
<IfDefine X>|<Directory /b>|</IfDefine>
<IfDefine X>|<Directory /b>|</Foo>|</IfDefine>
<IfDefine X>|"<b"|</IfDefine>
<IfDefine !X>|</IfDefine> foo
<IfDefine !X>|</IfDefine x>
<IfDefine !X>|<Directory /b>|</IfDefine>
<Directory /b>|<IfDefine !X>|</Directory>
<IfDefine>|</IfDefine>
<IfDefine|</IfDefine>
<IfModule !>|</IfModule>
<IfDefine X|</IfDefine>
<IfFile>|</IfFile>
<IfVersion>|</IfVersion>
<IfVersion foo 2.4>|</IfVersion>
<IfVersion ! 2.4>|</IfVersion>
<IfVersion !2.4>|</IfVersion>
<IfVersion =>= 2.4>|</IfVersion>
<IfVersion >2.4>|</IfVersion>
<IfVersion < a.b>|</IfVersion>
<IfVersion >= .4>|</IfVersion>
<IfVersion >= 2.4.71.3>|</IfVersion>
<IfVersion >= /2.4/>|</IfVersion>
<IfVersion = />|</IfVersion>
<IfVersion ~ (>|</IfVersion>
<IfVersion >= 2.4|</IfVersion>
<IfVersion >= 2.4 3>|</IfVersion>
<IfVersion a b c d>|</IfVersion>
Define
Define a b c
Define "" b
Define a:b c
UnDefine
UnDefine a b
UnDefine a:b
Error "too old"
Error a b
Include
Include a b
IncludeOptional
ServerRoot
ServerRoot /none
DefaultRuntimeDir
Include none.conf
Include none/*.conf
Include a/*.none
Include a/n*/*.conf
Include */b.conf
Include a/{b,c}.conf
Include open.conf|</Directory>
Include deep.conf
<Directory /b>|Include close.conf
Include condition.conf|</IfModule>
""".strip().split("\n")


@pytest.fixture
def conf(tmp_path):
    """Write the files and one with these lines."""

    def conf(lines):
        for name, text in {
            **FILES,
            "head.conf": HEAD,
            "x.conf": "Include head.conf\n" + lines.replace("|", "\n"),
        }.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path / "x.conf"

    return conf


def apache(path):
    """Give the lines of the tree that Apache has read, or what it says in place of it."""
    command = [APACHE, "-d", path.parent, "-f", path, "-t", "-DDUMP_CONFIG"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30, env={})
    assert "Syntax OK" in done.stderr or "Syntax error" in done.stderr, done.stderr
    if done.returncode:
        return None, done.stderr
    return [line.strip() for line in done.stdout.splitlines() if line.strip() and line.strip()[0] != "#"], done.stderr


def ours(nodes):
    """Write a tree as Apache does: without the end of a section that is empty, and without what it does at once."""
    for node in nodes:
        if isinstance(node, Section):
            children = list(ours(node.children))
            yield f"<{node.name} {node.text}>"
            yield from [*children, f"</{node.name}>"] if children else []
        elif node.name != "LoadModule":
            yield f"{node.name} {node.text}"


@pytest.mark.parametrize("lines", READ)
def test_the_same_tree(conf, lines):
    """And the same warnings of variables that are not defined."""
    path = conf(lines)
    expected, said = apache(path)
    if lines == "ServerAdmin":
        assert "ServerAdmin takes one argument" in said  # what directives want is for those who know them
        return
    reading = read_files(path, defines={"DUMP_CONFIG": ""}, environment={}, directives=DIRECTIVES)
    assert list(ours(reading.nodes)) == expected
    undefined = [each.what for each in reading.warnings if "AH00111" in each.what]
    assert undefined == list(
        dict.fromkeys(line[line.index("AH00111") :] for line in said.splitlines() if "AH00111" in line)
    )


@pytest.mark.parametrize("lines", REFUSED)
def test_the_same_mistake(conf, lines):
    """Our first is Apache's only one: its text, and the innermost of the lines that Apache names."""
    path = conf(lines)
    expected, said = apache(path)
    assert expected is None
    with pytest.raises(ConfigError) as caught:
        read_files(path, defines={"DUMP_CONFIG": ""}, environment={}, directives=DIRECTIVES)
    first = caught.value.problems[0]
    said = said.replace(":\n", ": ").replace("\\n", "\n").strip()
    assert said.split("\n")[0].endswith(f": {first.what}") or first.what == "Expected </IfDefine> but saw </>"
    file, line = first.where.rsplit(":", 1)
    assert f"error on line {line} of {file}: " in said
