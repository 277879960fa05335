from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from livepatch_core import durable
from livepatch_core.catalog.entry import Publication, parse_digest, parse_fixes
from livepatch_core.catalog.model import LevelStatus
from livepatch_core.catalog.publish import publish
from livepatch_core.catalog.read import parse_catalog
from livepatch_core.catalog.settings import Master
from livepatch_core.catalog.shelf import read_shelves
from livepatch_core.catalog.verify import verify
from livepatch_core.errors import LivepatchError
from livepatch_core.words import Kind
from tests.unit.catalog.modules import BUILD, BY, OTHER_BUILD, RELEASE, master_in, module, published
from tests.unit.modulefile.images import stored


@pytest.fixture
def master(tmp_path: Path) -> Master:
    return master_in(tmp_path)


def refused(master: Master, data: bytes, **options: Any) -> LivepatchError:
    before = tree(master)
    with pytest.raises(LivepatchError) as caught:
        publish(master, data, Publication(author=BY, **options))
    assert tree(master) == before
    return caught.value


def tree(master: Master) -> dict[str, bytes]:
    """Every file but the locks, which a first look makes."""
    roots = [root for root in (master.state_dir, master.catalog_dir) if root and root.exists()]
    paths = [path for root in roots for path in root.rglob("*") if path.is_file()]
    return {str(path): path.read_bytes() for path in paths if path.suffix != ".lock"}


def test_entry_says_what_the_module_says(master: Master) -> None:
    done = publish(
        master,
        module("livepatch_1", ["f", "g"]),
        Publication(author=BY, fixes=parse_fixes([{"cve": "CVE-2026-1", "severity": "high"}]), notes="n"),
    )
    (one,) = read_shelves(master, RELEASE).standings()
    assert (done["level"], done["kernel_build"], one.status) == (1, BUILD, LevelStatus.TESTING)
    assert one.level.functions == {"vmlinux": ("f", "g")}
    assert one.level.built_for == {"vmlinux": BUILD}
    assert (one.level.replace, one.level.callbacks, one.level.notes) == (True, False, "n")
    assert one.level.fixes[0].severity == "high"
    assert (one.directory / one.level.module).read_bytes() == module("livepatch_1", ["f", "g"])
    assert done["history"] == [{"at": BY.at, "who": "alice", "act": "publish", "why": "a test"}]


def test_real_module_with_signer(master: Master) -> None:
    done = publish(master, stored("lp_one-6.1-signed"), Publication(author=BY, kernel_build=BUILD))
    assert done["module"].endswith(".ko.xz")
    assert done["signer"]["key_id"]
    assert verify(master) == (1, [])


def test_testing_is_withheld(master: Master) -> None:
    published(master)
    assert not master.served.exists()


def test_next_level_inherits_the_fixes_below(master: Master) -> None:
    published(master, 1)
    done = published(master, 2)
    assert [fix["cve"] for fix in done["fixes"]] == ["CVE-2026-1001", "CVE-2026-1002"]


def test_number_is_the_next_one(master: Master) -> None:
    published(master, 4)
    done = publish(master, module("other", ["f1", "f2", "f3", "f4"]), Publication(author=BY))
    assert done["level"] == 5


def test_levels_are_counted_for_each_kernel_build(master: Master) -> None:
    published(master, 1)
    done = publish(master, module("livepatch_1", built_for=OTHER_BUILD), Publication(author=BY))
    assert done["level"] == 1
    assert len(list(read_shelves(master, RELEASE).standings())) == 2


def test_loss_of_functions_must_be_explained(master: Master) -> None:
    published(master, 2)
    error = refused(master, module("other", ["f1"]))
    assert error.kind is Kind.CATALOG
    assert "vmlinux:f2" in error.message
    done = publish(master, module("other", ["f1"]), Publication(author=BY, loss="f2 was wrong"))
    assert (done["level"], done["loss"], done["fixes"]) == (3, "f2 was wrong", [])


def test_what_was_published_is_never_replaced(master: Master) -> None:
    published(master, 2)
    assert "never replaced" in refused(master, module("other"), level=2).message
    assert "below level 2, which is here already" in refused(master, module("other"), level=1).message
    assert "named livepatch_2" in refused(master, module("livepatch_2", ["f1", "f2"])).message


@pytest.mark.parametrize("level", [0, -1, "2", 1.5, True])
def test_level_is_a_positive_integer(master: Master, level: Any) -> None:
    assert refused(master, module(), level=level).kind is Kind.ARGUMENT


@pytest.mark.parametrize(
    ("data", "options", "kind"),
    [
        (b"", {}, Kind.MODULE_FORMAT),
        (module()[:500], {}, Kind.MODULE_FORMAT),
        (stored("plain-6.1"), {"kernel_build": BUILD}, Kind.NOT_LIVEPATCH),
        (module(built_for=""), {}, Kind.KERNEL_MISMATCH),
        (module(), {"kernel_build": OTHER_BUILD}, Kind.KERNEL_MISMATCH),
        (module(built_for=""), {"kernel_build": "xyz"}, Kind.ARGUMENT),
        (module(release="../../etc"), {}, Kind.ARGUMENT),
        (module(name="live.patch"), {}, Kind.MODULE_FORMAT),
    ],
)
def test_bad_modules(master: Master, data: bytes, options: dict[str, Any], kind: Kind) -> None:
    assert refused(master, data, **options).kind is kind


NOT_UTF8 = [{"cve": "CVE-2026-1", "summary": "caf\udce9"}]
MIXED = [{1: "x", "sev": "x"}]


@pytest.mark.parametrize(
    "value", [3, "CVE-1", [3], [{"cve": 1}], [{"sev": "x"}], [{}], ["high"], NOT_UTF8, MIXED]
)
def test_bad_fixes(value: Any) -> None:
    with pytest.raises(LivepatchError) as caught:
        parse_fixes(value)
    assert caught.value.kind is Kind.ARGUMENT


@pytest.mark.parametrize("value", [3, "abc", "A" * 64])
def test_bad_digest(value: Any) -> None:
    with pytest.raises(LivepatchError):
        parse_digest(value)


def test_fixes_as_typed() -> None:
    assert [fix.cve for fix in parse_fixes("CVE-2026-1, CVE-2026-22")] == ["CVE-2026-1", "CVE-2026-22"]
    assert parse_fixes(None) == ()


def test_unknown_fields_and_digits_survive(master: Master) -> None:
    published(master, 1)
    path = master.withheld / RELEASE / "catalog.yaml"
    digits = "0" * 40
    text = path.read_text().replace("schema: 1", "schema: 1\nsite: {owner: 007, tags: [a, 0x1]}")
    text = text.replace("notes: ", "") + f"  {digits}:\n    new_field: 1e3\n    levels: {{}}\n"
    path.write_text(text)
    published(master, 2)
    after = path.read_text()
    raw = yaml.load(after, Loader=yaml.BaseLoader)
    assert raw["site"] == {"owner": "007", "tags": ["a", "0x1"]}
    assert raw["builds"][digits]["new_field"] == "1e3"
    assert sorted(parse_catalog(after.encode()).builds) == [digits, BUILD]


@pytest.mark.parametrize(
    "text",
    [
        "schema: 1\nrelease: [",
        "schema: 2\nrelease: 6.1.0-56-amd64\nbuilds: {}\n",
        "schema: 1\nrelease: 5.10\nbuilds: {}\n",
        "schema: 1\nrelease: 6.1.0-56-amd64\nbuilds: {}\na: &a 1\nb: *a\n",
        "",
    ],
)
def test_malformed_catalog_is_left_alone(master: Master, text: str) -> None:
    directory = master.withheld / RELEASE
    directory.mkdir(parents=True)
    (directory / "catalog.yaml").write_text(text)
    assert refused(master, module()).kind is Kind.CATALOG


@pytest.mark.parametrize("failing", ["module", "catalog.yaml"])
def test_full_disk_leaves_the_catalog_as_it_was(
    master: Master, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    published(master, 1)
    real = os.fsync

    def full(descriptor: int) -> None:
        name = os.readlink(f"/proc/self/fd/{descriptor}")
        if name.endswith(".new") and ("catalog.yaml" in name) == (failing == "catalog.yaml"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
        real(descriptor)

    monkeypatch.setattr(durable.os, "fsync", full)
    error = refused(master, module("livepatch_2", ["f1", "f2"]))
    assert error.kind is Kind.CATALOG
    assert "No space left" in error.message


def test_directory_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write anywhere, so the refusal is played: what counts is what the operator is told."""
    master = Master(tmp_path / "state", "salt", None, tmp_path / "served")

    def denied(path: Path, *rest: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr("livepatch_core.catalog.publish.write_atomically", denied)
    with pytest.raises(LivepatchError) as caught:
        publish(master, module(), Publication(author=BY))
    assert caught.value.kind is Kind.PRIVILEGE
    assert "must belong to salt" in caught.value.remedy
