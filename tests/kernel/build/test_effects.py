"""Built from a diff, loaded, executed, seen, reverted, removed: the shapes of change that a fix can have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lab import kernels
from lab.kernels import Kernel
from livepatch_core.build.builder import Built
from livepatch_core.build.target import Target
from tests.kernel.build.edits import Edits, diff
from tests.kernel.build.patched import Patched

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "patches"
TEXT: Edits = {"fs/proc/meminfo.c": [("VmallocChunk:", "VMALLOCCHUNK:")]}
HELPER = """static DEFINE_MUTEX(lp_lock);
static DEFINE_PER_CPU(unsigned long, lp_hits);
static noinline int lp_helper(int x)
{
\tstatic int calls;
\tmutex_lock(&lp_lock);
\tcalls += x;
\tmutex_unlock(&lp_lock);
\treturn calls;
}

static int meminfo_proc_show"""
STATICS: Edits = {
    "fs/proc/meminfo.c": [
        ("static int meminfo_proc_show", HELPER),
        (
            "\thugetlb_report_meminfo(m);\n",
            "\thugetlb_report_meminfo(m);\n\tthis_cpu_inc(lp_hits);\n\tWARN_ON_ONCE(lp_helper(2) == 400);\n"
            '\tseq_printf(m, "LpHits: %lu %d\\n", this_cpu_read(lp_hits), lp_helper(1));\n',
        ),
    ]
}
SYSCALL: Edits = {
    "kernel/sys.c": [
        ("\tstruct new_utsname tmp;\n", '\tstruct new_utsname tmp;\n\tpr_info("lp: uname\\n");\n')
    ]
}
SLEEPER: Edits = {
    "fs/pipe.c": [
        (
            "\t/* Null read succeeds. */\n",
            '\tpr_info_once("lp: pipe_read\\n");\n\t/* Null read succeeds. */\n',
        )
    ]
}
OBJECTS: Edits = {
    "fs/proc/meminfo.c": TEXT["fs/proc/meminfo.c"],
    "fs/xfs/xfs_super.c": [
        ("\tstruct xfs_mount\t*mp = XFS_M(dentry->d_sb);\n", "\tstruct xfs_mount\t*mp = "
                                                             "XFS_M(dentry->d_sb);\n\n\tprefetch(mp);\n")
    ],
    "drivers/block/loop.c": [
        ("static int loop_clr_fd(struct loop_device *lo)\n{\n", 'static int loop_clr_fd(struct '
                                                                'loop_device *lo)\n{\n\tpr_info("lp: '
                                                                'loop_clr_fd\\n");\n')
    ],
}  # fmt: skip
HEADER: Edits = {
    "fs/ext4/xattr.h": [
        (
            "static inline void ext4_write_lock_xattr(struct inode *inode, int *save)\n{\n",
            "static inline void ext4_write_lock_xattr(struct inode *inode, int "
            "*save)\n{\n\tprefetch(inode);\n",
        )
    ]
}

Make = Callable[..., Built]
Boot = Callable[..., Patched]
TargetOf = Callable[[Kernel], Target]


@pytest.fixture(params=["6.1", "6.12"])
def role(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def written(target_of: TargetOf) -> Callable[[Edits, str], str]:
    """A diff made of edits of the source of the role's kernel."""
    return lambda edits, role: diff(target_of(kernels.kernel(role)).source, edits)


Written = Callable[[Edits, str], str]


def test_text_of_meminfo(make: Make, boot: Boot, written: Written, role: str) -> None:
    guest = boot(role)
    name = guest.load(make("lp_text", [written(TEXT, role)], role=role))
    assert "VMALLOCCHUNK" in guest.run("cat /proc/meminfo")
    guest.revert(name)
    assert "VMALLOCCHUNK" not in guest.run("cat /proc/meminfo")


def test_new_statics_percpu_mutex_and_warning(make: Make, boot: Boot, written: Written, role: str) -> None:
    guest = boot(role)
    name = guest.load(make("lp_statics", [written(STATICS, role)], role=role))
    guest.run("cat /proc/meminfo")
    assert "LpHits: 2 6" in guest.run("cat /proc/meminfo")
    guest.revert(name)


def test_syscall(make: Make, boot: Boot, written: Written, role: str) -> None:
    guest = boot(role)
    built = make("lp_syscall", [written(SYSCALL, role)], role=role)
    name = guest.load(built)
    guest.run("uname -a")
    assert "lp: uname" in guest.guest.dmesg()
    assert {f.old_name for unit in built.units for f in unit.functions} >= {"__x64_sys_newuname"}
    guest.revert(name)


def test_task_asleep_in_new_code_has_a_stack_and_is_waited_for(
    make: Make, boot: Boot, written: Written, role: str
) -> None:
    guest = boot(role)
    name = guest.load(make("lp_sleeper", [written(SLEEPER, role)], role=role))
    sleeper = guest.guest.spawn("sleep 600 | cat")
    stack = guest.run(
        "while ! grep -s pipe_read /proc/$(pidof cat)/stack; do :; done; cat /proc/$(pidof cat)/stack"
    )
    assert f"[{name}]" in stack
    assert "entry_SYSCALL_64" in stack.splitlines()[-1]
    guest.disable(name)
    assert guest.run(f"cat /sys/kernel/livepatch/{name}/transition").strip() == "1"
    guest.run("kill $(pidof sleep)")
    guest.gone(name)
    sleeper.kill()


def test_two_modules_and_the_kernel_at_once(make: Make, boot: Boot, written: Written) -> None:
    guest = boot()
    modules = kernels.files(guest.guest.kernel).modules
    for module in ("libcrc32c", "xfs", "loop"):
        guest.guest.put(f"/root/{module}.ko", next(Path(modules).rglob(f"{module}.ko")).read_bytes())
    guest.run("insmod /root/loop.ko")
    built = make("lp_objects", [written(OBJECTS, "6.1")])
    assert set(built.manifest.built_for) == {"vmlinux", "loop", "xfs"}
    name = guest.load(built)
    assert "VMALLOCCHUNK" in guest.run("cat /proc/meminfo")
    guest.run("truncate -s 1M /tmp/disk; losetup /dev/loop0 /tmp/disk; losetup -d /dev/loop0")
    assert "lp: loop_clr_fd" in guest.guest.dmesg()
    guest.run("insmod /root/libcrc32c.ko; insmod /root/xfs.ko")  # after the patch: patched as it comes
    assert guest.run(f"cat /sys/kernel/livepatch/{name}/xfs/patched").strip() == "1"
    guest.run("rmmod xfs")
    guest.revert(name)


def test_private_header_reaches_its_files(make: Make, boot: Boot, written: Written) -> None:
    built = make("lp_header", [written(HEADER, "6.1")])
    assert {unit.path for unit in built.units} >= {"fs/ext4/inline.c", "fs/ext4/xattr.c"}
    assert {unit.owner for unit in built.units} == {"ext4"}
    guest = boot()
    guest.revert(guest.load(built))


def test_levels_of_the_examples_replace_each_other(make: Make, boot: Boot) -> None:
    texts = [(EXAMPLES / f"meminfo-{number}.patch").read_text(encoding="utf-8") for number in (1, 2)]
    guest = boot()
    first = guest.load(make("livepatch_1", texts[:1], level=1))
    assert "LivepatchLevel:        1" in guest.run("cat /proc/meminfo")
    second = guest.load(make("livepatch_2", texts, level=2))
    assert "LivepatchLevel:        2" in guest.run("cat /proc/meminfo")
    guest.run(f"rmmod {first}")
    guest.revert(second)


def test_shadow_variables_with_state_and_callback(make: Make, boot: Boot) -> None:
    text = (EXAMPLES / "status-reads.patch").read_text(encoding="utf-8")
    guest = boot()
    built = make("lp_reads", [text])
    name = guest.load(built)
    guest.run("cat /proc/1/status")
    assert "StatusReads:\t2" in guest.run("cat /proc/1/status")
    assert "StatusReads:\t1" in guest.run("cat /proc/self/status")
    other = make("lp_stateless", [(EXAMPLES / "meminfo-1.patch").read_text(encoding="utf-8")])
    guest.guest.put("/root/lp_stateless.ko", other.module or b"")
    guest.run("! insmod /root/lp_stateless.ko")  # a level without the state may not replace this one
    guest.revert(name)
    again = guest.load(built)
    assert "StatusReads:\t1" in guest.run("cat /proc/1/status")  # the callback had freed the counters
    guest.revert(again)
