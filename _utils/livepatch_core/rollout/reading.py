"""Single values of an operator's options: what was written in, the typed value out. Pure.

Every refusal names the option, the value it has, and what is allowed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from livepatch_core.errors import LivepatchError
from livepatch_core.rollout.model import Amount
from livepatch_core.words import Kind, Word

W = TypeVar("W", bound=Word)
T = TypeVar("T")

MAX_SECONDS = 366 * 86_400.0
UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")
PERCENT = re.compile(r"(\d{1,3})\s*%")


def refuse(key: str, value: object, allowed: str) -> LivepatchError:
    """The error that says what ``key`` may be."""
    return LivepatchError(
        Kind.ARGUMENT,
        f"The option {key} is {value!r}, but it has to be {allowed}; nothing was changed.",
        remedy="Correct it and plan again.",
        option=key,
    )


def seconds(key: str, value: object, least: float = 0.0) -> float:
    """A number of seconds, or a text such as ``90s``, ``15m``, ``1.5h``, ``2d``; to the millisecond."""
    allowed = f"seconds or a text such as '90s', '15m', '1h', '2d', from {least:g} s to 366 days"
    found = DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is not None:
        length = float(found[1]) * UNITS[found[2]]
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        length = float(value)
    else:
        raise refuse(key, value, allowed)
    if not least <= length <= MAX_SECONDS:
        raise refuse(key, value, allowed)
    return round(length, 3)


def amount(key: str, value: object, least: int = 0) -> Amount:
    """A count from ``least``, or a percentage such as ``20%``, from 0% (1% where 0 is not allowed) to
    100%."""
    if type(value) is int and value >= least:
        return value
    found = PERCENT.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None or not min(least, 1) <= int(found[1]) <= 100:
        raise refuse(key, value, f"a count from {least} or a text from '{min(least, 1)}%' to '100%'")
    return f"{int(found[1])}%"


def count(key: str, value: object, least: int, most: int | None = None) -> int:
    if type(value) is not int or value < least or (most is not None and value > most):
        limit = f" to {most}" if most is not None else ""
        raise refuse(key, value, f"an integer from {least}{limit}")
    return value


def yes_or_no(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise refuse(key, value, "true or false")
    return value


def text(key: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise refuse(key, value, "a text that is not empty")
    return value


def word(key: str, value: object, words: type[W]) -> W:
    try:
        return words(value)
    except ValueError:
        raise refuse(key, value, one_of(list(words))) from None


def choice(key: str, value: object, allowed: Collection[str]) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise refuse(key, value, one_of(allowed))
    return value


def one_of(allowed: Collection[str]) -> str:
    return f"one of {', '.join(str(one) for one in allowed)}"


def mapping(key: str, value: object, known: Collection[str]) -> Mapping[str, Any]:
    """A mapping with no key but the known ones."""
    if not isinstance(value, Mapping):
        raise refuse(key, value, f"a mapping with the keys {', '.join(known)}")
    for one in value:
        if one not in known:
            raise refuse(f"{key}:{one}", value[one], f"left out: the keys of {key} are {', '.join(known)}")
    return value


def sequence(key: str, value: object, read: Callable[[str, object], T]) -> tuple[T, ...]:
    """A list (or tuple), each of its elements read by ``read``."""
    if not isinstance(value, (list, tuple)):
        raise refuse(key, value, "a list")
    return tuple(read(f"{key}[{index}]", one) for index, one in enumerate(value))


def names(key: str, value: object) -> tuple[str, ...]:
    """A list of names, or one text with commas between them; no name twice."""
    parts = [one.strip() for one in value.split(",") if one.strip()] if isinstance(value, str) else value
    found = sequence(key, parts, text)
    if len(set(found)) != len(found):
        raise refuse(key, value, "a list in which no name stands twice")
    return found


def plain(key: str, value: object) -> Any:
    """Data as JSON knows them, exactly as they come back from a plan that was written and read."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError):
        raise refuse(key, value, "plain data (texts, numbers, lists, mappings)") from None
