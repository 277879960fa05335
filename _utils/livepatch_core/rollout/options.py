"""What an operator asks for: a mapping in, Options out. Pure.

What is left out comes from the profile (profiles.py says where each number is from). Everything is checked
here, so that nothing that follows has to ask again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from typing import Any, Optional

from livepatch_core.rollout import reading
from livepatch_core.rollout.arithmetic import COUNTERS, MAX_WAVES
from livepatch_core.rollout.gate_options import KEYS as GATE_KEYS
from livepatch_core.rollout.gate_options import gate_document, parse_gates
from livepatch_core.rollout.model import (
    Amount,
    Exposure,
    Late,
    Limit,
    Method,
    OnFail,
    Options,
    Thresholds,
    WithoutLevel,
)
from livepatch_core.rollout.profiles import PROFILES, STANDARD
from livepatch_core.rollout.windows import (
    BLACKOUT_KEYS,
    WINDOW_KEYS,
    blackout_document,
    parse_blackout,
    parse_window,
    window_document,
)

KEYS = ("profile", "seed", *STANDARD)
FALLBACKS = ("none", Method.KEXEC, Method.REBOOT)


def parse_options(given: Mapping[str, Any], *, level: int, seed: Optional[int] = None) -> Options:
    """``given``: option -> value, as the fields of Options are called, and ``profile`` (standard, emergency,
    careful), whose values stand for what is left out. Durations may be texts such as ``15m``, a threshold one
    amount for wave and total. level: an integer from 0, resolved before. seed: decides order and canaries; an
    option of that name comes first, and without either it is derived from the level, so that the same hosts
    are not the canaries of every level.

    Raises LivepatchError (argument) that names the option, its value and what is allowed.
    """
    given = reading.mapping("options", given, KEYS)
    profile = reading.choice("profile", given.get("profile", "standard"), PROFILES)
    asked: dict[str, Any] = {
        **PROFILES[profile],
        **{key: one for key, one in given.items() if one is not None},
    }
    read = _Reader(asked)
    method = reading.word("method", asked["method"], Method)
    options = Options(
        level=reading.count("level", level, 0),
        profile=profile,
        seed=_seed(asked.get("seed"), seed, level),
        canaries=read.names("canaries"),
        canaries_per_stratum=read.count("canaries_per_stratum", 1),
        waves=_waves("waves", asked["waves"]),
        canary_soak=read.seconds("canary_soak"),
        soak=read.seconds("soak"),
        look_every=read.seconds("look_every", 1),
        max_per_domain=reading.amount("max_per_domain", asked["max_per_domain"], 1),
        domain_grain=reading.text("domain_grain", asked["domain_grain"]),
        role_grain=reading.text("role_grain", asked["role_grain"]),
        parallel=read.count("parallel", 0),
        stage_deadline=read.seconds("stage_deadline", 1),
        stage_spread=read.seconds("stage_spread"),
        move_deadline=read.seconds("move_deadline", 1),
        thresholds=_thresholds(asked["thresholds"], PROFILES[profile]["thresholds"]),
        on_fail=_on_fail("on_fail", given, asked, method),
        on_fail_canary=_on_fail("on_fail_canary", given, asked, method),
        block_on_rollback=read.yes_or_no("block_on_rollback"),
        gates=parse_gates("gates", asked["gates"]),
        windows=reading.sequence("windows", asked["windows"], parse_window),
        blackouts=reading.sequence("blackouts", asked["blackouts"], parse_blackout),
        late=reading.word("late", asked["late"], Late),
        late_for=read.seconds("late_for"),
        accept_versions=read.names("accept_versions"),
        allow_testing=read.yes_or_no("allow_testing"),
        fallback=_fallback(asked["fallback"], method),
        method=method,
        kernel=reading.text("kernel", asked["kernel"]),
        without_level=reading.word("without_level", asked["without_level"], WithoutLevel),
        drain=_hook("drain", asked["drain"]),
        undrain=_hook("undrain", asked["undrain"]),
        drain_deadline=read.seconds("drain_deadline", 1),
        restart_deadline=read.seconds("restart_deadline", 1),
        exposure=_exposure("exposure", asked["exposure"]),
    )
    if options.stage_spread >= options.stage_deadline:
        allowed = f"less than stage_deadline ({options.stage_deadline:g} s), or hosts have no time to answer"
        raise reading.refuse("stage_spread", asked["stage_spread"], allowed)
    if options.drain is not None and options.undrain is None:
        raise reading.refuse("undrain", None, "given where drain is, or what was drained stays away")
    return options


def document(options: Options) -> dict[str, Any]:
    """Plain data, every default filled in; ``from_document`` gives the same Options back."""
    limits = {name: getattr(options.thresholds, name) for name in COUNTERS}
    exposure = options.exposure
    return {
        **{key: getattr(options, key) for key in ("level", "profile", "seed", *_SCALARS)},
        **{key: list(getattr(options, key)) for key in ("canaries", "waves", "accept_versions")},
        **{key: str(getattr(options, key)) for key in _WORDS},
        **{key: None if (one := getattr(options, key)) is None else dict(one) for key in _HOOKS},
        "fallback": "none" if options.fallback is None else str(options.fallback),
        "thresholds": {name: {"wave": one.wave, "total": one.total} for name, one in limits.items()},
        "gates": [gate_document(one) for one in options.gates],
        "windows": [window_document(one) for one in options.windows],
        "blackouts": [blackout_document(one) for one in options.blackouts],
        "exposure": None if exposure is None else {"detection": exposure.detection, "hosts": exposure.hosts},
    }


def from_document(written: Mapping[str, Any]) -> Options:
    """What ``document`` wrote; what a newer version added is ignored. Raises LivepatchError (argument), and
    KeyError or TypeError where the level is missing or this is no such document."""
    known = _only(written, KEYS)
    for key, fields in (("gates", GATE_KEYS), ("windows", WINDOW_KEYS), ("blackouts", BLACKOUT_KEYS)):
        known[key] = [_only(one, fields) for one in written[key]]
    known["thresholds"] = _only(written["thresholds"], COUNTERS)
    return parse_options(known, level=written["level"])


def _only(written: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    return {key: written[key] for key in known if key in written}


_SCALARS = (
    "canaries_per_stratum",
    "canary_soak",
    "soak",
    "look_every",
    "max_per_domain",
    "domain_grain",
    "role_grain",
    "parallel",
    "stage_deadline",
    "stage_spread",
    "move_deadline",
    "block_on_rollback",
    "late_for",
    "allow_testing",
    "kernel",
    "drain_deadline",
    "restart_deadline",
)
_WORDS = ("on_fail", "on_fail_canary", "late", "method", "without_level")
_HOOKS = ("drain", "undrain")
HOOK_KEYS = ("fun", "args", "kwargs", "state")


class _Reader:
    """The single values of reading.py, by the name of the option."""

    def __init__(self, asked: Mapping[str, Any]) -> None:
        self._asked = asked

    def seconds(self, key: str, least: float = 0.0) -> float:
        return reading.seconds(key, self._asked[key], least)

    def count(self, key: str, least: int) -> int:
        return reading.count(key, self._asked[key], least)

    def yes_or_no(self, key: str) -> bool:
        return reading.yes_or_no(key, self._asked[key])

    def names(self, key: str) -> tuple[str, ...]:
        return reading.names(key, self._asked[key])


def _on_fail(key: str, given: Mapping[str, Any], asked: Mapping[str, Any], method: Method) -> OnFail:
    """No rollback brings back a kernel that was left: where all hosts are started with another, it pauses."""
    if method is Method.LIVEPATCH:
        return reading.word(key, asked[key], OnFail)
    if given.get(key, OnFail.PAUSE) != OnFail.PAUSE:
        raise reading.refuse(key, given[key], f"pause with method {method}: going back is another restart")
    return OnFail.PAUSE


def _fallback(value: object, method: Method) -> Optional[Method]:
    chosen = reading.choice("fallback", value, FALLBACKS)
    if chosen == "none":
        return None
    if method is not Method.LIVEPATCH:
        raise reading.refuse("fallback", value, f"none with method {method}, which takes every host")
    return Method(chosen)


def _hook(key: str, value: object) -> Optional[Mapping[str, Any]]:
    """A function's name; ``{fun, args, kwargs}``; or ``{state: name}``, which state.apply is called with."""
    if value is None:
        return None
    given: Mapping[str, Any] = (
        {"fun": value} if isinstance(value, str) else reading.mapping(key, value, HOOK_KEYS)
    )
    if ("fun" in given) == ("state" in given):
        raise reading.refuse(key, value, "a function's name, {fun, args, kwargs}, or {state: name}")
    if "state" in given:
        given = {**given, "fun": "state.apply", "args": [reading.text(f"{key}:state", given["state"])]}
    fun, args, kwargs = reading.text(f"{key}:fun", given["fun"]), given.get("args"), given.get("kwargs")
    return {
        "fun": fun,
        "args": list(reading.sequence(f"{key}:args", args or [], reading.plain)),
        "kwargs": reading.plain(f"{key}:kwargs", dict(kwargs or {})),
    }


def _seed(written: object, given: Optional[int], level: int) -> int:
    chosen = written if written is not None else given
    if chosen is None:
        return int.from_bytes(hashlib.sha256(f"level {level}".encode()).digest()[:4], "big")
    return reading.count("seed", chosen, 0)


def _waves(key: str, value: object) -> tuple[Amount, ...]:
    """Cumulative: amounts of one kind rise, and the last is everybody."""
    waves = reading.sequence(key, value, lambda name, one: reading.amount(name, one, 1))
    counts = [one for one in waves if isinstance(one, int)]
    percents = [int(one[:-1]) for one in waves if isinstance(one, str)]
    rising = all(one == sorted(set(one)) for one in (counts, percents))
    if not rising or not 1 <= len(waves) <= MAX_WAVES or waves[-1] != "100%":
        allowed = f"at most {MAX_WAVES} cumulative amounts that rise and end with '100%'"
        raise reading.refuse(key, value, f"{allowed}, e.g. [1, '10%', '100%']")
    return waves


def _thresholds(value: object, defaults: Mapping[str, Any]) -> Thresholds:
    given = reading.mapping("thresholds", value, COUNTERS)
    return Thresholds(
        **{name: _limit(f"thresholds:{name}", given.get(name), defaults[name]) for name in COUNTERS}
    )


def _limit(key: str, value: object, default: Mapping[str, Amount]) -> Limit:
    """One amount for both, or a mapping with either."""
    if not isinstance(value, Mapping):
        both = default if value is None else {"wave": value, "total": value}
    else:
        both = {**default, **reading.mapping(key, value, ("wave", "total"))}
    return Limit(*(reading.amount(f"{key}:{one}", both[one]) for one in ("wave", "total")))


def _exposure(key: str, value: object) -> Optional[Exposure]:
    if value is None:
        return None
    given = reading.mapping(key, value, ("detection", "hosts"))
    return Exposure(
        reading.seconds(f"{key}:detection", given.get("detection"), 1),
        reading.count(f"{key}:hosts", given.get("hosts"), 1),
    )
