"""The header with which a diff declares callbacks and system states, and how its declarations are read back.

A diff says ``#include <livepatch/hooks.h>`` and ``LIVEPATCH_POST_PATCH(function);``. Declarations are data
in sections of their own that never reach the module; the module's table of replacements is made from them.
Shadow variables need nothing from here: klp_shadow_alloc() and its siblings are exports of the kernel.
"""

from __future__ import annotations

import struct
from pathlib import Path

from livepatch_core.build.refusals import Refusal, Refused
from livepatch_core.build.unit import Unit

CALLBACKS = ("pre_patch", "post_patch", "pre_unpatch", "post_unpatch")
HOOK_SECTION, STATE_SECTION = ".livepatch.hook.", ".livepatch.states"

HEADER = r"""/*
 * Declarations for live patches: what must happen when this code comes into force or goes out of it.
 * Each takes the name of a function of this file. One of each kind for each patched object (vmlinux or a
 * module). Documentation/livepatch/callbacks.rst and system-state.rst of the kernel say when they run.
 */
#ifndef LIVEPATCH_HOOKS_H
#define LIVEPATCH_HOOKS_H

#include <linux/livepatch.h>

#define LIVEPATCH_HOOK_(returns, kind, function) \
	static returns (*const __livepatch_##kind##_##function)(struct klp_object *) \
	__attribute__((__used__, __section__(".livepatch.hook." #kind))) = function

/* int function(struct klp_object *): before the transition; an error refuses the patch. */
#define LIVEPATCH_PRE_PATCH(function) LIVEPATCH_HOOK_(int, pre_patch, function)
/* void function(struct klp_object *): every task runs the new code. */
#define LIVEPATCH_POST_PATCH(function) LIVEPATCH_HOOK_(void, post_patch, function)
/* void function(struct klp_object *): before the way back begins. */
#define LIVEPATCH_PRE_UNPATCH(function) LIVEPATCH_HOOK_(void, pre_unpatch, function)
/*
 * void function(struct klp_object *): no task runs the new code any more. Not called when a later level
 * replaces this one.
 */
#define LIVEPATCH_POST_UNPATCH(function) LIVEPATCH_HOOK_(void, post_unpatch, function)

struct livepatch_state_declaration {
	unsigned long id;
	unsigned long version;
};

/*
 * This patch changes state number id of the system, in the given version. A level that replaces this one
 * must declare the same id with an equal or higher version, or the kernel refuses it.
 */
#define LIVEPATCH_STATE(id, version) LIVEPATCH_STATE_(id, version, __LINE__)
#define LIVEPATCH_STATE_(id, version, line) LIVEPATCH_STATE__(id, version, line)
#define LIVEPATCH_STATE__(id, version, line) \
	static const struct livepatch_state_declaration __livepatch_state_##line \
	__attribute__((__used__, __section__(".livepatch.states"))) = { id, version }

#endif
"""


def install(directory: Path) -> None:
    """Put the header where the compiler finds it as <livepatch/hooks.h>."""
    place = directory / "livepatch"
    place.mkdir(parents=True, exist_ok=True)
    (place / "hooks.h").write_text(HEADER, encoding="utf-8")


def declared_hooks(unit: Unit) -> dict[str, str]:
    """kind -> name of the function, of one unit. Refuses (HOOKS) what is not a function of this file."""
    found: dict[str, str] = {}
    for piece in unit.distinct():
        section = unit.section_of(piece).name
        if not section.startswith(HOOK_SECTION):
            continue
        kind = section[len(HOOK_SECTION) :]
        target = piece.references[0].target if len(piece.references) == 1 else ""
        if kind not in CALLBACKS or target not in unit.pieces or kind in found:
            raise Refused(
                Refusal.HOOKS,
                "Each kind of callback can be declared once for each object, with a function of the same "
                "file.",
                file=unit.path,
                function=target or piece.name,
                remedy="Call all of them from one function.",
            )
        found[kind] = target
    return found


def declared_states(unit: Unit) -> list[tuple[int, int]]:
    """(id, version) of every system state that a unit declares. Refuses (HOOKS) what the macro did not
    write.
    """
    found: list[tuple[int, int]] = []
    for piece in unit.distinct():
        if unit.section_of(piece).name != STATE_SECTION:
            continue
        content = unit.data_of(piece)
        if len(content) != 16 or piece.references:
            raise Refused(
                Refusal.HOOKS,
                "A system state is a number and a version, both known when it is compiled.",
                file=unit.path,
                function=piece.name,
                remedy="Declare it with LIVEPATCH_STATE(id, version).",
            )
        found.append(struct.unpack("<QQ", content))
    return found
