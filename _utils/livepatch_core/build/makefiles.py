"""Which source files a configuration builds, as far as kbuild's Makefiles are understood.

Nothing is run. Conditions on the configuration, variables of the same file and the functions that lists of
objects are written with are worked out; what else occurs is unknown, and so is what depends on it. Unknown is
an answer of its own: such a file is compiled, and the kernel's image decides. It may fail to compile only
where all is understood and no list names it.
"""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Optional

_UNKNOWN = "\0"  # stands for whatever was not understood in a text
_REFERENCE = re.compile(r"\$\(([^()$]*)\)|\$\{([^{}$]*)\}")
_SETTING = re.compile(r"^\s*((?:[\w./-]|\$\((?:[^()]|\([^()]*\))*\)|\$\{\w+\})+)\s*([:+?]?)=\s*(.*)$")
_CONDITION = re.compile(r"^\s*(else|endif|(?:else\s+)?(ifeq|ifneq|ifdef|ifndef)\b\s*(.*))\s*$")
_INCLUDE = re.compile(r"^\s*-?include\s+(\S.*?)\s*$")
_LIST = re.compile(rf"^([\w{_UNKNOWN}-]+?)-(objs|[\w{_UNKNOWN}]*)$")
_OBJECT = re.compile(r"[\w./-]+\.o\b")
_COMPUTED = re.compile(r"\$\(eval (?!CFLAGS)|^ *\$\(call\b")
_TOP_LISTS = frozenset({"obj", "lib", "libs", "core", "drivers"})
_DEEPEST = 8
_KNOWN = {"BITS": "64", "SRCARCH": "x86", "ARCH": "x86", "srctree": "."}


def both(one: Optional[bool], other: Optional[bool]) -> Optional[bool]:
    """``and`` of two answers, None for unknown."""
    if one is False or other is False:
        return False
    return None if one is None or other is None else True


def either(answers: list[Optional[bool]]) -> Optional[bool]:
    """``or`` of several answers, None for unknown."""
    if True in answers:
        return True
    return None if None in answers else False


class Row(NamedTuple):
    """One assignment to a list of objects: ``name`` of the list, whether it holds, and its members."""

    name: str
    holds: Optional[bool]
    members: tuple[str, ...]


@dataclass
class _Reader:
    """Reads the Makefiles of one directory."""

    directory: str
    source: Path
    config: dict[str, str]
    rows: list[Row] = field(default_factory=list)
    words: set[str] = field(default_factory=set)  # every name of an object, where no condition is off
    followed: bool = True  # every list is, but for the members in ``unknown``
    unknown: list[str] = field(default_factory=list)  # members of lists that are not, or not wholly, known
    _lists: list[str] = field(default_factory=list)  # the left side of each row
    _looked_at: set[str] = field(default_factory=set)  # the variables that something was made of
    _variables: dict[str, str] = field(default_factory=dict)
    _conditions: list[Optional[bool]] = field(default_factory=list)
    _earlier: list[Optional[bool]] = field(default_factory=list)  # whether a branch before this one held

    def read(self, path: Path, depth: int = 0) -> None:
        if not path.is_file() or depth == _DEEPEST:
            return
        text = path.read_text(encoding="utf-8", errors="replace").replace("\\\n", " ")
        for line in text.split("\n"):
            self._line(re.sub(r"(?<!\\)#.*", "", line), depth)

    def _line(self, line: str, depth: int) -> None:
        condition, included, setting = _CONDITION.match(line), _INCLUDE.match(line), _SETTING.match(line)
        if condition:
            self._condition(condition[1], condition[2] or "", condition[3] or "")
        elif included:
            for path in self.expand(included[1]).split():
                self.followed = self.followed and _UNKNOWN not in path
                self.read(self.source / posixpath.normpath(path), depth + 1)
        elif setting:
            self._set(*setting.groups())
        elif _COMPUTED.match(line):
            self.followed = False
        if self._holds() is not False:
            self.words.update(_OBJECT.findall(line))

    def _holds(self) -> Optional[bool]:
        """Whether the conditions around the line hold."""
        holds: Optional[bool] = True
        for condition in self._conditions:
            holds = both(holds, condition)
        return holds

    def _condition(self, keyword: str, test: str, rest: str) -> None:
        if keyword == "endif" or keyword.startswith("else"):
            if not self._conditions:
                return
            held, before = self._conditions.pop(), self._earlier.pop()
            if keyword == "endif":
                return
            before = either([held, before])
            negated = None if before is None else not before
            self._conditions.append(both(negated, self._test(test, rest) if test else True))
            self._earlier.append(before)
            return
        self._conditions.append(self._test(test, rest))
        self._earlier.append(False)

    def _test(self, test: str, rest: str) -> Optional[bool]:
        if test in ("ifdef", "ifndef"):
            name = rest.strip()
            if not name.startswith("CONFIG_") and name != "0":  # amdgpu's way to switch something off
                return None
            return (name in self.config) == (test == "ifdef")
        sides = re.fullmatch(r"\((.*?),([^,]*)\)", self.expand(rest.strip()))
        if sides is None or _UNKNOWN in sides[0]:
            return None
        return (sides[1].strip() == sides[2].strip()) == (test == "ifeq")

    def _set(self, left: str, how: str, right: str) -> None:
        holds = self._holds()
        name = self.expand(left)
        used_before = name in self._looked_at
        value = self.expand(right)
        listed = _LIST.match(name)
        if name == _UNKNOWN:
            self.followed = False
        if listed and "flags" not in name:
            if how != "+" and holds is not False:  # it replaces what was in the list
                self.rows = [
                    Row(r.name, False if holds else both(None, r.holds), r.members) if old == name else r
                    for r, old in zip(self.rows, self._lists)
                ]
            suffix = listed[2]
            on = None if _UNKNOWN in name else suffix in ("y", "m", "objs")
            if both(holds, on) is not False:
                self.followed = self.followed and not used_before
                self.unknown += [word for word in value.split() if _UNKNOWN in word]
            self.rows.append(Row(listed[1], both(holds, on), tuple(value.split())))
            self._lists.append(name)
        before = self._variables.get(name, "")
        if holds is False or (how == "?" and before):
            return
        self._variables[name] = (f"{before} " if how == "+" else "") + (value if holds else _UNKNOWN)

    @cached_property
    def last_parts(self) -> frozenset[str]:
        """The objects of all lists without their directories."""
        return frozenset(posixpath.basename(member) for row in self.rows for member in row.members)

    @property
    def clear(self) -> bool:
        """Whether an object that is in none of the lists is surely not built."""
        return self.followed and not self.unknown

    def may_name(self, member: str) -> bool:
        """Whether an object may be in one of the lists, though it is not seen to be."""
        patterns = (".*".join(map(re.escape, word.split(_UNKNOWN))) for word in self.unknown)
        return not self.followed or any(re.fullmatch(pattern, member) for pattern in patterns)

    def expand(self, text: str) -> str:
        """``text`` with every reference worked out or replaced by the mark for what is not known."""
        for _ in range(64):
            text, count = _REFERENCE.subn(lambda m: self._value(m[1] if m[1] is not None else m[2]), text)
            if not count:
                return text.replace("$", _UNKNOWN)
        return _UNKNOWN

    def _value(self, inner: str) -> str:
        function, _, rest = inner.partition(" ")
        arguments = [argument.strip() for argument in rest.split(",")]
        if rest:
            return _apply(function, arguments)
        name, _, change = inner.partition(":")
        if name.startswith("CONFIG_"):
            value = self.config.get(name, "")
        elif name in ("src", "obj"):
            value = self.directory
        else:
            empty = name.endswith(("-y", "-m", "-objs"))  # a list that nothing was put into
            self._looked_at.update([name] if empty else [])
            value = self._variables.get(name, _KNOWN.get(name, "" if empty else _UNKNOWN))
        old, _, new = change.partition("=")
        if change and ("%" in change or _UNKNOWN in value):
            return _UNKNOWN
        if change:
            value = " ".join(w[: -len(old)] + new if w.endswith(old) else w for w in value.split())
        return value


def _apply(function: str, arguments: list[str]) -> str:
    """One of make's functions; whatever goes in that is not known marks what comes out."""
    words = arguments[-1].split()
    if function == "strip" and len(arguments) == 1:
        return " ".join(words)
    if function == "subst" and len(arguments) == 3 and _UNKNOWN not in arguments[0]:
        return arguments[2].replace(arguments[0], arguments[1])
    if (
        function == "filter"
        and len(arguments) == 2
        and not any(c in "".join(arguments) for c in ("%", _UNKNOWN))
    ):
        return " ".join(word for word in words if word in arguments[0].split())
    if function == "addprefix" and len(arguments) == 2:
        return " ".join(arguments[0] + word for word in words)
    if function == "addsuffix" and len(arguments) == 2:
        return " ".join(word + arguments[0] for word in words)
    return _UNKNOWN


def _settings(config: str) -> dict[str, str]:
    found = re.findall(r"^(CONFIG_\w+)=(.*)$", config, re.MULTILINE)
    return {name: value.strip('"') for name, value in found}


class Makefiles:
    """Answers whether kbuild builds an object: True, False, or None where that was not understood."""

    def __init__(self, source: Path, config: str) -> None:
        self.source, self.config = source, _settings(config)
        self._read_already: dict[str, _Reader] = {}
        self._index: dict[str, dict[str, list[Row]]] = {}
        self._directories: dict[str, Optional[bool]] = {}

    def _read(self, directory: str) -> _Reader:
        """The lists of a directory's Makefile and Kbuild."""
        if directory not in self._read_already:
            reader = _Reader(directory, self.source, self.config)
            for name in ("Kbuild", "Makefile"):
                reader.read(self.source / directory / name)
            self._read_already[directory] = reader
        return self._read_already[directory]

    def _rows(self, directory: str, member: str) -> list[Row]:
        if directory not in self._index:
            index: dict[str, list[Row]] = defaultdict(list)
            for row in self._read(directory).rows:
                for name in dict.fromkeys(row.members):
                    index[name].append(row)
            self._index[directory] = index
        return self._index[directory].get(member, [])

    @staticmethod
    def _levels(path: str) -> list[tuple[str, str]]:
        """(directory, name of the object as that directory's Makefile writes it), nearest first."""
        parts = (path[:-2] + ".o").split("/")
        return [("/".join(parts[:n]), "/".join(parts[n:])) for n in range(len(parts) - 1, 0, -1)]

    def mentioned(self, path: str) -> bool:
        """Whether any Makefile above names the object of a source file, in a list or elsewhere."""
        return any(self._mentions(directory, member) for directory, member in self._levels(path))

    def _mentions(self, directory: str, member: str) -> bool:
        """A list for which a variable holds the directory may have only the last part of the name; one that
        stands for a listed object of another directory does not count.
        """
        name = posixpath.basename(member)
        words = self._read(directory).words
        if name in words and (name == member or name not in self._read(directory).last_parts):
            return True
        return any(f"/{member}".endswith("/" + word.lstrip("./")) for word in words if "/" in word)

    def names_nothing(self, path: str) -> bool:
        """Whether no Makefile above names the object of a source file, nor can by what is not understood.
        Those that another one includes are a part of that.
        """
        levels = [(directory, member) for directory, member in self._levels(path) if "/.." not in directory]
        return not any(
            self._rows(directory, member)
            or self._mentions(directory, member)
            or self._read(directory).may_name(member)
            for directory, member in levels
        )

    def builds(self, path: str) -> Optional[bool]:
        """What the Makefiles that list the object say of it and of their directories: one is enough."""
        listed = [
            both(self._object(directory, member, 0), self._directory(directory))
            for directory, member in self._levels(path)
            if self._rows(directory, member)
        ]
        return either(listed) if listed else both(None, self._directory(posixpath.dirname(path)))

    def _object(self, directory: str, member: str, depth: int) -> Optional[bool]:
        rows = self._rows(directory, member)
        if not rows or depth == _DEEPEST:
            return None
        if self._read(directory).clear:  # a list that is no object stands in those that are made of it
            objects = [r for r in rows if r.name in _TOP_LISTS or self._rows(directory, f"{r.name}.o")]
            rows = objects or rows
        return either(
            [
                row.holds
                if row.name in _TOP_LISTS or row.holds is False
                else both(row.holds, self._object(directory, f"{row.name}.o", depth + 1))
                for row in rows
            ]
        )

    def _directory(self, directory: str) -> Optional[bool]:
        """Whether kbuild comes to a directory: the nearest Makefile above that names it says so."""
        if directory not in self._directories:
            self._directories[directory] = self._visited(directory)
        return self._directories[directory]

    def _visited(self, directory: str) -> Optional[bool]:
        parts = directory.split("/")
        above = [("/".join(parts[:n]), "/".join(parts[n:]) + "/") for n in range(len(parts) - 1, 0, -1)]
        for parent, name in above:
            rows = [*self._rows(parent, name), *self._rows(parent, f"{directory}/")]
            if rows:
                return both(either([row.holds for row in rows]), self._directory(parent))
        # Without a rule it is reached in a way of its own, or not at all (drivers/s390 here).
        known = any(self._read(parent).rows for parent, _ in above)
        return both(None if known else True, self._directory(above[0][0]) if above else True)
