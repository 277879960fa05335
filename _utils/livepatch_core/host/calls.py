"""What every execution module does between Salt and the library: the host, checked arguments, documents with
their return code. Nothing here knows Salt; its functions and its errors are given in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any, Optional, TypeVar

from livepatch_core.errors import LivepatchError
from livepatch_core.host import stage, whose
from livepatch_core.host.context import Ask, Host
from livepatch_core.host.outcome import Outcome, refused
from livepatch_core.host.settings import Settings, parse_settings
from livepatch_core.words import Kind

Answer = TypeVar("Answer")
Error = type[Exception]  # what is raised for a call that makes no sense: Salt's own class
DAY = 86_400


def settings_of(opts: Mapping[str, Any]) -> Settings:
    """What the minion's configuration says. Raises LivepatchError (argument)."""
    return parse_settings(opts.get("livepatch"))


def who(kwargs: Mapping[str, Any], opts: Mapping[str, Any]) -> dict[str, str]:
    """Who gave the job, as far as Salt tells (whose.py); user and jid are empty where it does not."""
    job = {key: kwargs.get(f"__pub_{key}") for key in ("user", "jid")}
    if not job["jid"]:
        job = dict(whose.job(opts))
    return {"user": str(job.get("user") or ""), "jid": str(job.get("jid") or ""), "id": str(opts["id"])}


def fetch(cache_file: Callable[..., Any], errors: tuple[Error, ...], url: str, saltenv: str) -> bytes | None:
    """The bytes behind a URL of the file client (``cp.cache_file``); None where there is no such file.

    Raises LivepatchError (catalog) when it could not be asked.
    """
    try:
        path = cache_file(url, saltenv)
    except errors as problem:
        raise LivepatchError(
            Kind.CATALOG,
            f"{url} could not be fetched ({type(problem).__name__}: {problem}); nothing was changed.",
            remedy="See whether the master answers this minion.",
        ) from problem
    return Path(path).read_bytes() if path else None


def from_catalog(
    settings: Settings, cache_file: Callable[..., Any], errors: tuple[Error, ...], saltenv: str
) -> Callable[[str], Optional[bytes]]:
    """``Host.fetch``: a file of the catalog by its name."""
    root = settings.catalog.rstrip("/")
    return lambda name: fetch(cache_file, errors, f"{root}/{name}", saltenv)


def host_of(
    opts: Mapping[str, Any],
    kwargs: Mapping[str, Any],
    cache_file: Callable[..., Any],
    errors: tuple[Error, ...],
    ask: Optional[Ask] = None,
) -> Host:
    """This host as the library sees it; what was staged is found before the file server is asked. Raises
    LivepatchError (argument)."""
    settings = settings_of(opts)
    saltenv = str(kwargs.get("saltenv") or opts.get("saltenv") or "base")
    served = from_catalog(settings, cache_file, errors, saltenv)
    return Host(settings, stage.serving(settings, served), who(kwargs, opts), ask=ask)


def concluded(act: Callable[[], Outcome], context: MutableMapping[str, Any]) -> Outcome:
    """What an act came to, also when it was refused, and the job's return code that goes with it."""
    try:
        outcome = act()
    except LivepatchError as error:
        outcome = refused(error)
    if outcome.result is False:
        context["retcode"] = 1
    return outcome


def answered(question: Callable[[], Answer], error: Error) -> Answer:
    """The answer to a question; what cannot be answered is an error of the job."""
    try:
        return question()
    except LivepatchError as problem:
        raise error(str(problem)) from problem


def called(
    functions: Mapping[str, Callable[..., Any]],
    context: MutableMapping[str, Any],
    fun: str,
    args: Sequence[object],
    kwargs: Mapping[str, object],
) -> tuple[Any, int]:
    """What an execution function that the operator named (a probe, a hook) returned, and the return code that
    it set, which is not that of this job. Raises LivepatchError: argument where there is none, health for
    whatever it raised."""
    if fun not in functions:
        where = f"there is no function {fun} on this minion"
        raise LivepatchError(
            Kind.ARGUMENT, f"{where}: sync it (saltutil.sync_all), or correct the probe or hook that names it"
        )
    before = context.pop("retcode", None)
    try:
        answer = functions[fun](*args, **kwargs)
        return answer, int(context.get("retcode") or 0)
    except Exception as problem:  # foreign code raises anything, and what was begun before must be ended
        raise LivepatchError(Kind.HEALTH, f"{fun} failed ({type(problem).__name__}: {problem})") from problem
    finally:
        context.pop("retcode", None)
        if before is not None:
            context["retcode"] = before


def names(name: str, value: object, error: Error) -> tuple[str, ...]:
    """A list of names, or one text with commas; None is none."""
    if value is None:
        return ()
    given = value.split(",") if isinstance(value, str) else value
    if not isinstance(given, (list, tuple)) or not all(isinstance(one, str) for one in given):
        raise error(f"{name} is {value!r}, not a list of names")
    return tuple(one.strip() for one in given)


def seconds(name: str, value: object, error: Error, *, zero: bool = False) -> float:
    """A time, less than a day; 0 only where ``zero`` says that it may be."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if number and (0 < value < DAY or (zero and value == 0)):  # type: ignore[operator]
        return float(value)  # type: ignore[arg-type]
    least = "from 0" if zero else "more than 0"
    raise error(f"{name} is {value!r}, not seconds ({least}, less than a day)")


def word(name: str, value: object, words: Any, error: Error) -> Any:
    """One of a closed set of words (an Enum)."""
    try:
        return words(value)
    except ValueError:
        raise error(f"{name} is {value!r}, not one of {', '.join(words)}") from None
