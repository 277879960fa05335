"""What empties a host before it leaves, and fills it again: functions or states that the operator names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from livepatch_core.errors import LivepatchError
from livepatch_core.words import Kind

SHOWN = 300  # characters of an answer


@dataclass(frozen=True)
class Hook:
    """An execution function and its arguments; a state is ``state.apply`` of its name."""

    fun: str
    args: tuple[Any, ...] = ()
    kwargs: tuple[tuple[str, Any], ...] = ()

    def document(self) -> dict[str, Any]:
        return {"fun": self.fun, "args": list(self.args), "kwargs": dict(self.kwargs)}

    def __str__(self) -> str:
        return f"{self.fun} {self.args[0]}" if self.fun == "state.apply" and self.args else self.fun


@dataclass(frozen=True)
class Hooks:
    """How hooks are called: ``has`` says whether there is such a function, ``call`` gives what it returned
    and the return code it set; raises LivepatchError when it could not be called or raised."""

    has: Callable[[str], bool]
    call: Callable[[Hook], tuple[object, int]]


def parse_hook(name: str, value: object) -> Hook | None:
    """``{"fun", "args", "kwargs"}``; None for none. Raises LivepatchError (argument)."""
    if value is None:
        return None
    given = value if isinstance(value, Mapping) else {}
    fun, args, kwargs = given.get("fun"), given.get("args", []), given.get("kwargs", {})
    if not isinstance(fun, str) or not isinstance(args, list) or not isinstance(kwargs, Mapping):
        raise LivepatchError(
            Kind.ARGUMENT,
            f"{name} is {value!r}, not a function with its args and kwargs; nothing was changed.",
        )
    return Hook(fun, tuple(args), tuple((str(key), one) for key, one in kwargs.items()))


def refuse_missing(hooks: Hooks, *wanted: Hook | None) -> None:
    """Raises LivepatchError (argument) for a function that this minion does not have."""
    missing = [one.fun for one in wanted if one is not None and not hooks.has(one.fun)]
    if missing:
        raise LivepatchError(
            Kind.ARGUMENT,
            f"There is no function {missing[0]} on this minion; nothing was changed.",
            remedy="See saltutil.sync_all, and why the module does not load (salt-call sys.list_functions).",
        )


def run(hooks: Hooks, hook: Hook, what: str) -> None:
    """Raises LivepatchError (health) when it failed: by an exception, a return code, or what it says."""
    try:
        answer, retcode = hooks.call(hook)
        complaint = complaint_of(answer, retcode)
    except LivepatchError as problem:
        complaint = problem.message
    if complaint:
        raise LivepatchError(Kind.HEALTH, f"{what} ({hook}) failed: {complaint.rstrip('.')}")


def complaint_of(answer: object, retcode: int) -> str:
    """Empty where it did what it should. Pure. An answer may be that of an act (``result``), of a state run
    (a mapping of such), False, or anything else, which says nothing."""
    if isinstance(answer, Mapping):
        bad = next(_bad(answer), None)
        if bad is not None:
            return bad[:SHOWN] or "it says so"
    if answer is False:
        return "it answered False"
    said = "" if answer is None else str(answer).strip()[:SHOWN]
    return f"return code {retcode}{': ' if said else ''}{said}" if retcode else ""


def _bad(answer: Mapping[str, Any]) -> Iterator[str]:
    if "result" in answer:
        if answer["result"] is False:
            yield str(answer.get("comment", ""))
        return
    for name, one in answer.items():
        if isinstance(one, Mapping) and one.get("result") is False:
            yield f"{one.get('__id__', name)}: {one.get('comment', '')}"
