"""The private view of the kernel's build directory."""

from __future__ import annotations

from pathlib import Path

from livepatch_core.build.target import Target
from livepatch_core.build.tree import object_tree


def test_nothing_is_written_into_the_headers(tmp_path: Path) -> None:
    """Some bring directories in which files that are patched lie: arch/x86/kernel, or all of a build."""
    headers, view = tmp_path / "headers", tmp_path / "view"
    for place in (
        "include/generated",
        "arch/x86/include",
        "arch/x86/kernel/cpu",
        "fs/ext4",
        "tools",
    ):
        (headers / place).mkdir(parents=True)
    for name in (".config", "Makefile", "Module.symvers", "arch/x86/module.lds", "arch/x86/kernel/process.o"):
        (headers / name).write_text(name, encoding="utf-8")
    # As Debian's, which leads nowhere here.
    (headers / "scripts").symlink_to("../../lib/linux-kbuild-6.1/scripts")
    kbuild = tmp_path / "kbuild"

    object_tree(Target("r", tmp_path, headers, kbuild, tmp_path, tmp_path), view)

    assert not (view / "arch/x86/kernel/process.o").exists(), "what lies there is an output of somebody"
    for directory in ("fs/ext4", "arch/x86/kernel/cpu"):
        (view / directory).mkdir(parents=True, exist_ok=True)
        (view / directory / "made.o").write_text("", encoding="utf-8")
    assert not list(headers.rglob("made.o"))
    assert (view / "arch/x86/module.lds").read_text(encoding="utf-8") == "arch/x86/module.lds"
    assert (view / "include").resolve() == headers / "include"
    assert (view / "arch/x86/include").resolve() == headers / "arch/x86/include"
    assert (view / "scripts").readlink() == kbuild / "scripts"
