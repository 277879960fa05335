"""What the catalog says of a kernel build beside its levels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from livepatch_core.catalog import builds
from livepatch_core.catalog.entry import parse_fixes
from livepatch_core.catalog.model import Fix, PackageLevel
from livepatch_core.catalog.read import parse_catalog
from livepatch_core.catalog.settings import Master
from livepatch_core.catalog.signature import check_package
from livepatch_core.catalog.standing import promote
from livepatch_core.catalog.transfer import listing
from livepatch_core.catalog.verify import verify
from livepatch_core.errors import LivepatchError
from livepatch_core.words import Kind
from tests.unit.catalog import entries
from tests.unit.catalog.modules import BUILD, BY, OTHER_BUILD, RELEASE, master_in, published
from tests.unit.catalog.test_signature import KEY, PEM, PUBLIC

HERE = (RELEASE, BUILD)
NAME = "kernel-livepatch-6_1_0-56-default"
FIXES = parse_fixes("CVE-2026-1,CVE-2026-2")


def text(master: Master) -> bytes:
    return (master.served / RELEASE / "catalog.yaml").read_bytes()


def test_a_package_is_given_a_level(tmp_path: Path) -> None:
    master = master_in(tmp_path)
    done = builds.map_package(master, HERE, NAME, "2-2.1", 2, FIXES, BY)
    assert done["packages"] == [
        {"package": NAME, "version": "2-2.1", "level": 2, "fixes": ["CVE-2026-1", "CVE-2026-2"]}
    ]
    found = parse_catalog(text(master)).builds[BUILD]
    assert found.of_package(NAME, "2-2.1") == PackageLevel(
        NAME, "2-2.1", 2, (Fix("CVE-2026-1"), Fix("CVE-2026-2"))
    )
    assert found.of_package(NAME, "2-2.2") is None
    assert yaml.safe_load(text(master))["builds"][BUILD]["packages"][0]["history"] == [BY.record("map")]


def test_again_replaces_and_zero_takes_back(tmp_path: Path) -> None:
    master = master_in(tmp_path)
    for version, level in (("1-1", 1), ("2-1", 2), ("2-1", 3)):
        done = builds.map_package(master, HERE, NAME, version, level, (), BY)
    assert [(one["version"], one["level"]) for one in done["packages"]] == [("1-1", 1), ("2-1", 3)]
    done = builds.map_package(master, HERE, NAME, "1-1", 0, (), BY)
    assert [one["version"] for one in done["packages"]] == ["2-1"]
    with pytest.raises(LivepatchError, match="gives .* no level"):
        builds.map_package(master, HERE, NAME, "1-1", 0, (), BY)


def test_who_replaced_a_mapping_or_took_it_back_and_why_stays(tmp_path: Path) -> None:
    master = master_in(tmp_path)
    acts = [(2, "first"), (3, "second"), (0, "third")]
    by = [type(BY)("alice", why, f"2026-11-24T10:00:0{n}Z") for n, (_, why) in enumerate(acts)]
    for (level, _), one in zip(acts, by):
        builds.map_package(master, HERE, NAME, "2-1", level, (), one)
    found = yaml.safe_load(text(master))["builds"][BUILD]
    assert found["packages"] == []
    assert found["history"] == [by[0].record("map"), by[1].record("map"), by[2].record("unmap")]


def test_levels_beside_it_are_left_alone(tmp_path: Path) -> None:
    master = master_in(tmp_path)
    published(master, 1)
    promote(master, 1, None, None, BY)
    before = listing(master)
    builds.map_package(master, HERE, NAME, "2-1", 2, (), BY)
    builds.describe(master, HERE, "2027-03-31", None, BY)
    builds.map_package(master, (RELEASE, OTHER_BUILD), NAME, "2-1", 2, (), BY)
    assert listing(master) == before
    assert verify(master) == (1, [])
    published(master, 2)
    promote(master, 2, None, None, BY)
    assert builds.builds(master)[RELEASE][BUILD]["expires"] == "2027-03-31"
    assert builds.builds(master)[RELEASE][BUILD]["packages"]


def test_fields_of_a_newer_version_are_kept(tmp_path: Path) -> None:
    master = master_in(tmp_path)
    builds.map_package(master, HERE, NAME, "2-1", 2, (), BY)
    document = yaml.safe_load(text(master))
    document["builds"][BUILD]["packages"][0]["colour"] = "blue"
    document["builds"][BUILD]["weather"] = {"fine": True}
    (master.served / RELEASE / "catalog.yaml").write_text(yaml.safe_dump(document))
    builds.map_package(master, HERE, NAME, "3-1", 3, (), BY)
    found = yaml.safe_load(text(master))["builds"][BUILD]
    assert (found["packages"][0]["colour"], found["weather"]) == ("blue", {"fine": True})


def test_end_of_life_and_what_cannot_be_patched(tmp_path: Path) -> None:
    master = master_in(tmp_path)
    builds.describe(master, HERE, "2027-03-31", "CVE-2026-9, CVE-2026-8", BY)
    found = builds.find(master, RELEASE, BUILD)
    assert found is not None
    assert (found.expires, [one.cve for one in found.unpatchable]) == (
        "2027-03-31",
        ["CVE-2026-8", "CVE-2026-9"],
    )
    assert (found.unpatchable[0].why, found.unpatchable[0].at) == (BY.why, BY.at)
    later = type(BY)("bob", "another reason", "2026-12-24T10:00:00Z")
    builds.describe(master, HERE, None, ["CVE-2026-9", "CVE-2026-10"], later)
    found = builds.find(master, RELEASE, BUILD)
    assert found is not None
    assert {one.cve: one.at for one in found.unpatchable} == {"CVE-2026-9": BY.at, "CVE-2026-10": later.at}
    assert builds.describe(master, HERE, "", None, BY)["expires"] is None
    assert builds.find(master, RELEASE, OTHER_BUILD) is None


@pytest.mark.parametrize(
    "act",
    [
        lambda m: builds.map_package(m, HERE, "", "1", 1, (), BY),
        lambda m: builds.map_package(m, HERE, NAME, 2.1, 1, (), BY),
        lambda m: builds.map_package(m, HERE, NAME, "1", "two", (), BY),
        lambda m: builds.map_package(m, HERE, "\udce9", "1", 1, (), BY),
        lambda m: builds.map_package(m, HERE, NAME, "1\udce9", 1, (), BY),
        lambda m: builds.map_package(m, HERE, NAME, "1", True, (), BY),
        lambda m: builds.map_package(m, HERE, NAME, "1", -1, (), BY),
        lambda m: builds.map_package(m, (RELEASE, "xyz"), NAME, "1", 1, (), BY),
        lambda m: builds.map_package(m, ("../x", BUILD), NAME, "1", 1, (), BY),
        lambda m: builds.describe(m, HERE, None, None, BY),
        lambda m: builds.describe(m, HERE, "next year", None, BY),
        lambda m: builds.describe(m, HERE, None, "glibc", BY),
        lambda m: builds.describe(m, HERE, None, 7, BY),
    ],
)
def test_refused_arguments_change_nothing(tmp_path: Path, act: Any) -> None:
    master = master_in(tmp_path)
    with pytest.raises(LivepatchError) as caught:
        act(master)
    assert caught.value.kind is Kind.ARGUMENT
    assert "nothing was changed" in str(caught.value)
    assert not (master.served / RELEASE).exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"packages": [{"package": "p", "version": "1"}]},
        {"packages": [{"package": "p", "version": "1", "level": 0}]},
        {"packages": [{"package": "p", "version": "1", "level": n} for n in (1, 2)]},
        {"packages": {"p": 1}},
        {"expires": "soon"},
        {"expires": "2027-02-30"},
        {"unpatchable": ["CVE-2026-1"]},
    ],
)
def test_a_file_that_says_it_wrongly_is_refused(wrong: dict[str, Any]) -> None:
    document = entries.catalog(1)
    document["builds"][BUILD].update(wrong)
    with pytest.raises(LivepatchError) as caught:
        parse_catalog(entries.text(document))
    assert caught.value.kind is Kind.CATALOG


def test_what_stands_in_a_file_of_before_is_nothing() -> None:
    build = parse_catalog(entries.text(entries.catalog(1))).builds[BUILD]
    assert (build.packages, build.expires, build.unpatchable) == ((), "", ())


def test_a_mapping_is_signed(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(KEY.private_bytes(*PEM))
    path.chmod(0o600)
    master = master_in(tmp_path, sign_key=path)
    builds.map_package(master, HERE, NAME, "2-1", 2, FIXES, BY)
    level = parse_catalog(text(master)).builds[BUILD].packages[0]
    check_package(text(master), BUILD, level, PUBLIC)
    for old, new in (
        (b"version: 2-1", b"version: 2-2"),
        (b"CVE-2026-1", b"CVE-2026-7"),
        (b"package: ", b"package: x"),
    ):
        changed = text(master).replace(old, new)
        forged = parse_catalog(changed).builds[BUILD].packages[0]
        with pytest.raises(LivepatchError, match="signature"):
            check_package(changed, BUILD, forged, PUBLIC)
    raised = text(master).replace(b"level: 2", b"level: 9")
    with pytest.raises(LivepatchError, match="signature"):
        check_package(raised, BUILD, parse_catalog(raised).builds[BUILD].packages[0], PUBLIC)
    with pytest.raises(LivepatchError, match="no level"):
        check_package(text(master), OTHER_BUILD, level, PUBLIC)
