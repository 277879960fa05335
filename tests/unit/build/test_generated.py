"""Where headers lie that only a build of the whole kernel finds, and the programs that write some of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from livepatch_core.build import generated
from livepatch_core.build.refusals import Refusal, Refused

GENHEADERS = "scripts/selinux/genheaders/genheaders"
NEEDS_FLASK = f"$(obj)/flask.h: {GENHEADERS} FORCE\n"


def write(tree: Path, path: str, text: str = "") -> None:
    (tree / path).parent.mkdir(parents=True, exist_ok=True)
    (tree / path).write_text(text)


@pytest.mark.parametrize(
    ("makefiles", "found"),
    [
        pytest.param({"drivers/a/b/Makefile": "obj-y += c.o\n"}, [], id="nothing"),
        pytest.param({"drivers/a/b/Makefile": "ccflags-y += -I$(src)\n"}, ["source/drivers/a/b"], id="own"),
        pytest.param({"drivers/a/b/Kbuild": "CFLAGS_c.o := -I $(src)\n"}, ["source/drivers/a/b"], id="K"),
        pytest.param({"drivers/a/b/Makefile": "# ccflags-y += -I$(src)\n"}, [], id="a comment"),
        pytest.param(  # mlx5's subdir-ccflags-y, which esw/bridge.c needs
            {"drivers/a/Makefile": "subdir-ccflags-y += -I$(src)\n"}, ["source/drivers/a"], id="from above"
        ),
        pytest.param(
            {"drivers/a/b/Makefile": "subdir-ccflags-y += -I$(src)/..\n"}, ["source/drivers/a"], id="beside"
        ),
        pytest.param(
            {"drivers/a/b/Makefile": "ccflags-y += -I$(srctree)/$(src)\n"}, [], id="found without help"
        ),
        pytest.param(
            {"drivers/a/b/Makefile": "$(obj)/c.o: $(obj)/table.h\n"}, ["objects/drivers/a/b"], id="made"
        ),
        pytest.param(
            {"drivers/a/b/Makefile": "$(obj)/c.o: $(obj)/c.asn1.h\n"}, ["objects/drivers/a/b"], id="ASN.1"
        ),
        pytest.param({"drivers/a/b/Makefile": "$(obj)/c.o: $(obj)/d.o\n"}, [], id="no header"),
        pytest.param(
            {
                "drivers/a/b/Makefile": "ccflags-y += -I$(src)\n$(obj)/c.o: $(obj)/table.h\n",
                "drivers/a/Makefile": "subdir-ccflags-y += -I$(src)\n",
            },
            ["source/drivers/a/b", "objects/drivers/a/b", "source/drivers/a"],
            id="nearest first",
        ),
    ],
)
def test_flags(tmp_path: Path, compiler: str, makefiles: dict[str, str], found: list[str]) -> None:
    for path, text in makefiles.items():
        write(tmp_path / "source", path, text)
    flags = generated.prepare(tmp_path / "source", tmp_path / "objects", "drivers/a/b/c.c", compiler)
    assert flags.split() == [word for one in found for word in ("-idirafter", str(tmp_path / one))]


@pytest.fixture
def compiler(tmp_path: Path) -> str:
    """A stand-in that writes what it is told to."""
    write(tmp_path, "compiler", '#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\necho made > "$2"\n')
    (tmp_path / "compiler").chmod(0o755)
    return str(tmp_path / "compiler")


@pytest.mark.parametrize("deepest", ["scripts", "scripts/selinux", "scripts/selinux/genheaders"])
def test_the_kbuild_tree_is_only_read(tmp_path: Path, compiler: str, deepest: str) -> None:
    """However much of the way to the program it has: each of its directories is a link in the view."""
    kbuild, objects, source = (tmp_path / name for name in ("kbuild", "objects", "source"))
    (kbuild / deepest).mkdir(parents=True)
    (kbuild / deepest / "beside").touch()
    objects.mkdir()
    (objects / "scripts").symlink_to(kbuild / "scripts")
    write(source, "security/selinux/Makefile", NEEDS_FLASK)
    before = sorted(kbuild.rglob("*"))
    generated.prepare(source, objects, "security/selinux/ss/services.c", compiler)
    assert (objects / GENHEADERS).read_text() == "made\n"
    assert (objects / deepest / "beside").exists()
    assert sorted(kbuild.rglob("*")) == before


@pytest.mark.parametrize(
    ("makefile", "programs"),
    [
        ("obj-y += c.o\n", []),
        (NEEDS_FLASK, [GENHEADERS]),
        ("$(obj)/c.o: $(obj)/c.asn1.h\n", ["scripts/asn1_compiler"]),
        ("c-y := c.asn1.o\n# $(obj)/c.asn1.h\n", []),
    ],
)
def test_only_the_programs_that_are_needed(
    tmp_path: Path, compiler: str, makefile: str, programs: list[str]
) -> None:
    write(tmp_path / "source", "fs/a/Makefile", makefile)
    generated.prepare(tmp_path / "source", tmp_path / "objects", "fs/a/c.c", compiler)
    objects = tmp_path / "objects"
    assert [str(p.relative_to(objects)) for p in objects.glob("**/*") if p.is_file()] == programs


def test_a_program_that_does_not_compile(tmp_path: Path) -> None:
    write(tmp_path / "source", "fs/a/Makefile", "$(obj)/c.o: $(obj)/c.asn1.h\n")
    (tmp_path / "objects").mkdir()
    with pytest.raises(Refused) as refused:
        generated.prepare(tmp_path / "source", tmp_path / "objects", "fs/a/c.c", "false")
    assert refused.value.refusal is Refusal.TOOLCHAIN
    assert refused.value.file == "scripts/asn1_compiler.c"
