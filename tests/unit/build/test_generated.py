"""The program that a directory's Makefile needs goes into the build directory, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from livepatch_core.build import generated


@pytest.mark.parametrize("deepest", ["scripts", "scripts/selinux", "scripts/selinux/genheaders"])
def test_the_kbuild_tree_is_only_read(tmp_path: Path, deepest: str) -> None:
    """However much of the way to the program it has: each of its directories is a link in the view."""
    kbuild, objects, source = (tmp_path / name for name in ("kbuild", "objects", "source"))
    (kbuild / deepest).mkdir(parents=True)
    (kbuild / deepest / "beside").touch()
    objects.mkdir()
    (objects / "scripts").symlink_to(kbuild / "scripts")
    program = source / "scripts/selinux/genheaders/genheaders.c"
    program.parent.mkdir(parents=True)
    program.touch()
    before = sorted(kbuild.rglob("*"))
    compiler = tmp_path / "compiler"  # a stand-in: writes what it is told to
    compiler.write_text('#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\necho made > "$2"\n')
    compiler.chmod(0o755)
    generated.provide(source, objects, str(compiler))
    assert (objects / "scripts/selinux/genheaders/genheaders").read_text() == "made\n"
    assert (objects / deepest / "beside").exists()
    assert sorted(kbuild.rglob("*")) == before
