"""A YAML document whose every value knows its place: line, and path of keys.

Values are taken from YAML's nodes, not from what YAML makes of them: a digest or build-id that happens to
have digits only is still the text that was written, and an error can name the line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import yaml

from livepatch_core.errors import LivepatchError
from livepatch_core.words import Kind

# libyaml's scanner is ten times as fast; PyYAML is built without it on some systems.
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

MAX_BYTES = 8 * 1024 * 1024  # a level with a hundred functions and fixes takes some 10 KiB
MAX_VALUES = 500_000  # aliases let a small text stand for any number of values
MAX_DEPTH = 32  # the document has nine; PyYAML's C loader crashes the process on some thousands
BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
INTEGER = re.compile(r"0|[1-9][0-9]{0,19}")


def problem(source: str, line: int, path: str, what: str) -> LivepatchError:
    """The error for a document that cannot be used; ``line`` counts from 1, 0 is unknown."""
    where = ", ".join([source, *([f"line {line}"] if line else []), *([path] if path else [])])
    return LivepatchError(
        Kind.CATALOG,
        f"The catalog cannot be used: {where}: {what}. Nothing was changed.",
        remedy="Correct the catalog at its source and publish it again.",
        source=source,
        line=line,
        field=path,
    )


@dataclass
class Document:
    """What the values of one document share."""

    source: str
    values: int = 0  # read so far

    def count(self, number: int) -> None:
        self.values += number
        if self.values > MAX_VALUES:
            raise problem(self.source, 0, "", f"it has more than {MAX_VALUES} values")


@dataclass(frozen=True)
class Item:
    """A value in a document. Its readers raise LivepatchError(CATALOG) for a value of another kind."""

    document: Document
    path: str
    node: yaml.Node

    def problem(self, what: str) -> LivepatchError:
        return problem(self.document.source, self.node.start_mark.line + 1, self.path, what)

    @property
    def kind(self) -> str:
        """What YAML takes the value for, the last word of its tag: ``str``, ``bool``, ``null`` ..."""
        return str(self.node.tag).rpartition(":")[2]

    def entries(self) -> dict[str, tuple[Item, Item]]:
        """A mapping's keys and values by the text of the key."""
        if not isinstance(self.node, yaml.MappingNode):
            raise self.problem("is not a mapping (key: value)")
        self.document.count(len(self.node.value))
        found: dict[str, tuple[Item, Item]] = {}
        for key_node, value_node in self.node.value:
            key = Item(self.document, self.path, key_node)
            text = key.text()
            if text in found:
                raise key.problem(f"has the key {text} twice")
            path = f"{self.path} {text}".lstrip()
            found[text] = (Item(self.document, path, key_node), Item(self.document, path, value_node))
        return found

    def items(self) -> Iterator[Item]:
        """The values of a list."""
        if not isinstance(self.node, yaml.SequenceNode):
            raise self.problem("is not a list")
        self.document.count(len(self.node.value))
        for number, node in enumerate(self.node.value, 1):
            yield Item(self.document, f"{self.path} entry {number}", node)

    def text(self) -> str:
        """Text as it was written, also where YAML would take it for a number."""
        if not isinstance(self.node, yaml.ScalarNode) or self.kind == "null":
            raise self.problem("is not text")
        value: str = self.node.value
        return value

    def matching(self, pattern: re.Pattern[str], what: str) -> str:
        """Text of a given form; ``what`` names the form."""
        value = self.text()
        if not pattern.fullmatch(value):
            raise self.problem(f"{value!r} is not {what}")
        return value

    def number(self, least: int) -> int:
        """A decimal number, not below ``least``."""
        value = self.text()
        if not INTEGER.fullmatch(value) or int(value) < least:
            raise self.problem(f"{value!r} is not a whole number of {least} or more")
        return int(value)

    def flag(self) -> bool:
        """true or false; what stands in quotes is text."""
        value = self.text().lower()
        if value not in BOOLEANS or self.kind != "bool":
            raise self.problem(f"{value!r} is neither true nor false")
        return BOOLEANS[value]


class Fields:
    """A mapping with known keys; others are left alone, so that newer writers can add some."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self._found = {key: value for key, (_, value) in item.entries().items()}

    def required(self, key: str) -> Item:
        found = self.optional(key)
        if found is None:
            raise self.item.problem(f"has no {key}")
        return found

    def optional(self, key: str) -> Item | None:
        """None when the key is absent or has no value."""
        found = self._found.get(key)
        return None if found is None or found.kind == "null" else found

    def text(self, key: str) -> str:
        """Optional text; "" when absent."""
        found = self.optional(key)
        return "" if found is None else found.text()

    def flag(self, key: str) -> bool:
        """Optional true or false; false when absent."""
        found = self.optional(key)
        return found is not None and found.flag()

    def items(self, key: str) -> list[Item]:
        """An optional list; empty when absent."""
        found = self.optional(key)
        return [] if found is None else list(found.items())

    def entries(self, key: str) -> dict[str, Item]:
        """An optional mapping; empty when absent."""
        found = self.optional(key)
        return {} if found is None else {name: value for name, (_, value) in found.entries().items()}


def parse_document(data: bytes, source: str) -> Item:
    """The only document in ``data``, unread."""
    if len(data) > MAX_BYTES:
        raise problem(source, 0, "", f"it has more than {MAX_BYTES // 1024 // 1024} MiB")
    try:
        _check_shape(data, source)
        node = yaml.compose(data, Loader=Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise problem(source, line, "", f"it is not YAML ({error.problem})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise problem(source, 0, "", f"it is not YAML ({error})") from error
    if node is None:
        raise problem(source, 0, "", "it is empty")
    return Item(Document(source), "", node)


def _check_shape(data: bytes, source: str) -> None:
    """Events come one at a time, whatever the nesting; building nodes recurses, so it must be safe before."""
    depth = 0
    for event in yaml.parse(data, Loader=Loader):
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise problem(source, line, "", "it is nested too deeply")
