"""From the text of ``catalog.yaml`` to a Catalog: strict in what it needs, silent about what is new to it."""

from __future__ import annotations

import re
from datetime import date

from livepatch_core.catalog.document import Fields, Item, parse_document
from livepatch_core.catalog.model import (
    SCHEMA,
    Build,
    Catalog,
    Fix,
    Level,
    LevelStatus,
    PackageLevel,
    Unpatchable,
)

SHA256 = re.compile(r"[0-9a-f]{64}")
BUILD_ID = re.compile(r"([0-9a-f]{2}){8,64}")  # the linker's default has 20 bytes, other hashes 16 to 64
RELEASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]*")
# A file beside the catalog: no directory, no hidden file, nothing that a shell or a URL would read otherwise.
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+~-]*\.ko(\.(xz|gz|zst))?")
MODULE_NAME = re.compile(r"[A-Za-z0-9_]{1,63}")  # MODULE_NAME_LEN is 56, 64 in newer kernels, with the NUL


def parse_catalog(text: bytes, source: str = "catalog.yaml") -> Catalog:
    """The catalog in ``text``; ``source`` names it in errors.

    Raises LivepatchError(CATALOG) whose message names source, line, build, level and field.
    """
    fields = Fields(parse_document(text, source))
    schema = fields.required("schema")
    if schema.number(1) != SCHEMA:
        raise schema.problem(f"{schema.text()} is a newer form than this version reads ({SCHEMA})")
    release = fields.required("release").matching(RELEASE, "a kernel release (uname -r)")
    builds = fields.required("builds").entries()
    return Catalog(SCHEMA, release, {key: _build(name, value) for key, (name, value) in builds.items()})


def _build(key: Item, item: Item) -> Build:
    build_id = key.matching(BUILD_ID, "a build-id in hex")
    fields = Fields(item)
    levels = [
        _level(number.number(1), value) for number, value in fields.required("levels").entries().values()
    ]
    return Build(
        build_id=build_id,
        version=fields.text("version"),
        levels={level.number: level for level in levels},
        packages=_packages(fields),
        expires=_expires(fields),
        unpatchable=tuple(_unpatchable(one) for one in fields.items("unpatchable")),
    )


def is_day(text: str) -> bool:
    """A day of the calendar as ``2027-03-31``; Python 3.11 reads more forms than that."""
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _expires(fields: Fields) -> str:
    item = fields.optional("expires")
    if item is not None and not is_day(item.text()):
        raise item.problem(f"{item.text()!r} is not a day (2027-03-31)")
    return item.text() if item is not None else ""


def _packages(fields: Fields) -> tuple[PackageLevel, ...]:
    found: dict[tuple[str, str], PackageLevel] = {}
    for item in fields.items("packages"):
        one = _package(item)
        if (one.package, one.version) in found:
            raise item.problem(f"gives {one.package} {one.version} a level twice")
        found[one.package, one.version] = one
    return tuple(found.values())


def _package(item: Item) -> PackageLevel:
    fields = Fields(item)
    return PackageLevel(
        package=fields.required("package").text(),
        version=fields.required("version").text(),
        number=fields.required("level").number(1),
        fixes=tuple(_fix(fix) for fix in fields.items("fixes")),
    )


def _unpatchable(item: Item) -> Unpatchable:
    fields = Fields(item)
    return Unpatchable(fields.required("cve").text(), fields.text("why"), fields.text("at"))


def _level(number: int, item: Item) -> Level:
    fields = Fields(item)
    size, replace = fields.optional("size"), fields.optional("replace")
    return Level(
        number=number,
        status=_status(fields.required("status")),
        module=fields.required("module").matching(FILE_NAME, "the bare name of a .ko file"),
        name=fields.required("name").matching(MODULE_NAME, "a module's name"),
        sha256=fields.required("sha256").matching(SHA256, "a SHA-256 in hex (64 digits)"),
        size=size.number(1) if size else None,
        fixes=tuple(_fix(fix) for fix in fields.items("fixes")),
        replace=replace.flag() if replace else None,
        callbacks=fields.flag("callbacks"),
        shadow=fields.flag("shadow"),
        states=tuple(_state(state) for state in fields.items("states")),
        functions={name: _names(value) for name, value in fields.entries("functions").items()},
        built_for={name: _build_id(value) for name, value in fields.entries("built_for").items()},
        notes=fields.text("notes"),
        reason=fields.text("reason"),
    )


def _status(item: Item) -> LevelStatus:
    words = [status.value for status in LevelStatus]
    return LevelStatus(item.matching(re.compile("|".join(words)), f"one of {', '.join(words)}"))


def _fix(item: Item) -> Fix:
    fields = Fields(item)
    return Fix(fields.text("cve"), fields.text("severity"), fields.text("url"), fields.text("summary"))


def _state(item: Item) -> tuple[int, int]:
    fields = Fields(item)
    return fields.required("id").number(1), fields.required("version").number(0)


def _names(item: Item) -> tuple[str, ...]:
    return tuple(name.text() for name in item.items())


def _build_id(item: Item) -> str:
    return item.matching(BUILD_ID, "a build-id in hex")
