"""Who is meant: a Salt target, resolved once into a list of ids that is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from livepatch_core.errors import LivepatchError
from livepatch_core.words import Kind

Check = Callable[[Any, str], Mapping[str, Any]]
BY_NAME = ("glob", "list", "pcre")  # targets that need no grains
KEYS = "salt-key --list=acc shows the accepted minions."


def resolve(
    check: Check, tgt: object, tgt_type: object, known: Callable[[str], bool]
) -> tuple[list[str], list[str]]:
    """The accepted ids that a target matches, sorted; and those that could not be held against it, because
    the master has no cached grains of them (Salt leaves them out without a word).

    check: ``CkMinions.check_minions``. known: whether there are cached grains of a minion. A list names hosts
    one by one: one that has no accepted key is an error. Raises LivepatchError (argument).
    """
    if not isinstance(tgt, (str, list)) or not tgt or not isinstance(tgt_type, str):
        raise _bad(f"The target is {tgt!r} ({tgt_type!r})", "Give the hosts, as 'hv*' or as tgt_type says.")
    found = check(tgt, tgt_type)
    matched = {str(one) for one in found.get("minions", ())}
    if tgt_type == "list":
        wanted = {str(one).strip() for one in (tgt.split(",") if isinstance(tgt, str) else tgt)}
        if unknown := sorted(wanted - matched):
            raise _bad(f"There is no accepted key of {', '.join(unknown)}")
    if not matched:
        compound = "For G@ and the like give tgt_type=compound. " if tgt_type == "glob" else ""
        raise _bad(f"The target {tgt!r} ({tgt_type}) matches no accepted minion", f"{compound}{KEYS}")
    if tgt_type in BY_NAME:
        return sorted(matched), []
    others = {str(one) for one in check("*", "glob").get("minions", ())} - matched
    return sorted(matched), sorted(one for one in others if not known(one))


def spelt(tgt: object, tgt_type: object) -> str:
    """The target in words."""
    text = ",".join(map(str, tgt)) if isinstance(tgt, list) else str(tgt)
    return text if tgt_type == "glob" else f"{text} ({tgt_type})"


def _bad(sentence: str, remedy: str = KEYS) -> LivepatchError:
    return LivepatchError(Kind.ARGUMENT, f"{sentence}; nothing was changed.", remedy=remedy)
