"""Which kernel a captured tree is from."""

from __future__ import annotations

from pathlib import Path

import pytest

from livepatch_core.kernel.identity import Identity, read_identity
from livepatch_core.kernel.roots import Roots
from tests.unit.kernel.captured import DATA, plant, plant_line
from tests.unit.kernel.test_notes import note


def test_release_build_and_boot(tmp_path: Path) -> None:
    roots = plant("bare-6.1", tmp_path)
    (roots.sys / "kernel/notes").write_bytes((DATA / "notes-6.1").read_bytes())
    assert read_identity(roots) == Identity(
        release="6.1.0-56-amd64",
        version="#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-2 (2026-11-16)",
        machine="x86_64",
        build_id="eb4fbcd037e7253717950bf2b93bd5566f47c56f",
        boot_id="314f2933-d644-48ec-a186-f0bd661d6bb6",
    )


def test_an_image_linked_without_a_build_id_has_none(tmp_path: Path) -> None:
    roots = plant("bare-6.1", tmp_path)
    assert read_identity(roots).build_id is None
    (roots.sys / "kernel/notes").write_bytes(note(1, b"Linux\0", b"\1"))
    assert read_identity(roots).build_id is None


def test_the_kernel_names_its_machine_itself(tmp_path: Path) -> None:
    roots = plant("bare-6.1", tmp_path)
    plant_line("proc/sys/kernel/arch = ppc64le", tmp_path)
    assert read_identity(roots).machine == "ppc64le"


def test_before_6_1_uname_names_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roots = plant("bare-6.1", tmp_path)
    (roots.proc / "sys/kernel/arch").unlink()
    monkeypatch.setattr("platform.machine", lambda: "s390x")
    assert read_identity(roots).machine == "s390x"


def test_without_procfs_there_is_no_identity(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_identity(Roots.under(tmp_path))
