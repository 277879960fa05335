"""Lists of BTF ids: zeros in an object, which resolve_btfids fills in by the names of their symbols.

The bytes of a list whose members are other ones are the same (include/linux/btf_ids.h), so the names are
compared.
"""

from __future__ import annotations

import re

from livepatch_core.build.refusals import Refusal, Refused
from livepatch_core.build.unit import Unit

SECTION = ".BTF_ids"
# __BTF_ID__func__vfs_truncate__81956: the last number is __COUNTER__ and the line.
_MEMBER = re.compile(r"(__BTF_ID__(?!set8?__)\w+?__)\d+")


def check_lists(original: Unit, patched: Unit) -> None:
    """Raises ``Refused`` (NEW_REGISTRATION) for a list that the original has not, or with other members."""
    before = _lists(original)
    for name, members in _lists(patched).items():
        if before.get(name) != members:
            raise Refused(
                Refusal.NEW_REGISTRATION,
                "The patch changes which BTF ids are in the list; they are filled in when the kernel is "
                "made.",
                file=patched.path,
                function=name,
                remedy="Leave the list as it is in the live patch.",
            )


def _lists(unit: Unit) -> dict[str, list[tuple[int, str]]]:
    """The lists by name: where in it which id is."""
    found: dict[str, list[tuple[int, str]]] = {}
    members, start = [], 0
    for value, member, name in sorted(_symbols(unit)):
        if member:
            members.append((value - start, name))
        elif value != start or not found:
            members, start = found.setdefault(name, []), value
    return found


def _symbols(unit: Unit) -> list[tuple[int, bool, str]]:
    """(place, whether it is a member, name) of each symbol; a list's own come before its first member's."""
    symbols = []
    for symbol in unit.file.symbols:
        known = symbol.section < len(unit.file.sections)  # not a number that stands for something else
        if known and symbol.name and unit.file.sections[symbol.section].name == SECTION:
            member = _MEMBER.fullmatch(symbol.name)
            symbols.append((symbol.value, bool(member), member[1] if member else symbol.name))
    return symbols
