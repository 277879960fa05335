"""Changing a YAML document without understanding all of it.

What is not touched keeps its text: fields of a newer version, digits that YAML would take for numbers. Only
comments go, which YAML's nodes do not hold.
"""

from __future__ import annotations

from typing import Any

import yaml

from livepatch_core.catalog.document import Loader, parse_document, problem

# libyaml's emitter is ten times as fast.
Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
WIDTH = 110


def compose(data: bytes, source: str) -> yaml.MappingNode:
    """The document's mapping, to be changed; raises LivepatchError (catalog) for what cannot be."""
    node = parse_document(data, source).node
    if not isinstance(node, yaml.MappingNode):
        raise problem(source, 1, "", "is not a mapping (key: value)")
    for event in yaml.parse(data, Loader=Loader):
        if isinstance(event, yaml.AliasEvent):  # one value in two places: a change would hit both
            line = event.start_mark.line + 1 if event.start_mark else 0
            raise problem(source, line, "", f"it has an alias (*{event.anchor}): write the value out")
    return node


def node_of(value: Any) -> yaml.Node:
    """Plain data as a node."""
    node = yaml.compose(yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True), Loader=Loader)
    assert node is not None  # only an empty text composes to None
    return node


def mapping_of(value: dict[str, Any]) -> yaml.MappingNode:
    """A mapping of plain data as a node."""
    node = node_of(value)
    assert isinstance(node, yaml.MappingNode)
    return node


def get(mapping: yaml.Node | None, key: object) -> yaml.Node | None:
    """The value under ``key``, by the text of the key; None where there is none."""
    if not isinstance(mapping, yaml.MappingNode):
        return None
    return next((value for name, value in mapping.value if name.value == str(key)), None)


def put(mapping: yaml.MappingNode, key: object, value: yaml.Node) -> None:
    """Set ``key``, where it stands or at the end."""
    for index, (name, _) in enumerate(mapping.value):
        if name.value == str(key):
            mapping.value[index] = (name, value)
            return
    mapping.value.append((node_of(key), value))
    mapping.flow_style = False


def drop(mapping: yaml.MappingNode, key: object) -> None:
    mapping.value = [(name, value) for name, value in mapping.value if name.value != str(key)]


def inner(mapping: yaml.MappingNode, key: object) -> yaml.MappingNode:
    """The mapping under ``key``, made where it is missing or empty."""
    found = get(mapping, key)
    if isinstance(found, yaml.MappingNode):
        return found
    made = mapping_of({})
    put(mapping, key, made)
    return made


def add(mapping: yaml.MappingNode, key: object, value: Any) -> None:
    """Append to the list under ``key``."""
    found = get(mapping, key)
    if isinstance(found, yaml.SequenceNode):
        found.value.append(node_of(value))
    else:
        put(mapping, key, node_of([value]))


def texts(node: yaml.Node) -> Any:
    """The document as mappings, lists and the text of its scalars (None for null): what is signed."""
    if isinstance(node, yaml.MappingNode):
        return {str(key.value): texts(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [texts(value) for value in node.value]
    return None if node.tag.endswith(":null") else str(node.value)


def render(node: yaml.Node) -> bytes:
    text: str = yaml.serialize(node, Dumper=Dumper, allow_unicode=True, width=WIDTH)
    return text.encode()
