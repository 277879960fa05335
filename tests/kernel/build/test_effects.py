"""Built from a diff, loaded, executed, seen, reverted, removed: the shapes of change that a fix can have."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from lab import host, kernels
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
SHARED: Edits = {
    "fs/proc/meminfo.c": [
        (
            "static void show_val_kb(struct seq_file *m, const char *s, unsigned long num)\n{\n",
            "static void show_val_kb(struct seq_file *m, const char *s, unsigned long num)\n{\n"
            "\tstatic unsigned long calls;\n\n\tif (!calls++ || s[3] == 'T')\n"
            '\t\tseq_printf(m, "LpCalls: %lu\\n", calls);\n',
        )
    ]
}
ONCE: Edits = {
    "mm/mmap.c": [
        (
            '\tpr_warn_once("%s (%d) uses deprecated remap_file_pages()',
            '\tpr_info("lp: remap_file_pages\\n");\n'
            '\tpr_warn_once("%s (%d) uses deprecated remap_file_pages()',
        )
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
BESIDE: Edits = {
    "kernel/exit.c": [
        (
            "\tlong err = kernel_wait4(upid, stat_addr, options, ru ? &r : NULL);\n",
            "\tlong err;\n\n\tif (options & 0x10000000)\n\t\treturn -EINVAL;\n"
            "\terr = kernel_wait4(upid, stat_addr, options, ru ? &r : NULL);\n",
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
NTH = "l2tp_tunnel_get_nth(const struct net *net, int nth)\n{\n"
DEBUGFS = "\tpd->tunnel = l2tp_tunnel_get_nth(pd->net, pd->tunnel_idx);\n"
PPP = "\t\tpd->tunnel = l2tp_tunnel_get_nth(net, pd->tunnel_idx);\n"
THIRD: Edits = {
    "net/l2tp/l2tp_core.c": [(NTH, f'{NTH}\tint said __maybe_unused = _printk(KERN_INFO "lp: core\\n");\n')],
    "net/l2tp/l2tp_debugfs.c": [(DEBUGFS, f'\tpr_info("lp: debugfs\\n");\n{DEBUGFS}')],
    "net/l2tp/l2tp_ppp.c": [(PPP, f'\t\tpr_info("lp: ppp\\n");\n{PPP}')],
}
HEADER: Edits = {
    "fs/ext4/xattr.h": [
        (
            "static inline void ext4_write_lock_xattr(struct inode *inode, int *save)\n{\n",
            "static inline void ext4_write_lock_xattr(struct inode *inode, int *save)\n{\n"
            '\tpr_info("lp: ext4_write_lock_xattr\\n");\n',
        )
    ]
}
# Says when each callback runs.
CALLBACKS: Edits = {
    "fs/proc/version.c": [
        (
            "static int version_proc_show",
            "#include <livepatch/hooks.h>\n"
            + "".join(
                f"static {kind} lp_{word}(struct klp_object *object)\n{{\n"
                f'\tpr_info("lp: {word}\\n");\n{end}}}\nLIVEPATCH_{word.upper()}(lp_{word});\n'
                for word, kind, end in (
                    ("pre_patch", "int", "\treturn 0;\n"),
                    ("post_patch", "void", ""),
                    ("pre_unpatch", "void", ""),
                )
            )
            + "\nstatic int version_proc_show",
        ),
        (
            "\tseq_printf(m, linux_proc_banner",
            '\tseq_puts(m, "patched ");\n\tseq_printf(m, linux_proc_banner',
        ),
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


def test_static_in_a_helper_that_many_call(make: Make, boot: Boot, written: Written) -> None:
    guest = boot()
    name = guest.load(make("lp_shared", [written(SHARED, "6.1")]))
    guest.run("cat /proc/meminfo")
    counts = [int(count) for count in re.findall("LpCalls: ([0-9]+)", guest.run("cat /proc/meminfo"))]
    assert counts
    assert counts[0] > 20, "one variable for all callers, which goes on counting"
    guest.revert(name)


def test_static_of_the_kernels_own_keeps_its_value(make: Make, boot: Boot, written: Written) -> None:
    """The new code warns once: not again, where the old code had warned."""
    guest = boot()
    call = "import ctypes; ctypes.CDLL(None).syscall(216, 0, 0, 1, 0, 0)"  # remap_file_pages
    guest.guest.python(call)
    name = guest.load(make("lp_once", [written(ONCE, "6.1")]))
    guest.guest.python(call)
    log = guest.guest.dmesg()
    assert "lp: remap_file_pages" in log
    assert log.count("uses deprecated remap_file_pages()") == 1
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


def test_task_asleep_in_code_beside_a_replaced_function_is_waited_for(
    make: Make, boot: Boot, written: Written, role: str
) -> None:
    """wait4() is a jump from what is replaced to a copied function, in which the task then sleeps: on its
    stack there is nothing that the patch names, and the module must not go all the same."""
    guest = boot(role)
    name = guest.load(make("lp_beside", [written(BESIDE, role)], role=role))
    sleeper = guest.guest.spawn("sleep 600; true")
    stack = guest.run("while ! P=$(pidof sleep); do :; done; cat /proc/$(cut -d' ' -f4 /proc/$P/stat)/stack")
    assert f"[{name}]" in stack
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


def test_two_modules_that_need_a_third(make: Make, boot: Boot, written: Written) -> None:
    """Both call the third one's function, which is patched as well; one is there before the patch, one comes
    after it.
    """
    guest = boot()
    modules = Path(kernels.files(guest.guest.kernel).modules)
    needed = ("udp_tunnel", "ip6_udp_tunnel", "l2tp_core", "l2tp_debugfs", "slhc", "ppp_generic", "pppox")
    for module in (*needed, "l2tp_netlink", "l2tp_ppp"):
        guest.guest.put(f"/root/{module}.ko", next(modules.rglob(f"{module}.ko")).read_bytes())
    for module in needed:
        guest.run(f"insmod /root/{module}.ko")
    built = make("lp_third", [written(THIRD, "6.1")])
    assert {unit.owner for unit in built.units} == {"l2tp_core", "l2tp_debugfs", "l2tp_ppp"}
    name = guest.load(built)
    guest.run("mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug")
    guest.run("cat /sys/kernel/debug/l2tp/tunnels")
    guest.run("insmod /root/l2tp_netlink.ko; insmod /root/l2tp_ppp.ko; cat /proc/net/pppol2tp")
    said = re.findall(r"lp: (debugfs|core|ppp)$", guest.guest.dmesg(), re.MULTILINE)
    assert said[:2] == ["debugfs", "core"]
    assert said[said.index("ppp") :][:2] == ["ppp", "core"]
    guest.revert(name)


def test_private_header_reaches_its_files(make: Make, boot: Boot, written: Written, tmp_path: Path) -> None:
    built = make("lp_header", [written(HEADER, "6.1")])
    assert {unit.path for unit in built.units} >= {"fs/ext4/inline.c", "fs/ext4/xattr.c"}
    assert {unit.owner for unit in built.units} == {"ext4"}
    disk = tmp_path / "disk"
    host.run(["mke2fs", "-q", "-t", "ext4", disk, "8M"])
    guest = boot()
    guest.guest.put("/tmp/disk", disk.read_bytes())
    guest.run("modprobe loop && mount -o loop /tmp/disk /mnt && touch /mnt/file")
    name = guest.load(built)
    guest.guest.python("import os; os.setxattr('/mnt/file', 'user.a', b'x' * 50)")
    assert "lp: ext4_write_lock_xattr" in guest.guest.dmesg()
    guest.run("umount /mnt")
    guest.revert(name)


def test_levels_of_the_examples_replace_each_other(make: Make, boot: Boot) -> None:
    texts = [(EXAMPLES / f"meminfo-{number}.patch").read_text(encoding="utf-8") for number in (1, 2)]
    guest = boot()
    first = guest.load(make("livepatch_1", texts[:1], level=1))
    assert "LivepatchLevel:        1" in guest.run("cat /proc/meminfo")
    second = guest.load(make("livepatch_2", texts, level=2))
    assert "LivepatchLevel:        2" in guest.run("cat /proc/meminfo")
    guest.run(f"rmmod {first}")
    guest.revert(second)


@pytest.fixture
def series(make: Make, written: Written) -> list[Built]:
    """Level 1: shadow variables, a state, a callback; 2: all other callbacks; 3: a text; 4: a newer state."""
    reads = (EXAMPLES / "status-reads.patch").read_text(encoding="utf-8")
    text = (EXAMPLES / "meminfo-1.patch").read_text(encoding="utf-8")
    newer = reads.replace("LIVEPATCH_STATE(STATUS_READS, 1)", "LIVEPATCH_STATE(STATUS_READS, 2)")
    diffs = [reads, written(CALLBACKS, "6.1"), text]
    levels = [make(f"livepatch_{level}", diffs[:level], level=level) for level in (1, 2, 3)]
    return [*levels, make("livepatch_4", [newer, *diffs[1:]], level=4)]


def test_three_levels_with_state_up_and_down(boot: Boot, series: list[Built]) -> None:
    """What level 1 has begun to count goes on, whichever level is in force."""
    guest, last = boot(), ""
    for reads, level in enumerate((1, 2, 3, 2, 1), 1):
        name = guest.load(series[level - 1])
        assert f"StatusReads:\t{reads}\n" in guest.run("cat /proc/1/status")
        assert guest.run("cat /proc/version").startswith("patched ") == (level > 1)
        assert ("LivepatchLevel:" in guest.run("cat /proc/meminfo")) == (level > 2)
        if last:
            guest.run(f"rmmod {last}")  # replaced, so nothing of it is in force
        last = name
    log = guest.guest.dmesg()
    # Of a level that is replaced no callback runs, as the kernel documents.
    assert [log.count(f"lp: {word}") for word in ("pre_patch", "post_patch", "pre_unpatch")] == [3, 3, 0]
    guest.revert(last)
    assert "StatusReads" not in guest.run("cat /proc/1/status")

    newest = guest.load(series[3])
    assert "StatusReads:\t1\n" in guest.run("cat /proc/1/status")  # level 1's callback had freed the counters
    guest.run("! insmod /root/livepatch_3.ko")  # it knows an older version of the state only
    guest.revert(newest)
    assert "lp: pre_unpatch" in guest.guest.dmesg()


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
