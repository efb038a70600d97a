"""Apache's files are taken apart as Apache does it, and every mistake in them is told at once, at its line."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.errors import ConfigError
from proxy.settings.httpd import syntax
from proxy.settings.httpd.lines import BLANKS, first_word, logical_lines, quoted, replace_variables, words
from proxy.settings.httpd.syntax import read_files
from proxy.settings.httpd.textfile import MAX_FILE_BYTES
from proxy.settings.httpd.tree import Directive, Section

# -- helpers


@pytest.fixture
def read(tmp_path):
    """Write these files, read the first, and give the result; file names by keyword have _ for the dot."""

    def read(text, *, files=(), defines=(), environment=(), directives=()):
        for name, content in dict(files).items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        path = tmp_path / "x.conf"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_files(path, defines=dict(defines), environment=dict(environment), directives=directives)

    return read


@pytest.fixture
def problems(read, tmp_path):
    """What is wrong with a text, each mistake without the folder's name."""

    def problems(*args, **kwargs):
        with pytest.raises(ConfigError) as caught:
            read(*args, **kwargs)
        return [str(each).replace(f"{tmp_path}/", "") for each in caught.value.problems]

    return problems


def told(reading):
    """The warnings, without the folder's name."""
    return [f"{Path(each.where).name}: {each.what}" for each in reading.warnings]


def outline(nodes):
    """The tree in few words: directives as tuples of words, sections as (name, text, [children])."""
    return [
        (node.name, *node.arguments)
        if isinstance(node, Directive)
        else (f"<{node.name}", node.text, outline(node.children))
        for node in nodes
    ]


# -- lines and words


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a\n\n  b \t\n", [(1, "a"), (3, "b")]),
        ("# no\n  # no\na # yes\n", [(3, "a # yes")]),
        ("a\\\n  b\n", [(2, "a  b")]),
        ("a\\\r\nb\r\n", [(2, "ab")]),
        ("a\\\\\nb", [(2, "a\\b")]),
        ("a\\ \nb", [(1, "a\\"), (2, "b")]),
        ("# a comment, too, goes on \\\nhere\nb", [(3, "b")]),
        ("a\\", [(1, "a\\")]),
        ("a\\\n", [(2, "a")]),
        ("a\0b\nc", [(1, "a"), (2, "c")]),
        ("a\rb\n", [(1, "a\rb")]),
        ("a\u00a0\nb\u2028c", [(1, "a\u00a0"), (2, "b\u2028c")]),
        ("", []),
    ],
)
def test_lines(text, lines):
    """With the number of the last of continued lines, as Apache counts."""
    assert list(logical_lines(text)) == lines


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b\t c", ["a", "b", "c"]),
        ("", []),
        ('"a b" c', ["a b", "c"]),
        ("'a \"b\"' c", ['a "b"', "c"]),
        (r'"a\"b\\c\d"', [r'a"b\c\d']),
        (r"'it\'s'", ["it's"]),
        (r"a\\b\c\"d", [r"a\b\c\"d"]),
        (r"a\ b", ["a\\", "b"]),
        ('a"b c"', ['a"b', 'c"']),
        ('"a"b', ["a", "b"]),
        ('"no end', ["no end"]),
        ('"" x', ["", "x"]),
        ('x ""', ["x", ""]),
        ("a\u00a0b", ["a\u00a0b"]),
    ],
)
def test_words(text, expected):
    """Quotes count at the beginning of a word only; a backslash escapes itself and the quote, and nothing else."""
    assert list(words(text)) == expected


@given(st.lists(st.text()))
def test_quoting_round_trip(given_words):
    """What was quoted is read back as it was, whatever it is."""
    assert list(words(" ".join(map(quoted, given_words)))) == given_words


@given(st.text())
def test_splitting_off_words_comes_to_an_end(text):
    """Each word takes something away, and no rest begins with blanks."""
    rest = text.lstrip(BLANKS)
    while rest:
        before, (_, rest) = rest, first_word(rest)
        assert len(rest) < len(before)
        assert rest == rest.lstrip(BLANKS)


def test_variables():
    """Values are not looked at again; what is not defined, and a dollar sign alone, stay."""
    values = {"a": "1", "b": "${a}", "c": "x y"}
    text = replace_variables("${a} ${b} $c ${c ${d} $${a} ${}", values.get, longest=99)
    assert text == "1 ${a} $c ${c ${d} $1 ${}"
    with pytest.raises(ValueError, match="longer than 99"):
        replace_variables("${a}" * 100, values.get, longest=99)
    with pytest.raises(ValueError, match="longer than 99"):
        replace_variables("a" * 100, values.get, longest=99)


# -- sections and conditions


def test_a_tree(read):
    """Names as written, words without quotes, all behind the name as written, and where it was."""
    (first, host) = read('listen 443\n<VirtualHost "*:443" *:444 >\n  ServerName "a b"\n</virtualhost>\n').nodes
    assert (first.name, first.arguments, first.text, str(first.where).endswith("x.conf:1")) == (
        "listen",
        ("443",),
        "443",
        True,
    )
    assert isinstance(host, Section)
    assert (host.name, host.arguments, host.text, host.where.line) == (
        "VirtualHost",
        ("*:443", "*:444"),
        '"*:443" *:444 ',
        2,
    )
    assert outline(host.children) == [("ServerName", "a b")]


@pytest.mark.parametrize(
    ("condition", "is_read"),
    [
        ("IfModule mod_ssl.c", True),
        ("IfModule ssl_module", True),
        ("IfModule ! ssl_module", False),
        ('IfModule "mod_ssl.c"', True),
        ("IfModule mod_SSL.c", False),
        ("IfModule mod_autoindex.c", False),
        ("IfModule !mod_autoindex.c", True),
        ("IfModule event.c", True),
        ("IfModule core.c", True),
        ("ifdefine X", True),
        ("IfDefine x", False),
        ("IfDefine !Y", True),
        ("IfFile x.conf", True),
        ("IfFile !nothing.conf", True),
        ("IfDirective sslEngine", True),
        ("IfDirective !SSLOther", True),
        ("IfDirective <VirtualHost", True),
        ("IfSection virtualhost", True),
        ("IfSection SSLEngine", False),
        ("IfVersion 2.4.71", True),
        ("IfVersion 2.4", False),
        ("IfVersion >= 2.4", True),
        ("IfVersion >= 2.4.", True),
        ("IfVersion > 2.4.70", True),
        ("IfVersion < 2.5", True),
        ("IfVersion <= 2.4.70", False),
        ("IfVersion !< 2.4", True),
        ("IfVersion == 2.4.71", True),
        (r"IfVersion = /^2\.4\.\d+$/", True),
        ("IfVersion ~ ^2[.]3", False),
        ("IfVersion !~ ^2[.]3", True),
        ('IfVersion >= "2.4.10"', True),
    ],
)
def test_conditions(read, condition, is_read):
    """Of a condition that holds the inside remains, of another nothing; tests/…/test_syntax_apache.py asks Apache."""
    name = condition.split()[0]
    text = f"<{condition}>\n<Location />\nSSLEngine on\n</Location>\n</{name}>\nLast 1\n"
    inside = [("<Location", "/", [("SSLEngine", "on")])] if is_read else []
    assert outline(read(text, defines={"X": ""}, directives={"sslengine", "<virtualhost"}).nodes) == [
        *inside,
        ("Last", "1"),
    ]


def test_what_is_passed_over_is_not_looked_at(read):
    """Neither variables nor includes nor closing brackets of tags; only which tags there are."""
    text = "<IfDefine X>\n${Y} ${Z}\nInclude none\n<A\n</A>\n<B b >\n</B>\nError no\nDefine\n</IfDefine> more\n"
    assert read(text) == read("")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("</A>", ["1: </A> without matching <A> section"]),
        ("<A b>\n<C>\n", ["2: <C> was not closed.", "1: <A> was not closed."]),
        ("<A b>\n</B>\n</A>", ["2: Expected </A> but saw </B>"]),
        ("<A b>\n<B>\n</A>", ["3: Expected </B> but saw </A>"]),
        ("<A b>\n</A\n<B\nx\n</B>", ["2: </A> directive missing closing '>'"]),
        ("<A b\n</A>", ["1: <A> directive missing closing '>'"]),
        (
            "<A b>\n<IfDefine !X>\n</A>\n</IfDefine>",
            ["3: </A> without matching <A> section", "4: </IfDefine> without matching <IfDefine> section"],
        ),
        ("<IfDefine !X>\n</IfDefine> x", ["2: </IfDefine> without matching <IfDefine> section"]),
        ("<IfDefine X>\n</IfModule>\n</IfDefine>", ["1: Expected </IfDefine> but saw </IfModule>"]),
        ("<IfDefine X>\nA 1\n", ["1: Expected </IfDefine> before end of configuration"]),
        ("<IfDefine X>\n<A>\n</IfDefine>\n", ["1: Expected </A> but saw </IfDefine>"]),
        ("<IfModule>\n</IfModule>", ["1: <IfModule> directive requires additional arguments"]),
        ("<IfModule\n</IfModule>", ["1: <IfModule> directive requires additional arguments"]),
        ("<IfModule !>\n</IfModule>", ["1: <IfModule> directive requires additional arguments"]),
        ("<IfDefine X\n</IfDefine>", ["1: <IfDefine> directive missing closing '>'"]),
        ("<IfVersion foo 2.4>\n</IfVersion>", ["1: unrecognized operator 'foo'"]),
        ("<IfVersion = />\n</IfVersion>", ["1: Missing delimiting / of regular expression."]),
        ("<IfVersion ~ (>\n</IfVersion>", ["1: Unable to compile regular expression"]),
        ("<IfVersion >= 2.4\n</IfVersion>", ["1: <IfVersion> directive missing closing '>'"]),
        ("Define a:b", ["1: Variable name must not contain ':'"]),
        ("ServerRoot nowhere", ["1: ServerRoot must be a valid directory"]),
        ('Error "this file is old"', ["1: this file is old"]),
        ("A 1\nA \\\n2\n</B>", ["4: </B> without matching <B> section"]),
    ],
)
def test_mistakes(problems, text, expected):
    """In Apache's words, which tests/settings/httpd/test_syntax_apache.py compares."""
    assert problems(text) == [f"x.conf:{each}" for each in expected]


def test_all_mistakes_at_once(problems):
    """Apache stops at the first; a wrong closing tag does not make the rest of the file wrong."""
    text = "</A>\n<B b>\n</C>\nInclude none.conf\nDefine\n</B>\nServerRoot nowhere\n<D>\n"
    told = problems(text)
    assert [each.split(": ")[0] for each in told] == [f"x.conf:{line}" for line in (1, 3, 4, 5, 7, 8)]


def test_a_condition_without_end_is_a_warning(read):
    """Apache reads such a file, so it is no mistake."""
    reading = read("<IfDefine !X>\nA 1\n")
    assert outline(reading.nodes) == [("A", "1")]
    assert told(reading) == ["x.conf:1: <IfDefine> was not closed: the end of the file is taken for its end"]


# -- variables


def test_define_and_variables(read):
    """Names of values in any case, of IfDefine in their own; a variable can be half of a word or some words."""
    reading = read(
        'Define Host www.test\nDefine Open "<Location"\n${open} /${HOST}>\nA ${E} "${E}"\n</Location>\n'
        "UnDefine host\nB ${Host} ${Given}\nDefine C ${Later}\nDefine Later 1\nC ${c}\n",
        defines={"Given": "yes"},
        environment={"E": "1 2", "host": "other"},
    )
    assert outline(reading.nodes) == [
        ("<Location", "/www.test", [("A", "1", "2", "1 2")]),
        ("B", "${Host}", "yes"),
        ("C", "${Later}"),
    ]
    assert told(reading) == [
        "x.conf:7: AH00111: Config variable ${Host} is not defined",
        "x.conf:8: AH00111: Config variable ${Later} is not defined",
    ]


DEBIAN = """\
# envvars - default environment variables for apache2ctl
unset HOME
if [ "${APACHE_CONFDIR##/etc/apache2-}" != "${APACHE_CONFDIR}" ] ; then
\tSUFFIX="-${APACHE_CONFDIR##/etc/apache2-}"
else
\tSUFFIX=
fi
export APACHE_RUN_USER=www-data
export APACHE_PID_FILE=/var/run/apache2$SUFFIX/apache2.pid
export APACHE_LOG_DIR="/var/log/apache2$SUFFIX" # comment
: ${APACHE_LOCK_DIR:=/var/lock/apache2}
APACHE_RUN_DIR=${RUN:-/run}/apache2
export APACHE_SECRET=`cat secret`
export LANG=C
export LANG
"""


def test_debians_envvars(read):
    """As apache2ctl does; what is in the environment already goes first, and commands are not run."""
    names = ("PID_FILE", "LOG_DIR", "LOCK_DIR", "RUN_DIR", "RUN_USER", "SECRET")
    text = "A " + " ".join(f"${{APACHE_{name}}}" for name in names) + " ${LANG}\n"
    (directive,) = read(text, files={"envvars": DEBIAN}, environment={"APACHE_RUN_USER": "me"}).nodes
    assert directive.arguments == (
        "/var/run/apache2/apache2.pid",
        "/var/log/apache2",
        "/var/lock/apache2",
        "/run/apache2",
        "me",
        "${APACHE_SECRET}",
        "${LANG}",
    )


# -- includes

NO_SUCH = "No such file or directory"
FILES = {
    "a/b.conf": "B 1\n",
    "a/c.conf": "C 1\\",
    "a/.hidden.conf": "Hidden 1\n",
    "a/d/e.conf": "E 1\n",
    "a/x.txt": "X 1\n",
    "selves/x.conf": "Include selves\n",
    "open.conf": "<A b>\n",
    "close.conf": "</A>\n",
    "deep.conf": "Include open.conf\n",
}


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("a/b.conf", "B"),
        ('"a/b.conf"', "B"),
        ("a/*.conf", "B C"),
        ("a/[bc].conf", "B C"),
        ("a/[^b].conf", "C"),
        ("a/?.conf", "B C"),
        ("a/*", "B C E X"),
        ("a", "Hidden B C E X"),
        ("a/.*.conf", "Hidden"),
        ("?/?/*.conf", "E"),
    ],
)
def test_includes(read, pattern, found):
    """In Apache's order; wildcards stand for folders too, and for hidden files only when they say so."""
    for word in ("Include", "IncludeOptional"):
        assert [each.name for each in read(f"{word} {pattern}\nLast 1\n", files=FILES).nodes] == [
            *found.split(),
            "Last",
        ]


@pytest.mark.parametrize("pattern", ["none.conf", "none/x.conf", "none/*.conf", "a/*.none", "a/n*/*.conf"])
def test_optional_includes(read, pattern):
    assert read(f"IncludeOptional {pattern}\n", files=FILES) == read("")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Include none.conf", "x.conf:1: Could not open configuration file none.conf: No such file or directory"),
        ("Include none/*.conf", "x.conf:1: Include/IncludeOptional: Could not open directory none: " + NO_SUCH),
        ("Include a/*.no", "x.conf:1: Include/IncludeOptional: No matches for the wildcard '*.no' in 'a', failing"),
        ("Include a/n*/*.conf", "x.conf:1: Include/IncludeOptional: No matches for the wildcard 'n*' in 'a', failing"),
        ("Include */b.conf", "x.conf:1: Could not open configuration file selves/b.conf: No such file or directory"),
        ("Include selves", "selves/x.conf:1: Exceeded maximum include depth of 128, There appears to be a recursion."),
        ("<A b>\nInclude close.conf\n</A>", "close.conf:1: </A> without matching <A> section"),
        ("Include deep.conf\n", "open.conf:1: <A> was not closed."),
        ("Include /proc/self/fd/0", "x.conf:1: Could not open configuration file /proc/self/fd/0: not a regular file"),
    ],
)  # fmt: skip
def test_includes_that_fail(problems, text, expected):
    """At the line of the Include, or where the mistake is in the included file; no file closes another's section."""
    assert problems(text, files=FILES) == [expected]


def test_includes_in_a_section_and_paths_relative_to_the_server_root(read, tmp_path):
    """The folder of the file, until ServerRoot says otherwise."""
    reading = read(
        f"<A b>\nInclude a/b.conf\n</A>\nServerRoot {tmp_path}/a\nDefaultRuntimeDir run\nInclude d/*.conf\n",
        files=FILES,
    )
    assert outline(reading.nodes) == [("<A", "b", [("B", "1")]), ("E", "1")]
    assert (reading.server_root, reading.runtime_dir) == (tmp_path / "a", tmp_path / "a/run")


def test_a_file_of_debians_sites_available(tmp_path):
    """Its paths are relative to the folder of apache2.conf, and the variables of envvars are there."""
    for name, text in {"apache2.conf": "", "envvars": DEBIAN, "snippets/s.conf": "S ${APACHE_RUN_USER}\n"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    site = tmp_path / "sites-available" / "x.conf"
    site.parent.mkdir()
    site.write_text("Include snippets/s.conf\n")
    assert outline(read_files(site, defines={}, environment={}).nodes) == [("S", "www-data")]


# -- bounds, and input of any kind


def test_files_that_cannot_be_read(problems, tmp_path):
    """Each in one sentence."""
    with pytest.raises(ConfigError, match=r"none\.conf: cannot read the configuration: No such file"):
        read_files(tmp_path / "none.conf", defines={}, environment={})
    with pytest.raises(ConfigError, match="cannot read the configuration: not a regular file"):
        read_files(tmp_path, defines={}, environment={})
    os.mkfifo(tmp_path / "pipe")
    assert problems("Include pipe") == ["x.conf:1: Could not open configuration file pipe: not a regular file"]
    (tmp_path / "long.conf").write_text("#\n" * (MAX_FILE_BYTES // 2 + 1))
    assert problems("Include long.conf\n") == [
        f"x.conf:1: Could not open configuration file long.conf: longer than {MAX_FILE_BYTES} bytes"
    ]


def test_a_few_lines_cannot_be_endless(problems, monkeypatch):
    """Variables that double, files that include each other twice, sections in sections, one mistake after another."""
    doubling = "Define X 0123456789\n" + "Define X ${X}${X}\n" * 40
    assert problems(doubling) == [
        "x.conf:14: the line, or what its variables make of it, is longer than 65536 characters"
    ]
    chain = {f"{n}.conf": f"Include {n + 1}.conf\nInclude {n + 1}.conf\n" for n in range(30)} | {"30.conf": ""}
    assert problems("Include 0.conf\n", files=chain)[0].endswith("more than 4096 files are included")
    assert problems("<A b>\n" * 200)[0] == "x.conf:65: sections are nested more than 64 deep"
    assert problems("<IfDefine X>\n" + "<A b>\n" * 1000)[0] == "x.conf:1: sections are nested more than 64 deep"
    assert len(problems("</A>\n" * 1000)) == 100
    for long in ("${" * 30_000, "$" * 60_000, "a " * 30_000, "<" * 60_000, "\\" * 60_000, "\"'" * 30_000):
        problems("</A>\n" + f"B {long}\n" * 3)
    monkeypatch.setattr(syntax, "MAX_ALL_CHARACTERS", 1000)
    assert problems("Abc def\n" * 200) == ["x.conf:143: all files together are longer than 1000 characters"]


def test_bytes_that_are_no_utf_8_are_kept(read):
    """A file's name may have them; in what is told they are question marks."""
    (directive,) = read(b"A /\xff\xfe ${X}\n", environment={"X": os.fsdecode(b"\xfd")}).nodes
    assert os.fsencode(directive.arguments[0]) == b"/\xff\xfe"
    assert os.fsencode(directive.arguments[1]) == b"\xfd"


def test_mistakes_are_told_in_characters_that_any_terminal_has(problems):
    assert problems(b"Include \xff\x1b[1m\n") == [
        "x.conf:1: Could not open configuration file ??[1m: No such file or directory"
    ]


PIECES = st.sampled_from(
    [
        *("</", "${", "${X}", "\\\n", "\r\n", *"<>!\"'\\#}X*[A=~ \n\0"),
        *("2.4", ">=", "/2/", "mod_ssl.c", "x.conf", "VirtualHost", "ServerRoot ", "DefaultRuntimeDir ", "Error "),
        *("IfModule ", "IfDefine ", "IfVersion ", "IfFile ", "Include ", "IncludeOptional ", "Define ", "UnDefine "),
    ]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
@given(
    text=st.one_of(st.binary(max_size=200), st.lists(PIECES, max_size=30).map(lambda parts: "".join(parts).encode()))
)
def test_no_input_makes_anything_but_a_tree_or_a_config_error(text, tmp_path):
    """And each mistake is one line of printable characters with a place."""
    path = tmp_path / "x.conf"
    path.write_bytes(text)
    problems = ()
    try:
        reading = read_files(path, defines={}, environment={})
    except ConfigError as error:
        problems = error.problems
    else:
        outline(reading.nodes)
    assert all(each.where and str(each).isprintable() for each in problems)
