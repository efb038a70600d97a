"""Reads Apache's configuration files into a tree: sections, conditions, variables, includes; it knows no directives.

As in Apache some directives act while the files are read and are not in the tree: `Include`, `Define`, `ServerRoot`
and their like, and the conditions, of which only the inside remains. All else is judged later. Apache stops at the
first mistake; here reading goes on, so that all are told.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from proxy.errors import ConfigError, Problem
from proxy.settings.httpd.conditions import ConditionError, Known, holds, is_condition
from proxy.settings.httpd.envvars import assignments
from proxy.settings.httpd.includes import IncludeError, included_files
from proxy.settings.httpd.lines import first_word, logical_lines, replace_variables, words
from proxy.settings.httpd.nesting import MAX_DEPTH, TOO_DEEP, Nesting, skip
from proxy.settings.httpd.textfile import UnreadableError, is_folder, read_text
from proxy.settings.httpd.tree import Directive, Node, Where

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

MAX_LINE_CHARACTERS = 65_536
MAX_ALL_CHARACTERS = 16_777_216
"""Of all lines with what variables stand for: a few lines that include or define each other could be endless."""
MAX_FILES = 4_096
MAX_INCLUDE_DEPTH = 128
"""Apache's own bound."""
MAX_PROBLEMS = 100
_MAX_SHOWN_CHARACTERS = 500

_TAKES = {
    "define": "Define takes 1-2 arguments, Define a variable, optionally to a value.  "
    "Same as passing -D to the command line.",
    "undefine": "UnDefine takes one argument, Undefine the existence of a variable. Undo a Define.",
    "include": "Include takes one argument, Name(s) of the config file(s) to be included; "
    "fails if the wildcard does not match at least one file",
    "includeoptional": "IncludeOptional takes one argument, Name or pattern of the config file(s) to be included; "
    "ignored if the file does not exist or the pattern does not match any files",
    "serverroot": "ServerRoot takes one argument, Common directory of server-related files (logs, confs, etc.)",
    "defaultruntimedir": "DefaultRuntimeDir takes one argument, Common directory for run-time files "
    "(shared memory, locks, etc.)",
}
"""What acts while the files are read, each with what Apache says when it has too few or too many arguments."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read."""

    nodes: tuple[Node, ...]
    warnings: tuple[Problem, ...]
    server_root: Path
    """What relative paths are relative to, in the end: Apache, too, looks at most of them only then."""
    runtime_dir: Path | None
    """DefaultRuntimeDir, absolute."""


def read_files(
    path: Path,
    *,
    defines: Mapping[str, str],
    environment: Mapping[str, str],
    directives: Collection[str] = (),
) -> Reading:
    """Read `path` and what it includes. ConfigError has all mistakes of the syntax, each at FILE:LINE.

    `defines` are those of the command line, with an empty value where they have none. `directives`, in lower case and
    sections with their ``<``, are what ``<IfDirective>`` and ``<IfSection>`` find.
    """
    root = server_root_of(path)
    reader = _Reader(root, {**_envvars(root, environment), **environment}, directives)
    for name, value in defines.items():
        reader.define(name, value or None)
    reader.read(path)
    if reader.problems:
        raise ConfigError(*reader.problems)
    return Reading(tuple(reader.nesting.nodes), tuple(reader.warnings.values()), reader.server_root, reader.runtime_dir)


def server_root_of(path: Path) -> Path:
    """Find the ServerRoot of a file that does not name it: its folder.

    Or the one above, when that has an apache2.conf, as it is with a file in Debian's sites-available.
    """
    folder = path.parent.absolute()
    return folder.parent if (folder.parent / "apache2.conf").is_file() else folder


@dataclass(slots=True)
class _Source:
    """A file that is being read, or will be when those above it in the stack are done."""

    lines: Iterator[tuple[Where, str]]
    include_depth: int
    outside: int
    """How many sections were open where it is included: it can close none of them."""


@dataclass(slots=True)
class _Reader:
    server_root: Path
    environment: Mapping[str, str]
    directives: Collection[str]
    runtime_dir: Path | None = None
    nesting: Nesting = field(default_factory=Nesting)
    problems: list[Problem] = field(default_factory=list)
    warnings: dict[str, Problem] = field(default_factory=dict)
    """By what they say: each once, where it is seen first."""
    _defined: set[str] = field(default_factory=set)
    _values: dict[str, str] = field(default_factory=dict)
    """By names in lower case: `Define` and `${}` do not mind the case, `<IfDefine>` does."""
    _sources: list[_Source] = field(default_factory=list)
    _has_given_up: bool = False
    _characters: int = 0
    _files: int = 0

    def read(self, path: Path) -> None:
        self._sources.append(_Source(self._lines(path, None), 0, 0))
        while self._sources and not self._has_given_up:
            source = self._sources[-1]
            for where, text in source.lines:
                self._line(source, where, text)
                if self._sources[-1] is not source or self._has_given_up:
                    break
            else:
                self._unclosed(source)
                self._sources.pop()

    def define(self, name: str, value: str | None) -> None:
        self._defined.add(name)
        if value is not None:
            self._values[name.lower()] = value

    def _line(self, source: _Source, where: Where, text: str) -> None:
        if self.nesting.ends_condition(text, source.outside):
            return
        try:
            text = replace_variables(text, lambda name: self._value(name, where), longest=MAX_LINE_CHARACTERS)
        except ValueError as error:
            self._give_up(where, f"the line, or what its variables make of it, is {error}")
            return
        self._characters += len(text)
        if self._characters > MAX_ALL_CHARACTERS:
            self._give_up(where, f"all files together are longer than {MAX_ALL_CHARACTERS} characters")
            return
        command, rest = first_word(text)
        name = command.removesuffix(">")
        if command.startswith("</"):
            if mistake := self.nesting.close(command, source.outside):
                self._problem(where, mistake)
        elif name.startswith("<"):
            self._begin(source, where, name[1:], rest or ">")
        elif name.lower() in _TAKES:
            self._obey(source, where, name, words(rest))
        elif name.lower() == "error":
            self._problem(where, " ".join(words(rest)))
        elif name:
            self.nesting.add(Directive(name, words(rest), rest, where))

    def _begin(self, source: _Source, where: Where, name: str, rest: str) -> None:
        """Open a section, or read past one whose condition does not hold."""
        if self.nesting.depth == MAX_DEPTH:
            self._give_up(where, TOO_DEEP)
            return
        if not is_condition(name):
            inside, bracket, _ = rest.rpartition(">")
            if not bracket:
                self._problem(where, f"<{name}> directive missing closing '>'")
            self.nesting.begin(name, inside if bracket else rest, where)
            return
        try:
            is_read = holds(name, rest, Known(self._defined, self.directives, self.server_root))
        except ConditionError as error:
            self._problem(where, str(error))
            is_read = False
        if is_read:
            self.nesting.begin_condition(name, where)
        elif mistake := skip(source.lines, name):
            self._problem(where, mistake)

    def _unclosed(self, source: _Source) -> None:
        """Tell of the sections that a file leaves open."""
        for section in self.nesting.close_down_to(source.outside):
            if section.is_condition:
                # An oversight of Apache's, on which some file may rely.
                self._warn(section.where, f"<{section.name}> was not closed: the end of the file is taken for its end")
            else:
                self._problem(section.where, f"<{section.name}> was not closed.")

    def _obey(self, source: _Source, where: Where, name: str, arguments: tuple[str, ...]) -> None:
        """Do what acts while the files are read."""
        what = name.lower()
        if not 1 <= len(arguments) <= (2 if what == "define" else 1) or not arguments[0]:
            self._problem(where, _TAKES[what])
            return
        argument = arguments[0]
        match what:
            case "include" | "includeoptional":
                self._include(source, where, argument, optional=what == "includeoptional")
            case "define" | "undefine" if ":" in argument:
                self._problem(where, "Variable name must not contain ':'")
            case "define":
                self.define(argument, arguments[1] if len(arguments) == 2 else None)
            case "undefine":
                self._defined.discard(argument)
                self._values.pop(argument.lower(), None)
            case "serverroot" if not is_folder(self.server_root / argument):
                self._problem(where, "ServerRoot must be a valid directory")
            case "serverroot":
                self.server_root /= argument
            case _:
                # Apache wants the folder to be there; nothing of ours is put into it.
                self.runtime_dir = self.server_root / argument

    def _include(self, source: _Source, where: Where, name: str, *, optional: bool) -> None:
        depth = source.include_depth + 1
        if depth > MAX_INCLUDE_DEPTH:
            text = f"Exceeded maximum include depth of {MAX_INCLUDE_DEPTH}, There appears to be a recursion."
            self._give_up(where, text)
            return
        try:
            files = included_files(name, self.server_root, optional=optional)
        except IncludeError as error:
            self._problem(where, str(error))
            return
        self._files += len(files)
        if self._files > MAX_FILES:
            self._give_up(where, f"more than {MAX_FILES} files are included")
            return
        self._sources += [_Source(self._lines(file, where), depth, self.nesting.depth) for file in reversed(files)]

    def _lines(self, path: Path, included_at: Where | None) -> Iterator[tuple[Where, str]]:
        """Open a file when its turn comes, and give its lines."""
        try:
            text = read_text(path)
        except UnreadableError as error:
            if included_at is None:
                self._problem(str(path), f"cannot read the configuration: {error}")
            else:
                self._problem(included_at, f"Could not open configuration file {path}: {error}")
            return
        for number, line in logical_lines(text):
            yield Where(str(path), number), line

    def _value(self, name: str, where: Where) -> str | None:
        value = self._values.get(name.lower(), self.environment.get(name))
        if value is None and ":" not in name:
            self._warn(where, f"AH00111: Config variable ${{{name}}} is not defined")
        return value

    def _give_up(self, where: Where, what: str) -> None:
        self._problem(where, what)
        self._has_given_up = True

    def _problem(self, where: Where | str, what: str) -> None:
        self.problems.append(Problem(_printable(str(where)), _printable(what)))
        self._has_given_up |= len(self.problems) >= MAX_PROBLEMS

    def _warn(self, where: Where, what: str) -> None:
        if len(self.warnings) < MAX_PROBLEMS:
            self.warnings.setdefault(what, Problem(_printable(str(where)), _printable(what)))


def _envvars(folder: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Read the file that Debian's apache2ctl puts into the environment, if there is one."""
    try:
        text = read_text(folder / "envvars")
    except UnreadableError:  # what it would have said is told, variable by variable, as not defined
        return {}
    return {name: value for name, value in assignments(text, environment).items() if name.startswith("APACHE_")}


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)[:_MAX_SHOWN_CHARACTERS]
