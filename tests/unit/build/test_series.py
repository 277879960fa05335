"""Which files a series compiles, and with whose headers."""

from __future__ import annotations

from pathlib import Path

import pytest

from livepatch_core.build.compile import _own_headers, _relevant
from livepatch_core.build.series import Sources, find_units
from livepatch_core.build.target import Target

MAKEFILE = "obj-$(CONFIG_IN) += in.o\nobj-$(CONFIG_OUT) += out.o\n"


@pytest.fixture
def target(tmp_path: Path) -> Target:
    source, headers = tmp_path / "source", tmp_path / "headers"
    (source / "fs").mkdir(parents=True)
    headers.mkdir()
    (source / "fs/Makefile").write_text(MAKEFILE, encoding="utf-8")
    (headers / ".config").write_text("CONFIG_IN=m\n# CONFIG_OUT is not set\n", encoding="utf-8")
    nothing = tmp_path / "nothing"
    return Target(
        release="6.1.0", source=source, headers=headers, kbuild=nothing, image=nothing, modules=nothing
    )


def test_file_that_the_configuration_leaves_out_is_known(target: Target) -> None:
    units = find_units(target, Sources({"fs/in.c": [], "fs/out.c": []}, []), 50, None)
    assert units.paths == ("fs/in.c", "fs/out.c")
    assert units.unbuilt == {"fs/out.c"}


@pytest.mark.parametrize(
    ("line", "own"),
    [("CFLAGS_in.o := -I$(src)\n", "fs"), ("ccflags-y += -I $(src)\n", "fs"), ("ccflags-y += -Wall\n", "")],
)
def test_directory_whose_makefile_wants_its_own_headers(target: Target, line: str, own: str) -> None:
    (target.source / "fs/Makefile").write_text(MAKEFILE + line, encoding="utf-8")
    flag = f" -idirafter {target.source}/{own}" if own else ""
    assert _own_headers(target.source, "fs/in.c") == flag


def test_complaint_is_the_compilers_or_else_makes() -> None:
    source = Path("/cache/linux")
    missing = "make[2]: *** No rule to make target 'security/selinux/flask.h'."
    both = f"/cache/linux/fs/x.c:1:1: error: no\n{missing}\n"
    assert _relevant(both, source) == "fs/x.c:1:1: error: no"
    assert _relevant(f"{missing}\n", source) == missing
