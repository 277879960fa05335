"""Fixed in the running kernel, fixable by the catalog, covered by no level: one of these at most."""

from __future__ import annotations

from dataclasses import replace

from livepatch_core.catalog.model import Build, Catalog, Fix, Level, LevelStatus
from livepatch_core.host import status
from livepatch_core.host.cves import cves, sort
from tests.unit.host.fakekernel import BUILD_ID, RELEASE
from tests.unit.host.world import World

OTHER = "bb" * 20


def fixes(*names: str) -> list[dict[str, str]]:
    return [{"cve": name} for name in names]


def asked(world: World) -> dict[str, object]:
    return cves(world.host, status.status(world.host))


def test_as_the_host_goes_up_and_down(world: World) -> None:
    world.entries[1] = {"fixes": fixes("CVE-2026-1")}
    world.entries[2] = {"fixes": [*fixes("CVE-2026-1", "CVE-2026-2"), {"summary": "no CVE was assigned"}]}
    world.entries[3] = {"status": "testing", "fixes": fixes("CVE-2026-3")}
    said = {"fixed": [], "fixable": ["CVE-2026-1", "CVE-2026-2"], "uncovered": ["CVE-2026-3"]}
    assert asked(world) == {**said, "catalog": None}
    world.apply(1)
    said.update(fixed=["CVE-2026-1"], fixable=["CVE-2026-2"])
    assert asked(world) == {**said, "catalog": None}
    world.apply(2)
    assert asked(world)["fixed"] == ["CVE-2026-1", "CVE-2026-2"]
    world.apply(1)
    world.entries[2]["status"] = "blocked"
    said.update(fixable=[], uncovered=["CVE-2026-2", "CVE-2026-3"])
    assert asked(world) == {**said, "catalog": None}
    world.apply(0)
    said.update(fixed=[], fixable=["CVE-2026-1"])
    assert asked(world) == {**said, "catalog": None}


def test_what_another_kernel_build_has_covers_nothing_here() -> None:
    def build(build_id: str, cve: str) -> Build:
        level = Level(1, LevelStatus.RELEASED, "m.ko", "m", "0" * 64, fixes=(Fix(cve),))
        return Build(build_id, "", {1: level})

    builds = {one.build_id: one for one in (build(BUILD_ID, "CVE-2026-1"), build(OTHER, "CVE-2026-2"))}
    catalog = Catalog(1, RELEASE, builds)
    assert sort(catalog, BUILD_ID, []) == {"fixable": ["CVE-2026-1"], "uncovered": ["CVE-2026-2"]}
    assert sort(catalog, "cc" * 20, []) == {"fixable": [], "uncovered": ["CVE-2026-1", "CVE-2026-2"]}


def test_without_a_catalog(world: World) -> None:
    """None was published, or what there is cannot be read: not the same."""
    none = cves(replace(world.host, fetch=lambda path: None), status.status(world.host))
    assert (none["fixed"], none["fixable"], none["uncovered"]) == ([], [], [])
    world.sign = lambda data: b"{"
    broken = asked(world)
    assert (broken["fixed"], broken["fixable"], broken["uncovered"]) == ([], None, None)
    assert "not YAML" in str(broken["catalog"])
