"""What the builder refuses on the kernel's real source: the word, the file, the function and what to do."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lab import kernels
from lab.kernels import Kernel
from livepatch_core.build import extract, kmod
from livepatch_core.build.builder import Built
from livepatch_core.build.refusals import Notice, Refusal, Refused
from livepatch_core.build.target import Target
from tests.kernel.build.edits import Edits, comment, diff

Make = Callable[..., Built]
MEMINFO = "fs/proc/meminfo.c"
REPORT = "\thugetlb_report_meminfo(m);\n"
VLAN = "net/8021q/vlan.c"
VERSION = "fs/proc/version.c"
BANNER = "\tseq_printf(m, linux_proc_banner,"
ISOFS_STATFS = "static int isofs_statfs (struct dentry *dentry, struct kstatfs *buf)\n"
BPF_LSM = "kernel/bpf/bpf_lsm.c"
RUN_FLAGS = "arch/x86/kvm/vmx/run_flags.h"
PIPE = "include/linux/pipe_fs_i.h"
OFFSET = "\tint offset;\t\t\t/* offset of magic */\n"
SIZE = "\tint size;\t\t\t/* size of magic/mask */\n"
LOOP = "drivers/block/loop.c"
HANDLES = "\tloop_process_work(worker, "
INDIVIDUAL = "\tLEGACY_FS_INDIVIDUAL_PARAMS,\n"

CASES: dict[str, tuple[Edits, Refusal, str, str]] = {
    "start code": (
        {MEMINFO: [('proc_create_single("meminfo"', 'proc_create_single("memory"')]},
        Refusal.INIT_CODE,
        MEMINFO,
        "proc_meminfo_init",
    ),
    "a call of start code": (
        {VERSION: [(BANNER, "\tproc_self_init();\n" + BANNER)]},
        Refusal.INIT_CODE,
        VERSION,
        "proc_self_init",
    ),
    "a module's export": (
        {VERSION: [(BANNER, "\t{ extern int twofish_enc_blk(void); twofish_enc_blk(); }\n" + BANNER)]},
        Refusal.SYMBOL_UNRESOLVED,
        VERSION,
        "twofish_enc_blk",
    ),
    "a module's new function": (
        {
            VERSION: [(BANNER, "\t{ extern int isofs_new_probe(void); isofs_new_probe(); }\n" + BANNER)],
            "fs/isofs/inode.c": [
                (
                    ISOFS_STATFS,
                    "int isofs_new_probe(void);\nint isofs_new_probe(void)\n{\n"
                    "\treturn isofs_inode_cachep ? kmem_cache_size(isofs_inode_cachep) : 0;\n}\n\n"
                    + ISOFS_STATFS,
                )
            ],
        },
        Refusal.SYMBOL_UNRESOLVED,
        VERSION,
        "isofs_new_probe",
    ),
    "a variable that moves": (
        {
            "kernel/fork.c": [("int nr_threads;", "")],
            "kernel/exit.c": [
                ("static void __unhash_process(", "int nr_threads;\n\nstatic void __unhash_process(")
            ],
        },
        Refusal.SYMBOL_AMBIGUOUS,
        "kernel/exit.c",
        "nr_threads",
    ),
    "an overridden weak default": (
        {
            "kernel/signal.c": [
                (
                    "__weak const char *arch_vma_name(struct vm_area_struct *vma)\n{\n",
                    "__weak const char *arch_vma_name(struct vm_area_struct *vma)\n{\n"
                    '\tif (!vma)\n\t\treturn "";\n',
                )
            ]
        },
        Refusal.IMAGE_DIFFERS,
        "kernel/signal.c",
        "arch_vma_name",
    ),
    "two callbacks of one kind": (
        {
            path: [
                (
                    '#include "internal.h"\n',
                    '#include "internal.h"\n#include <livepatch/hooks.h>\n'
                    'static void start(struct klp_object *o) { pr_info("now\\n"); }\n'
                    "LIVEPATCH_POST_PATCH(start);\n",
                )
            ]
            for path in (VERSION, "fs/proc/uptime.c")
        },
        Refusal.HOOKS,
        "fs/proc/uptime.c",
        "start",
    ),
    "a value that assembler uses": (
        {RUN_FLAGS: [("VMX_RUN_VMRESUME_SHIFT\t\t0", "VMX_RUN_VMRESUME_SHIFT\t\t4")]},
        Refusal.UNSUPPORTED_FILE,
        "arch/x86/kvm/vmx/vmenter.S",
        "",
    ),
    "a value that nothing uses": (
        {
            RUN_FLAGS: [
                ("#define VMX_RUN_VMRESUME_SHIFT", "#define VMX_RUN_MORE 7\n#define VMX_RUN_VMRESUME_SHIFT")
            ]
        },
        Refusal.NOTHING_CHANGED,
        "",
        "",
    ),
    "variable": (
        {"kernel/fork.c": [("static int max_threads;", "static int max_threads = 5;")]},
        Refusal.DATA_CHANGED,
        "kernel/fork.c",
        "max_threads",
    ),
    "variable that becomes one for all CPUs": (
        {
            "fs/inode.c": [
                ("static DEFINE_PER_CPU(unsigned long, nr_inodes);", "static unsigned long nr_inodes;"),
                ("this_cpu_inc(nr_inodes);", "nr_inodes++;"),
                ("this_cpu_dec(nr_inodes);", "nr_inodes--;"),
                ("sum += per_cpu(nr_inodes, i);", "sum = nr_inodes;"),
            ]
        },
        Refusal.DATA_CHANGED,
        "fs/inode.c",
        "nr_inodes",
    ),
    "variable that is read-only after the start": (
        {
            "fs/proc/self.c": [
                ("static unsigned self_inum __ro_after_init;", "static unsigned self_inum;"),
                ("inode->i_ino = self_inum;", "inode->i_ino = self_inum++;"),
            ]
        },
        Refusal.DATA_CHANGED,
        "fs/proc/self.c",
        "self_inum",
    ),
    "struct that only a typedef names": (
        {
            "fs/binfmt_misc.c": [
                (OFFSET + SIZE, SIZE + OFFSET),
                ("\trefcount_t users;", "\tunsigned long hits;\n\trefcount_t users;"),
            ]
        },
        Refusal.LAYOUT,
        "fs/binfmt_misc.c",
        "Node",
    ),
    "variable of another type": (
        {
            "fs/eventpoll.c": [
                (
                    "static int path_count[PATH_ARR_SIZE];",
                    "static struct { s16 now, then; } path_count[PATH_ARR_SIZE];",
                ),
                ("++path_count[nests] >", "++path_count[nests].then >"),
                ("path_count[i] = 0;", "path_count[i].then = 0;"),
            ]
        },
        Refusal.LAYOUT,
        "fs/eventpoll.c",
        "path_count",
    ),
    "struct that gets another name, too": (
        {
            "drivers/block/loop.c": [
                ("struct loop_worker {\n", "struct loop_wq_worker {\n\tunsigned long serial;\n"),
                *[("struct loop_worker", "struct loop_wq_worker")] * 7,
            ]
        },
        Refusal.LAYOUT,
        "drivers/block/loop.c",
        "struct loop_worker",
    ),
    "value before the last of an enum": (
        {"fs/fs_context.c": [(INDIVIDUAL, "\tLEGACY_FS_BINARY_PARAMS,\n" + INDIVIDUAL)]},
        Refusal.LAYOUT,
        "fs/fs_context.c",
        "enum legacy_fs_param",
    ),
    "alias that gets code of its own": (
        {
            "drivers/thermal/thermal_netlink.c": [
                (
                    "int thermal_genl_event_tz_trip_down(struct param *p)\n"
                    '\t__attribute__((alias("thermal_genl_event_tz_trip_up")));\n',
                    "int thermal_genl_event_tz_trip_down(struct param *p)\n"
                    "{\n\treturn nla_put_u32(p->msg, THERMAL_GENL_ATTR_TZ_ID, p->tz_id);\n}\n",
                )
            ]
        },
        Refusal.SYMBOL_AMBIGUOUS,
        "drivers/thermal/thermal_netlink.c",
        "thermal_genl_event_tz_trip_down",
    ),
    "lock under another name": (
        {
            "fs/aio.c": [
                ("static DEFINE_SPINLOCK(aio_nr_lock);", "static DEFINE_SPINLOCK(aio_count_lock);"),
                *[("(&aio_nr_lock)", "(&aio_count_lock)")] * 5,
            ]
        },
        Refusal.STATIC_AMBIGUOUS,
        "fs/aio.c",
        "aio_nr_lock",
    ),
    "parameter that its file shows to others": (
        {
            "kernel/workqueue.c": [
                ("wq_disable_numa, bool, 0444);", "wq_disable_numa, bool, 0600);"),
                (
                    "return worker && worker->rescue_wq;",
                    "return worker && worker->rescue_wq && worker->task;",
                ),
            ]
        },
        Refusal.NEW_PARAMETER,
        "kernel/workqueue.c",
        "__param",
    ),
    "static SRCU of a module": (  # its loader makes it ready for use, and walks a section for that
        {
            LOOP: [
                ("#include <linux/uio.h>\n", "#include <linux/uio.h>\n#include <linux/srcu.h>\n"),
                ("struct loop_worker {\n", "DEFINE_STATIC_SRCU(loop_fix_srcu);\nstruct loop_worker {\n"),
                (HANDLES, "\tsrcu_read_unlock(&loop_fix_srcu, srcu_read_lock(&loop_fix_srcu));\n" + HANDLES),
            ]
        },
        Refusal.NEW_REGISTRATION,
        LOOP,
        "___srcu_struct_ptrs",
    ),
    "callback under another name": (
        {
            LOOP: [
                *[("loop_workfn(", "loop_worker_fn("), ("loop_workfn)", "loop_worker_fn)")],
                ("loop_workfn(", "loop_worker_fn("),
                (
                    "(struct loop_worker *worker,\n\t\t\tstruct list_head *cmd_list, struct loop_device *lo)",
                    "(struct loop_device *lo, struct loop_worker *worker,\n\t\t\tstruct list_head *cmd_list)",
                ),
                ("(worker, &worker->cmd_list, worker->lo)", "(worker->lo, worker, &worker->cmd_list)"),
                ("(NULL, &lo->rootcg_cmd_list, lo)", "(lo, NULL, &lo->rootcg_cmd_list)"),
            ]
        },
        Refusal.CALLBACK_GONE,
        LOOP,
        "loop_workfn",
    ),
    "code that assembler finds by its place": (
        {
            "arch/x86/kvm/emulate.c": [
                ("FOP_SETCC(setnle)\n", 'FOP_FUNC(setnle)\n"setnle %al; nop \\n\\t"\nFOP_RET(setnle)\n')
            ]
        },
        Refusal.NOTRACE,
        "arch/x86/kvm/emulate.c",
        "setnle",
    ),
    "author's error": (
        {MEMINFO: [(REPORT, REPORT + "\n\n\tno_such_function(m);\n")]},
        Refusal.PATCHED_COMPILE,
        MEMINFO,
        "",
    ),
    "comment": ({MEMINFO: [(REPORT, REPORT + "\t/* nothing */\n")]}, Refusal.NOTHING_CHANGED, "", ""),
    "not built": (
        {"fs/proc/nommu.c": [('"%08lx-%08lx', '"%09lx-%08lx')]},
        Refusal.NOT_BUILT,
        "fs/proc/nommu.c",
        "",
    ),
    "a header that a macro names": (
        {"include/linux/drbd_genl.h": [("(1, DRBD_GENLA_F_MANDATORY,", "(1, 0,")]},
        Refusal.NOTHING_CHANGED,
        "include/linux/drbd_genl.h",
        "",
    ),
    "a user that cannot be compiled": (  # the Makefile names it in a list whose use is not followed
        {"security/keys/encrypted-keys/encrypted.h": [("ENCRYPTED_DEBUG 0", "ENCRYPTED_DEBUG 1")]},
        Refusal.ORIGINAL_COMPILE,
        "security/keys/encrypted-keys/masterkey_trusted.c",
        "",
    ),
    "fan-out": (
        {PIPE: [("struct pipe_buffer {\n", "struct pipe_buffer {\n\tint more;\n")]},
        Refusal.FAN_OUT,
        PIPE,
        "",
    ),
    "unresolved": (
        {MEMINFO: [(REPORT, REPORT + "\t{ extern void nowhere_at_all(void); nowhere_at_all(); }\n")]},
        Refusal.SYMBOL_UNRESOLVED,
        MEMINFO,
        "nowhere_at_all",
    ),
    "BTF ids": (  # zeros in the object, whichever they are
        {BPF_LSM: [("(func, bpf_lsm_inode_need_killpriv)", "(func, bpf_lsm_inode_killpriv)")]},
        Refusal.NEW_REGISTRATION,
        BPF_LSM,
        "__BTF_ID__set__bpf_lsm_disabled_hooks",
    ),
}


@pytest.mark.parametrize("case", sorted(CASES))
def test_refusal(case: str, make: Make, target_of: Callable[[Kernel], Target]) -> None:
    edits, refusal, file, function = CASES[case]
    source = target_of(kernels.kernel("6.1")).source
    with pytest.raises(Refused) as caught:
        make("lp_refused", [diff(source, edits)])
    assert (caught.value.refusal, caught.value.file, caught.value.function) == (refusal, file, function)
    assert caught.value.remedy


def test_author_sees_the_line_of_the_patched_file(make: Make, target_of: Callable[[Kernel], Target]) -> None:
    source = target_of(kernels.kernel("6.1")).source
    old = (source / MEMINFO).read_text(encoding="utf-8")
    line = old[: old.index(REPORT)].count("\n") + 4
    with pytest.raises(Refused) as caught:
        make("lp_refused", [diff(source, CASES["author's error"][0])])
    assert f"{MEMINFO}:{line}:" in str(caught.value)


def test_layout_is_compared_and_can_be_accepted(make: Make, target_of: Callable[[Kernel], Target]) -> None:
    source = target_of(kernels.kernel("6.1")).source
    head = "struct pde_opener {\n"
    text = diff(source, {"fs/proc/internal.h": [(head, head + "\tint first;\n")]})
    with pytest.raises(Refused) as caught:
        make("lp_layout", [text])
    assert (caught.value.refusal, caught.value.function) == (Refusal.LAYOUT, "struct pde_opener")
    assert "its size changes" in str(caught.value)
    # The slab of these objects is made at start, with the old size: one more thing to answer for.
    accepted = {"struct pde_opener": "a test that is never loaded", "init:proc_init_kmemcache": "as above"}
    built = make("lp_layout", [text], accept=accepted)
    assert Notice.LAYOUT_ACCEPTED in {warning.notice for warning in built.warnings}


def test_an_export_whose_name_the_kernel_has_twice(make: Make, target_of: Callable[[Kernel], Target]) -> None:
    """A module's import of it has no certain address; that it is the export is enough."""
    source, name = target_of(kernels.kernel("6.1")).source, "fs/smb/server/mgmt/share_config.c"
    call = "\t\t\tret = kern_path(share->path, 0, &share->vfs_path);\n"
    built = make("lp_twice", [diff(source, {name: [(call, "\t\t\tcond_resched();\n" + call)]})])
    assert [one.owner for one in built.units] == ["ksmbd"]


def test_function_that_uses_a_list_of_btf_ids(make: Make, target_of: Callable[[Kernel], Target]) -> None:
    """Its name is local by the kernel's own assembler text, not by the compiler's."""
    source, call = target_of(kernels.kernel("6.1")).source, "return btf_id_set_contains(&sleep"
    built = make("lp_btf", [diff(source, {BPF_LSM: [(call, call.replace("return", "return btf_id &&"))]})])
    names = {name for unit in built.units for name in unit.externals}
    assert "sleepable_lsm_hooks" in names


def test_local_array_is_a_part_of_its_function(make: Make, target_of: Callable[[Kernel], Target]) -> None:
    """Its initial values have no name and lie beside the code, which stays the same."""
    source, name = target_of(kernels.kernel("6.1")).source, "drivers/scsi/scsi_debug.c"
    values = "unsigned char disconnect_pg[] = {0x2, 0xe, "
    built = make("lp_array", [diff(source, {name: [(values + "128", values + "64")]})])
    assert "resp_disconnect_pg.constprop.0" in {f.old_name for unit in built.units for f in unit.functions}


def test_two_files_may_have_equal_new_functions(make: Make, target_of: Callable[[Kernel], Target]) -> None:
    """Of one name, with records of their own and tables of them: read back, each is looked for in its own
    file's sections.
    """
    helper = (
        "static noinline int lp_equal(int n)\n{\n\treturn WARN_ON(n < 0) ? 0 : n;\n}\n\n"
        "static struct { int (*call)(int); } lp_table = { .call = lp_equal };\n\n"
    )
    edits: Edits = {}
    for path, function, line in (
        (VERSION, "static int version_proc_show", BANNER),
        ("fs/proc/uptime.c", "static int uptime_proc_show", "\tseq_printf(m, "),
    ):
        edits[path] = [
            (function, helper + function),
            (line, f"\tif (READ_ONCE(lp_table.call)(m->count))\n\t{line}"),
        ]
    built = make("lp_equal", [diff(target_of(kernels.kernel("6.1")).source, edits)])
    assert [sorted(unit.new) for unit in built.units] == [["lp_equal", "lp_table"]] * 2


def test_state_may_stand_in_a_file_of_its_own(make: Make, target_of: Callable[[Kernel], Target]) -> None:
    source, head = target_of(kernels.kernel("6.1")).source, '#include "internal.h"\n'
    state = {"fs/proc/uptime.c": [(head, head + "#include <livepatch/hooks.h>\nLIVEPATCH_STATE(77, 1);\n")]}
    fix = {"fs/proc/version.c": [("\tseq_printf(m, ", '\tseq_puts(m, "");\n\tif (m)\n\t\tseq_printf(m, ')]}
    built = make("lp_state", [diff(source, {**state, **fix})])
    assert built.manifest.states == [(77, 1)]
    assert [unit.path for unit in built.units] == ["fs/proc/version.c"]
    assert Notice.UNIT_UNCHANGED not in {warning.notice for warning in built.warnings}
    with pytest.raises(Refused) as caught:
        make("lp_state", [diff(source, state)])
    assert caught.value.refusal is Refusal.NOTHING_CHANGED


def test_every_file_that_a_change_reaches_is_patched(
    make: Make, target_of: Callable[[Kernel], Target]
) -> None:
    """An object of the kernel whose module is another one, and a file that includes the changed one."""
    source = target_of(kernels.kernel("6.1")).source
    reads = "\tstruct net_device **array;\n\n\tarray = vg->vlan_devices_arrays[pidx]"
    checks = reads.replace("\n\n", "\n\n\tif (!vlan_id)\n\t\treturn NULL;\n")
    core, compat = "net/8021q/vlan_core.c", "fs/compat_binfmt_elf.c"
    kind = "\tif (elf_ex->e_type != ET_EXEC && elf_ex->e_type != ET_DYN)"
    header = make("lp_header", [diff(source, {"net/8021q/vlan.h": [(reads, checks)]})])
    assert {(unit.path, unit.owner) for unit in header.units} >= {(core, "vmlinux"), (VLAN, "8021q")}
    more = "\tif (elf_ex->e_phnum == 0xfffe)\n\t\tgoto out;\n" + kind
    file = make("lp_included", [diff(source, {"fs/binfmt_elf.c": [(kind, more)]})])
    assert {unit.path for unit in file.units} == {"fs/binfmt_elf.c", compat}


def test_file_whose_weak_defaults_are_overridden_elsewhere(
    make: Make, target_of: Callable[[Kernel], Target]
) -> None:
    """What lies at the override's address says nothing about this file's own references."""
    source = target_of(kernels.kernel("6.1")).source
    head = "static int cpu_up(unsigned int cpu, enum cpuhp_state target)\n{\n\tint err = 0;\n"
    edits = {"kernel/cpu.c": [(head, head + "\n\tif (cpu == 12345)\n\t\treturn -EINVAL;\n")]}
    built = make("lp_weak", [diff(source, edits)])
    assert [function.old_name for unit in built.units for function in unit.functions] == ["cpu_up"]


class _Careless(dict):  # type: ignore[type-arg]
    """Remembers copied pieces of code by where they start, not how long they are."""

    def __contains__(self, key: object) -> bool:
        return isinstance(key, tuple) and super().__contains__(key[:2])

    def __setitem__(self, key: tuple[int, int, int], value: int) -> None:
        super().__setitem__(key[:2], value)

    def __getitem__(self, key: tuple[int, int, int]) -> int:
        return int(super().__getitem__(key[:2]))


def test_wrong_module_is_found_when_it_is_read_back(
    make: Make, target_of: Callable[[Kernel], Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty replacement and the next one start at one place. A module that mixed them up panicked."""
    original = extract.Extractor.__init__

    def careless(self: extract.Extractor, *arguments: object, **named: object) -> None:
        original(self, *arguments, **named)  # type: ignore[arg-type]
        self.chunks = _Careless()

    monkeypatch.setattr(extract.Extractor, "__init__", careless)
    source = target_of(kernels.kernel("6.1")).source
    with pytest.raises(Refused) as caught:
        make("lp_wrong", [comment(source, "mm/memory.c")], forced={"mm/memory.c": ["free_pgd_range"]})
    assert caught.value.refusal is Refusal.VERIFY


@pytest.mark.parametrize(
    ("meant", "written"),
    [
        (".old_sympos = 0", ".old_sympos = 1"),
        ('.old_name = "version_proc_show"', '.old_name = "uptime_proc_show"'),
        (".replace = true", ".replace = false"),
        (".version = 1U", ".version = 2U"),
        (".post_patch = ", ".post_unpatch = (void *)"),
        ("{ .name = NULL", '{ .name = "isofs"'),
        (".new_func = __livepatch_new_0_0", ".new_func = (char *)__livepatch_hook_0_post_patch"),
    ],
)
def test_table_that_says_something_else_is_found_when_it_is_read_back(
    make: Make,
    target_of: Callable[[Kernel], Target],
    monkeypatch: pytest.MonkeyPatch,
    meant: str,
    written: str,
) -> None:
    original = kmod.main_source

    def wrong(*arguments: object) -> str:
        text = original(*arguments)  # type: ignore[arg-type]
        assert meant in text
        return text.replace(meant, written)

    monkeypatch.setattr(kmod, "main_source", wrong)
    hooks = (
        "#include <livepatch/hooks.h>\nstatic void start(struct klp_object *o) { }\n"
        "LIVEPATCH_POST_PATCH(start);\nLIVEPATCH_STATE(77, 1);\n"
    )
    include = '#include "internal.h"\n'
    edits = {VERSION: [(include, include + hooks), (BANNER, '\tseq_puts(m, "");\n' + BANNER)]}
    source = target_of(kernels.kernel("6.1")).source
    with pytest.raises(Refused) as caught:
        make("lp_tables", [diff(source, edits)])
    assert caught.value.refusal is Refusal.VERIFY
