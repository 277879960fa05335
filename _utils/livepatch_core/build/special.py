"""Sections that hold records about code: how long a record is, and what becomes of it in a live patch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional

from livepatch_core.build.objectfile import Section
from livepatch_core.build.refusals import Refusal, Refused


@dataclass(frozen=True)
class Table:
    """``stride``: bytes of a record, 0 = read from the distance between first relocations (``leading``
    relocations each).

    ``keep``: the record follows its function into the module. ``masked``: byte ranges that do not count as a
    change.
    """

    name: str
    stride: int = 0
    keep: bool = True
    leading: int = 1
    compared: bool = True
    masked: tuple[tuple[int, int], ...] = ()

    def spans(self, section: Section, path: str) -> list[tuple[int, int]]:
        """(start, size) of every record."""
        stride = self.stride or self._measured(section)
        if stride <= 0 or section.size % stride:
            raise Refused(
                Refusal.SECTION_UNKNOWN,
                f"The records of {section.name} have no known length.",
                file=path,
                remedy="Report this diff.",
            )
        return [(start, stride) for start in range(0, section.size, stride)]

    def _measured(self, section: Section) -> int:
        starts = [r.offset for r in section.relocations][:: self.leading]
        return starts[1] - starts[0] if len(starts) > 1 else section.size


ORC_ADDRESSES = ".orc_unwind_ip"
# Lengths: include/asm/{bug,extable,jump_label,alternative,static_call}.h of 6.1 and 6.12; struct alt_instr
# grew from 12 to 14 bytes in 6.3, so it is measured. The line number of a bug entry (bytes 8-9) moves with
# every hunk above it.
TABLES = {
    table.name: table
    for table in (
        Table("__bug_table", 12, masked=((8, 10),)),
        Table("__ex_table", 12),
        Table("__jump_table", 16),
        Table(".parainstructions", 16),
        Table(".altinstructions", leading=2),
        Table(".static_call_sites", 8),
        Table(".retpoline_sites", 4),
        Table(".return_sites", 4),
        Table(".call_sites", 4),
        Table(".smp_locks", 4),
        Table("__mcount_loc", 8, compared=False),
        Table(ORC_ADDRESSES, 4, compared=False),
        # objtool on a single unit would seal functions whose address other units take.
        Table(".ibt_endbr_seal", 4, keep=False, compared=False),
        Table("__patchable_function_entries", 8, keep=False, compared=False),
        Table(".cfi_sites", 4, keep=False, compared=False),
    )
}

# Records that are about code but live beside it: found through the references of a function or an entry.
REPLACEMENT, AUXILIARY = ".altinstr_replacement", ".altinstr_aux"
ORC_RECORDS = ".orc_unwind"  # 6 bytes for each 4 of the addresses (asm/orc_types.h)
ORC_RECORD_SIZE = 6

# Never code or data of the running kernel.
IGNORED = re.compile(
    r"^(\.discard|\.comment|\.note|\.modinfo|\.printk_index|\.livepatch|\.BTF|\.gnu\.|\.debug|\.export_symbol|\.orc_header)|^\.orc_unwind$"
)

# Sections whose every record registers something when the kernel or the module starts, or is filled in when
# it is made (.BTF_ids: zeroes until resolve_btfids): too late in a live patch.
REGISTRATIONS = (
    (re.compile(r"^(__ksymtab|___ksymtab|__kcrctab|___kcrctab|\.export_symbol)"), Refusal.NEW_EXPORT),
    (re.compile(r"^__param"), Refusal.NEW_PARAMETER),
    (
        re.compile(
            r"^\.(initcall|con_initcall|security_initcall|lsm_info|early_lsm_info)|^__initcall|^\.early_initcall"
        ),
        Refusal.NEW_INITCALL,
    ),
    (
        re.compile(r"^(__tracepoints|_ftrace_events|_ftrace_eval_map|__bpf_raw_tp_map|__trace_printk_fmt)"),
        Refusal.NEW_TRACEPOINT,
    ),
    (
        re.compile(
            r"^(\.BTF_ids|\.pci_fixup|__syscalls_metadata|_error_injection_whitelist|_kprobe_blacklist|__modver|__earlycon|__irqchip)"
        ),
        Refusal.NEW_REGISTRATION,
    ),
)

# Memory that is read and written under its own names alone: one more variable or function in it registers
# nothing. Also what the kernel's link drops (.exitcall.exit, .eh_frame), and what is only read to print
# (labels of trace events, debug messages).
_ORDINARY = re.compile(
    r"^\.(ref\.)?(data|bss|rodata1?)(\.|$)"
    r"|^\.[a-z_.]*text(\.|$)|^\.fixup$"
    r"|^\.(init|exit|meminit|memexit)\.(data|rodata)(\.|$)"
    r"|^\.altinstr_(replacement|aux)$|^\.(exitcall\.exit|eh_frame)$|^__tracepoint_str$|^__dyndbg"
)

INIT = re.compile(r"^\.(init|meminit)\.|^\.init\.rodata|^\.ref\.(init|exit)")
EXIT = re.compile(r"^\.(exit|memexit)\.")


def listed(name: str) -> Optional[Refusal]:
    """The refusal for a new record in a section that is known to register something."""
    return next((refusal for pattern, refusal in REGISTRATIONS if pattern.search(name)), None)


def is_unknown(name: str) -> bool:
    """Whether nothing is known of a section: somebody may walk it (___srcu_struct_ptrs), and no reference
    then shows that a record in it is used.
    """
    ordinary = name in TABLES or any(p.search(name) for p in (_ORDINARY, IGNORED))
    return listed(name) is None and not ordinary


def registration(name: str) -> Optional[Refusal]:
    """The refusal for a new record in the section ``name``, or None for an ordinary section."""
    return Refusal.NEW_REGISTRATION if is_unknown(name) else listed(name)


def is_record(section: str) -> bool:
    return (
        section in TABLES
        or registration(section) is not None
        or section.startswith("__dyndbg")
        or bool(IGNORED.search(section))
    )
