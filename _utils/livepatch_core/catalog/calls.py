"""What the master's runners share: arguments as a command line gives them, answers as plain data."""

from __future__ import annotations

import datetime
import os
import pwd
import stat
from collections.abc import Callable, Collection, Mapping, MutableMapping
from pathlib import Path
from typing import Any

from livepatch_core.catalog.author import Author, author, is_utf8
from livepatch_core.catalog.settings import Master, parse_master
from livepatch_core.errors import LivepatchError
from livepatch_core.words import Kind


def answer(act: Callable[[], dict[str, Any]], unknown: Collection[str]) -> dict[str, Any]:
    """What ``act`` returns, or ``result: False`` and a sentence that says why not.

    unknown: names of arguments that the function does not have. A TypeError that left a runner would become
    usage text and success (salt/client/mixins.py).
    """
    try:
        if unknown:
            raise bad_argument(f"There is no argument {', '.join(sorted(unknown))}")
        return act()
    except LivepatchError as problem:
        return {"result": False, "comment": str(problem), "kind": str(problem.kind)}
    except TypeError as problem:
        text = f"A defect in livepatch, {problem}: see what was changed before you go on."
        return {"result": False, "comment": text, "kind": str(Kind.INTERNAL)}


def concluded(
    act: Callable[[], dict[str, Any]], unknown: Collection[str], context: MutableMapping[str, Any]
) -> dict[str, Any]:
    """``answer`` with both return codes: that of salt-run in it, that of salt.runner in ``context``, which is
    the runner's ``__context__``."""
    given = answer(act, unknown)
    if given.get("result") is False:
        context["retcode"] = given["retcode"] = 1
    return given


def master_of(opts: Mapping[str, Any]) -> Master:
    """The master's part of ``livepatch`` in its configuration. Raises LivepatchError (argument)."""
    user = opts.get("user") or "root"
    return parse_master(opts.get("livepatch"), opts["cachedir"], user, opts.get("file_roots"))


def author_of(user: object, why: object) -> Author:
    """user: what Salt puts into a runner's globals as ``__user__`` when it is called."""
    return author(user, pwd.getpwuid(os.geteuid()).pw_name, os.environ, why, now())


def text(name: str, value: object) -> str | None:
    """An optional text; Salt makes numbers of what looks like one, a build-id of digits too."""
    if value is not None and not isinstance(value, str):
        raise bad_argument(f"{name} is {value!r}, not a text (put it in quotes twice)")
    if value and not is_utf8(value):
        raise bad_argument(f"{name} is {value!r}, which is not UTF-8")
    return value or None


def timeout(value: object) -> float:
    """Seconds to wait for hosts, less than an hour."""
    if type(value) is not int or not 0 < value < 3600:
        raise bad_argument(f"timeout is {value!r}, not whole seconds from 1 to 3599")
    return float(value)


def path(value: object) -> Path:
    """An absolute path: the master's working directory is nobody's."""
    if not isinstance(value, str) or not Path(value).is_absolute():
        raise bad_argument(f"path is {value!r}, not an absolute path on the master")
    return Path(value)


def read_file(value: object) -> bytes:
    """A regular file: a device would never end."""
    try:
        if not stat.S_ISREG(path(value).stat().st_mode):
            raise bad_argument(f"{value} is not a regular file")
        return path(value).read_bytes()
    except OSError as problem:
        raise bad_argument(
            f"{value} could not be read ({problem.strerror}) by the master's user"
        ) from problem


def write_file(value: object, text: str) -> None:
    """Text into a file, at an absolute path."""
    try:
        path(value).write_text(text, encoding="utf-8")
    except OSError as problem:
        raise bad_argument(
            f"{value} could not be written ({problem.strerror}) by the master's user"
        ) from problem


def now() -> str:
    """UTC, ISO 8601."""
    moment = datetime.datetime.now(datetime.timezone.utc)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def bad_argument(sentence: str) -> LivepatchError:
    return LivepatchError(
        Kind.ARGUMENT,
        f"{sentence}; nothing was changed.",
        remedy="salt-run -d MODULE.FUNCTION shows the arguments.",
    )
