from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livepatch_core.catalog.model import Build, Catalog, Fix, Level, LevelStatus
from livepatch_core.catalog.read import parse_catalog
from livepatch_core.errors import LivepatchError
from livepatch_core.words import Kind
from tests.unit.catalog.entries import BUILD, RELEASE, catalog, level, text

EXAMPLE = b"""\
schema: 1
release: 6.1.0-56-amd64
builds:
  00112233445566778899aabbccddeeff00112233:
    version: "#1 SMP Debian 6.1.192-2"
    levels:
      1: {status: blocked, module: livepatch-1.ko.xz, name: livepatch_1, reason: oopses,
          sha256: 1111111111111111111111111111111111111111111111111111111111111111}
      2:
        status: testing
        module: livepatch-2.ko
        name: livepatch_2
        sha256: 2222222222222222222222222222222222222222222222222222222222222222
        size: 4096
        replace: true
        callbacks: true
        shadow: true
        states: [{id: 7, version: 1}]
        fixes:
          - {cve: CVE-2026-1, severity: high, url: "https://example.org", summary: Overflow}
          - {summary: 2026}
        functions: {vmlinux: [f, g.isra.0], xfs: []}
        built_for: {vmlinux: 00112233445566778899aabbccddeeff00112233}
        notes: |
          Two
          lines
"""


def test_every_field() -> None:
    read = parse_catalog(EXAMPLE)
    assert (read.schema, read.release, list(read.builds)) == (1, RELEASE, [BUILD])
    first, second = read.builds[BUILD].levels.values()
    assert (first.number, first.status, first.reason) == (1, LevelStatus.BLOCKED, "oopses")
    assert (first.size, first.replace, first.callbacks, first.shadow) == (None, None, False, False)
    assert (first.fixes, first.states, first.functions, first.built_for) == ((), (), {}, {})
    assert second == Level(
        number=2,
        status=LevelStatus.TESTING,
        module="livepatch-2.ko",
        name="livepatch_2",
        sha256="2" * 64,
        size=4096,
        fixes=(Fix("CVE-2026-1", "high", "https://example.org", "Overflow"), Fix("", "", "", "2026")),
        replace=True,
        callbacks=True,
        states=((7, 1),),
        shadow=True,
        functions={"vmlinux": ("f", "g.isra.0"), "xfs": ()},
        built_for={"vmlinux": BUILD},
        notes="Two\nlines\n",
        reason="",
    )


def test_identifiers_of_digits_only_stay_text() -> None:
    """YAML would make numbers of them, and lose leading zeros."""
    first = parse_catalog(EXAMPLE).builds[BUILD].levels[1]
    assert first.sha256 == "1" * 64
    digits = b"0" * 3 + b"7" * 37
    assert list(parse_catalog(EXAMPLE.replace(BUILD.encode(), digits)).builds) == [digits.decode()]


def refused(data: bytes) -> LivepatchError:
    with pytest.raises(LivepatchError) as caught:
        parse_catalog(data, "salt://livepatch/catalog.yaml")
    assert caught.value.kind is Kind.CATALOG
    assert caught.value.remedy
    assert "salt://livepatch/catalog.yaml" in caught.value.message
    return caught.value


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("status", "ready", "one of testing, released, blocked"),
        ("status", None, "has no status"),
        ("module", "../livepatch-1.ko", "bare name of a .ko file"),
        ("module", "/lib/livepatch-1.ko", "bare name of a .ko file"),
        ("module", "sub/livepatch-1.ko", "bare name of a .ko file"),
        ("module", "..", "bare name of a .ko file"),
        ("module", ".hidden", "bare name of a .ko file"),
        ("module", "livepatch-1.txt", "bare name of a .ko file"),
        ("module", "", "bare name of a .ko file"),
        ("name", "livepatch-1", "a module's name"),
        ("name", "x" * 64, "a module's name"),
        ("sha256", "abc", "64 digits"),
        ("sha256", "A" * 64, "64 digits"),
        ("sha256", None, "has no sha256"),
        ("size", 0, "whole number"),
        ("size", -5, "whole number"),
        ("size", 1.5, "whole number"),
        ("size", "1_000", "whole number"),
        ("replace", "maybe", "neither true nor false"),
        ("replace", 1, "neither true nor false"),
        ("replace", "true", "neither true nor false"),
        ("callbacks", "no way", "neither true nor false"),
        ("shadow", [], "is not text"),
        ("fixes", "CVE-2026-1", "is not a list"),
        ("fixes", ["CVE-2026-1"], "is not a mapping"),
        ("states", [{"id": 1}], "has no version"),
        ("states", [{"id": 0, "version": 1}], "whole number"),
        ("functions", ["f"], "is not a mapping"),
        ("functions", {"vmlinux": "f"}, "is not a list"),
        ("functions", {"vmlinux": [None]}, "is not text"),
        ("built_for", {"vmlinux": "none"}, "build-id in hex"),
        ("notes", ["a"], "is not text"),
    ],
)
def test_a_wrong_field_is_named(field: str, value: Any, why: str) -> None:
    error = refused(text(catalog(1, 2, **{field: value})))
    assert why in error.message
    assert field in error.message
    assert f"builds {BUILD} levels 1" in error.message
    assert error.evidence["line"] >= 5


@pytest.mark.parametrize("field", ["status", "module", "name", "sha256"])
def test_a_missing_field_is_named(field: str) -> None:
    document = catalog(1)
    del document["builds"][BUILD]["levels"][1][field]
    assert f"has no {field}" in refused(text(document)).message


@pytest.mark.parametrize("number", [0, -1, "one", 1.0, "1a", True])
def test_levels_are_positive_numbers(number: Any) -> None:
    document = catalog(1)
    document["builds"][BUILD]["levels"] = {number: level(1)}
    assert "is not a whole number" in refused(text(document)).message


@pytest.mark.parametrize("build", ["abc", "x" * 40, "AA" * 20, "", "ab" * 7])
def test_builds_are_build_ids(build: str) -> None:
    document = catalog(1)
    document["builds"] = {build: document["builds"][BUILD]}
    assert "is not a build-id" in refused(text(document)).message


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is empty"),
        (b"# nothing\n", "is empty"),
        (b"[1, 2]", "is not a mapping"),
        (b"schema: 1\nrelease: [", "it is not YAML"),
        (b"\xff\xfe\xfa", "it is not YAML"),
        (b"schema: 1\x00", "it is not YAML"),
        (b"--- {schema: 1}\n--- {schema: 1}\n", "it is not YAML"),
        (b"schema: 2\nrelease: r\nbuilds: {}", "newer form"),
        (b"release: r\nbuilds: {}", "has no schema"),
        (b"schema: 1\nbuilds: {}", "has no release"),
        (b"schema: 1\nrelease: ../x\nbuilds: {}", "kernel release"),
        (b"schema: 1\nrelease: r", "has no builds"),
        (b"schema: 1\nschema: 1\nrelease: r\nbuilds: {}", "line 2: has the key schema twice"),
        (b"[" * 100_000, "nest"),  # newer libyaml says so before we do: exceeded maximum nesting depth
        (b"{a: " * 100_000, "nest"),
        (b"- " * 100_000, "nested too deeply"),
        (b"a" * (8 * 1024 * 1024 + 1), "more than 8 MiB"),
    ],
)
def test_a_document_that_is_none(data: bytes, why: str) -> None:
    assert why in refused(data).message


def test_truncated_at_every_offset() -> None:
    """A torn file is refused, or the levels before the tear are whole and the torn one has its digest."""
    document = text(catalog(1, 2, 3))
    whole = parse_catalog(document).builds[BUILD].levels
    read = 0
    for length in range(len(document)):
        try:
            levels = parse_catalog(document[:length]).builds[BUILD].levels
        except LivepatchError:
            continue
        read += 1
        *before, torn = levels.values()
        assert all(one == whole[one.number] for one in before)
        assert torn.sha256 == whole[torn.number].sha256
    assert read > 0


def test_an_alias_is_what_it_stands_for() -> None:
    """PyYAML writes one wherever two values are the same object."""
    shared = text(catalog(1, 2, fixes=[{"cve": "CVE-2026-1"}]))
    assert b"*id" in shared
    first, second = parse_catalog(shared).builds[BUILD].levels.values()
    assert first.fixes == second.fixes == (Fix("CVE-2026-1"),)


def test_a_small_text_that_stands_for_very_much() -> None:
    names = ["f"] * 2000
    document = text(catalog(1, functions={f"m{number}": names for number in range(2000)}))
    assert len(document) < 100_000
    assert "more than 500000 values" in refused(document).message


def test_fields_of_newer_writers_are_left_alone() -> None:
    document = catalog(1, signature={"key": [1, 2]}, later=None)
    document["publisher"] = document["builds"][BUILD]["origin"] = "x"
    assert parse_catalog(text(document)) == parse_catalog(text(catalog(1)))


words = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=30)
identifiers = st.from_regex(r"[a-z_][a-z0-9_]{0,20}", fullmatch=True)
build_ids = st.binary(min_size=8, max_size=32).map(bytes.hex)
levels = st.builds(
    Level,
    number=st.integers(1, 10**9),
    status=st.sampled_from(LevelStatus),
    module=st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._+~-]{0,40}\.ko(\.xz)?", fullmatch=True),
    name=identifiers,
    sha256=st.binary(min_size=32, max_size=32).map(bytes.hex),
    size=st.none() | st.integers(1, 2**40),
    fixes=st.lists(st.builds(Fix, words, words, words, words), max_size=3).map(tuple),
    replace=st.none() | st.booleans(),
    callbacks=st.booleans(),
    states=st.lists(st.tuples(st.integers(1, 2**63), st.integers(0, 2**32 - 1)), max_size=3).map(tuple),
    shadow=st.booleans(),
    functions=st.dictionaries(identifiers, st.lists(identifiers, max_size=4).map(tuple), max_size=3),
    built_for=st.dictionaries(identifiers, build_ids, max_size=3),
    notes=words,
    reason=words,
)
catalogs = st.dictionaries(
    build_ids,
    st.lists(levels, max_size=4, unique_by=(lambda one: one.number, lambda one: one.name)),
    max_size=3,
)


def document_of(builds: dict[str, list[Level]]) -> dict[str, Any]:
    def plain(one: Level) -> dict[str, Any]:
        fields = {key: value for key, value in vars(one).items() if key != "number"}
        fields["status"] = str(one.status)
        fields["fixes"] = [vars(fix) for fix in one.fixes]
        fields["states"] = [{"id": number, "version": version} for number, version in one.states]
        fields["functions"] = {name: list(found) for name, found in one.functions.items()}
        return fields

    return {
        "schema": 1,
        "release": RELEASE,
        "builds": {
            build: {"version": build, "levels": {one.number: plain(one) for one in found}}
            for build, found in builds.items()
        },
    }


@given(catalogs)
def test_what_is_written_is_read(builds: dict[str, list[Level]]) -> None:
    assert parse_catalog(text(document_of(builds))) == Catalog(
        1,
        RELEASE,
        {build: Build(build, build, {one.number: one for one in found}) for build, found in builds.items()},
    )


def parse_or_refuse(data: bytes) -> None:
    kind = Kind.CATALOG
    try:
        parse_catalog(data)
    except LivepatchError as error:
        kind = error.kind
    assert kind is Kind.CATALOG


@given(st.binary(max_size=300))
def test_any_bytes_give_a_catalog_or_a_refusal(data: bytes) -> None:
    parse_or_refuse(data)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words | st.dates() | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words | st.integers(), inner, max_size=3),
    max_leaves=8,
)
paths = st.sampled_from(
    [("schema",), ("release",), ("builds",), ("builds", BUILD), ("builds", BUILD, "levels")]
    + [("builds", BUILD, "levels", 1)]
    + [("builds", BUILD, "levels", 1, field) for field in level(1)]
)


@given(paths, values)
def test_any_value_anywhere_gives_a_catalog_or_a_refusal(path: tuple[Any, ...], value: Any) -> None:
    document: Any = catalog(1)
    *parents, last = path
    inner = document
    for key in parents:
        inner = inner[key]
    inner[last] = value
    parse_or_refuse(text(document))
