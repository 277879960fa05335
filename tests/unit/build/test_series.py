"""Which files a series compiles, and with whose headers."""

from __future__ import annotations

from pathlib import Path

import pytest

from livepatch_core.build.compile import _relevant
from livepatch_core.build.headers import resolve
from livepatch_core.build.refusals import Refusal, Refused
from livepatch_core.build.series import Sources, Units, apply_series, find_units
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


def test_complaint_is_the_compilers_or_else_makes() -> None:
    source = Path("/cache/linux")
    missing = "make[2]: *** No rule to make target 'security/selinux/flask.h'."
    both = f"/cache/linux/fs/x.c:1:1: error: no\n{missing}\n"
    assert _relevant(both, source) == "fs/x.c:1:1: error: no"
    assert _relevant(f"{missing}\n", source) == missing


def reached(target: Target, makefile: str, *files: str, change: str = "fs/x.h") -> Units:
    """The units of a change of a header that ``files`` of fs/ include."""
    (target.source / "fs/Makefile").write_text(makefile, encoding="utf-8")
    (target.source / "fs/x.h").write_text("", encoding="utf-8")
    for file in files:
        path = target.source / "fs" / file
        path.parent.mkdir(exist_ok=True)
        path.write_text('#include "x.h"\n' if path.parent.name == "fs" else '#include "../x.h"\n')
    return find_units(target, Sources({change: []}, []), 50, None)


@pytest.mark.parametrize(
    ("makefile", "kept", "certain"),
    [
        ("obj-$(CONFIG_IN) += one.o\n", True, True),
        ("obj-$(CONFIG_OUT) += one.o\n", False, False),
        ("obj-${CONFIG_IN} += one.o\n", True, True),
        ("obj-$(subst m,y,$(CONFIG_IN)) += one.o\n", True, True),
        ("obj-$(subst y,$(CONFIG_IN),$(CONFIG_YES)) += one.o\n", True, True),
        ("obj-$(subst y,$(CONFIG_IN),$(CONFIG_OUT)) += one.o\n", False, False),
        ("obj-$(CONFIG_IN:m=y) += one.o\n", True, True),
        ("obj-$(CONFIG_IN) += in.o\nin-y := $(addprefix ./, two.o) one.o\n", True, True),
        ("obj-$(CONFIG_OUT) += out.o\nout-y := \\\n\tone.o # all of it\n", False, False),
        ("obj-$(CONFIG_IN) += in.o\nin-y := $(more-y)\nmore-$(CONFIG_YES) += one.o\n", True, False),
        ("more-$(CONFIG_YES) += one.o\nobj-$(CONFIG_IN) += in.o\nin-y := $(more-y)\n", True, True),
        ("obj-y := one.o\nobj-$(CONFIG_YES) := two.o\n", False, False),
        ("obj-y := one.o\nobj-$(CONFIG_OUT) := two.o\n", True, True),
        ("ifeq ($(CONFIG_OUT),y)\nobj-y += one.o\nendif\n", False, False),
        ("ifdef CONFIG_OUT\nobj-y += two.o\nelse\nobj-y += one.o\nendif\n", True, True),
        ("ifneq ($(CONFIG_IN),)\nifdef CONFIG_OUT\nobj-y += one.o\nendif\nendif\n", False, False),
        ("ifeq ($(call cc-option,-x),)\nobj-y += one.o\nendif\n", True, False),
        ("OURS = one.o\nobj-y += $(foreach o,$(OURS),$(o))\n", True, False),
        ("include $(src)/Makefile.more\n", True, False),
        ("obj-y += a#b\nobj-$(CONFIG_OUT) += one.o#c\n", False, False),
        ("obj-y += two.o\n", True, False),  # no Makefile names it: the image decides
    ],
)
def test_user_of_a_header_is_left_out_only_where_its_rule_is_understood_and_off(
    target: Target, makefile: str, kept: bool, certain: bool
) -> None:
    (target.headers / ".config").write_text("CONFIG_IN=m\nCONFIG_YES=y\n", encoding="utf-8")
    units = reached(target, makefile, "one.c")
    assert ("fs/one.c" in units.paths, "fs/one.c" in units.built) == (kept, certain)


def test_user_in_a_directory_that_is_off_is_left_out(target: Target) -> None:
    (target.source / "fs/sub").mkdir()
    (target.source / "fs/sub/Makefile").write_text("obj-y += $(strange) one.o\n", encoding="utf-8")
    units = reached(target, "obj-$(CONFIG_OUT) += sub/\n", "sub/one.c", "sub/two.c")
    assert units.paths == ()


@pytest.mark.parametrize("written", ["sub/", "fs/sub/"])
def test_directory_may_be_named_from_the_top(target: Target, written: str) -> None:
    (target.source / "fs/sub").mkdir()
    (target.source / "fs/sub/Makefile").write_text("obj-y += one.o\n", encoding="utf-8")
    assert reached(target, f"drivers-$(CONFIG_OUT) += {written}\n", "sub/one.c").paths == ()
    assert reached(target, f"drivers-$(CONFIG_IN) += {written}\n", "sub/one.c").built == {"fs/sub/one.c"}


def test_directory_that_no_makefile_names_may_be_built_or_not(target: Target) -> None:
    (target.source / "fs/sub").mkdir()
    (target.source / "fs/sub/Makefile").write_text("obj-y += one.o\n", encoding="utf-8")
    units = reached(target, "obj-y += other.o\n", "sub/one.c")
    assert (units.paths, units.built) == (("fs/sub/one.c",), frozenset())


def test_lists_that_others_are_made_of_are_no_objects_of_their_own(target: Target) -> None:
    text = "part-y := one.o two.o\nout-objs := $(part-y)\nobj-$(CONFIG_OUT) += out.o\n"
    assert reached(target, text, "one.c").paths == ()
    assert reached(target, text + "part-y += three.o\n", "one.c").paths == ("fs/one.c",)


def test_objects_that_another_directory_lists(target: Target) -> None:
    """amdgpu is made of objects of the directories beside it, whose Makefiles it includes."""
    top = "drivers/gpu/drm/amd"
    texts = {
        "drivers/Makefile": f"obj-y += {top[8:]}/amdgpu/\n",
        f"{top}/amdgpu/Makefile": (
            "FULL=$(srctree)/$(src)/..\nALL = $(addsuffix /Makefile,$(addprefix $(FULL)/,pm acp))\n"
            "include $(ALL)\namdgpu-y += $(FILES) main.o\nobj-$(CONFIG_IN) += amdgpu.o\n"
        ),
        f"{top}/pm/Makefile": (
            "LIST-y = one.o\nLIST-$(CONFIG_OUT) += two.o\nFILES += $(addprefix ../pm/,$(LIST-y))\n"
            "ifdef CONFIG_OUT\nFILES += ../pm/three.o\nendif\ninclude $(FULL)/pm/sub/Makefile\n"
            "MORE = five.o\nFILES += $(addprefix ../acp/,$(MORE))\n"
            "ifdef 0#CONFIG_SPARE\nSPARE = four.o\nFILES += $(SPARE)\nendif\n"
        ),
        f"{top}/acp/Makefile": "",
        **{f"{top}/pm/{name}.c": '#include "x.h"\n' for name in ("one", "two", "three", "four", "five")},
        f"{top}/pm/x.h": "",
    }
    for path, text in texts.items():
        (target.source / path).parent.mkdir(parents=True, exist_ok=True)
        (target.source / path).write_text(text, encoding="utf-8")
    units = find_units(target, Sources({f"{top}/pm/x.h": []}, []), 50, None)
    assert units.paths == tuple(f"{top}/pm/{name}.c" for name in ("five", "four", "one", "three"))
    assert units.built == {f"{top}/pm/one.c"}
    assert units.foreign == {f"{top}/pm/{name}.c" for name in ("three", "four", "five")}


@pytest.mark.parametrize(
    ("makefile", "foreign"),
    [
        ("obj-y += two.o\n", True),
        ("obj-y += two_$(BITS).o\n", True),
        ("hostprogs := one\n", True),
        ("obj-y += two.o # one.o\n", True),
        ("ifdef CONFIG_OUT\nFILES = one.o\nendif\n", True),
        ("FILES = one.o\n", False),
        ("obj-y += $(strange)\n", False),
        ("obj- += $(strange)\n", True),
        ("obj-y += $(addprefix ../other/,$(strange))\n", True),
        ("obj-y += two_$(strange).o\n", True),
        ("obj-y += o$(strange).o\n", False),
        ("$(eval obj-y += $(x))\n", False),
        ("include $(strange)\n", False),
    ],
)
def test_file_that_no_makefile_names_is_known(target: Target, makefile: str, foreign: bool) -> None:
    assert ("fs/one.c" in reached(target, makefile, "one.c").foreign) == foreign


def test_object_of_the_same_name_in_another_directory(target: Target) -> None:
    """A self-test that the file it tests includes: drivers/gpu/drm/i915/selftests has 30."""
    (target.source / "fs/sub").mkdir(parents=True)
    (target.source / "fs/sub/one.c").write_text('#include "../x.h"\n', encoding="utf-8")
    (target.source / "fs/one.c").write_text('#include "x.h"\n#include "sub/one.c"\n', encoding="utf-8")
    (target.source / "fs/x.h").write_text("", encoding="utf-8")
    (target.source / "fs/Makefile").write_text("obj-y += one.o\n", encoding="utf-8")
    units = find_units(target, Sources({"fs/x.h": []}, []), 50, None)
    assert units.paths == ("fs/one.c",)


@pytest.mark.parametrize("generic", ["include/asm-generic/socket.h", "include/uapi/asm-generic/socket.h"])
def test_header_that_only_a_generated_one_includes(generic: str) -> None:
    includes = [("include/linux/socket.h", "asm/socket.h", False), ("fs/x.c", "linux/socket.h", False)]
    graph = resolve(includes, [generic, "include/linux/socket.h", "fs/x.c"])
    assert graph.reached(generic) == ["fs/x.c"]


def test_header_without_a_user_is_refused(target: Target) -> None:
    """Its users may name it by a macro, as drivers/block/drbd does."""
    for path in ("fs/x.h", "fs/y.h", "include/dt-bindings/clock.h"):
        (target.source / path).parent.mkdir(parents=True, exist_ok=True)
        (target.source / path).write_text('#include "x.h"\n' if path == "fs/y.h" else "", encoding="utf-8")
    with pytest.raises(Refused) as caught:
        find_units(target, Sources({"fs/in.c": [], "fs/x.h": []}, []), 50, None)
    assert (caught.value.refusal, caught.value.file) == (Refusal.NOTHING_CHANGED, "fs/x.h")
    others = Sources({"fs/in.c": [], "fs/new.h": [], "include/dt-bindings/clock.h": []}, [])
    assert find_units(target, others, 50, None).paths == ("fs/in.c",)


def test_assembler_file_that_reads_a_header_is_looked_at(target: Target) -> None:
    (target.source / "fs/code.S").write_text('#include "x.h"\n', encoding="utf-8")
    (target.source / "fs/off.S").write_text('#include "x.h"\n', encoding="utf-8")
    units = reached(target, "obj-y += one.o code.o\nobj-$(CONFIG_OUT) += off.o\n", "one.c")
    assert (units.paths, units.reached) == (("fs/one.c", "fs/code.S"), {"fs/one.c", "fs/code.S"})


def test_object_that_an_included_makefile_names_for_this_machine(target: Target) -> None:
    (target.source / "fs/sub").mkdir()
    (target.source / "fs/sub/Makefile.more").write_text(
        "V ?= sub\nin-y := $(V)/one_$(BITS).o\n", encoding="utf-8"
    )
    more = "include $(srctree)/fs/sub/Makefile.more\nobj-$(CONFIG_IN) += in.o\n"
    units = reached(target, more, "sub/one_64.c", "sub/one_32.c")
    assert units.built == {"fs/sub/one_64.c"}


def test_file_that_is_compiled_and_included_reaches_its_includers(target: Target) -> None:
    makefile = "obj-y += one.o compat.o\nobj-$(CONFIG_OUT) += off.o\n"
    for name in ("compat.c", "off.c"):
        (target.source / "fs" / name).write_text('#include "one.c"\n', encoding="utf-8")
    units = reached(target, makefile, "one.c", change="fs/one.c")
    assert units.paths == ("fs/one.c", "fs/compat.c")
    assert units.reached == {"fs/compat.c"}


def test_file_that_is_only_a_part_of_another_is_compiled_with_it(target: Target) -> None:
    (target.source / "fs/whole.c").write_text('#include "part.c"\n', encoding="utf-8")
    assert reached(target, "obj-y += whole.o\n", "part.c").paths == ("fs/whole.c",)
    assert reached(target, "obj-y += whole.o\n", "part.c", change="fs/part.c").paths == ("fs/whole.c",)


CREATED = "--- /dev/null\n+++ b/{}\n@@ -0,0 +1,1 @@\n+int x;\n"
CHANGED = "--- a/{0}\n+++ b/{0}\n@@ -1,1 +1,1 @@\n-a\n+b\n"


@pytest.mark.parametrize(
    "diffs",
    [
        [CREATED.format("fs/there.h")],
        [CREATED.format("fs/new.h"), CREATED.format("fs/new.h")],
        [CREATED.format("fs/new.h") + CREATED.format("fs/new.h/more.h")],
        [CREATED.format("fs/new.h/more.h") + CREATED.format("fs/new.h")],
        [CREATED.format("fs/there.h/new.h")],
        [CREATED.format(f"fs/{'x' * 300}.h")],
        [CREATED.format("fs/\ud800.h")],
        [CHANGED.format("fs/there.h/old.c")],
        [CHANGED.format(f"fs/{'x' * 300}.c")],
        [CHANGED.format("fs/\ud800.c")],
        [CHANGED.format("fs/directory.h")],
        [CHANGED.format("fs/none.c")],
    ],
)
def test_file_that_is_there_already_or_cannot_be_there(target: Target, diffs: list[str]) -> None:
    (target.source / "fs/there.h").write_text("a\n", encoding="utf-8")
    (target.source / "fs/directory.h").mkdir()
    with pytest.raises(Refused) as caught:
        apply_series(target.source, diffs)
    assert caught.value.refusal is Refusal.DOES_NOT_APPLY


def test_later_diff_changes_what_an_earlier_one_created(target: Target) -> None:
    later = "--- a/fs/new.h\n+++ b/fs/new.h\n@@ -1,1 +1,1 @@\n-int x;\n+int y;\n"
    files = apply_series(target.source, [CREATED.format("fs/new.h"), later]).files
    assert [line.text for line in files["fs/new.h"]] == ["int y;"]


def test_source_that_cannot_be_read_is_not_called_missing(target: Target) -> None:
    (target.source / "fs/loop.c").symlink_to("loop.c")
    with pytest.raises(Refused) as caught:
        apply_series(target.source, [CHANGED.format("fs/loop.c")])
    assert caught.value.refusal is Refusal.SOURCE
