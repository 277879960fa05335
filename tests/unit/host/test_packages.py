"""Patches that come with a distribution's package: whose they are, and which level they amount to.

The package databases are stand-ins: dpkg's files in their documented form, and what rpm 4.18 printed for the
format that is asked of it, with other names.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from livepatch_core.catalog import rewrite, signature
from livepatch_core.errors import LivepatchError
from livepatch_core.host import inquiry, packages, programs, recognise, status
from livepatch_core.host.context import Host
from livepatch_core.host.move import Wish
from livepatch_core.host.packages import Package, installed, owner, queried
from livepatch_core.host.programs import Said
from livepatch_core.kernel.roots import Roots
from livepatch_core.words import Kind
from tests.unit.host.conftest import levels
from tests.unit.host.fakekernel import BUILD_ID, RELEASE, image_of, module
from tests.unit.host.test_publisher import pem
from tests.unit.host.world import World, build_world

NAME, VERSION = "kernel-livepatch-6.1.0-56", "2-2.1"
PATCH = "livepatch_2_2_1"
DATA = b"the bytes of a module"
STATUS = f"""Package: base-files
Status: install ok installed
Version: 12.4

Package: {NAME}
Status: install ok installed
Architecture: amd64
Description: a stand-in
 Version: of nothing
Version: {VERSION}

Package: gone
Status: deinstall ok config-files
Version: 1
"""


def dpkg(root: Path, path: str, data: bytes, name: str = NAME) -> None:
    """STAND-IN: a database in which that package has that file."""
    info = root / "var/lib/dpkg/info"
    info.mkdir(parents=True, exist_ok=True)
    (info.parent / "status").write_text(STATUS)
    (info / "base-files.list").write_text("/.\n/etc\n")
    (info / f"{name}.list").write_text(f"/.\n{path}\n")
    digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
    (info / f"{name}.md5sums").write_text(f"{digest}  {path[1:]}\n")


def file(root: Path, path: str, data: bytes = DATA) -> Path:
    place = root / path[1:]
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
    return place


def no_rpm(command: Sequence[str], seconds: float) -> Said | None:
    assert command[0] == "rpm"
    return None


# -- dpkg


@pytest.mark.parametrize("listed", ["/lib/modules/6.1/updates/a.ko", "/usr/lib/modules/6.1/updates/a.ko"])
@pytest.mark.parametrize("name", [NAME, f"{NAME}:amd64"])
def test_dpkg_knows_whose_it_is(tmp_path: Path, listed: str, name: str) -> None:
    dpkg(tmp_path, listed, DATA, name)
    path = file(tmp_path, "/lib/modules/6.1/updates/a.ko")
    assert owner(Roots.under(tmp_path), path, DATA, no_rpm) == Package(NAME, VERSION)


def test_a_file_that_was_changed_is_not_the_packages(tmp_path: Path) -> None:
    dpkg(tmp_path, "/lib/modules/6.1/a.ko", b"other bytes")
    path = file(tmp_path, "/lib/modules/6.1/a.ko")
    assert owner(Roots.under(tmp_path), path, DATA, no_rpm) is None


def test_a_package_without_sums_proves_nothing(tmp_path: Path) -> None:
    dpkg(tmp_path, "/lib/modules/6.1/a.ko", DATA)
    (tmp_path / f"var/lib/dpkg/info/{NAME}.md5sums").unlink()
    assert owner(Roots.under(tmp_path), file(tmp_path, "/lib/modules/6.1/a.ko"), DATA, no_rpm) is None


def test_a_file_of_nobody(tmp_path: Path) -> None:
    dpkg(tmp_path, "/lib/modules/6.1/a.ko", DATA)
    assert owner(Roots.under(tmp_path), file(tmp_path, "/lib/modules/6.1/b.ko"), DATA, no_rpm) is None


@pytest.mark.parametrize("name", ["gone", "nothing", f"{NAME}:arm64"])
def test_what_is_not_installed(name: str) -> None:
    assert installed(STATUS, name) is None


# -- rpm

DIGEST = hashlib.sha256(DATA).hexdigest()
SAID = f"{NAME}\t1:{VERSION}\n{'0' * 64} /usr/share/doc/x\n{DIGEST} /usr/lib/modules/6.1/a.ko\n"


def test_rpm_is_asked_for_both_names_and_without_a_shell(tmp_path: Path) -> None:
    asked: list[tuple[str, ...]] = []

    def rpm(command: Sequence[str], seconds: float) -> Said:
        asked.append(tuple(command))
        return (
            Said(0, SAID) if command[-1].startswith("/usr") else Said(1, "file is not owned by any package\n")
        )

    path = file(tmp_path, "/lib/modules/6.1/a.ko")
    assert owner(Roots.under(tmp_path), path, DATA, rpm) == Package(NAME, f"1:{VERSION}")
    assert [one[:2] for one in asked] == [("rpm", "-qf")] * 2


@pytest.mark.parametrize(
    "said",
    [
        Said(1, "file /a.ko is not owned by any package\n"),
        Said(0, ""),
        Said(0, SAID.replace(DIGEST, "1" * 64)),
        Said(0, SAID.replace(DIGEST, "")),
        Said(0, SAID.replace("/a.ko", "/b.ko")),
    ],
)
def test_rpm_says_otherwise(said: Said) -> None:
    assert queried(said, "/usr/lib/modules/6.1/a.ko", DATA) is None


# -- where modules are loaded from


def test_files_of_modprobe_and_of_kpatch(tmp_path: Path) -> None:
    roots = Roots.under(tmp_path)
    assert list(packages.module_files(roots, "6.1", "kpatch_1_1")) == []
    first = file(tmp_path, "/lib/modules/6.1/extra/kpatch-1-1.ko.xz")
    (roots.lib_modules / "6.1/modules.dep").write_text("extra/kpatch-1-1.ko.xz:\n")
    second = file(tmp_path, "/var/lib/kpatch/6.1/kpatch-1-1.ko")
    file(tmp_path, "/var/lib/kpatch/6.1/kpatch-1-2.ko")
    file(tmp_path, "/var/lib/kpatch/6.2/kpatch-1-1.ko")
    assert list(packages.module_files(roots, "6.1", "kpatch_1_1")) == [first, second]


# -- a host on which a package has loaded its patch


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """The patch is in force, its file is the package's, and the catalog has levels 1 and 2 of its own."""
    world = levels(build_world(tmp_path, monkeypatch))
    data = world.kernel.make(module(PATCH, replace=False))
    monkeypatch.setattr(recognise, "read_module", lambda data: world.kernel.images[data])
    monkeypatch.setattr(packages, "owner", functools.partial(owner, ask=no_rpm))
    path = f"/lib/modules/{RELEASE}/updates/{PATCH}.ko"
    file(world.kernel.directory, path, data)
    (world.kernel.roots.lib_modules / RELEASE / "modules.dep").write_text(f"updates/{PATCH}.ko:\n")
    dpkg(world.kernel.directory, path, data)
    world.kernel.init_module(data)
    world.kernel.settle()
    return world


def seen(world: World, host: Host | None = None) -> dict[str, Any]:
    host = host or world.host
    return status.document(host, status.look(host, True, *recognise.for_one_look()))


NO_LEVEL = (
    "is in force, and no level is known for that package: the catalog gives it none, could not be read, or "
    "is not shown to be the publisher's"
)


def mapped(world: World, **changes: Any) -> dict[str, Any]:
    entry = {"package": NAME, "version": VERSION, "level": 7, "fixes": [{"cve": "CVE-2026-7"}], **changes}
    world.packages.append(entry)
    return entry


def test_without_a_level_it_is_named_and_not_believed(world: World) -> None:
    document = seen(world)
    assert (document["verdict"], document["level"], document["flags"]) == ("unknown", None, ["drifted"])
    assert f"{PATCH} of package {NAME} {VERSION} is in force" in document["reason"]
    assert document["reason"].endswith(NO_LEVEL)
    assert document["patches"][0]["package"] == f"{NAME} {VERSION}"


def test_a_catalog_that_cannot_be_read_is_not_quoted(world: World) -> None:
    mapped(world)
    document = seen(world, replace(world.host, fetch=lambda path: None))
    assert (document["verdict"], document["level"]) == ("unknown", None)
    assert document["reason"] == f"{PATCH} of package {NAME} {VERSION} {NO_LEVEL}"


def test_the_program_of_this_machine_is_not_asked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it has rpm or not: the fixture's stand-in answers."""

    def asked(*arguments: object, **keywords: object) -> None:
        raise AssertionError(f"asked for {arguments}")

    monkeypatch.setattr(programs.shutil, "which", asked)
    (world.kernel.directory / f"var/lib/dpkg/info/{NAME}.list").unlink()
    assert seen(world)["patches"][0]["package"] is None


def test_one_look_reads_the_package_database_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the catalog has levels of packages, and none of this one."""
    mapped(world, version="another")
    read: list[Path] = []

    def counted(roots: Roots, path: Path, data: bytes) -> Package | None:
        read.append(path)
        return owner(roots, path, data, no_rpm)

    monkeypatch.setattr(packages, "owner", counted)
    assert seen(world)["patches"][0]["package"] == f"{NAME} {VERSION}"
    assert len(read) == 1
    seen(world)
    assert len(read) == 2  # the next look sees what was installed meanwhile


def test_the_catalog_gives_it_a_level(world: World) -> None:
    mapped(world)
    document = seen(world)
    assert (document["verdict"], document["level"], document["flags"]) == ("patched", 7, [])
    assert document["fixes"] == ["CVE-2026-7"]
    patch = document["patches"][0]
    assert (patch["package"], patch["level"], patch["since"]) == (f"{NAME} {VERSION}", 7, None)


@pytest.mark.parametrize("changes", [{"version": "2-2.2"}, {"package": "another"}])
def test_another_package_or_version(world: World, changes: dict[str, Any]) -> None:
    mapped(world, **changes)
    assert seen(world)["verdict"] == "unknown"


def test_a_module_that_is_not_the_files(world: World) -> None:
    """Upgraded on disk, or another module under that name."""
    mapped(world)
    world.kernel.modules[PATCH] = module(PATCH, build_id="bb" * 20)
    world.kernel._show()
    document = seen(world)
    assert (document["verdict"], document["patches"][0]["package"]) == ("unknown", None)


def test_a_function_that_is_not_in_force(world: World) -> None:
    mapped(world)
    below = world.kernel.roots.sys / f"kernel/livepatch/{PATCH}/vmlinux"
    for directory in below.glob("meminfo*"):
        directory.rmdir()
    assert seen(world)["verdict"] == "unknown"


def test_it_goes_like_ours(world: World) -> None:
    mapped(world)
    assert world.revert().changes["level"] == {"old": 7, "new": 0}
    assert world.patches == []
    assert seen(world)["verdict"] == "unpatched"


def test_without_a_level_nobody_touches_it(world: World) -> None:
    assert world.revert().changes == {}
    assert world.patches == [PATCH]


def test_without_a_level_it_is_replaced_only_by_name(world: World) -> None:
    """Its callbacks would not run and its fixes would be gone: an approval alone does not say that."""
    refused = world.apply(approval=world.approval(1, 1))
    assert (refused.result, refused.kind, refused.changes) == (False, Kind.CONFLICT, {})
    for word in (PATCH, "map_package", "takeover", "nothing was changed"):
        assert word in refused.comment
    assert world.patches == [PATCH]

    predicted = world.apply(approval=world.approval(1, 1), override=("takeover",), test=True)
    done = world.apply(approval=world.approval(1, 1), override=("takeover",))
    assert (done.result, world.patches, predicted.changes) == (True, ["lp_1"], done.changes)
    assert f"replaces {PATCH}, not loaded by us" in done.comment
    assert [one["name"] for one in done.details["warnings"] if one["name"] == "takeover"]


def test_by_hand_it_is_replaced_only_by_name_too(world: World) -> None:
    world.options["allow_load"] = True
    assert world.load(module("lp_x")).kind is Kind.CONFLICT
    assert world.patches == [PATCH]


@pytest.mark.parametrize("known", [False, True])
def test_preflight_says_what_apply_does(world: World, known: bool) -> None:
    if known:
        mapped(world, level=1)
    said = inquiry.preflight_level(world.host, Wish(level=2, reason="a test"))
    assert said["result"] is known
    assert world.apply(2).result is known


def test_another_module_of_the_name_of_ours_is_not_ours(world: World) -> None:
    """Somebody took our patch out and loaded his own: it is told by the build-id, here too."""
    world.options["allow_load"] = True
    assert world.unload(PATCH).result is True
    assert world.apply(1).result is True
    world.kernel.modules["lp_1"] = module("lp_1", build_id="bb" * 20)
    world.kernel._show()
    refused = world.apply(2)
    assert (refused.kind, world.patches) == (Kind.CONFLICT, ["lp_1"])


def test_where_the_publisher_signs_an_unsigned_level_is_none(world: World) -> None:
    key = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
    world.options["publisher_key"] = pem(key)
    entry = mapped(world)
    assert seen(world)["verdict"] == "unknown"
    assert seen(world)["reason"] == f"{PATCH} of package {NAME} {VERSION} {NO_LEVEL}"
    node = rewrite.mapping_of(entry)
    signature.sign(node, RELEASE, BUILD_ID, 7, key)
    world.packages[:] = [yaml.safe_load(rewrite.render(node))]
    assert (seen(world)["verdict"], seen(world)["level"]) == ("patched", 7)
    world.options["publisher_key"] = pem(Ed25519PrivateKey.from_private_bytes(b"o" * 32))
    assert seen(world)["reason"] == f"{PATCH} of package {NAME} {VERSION} {NO_LEVEL}"
    world.options["publisher_key"] = pem(key)
    world.packages[0]["fixes"] = [{"cve": "CVE-2026-8"}]
    assert seen(world)["verdict"] == "unknown"


def test_rpm_that_hangs_leaves_it_unknown(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(command: Sequence[str], seconds: float) -> Said:
        raise LivepatchError(Kind.INTERNAL, "rpm did not end")

    mapped(world)
    (world.kernel.directory / f"var/lib/dpkg/info/{NAME}.list").unlink()
    monkeypatch.setattr(packages, "owner", functools.partial(owner, ask=hang))
    assert seen(world)["verdict"] == "unknown"


def test_a_host_with_ours_alone_reads_no_package_database(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    del world.kernel.patches[PATCH]
    world.kernel._show()
    world.apply(1)

    def read(*arguments: object) -> None:
        raise AssertionError("a package database was read")

    monkeypatch.setattr(packages, "owner", read)
    assert seen(world)["verdict"] == "patched"
    assert image_of(PATCH) in world.kernel.images


@pytest.mark.parametrize("asked", ["by approval", "by hand"])
def test_a_level_of_ours_replaces_the_same_level_of_a_package(world: World, asked: str) -> None:
    """It is another module, and it is known whose: that is no drift."""
    mapped(world, level=2)
    assert seen(world)["level"] == 2
    wish = {"approval": world.approval(1, 2)} if asked == "by approval" else {"level": 2}
    predicted = world.apply(**wish, test=True)
    done = world.apply(**wish)
    assert (done.result, predicted.changes) == (True, done.changes), done.comment
    assert (world.patches, seen(world)["level"]) == (["lp_2"], 2)
    assert world.apply(**wish).changes == {}
