"""That no task can sleep in code of a module which the kernel lets go.

When a livepatch is taken out of force, the kernel waits until no task has one of its functions on its
stack (klp_check_stack_func(), kernel/livepatch/transition.c). It knows those that the patch names, from their
start to the next symbol as kallsyms has it. Code beside them is not looked for: a copied function that a
replaced one *jumps* to (many a system call: __x64_sys_wait4() ends in a jump to __do_sys_wait4()), or a part
that the compiler has split off as cold. A task asleep there would wake up in freed memory.

So all of a unit's code lies behind a function that it replaces, and only those have symbols that kallsyms
sees: to the kernel the rest is a part of them. The other names begin as mapping symbols do (``$t.``), which
kallsyms passes over (is_arm_mapping_symbol(), kernel/module/kallsyms.c; since 6.5 is_mapping_symbol()) and
every other program shows. The price: a backtrace names the replaced function, and ftrace, which takes such
code for what a weak function left behind, does not trace it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from livepatch_core.build.image import HIDDEN
from livepatch_core.build.objectfile import SHN_LORESERVE, SHN_UNDEF, ObjectFile, Section, Symbol

VMLINUX = "vmlinux"
# Most bytes before a function's symbol (CONFIG_FUNCTION_PADDING_BYTES, 6.2+); no code that sleeps.
PADDING = 64
_TEXT = re.compile(r"^\.text\.(\d+)\.")
# Code that nobody runs where it lies, or only while the module comes or goes; and static_cpu_has()'s tests of
# a bit, which call nothing.
_ELSEWHERE = re.compile(r"^\.(init|exit)\.text|^\.altinstr_(replacement|aux)$")


def text_of(number: int) -> str:
    """How the names of the sections with a unit's code begin: each unit has its own, which no link merges
    with those of another one."""
    return f".text.{number}."


def link_order(units: Sequence[tuple[str, bool]]) -> list[int]:
    """The numbers of the units in the order in which they are linked. units: (object that is patched, whether
    the unit replaces a function) of each.

    A unit that replaces nothing lies behind one of its own object that does; where there is none, behind
    vmlinux's, which are in force whenever any is.
    """
    acting = {owner for owner, acts in units if acts}

    def key(number: int) -> tuple[bool, bool, str, bool, int]:
        owner, acts = units[number]
        return owner not in acting, owner == VMLINUX, owner, not acts, number

    return sorted(range(len(units)), key=key)


def hidden(file: ObjectFile, replaced: Collection[str]) -> list[Symbol]:
    """The symbols of a linked module. replaced: names of symbols that stand where a replaced function's new
    code begins; code of any other name is renamed."""
    shown = {(s.section, s.value) for s in file.symbols if s.name in replaced}
    return [
        symbol._replace(name=HIDDEN + symbol.name)
        if _is_listed(symbol)
        and _is_run(file.sections[symbol.section])
        and (symbol.section, symbol.value) not in shown
        else symbol
        for symbol in file.symbols
    ]


def uncovered(file: ObjectFile, units: Mapping[int, str], replaced: Mapping[str, str]) -> list[str]:
    """Code of a finished module in which a task could sleep unseen.

    units: by number, the object that each patches. replaced: by the symbol of the new code, the object whose
    function it replaces. Code of one object must not hang on a function of another one, which may not be
    loaded when the kernel looks, unless there is no other.
    """
    found, last = [], ""
    for number, section in enumerate(file.sections):
        if not section.allocated or not section.executable or section.name.startswith(".init"):
            continue  # what the module starts with is laid out apart
        match = _TEXT.match(section.name)
        own = units.get(int(match[1]), "") if match else ""
        seen: dict[int, set[str]] = {}
        for symbol in file.symbols:
            if symbol.section == number and _is_listed(symbol):
                seen.setdefault(symbol.value, set()).add(symbol.name)
        places = sorted(seen.items())
        if not _is_run(section):
            last = min(places[-1][1]) if places else last  # it ends what stands before it all the same
            continue
        if not seen or min(seen) > PADDING:
            places.insert(0, (0, {last}))
        for place, names in places:
            last = next((name for name in sorted(names) if name in replaced), min(names))
            owner = replaced.get(last)
            if owner not in (own, VMLINUX) and set(replaced.values()) != {owner}:
                found.append(f"{section.name}+{place:#x} behind {last or 'nothing'}")
    return found


def _is_run(section: Section) -> bool:
    code = section.allocated and section.executable and section.size > 0
    return code and not _ELSEWHERE.match(section.name)


def _is_listed(symbol: Symbol) -> bool:
    """Whether kallsyms ends the function before it there."""
    placed = SHN_UNDEF < symbol.section < SHN_LORESERVE
    return placed and symbol.name != "" and not symbol.name.startswith((HIDDEN, ".L"))
