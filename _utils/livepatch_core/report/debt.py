"""Who owes a reboot, why and since when: from what the hosts say, ranked. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from livepatch_core.catalog.model import Build
from livepatch_core.words import Word


class Why(Word):
    """Why a host owes a reboot, the most urgent first: their order is the ranking's."""

    STUCK = "stuck"  # a patch that neither comes nor goes
    UNPATCHABLE = "unpatchable"  # a fix that cannot be patched live on this kernel
    FORCED = "forced"  # a patch was forced: no more live patches in this boot
    EXPIRED = "expired"  # nobody makes live patches for this kernel any more
    UNSUPPORTED = "unsupported"  # this kernel cannot be live-patched at all
    UNKNOWN = "unknown"  # whether it owes one cannot be told
    NEWER = "newer"  # a newer kernel is installed


RANK = {why: place for place, why in enumerate(Why)}
_STUCK = ("stalled",)
_MOVING = ("patching", "reverting")


@dataclass(frozen=True)
class Debt:
    """One reason of one host. since: ISO 8601, None where it is not known. detail: a sentence for people."""

    why: Why
    detail: str
    since: str | None = None


@dataclass(frozen=True)
class Told:
    """What one host said. status: the document of livepatch.status; candidates: that of kexec.candidates,
    None if it is not known. build: what the catalog says of its kernel build, None if nothing. unread: why
    what it says is not known, "" if it is.
    """

    status: Mapping[str, Any]
    candidates: Mapping[str, Any] | None = None
    build: Build | None = None
    unread: str = ""


def reboot_debt(told: Mapping[str, Told | None], now: datetime) -> list[dict[str, Any]]:
    """One row for each host that owes a reboot, or of which that is not known, the most urgent first.

    A row: ``minion``, ``why`` (words), ``details`` (sentences), ``since`` (the oldest reason's), ``release``,
    ``newer`` (the newer kernel that is installed, None if there is none), ``verdict``. None for a host that
    did not answer: it is listed as unknown, never left out.
    """
    rows = [_row(minion, one, debts_of(one, now)) for minion, one in told.items()]
    return sorted((row for row in rows if row["why"]), key=_rank)


def debts_of(told: Told | None, now: datetime) -> tuple[Debt, ...]:
    """The reasons of one host, the most urgent first."""
    if told is None:
        return (Debt(Why.UNKNOWN, "the host did not answer"),)
    found = [
        *_kernel_is_stuck(told),
        *_of_record(told),
        *_of_catalog(told, now),
        *_of_others(told),
        *_newer(told),
    ]
    return tuple(sorted(found, key=lambda debt: RANK[debt.why]))


def _kernel_is_stuck(told: Told) -> Iterable[Debt]:
    verdict, reason = told.status.get("verdict"), str(told.status.get("reason", ""))
    if verdict in _STUCK:
        yield Debt(Why.STUCK, reason, _since(told))
    if verdict in _MOVING and told.status.get("transition_age") is None:
        yield Debt(Why.UNKNOWN, f"{reason}: whether it is stuck cannot be told")
    if verdict == "unsupported":
        yield Debt(Why.UNSUPPORTED, reason)


def _of_record(told: Told) -> Iterable[Debt]:
    """``reboot`` of the status document: what the host itself knows."""
    reboot = told.status.get("reboot")
    reboot = reboot if isinstance(reboot, Mapping) else {}
    said = [str(one) for one in reboot.get("why", [])]
    if reboot.get("owed"):
        for one in said or ["the host says so"]:
            yield Debt(Why.FORCED, one, _text(reboot.get("since")))
    elif reboot.get("owed") is None:
        yield Debt(Why.UNKNOWN, "; ".join(said) or "the host does not say whether it owes one")


def _of_catalog(told: Told, now: datetime) -> Iterable[Debt]:
    if told.unread:
        yield Debt(Why.UNKNOWN, told.unread)
    if told.build is None:
        return
    in_force = {str(one) for one in told.status.get("fixes", [])}
    for one in told.build.unpatchable:
        if one.cve not in in_force:
            because = f" ({one.why})" if one.why else ""
            text = f"{one.cve} cannot be patched live on this kernel{because}"
            yield Debt(Why.UNPATCHABLE, text, one.at or None)
    expires = told.build.expires
    if expires and datetime.fromisoformat(expires).replace(tzinfo=timezone.utc) <= now:
        yield Debt(Why.EXPIRED, f"live patches for this kernel ended on {expires}", expires)


def _of_others(told: Told) -> Iterable[Debt]:
    """Other live-patch systems on the host may say that they cannot help (``providers`` of the document)."""
    for one in told.status.get("providers", []):
        if one.get("reboot"):
            yield Debt(Why.UNPATCHABLE, f"{one.get('provider')}: {one['reboot']}")


def _newer(told: Told) -> Iterable[Debt]:
    if told.candidates is None:
        return
    if told.candidates.get("newer"):
        text = f"{told.candidates['newest']} is installed and does not run"
        yield Debt(Why.NEWER, text, _text(told.candidates.get("newest_since")))
    for one in told.candidates.get("incomplete_newer", []):
        lacks = " and ".join(str(name) for name in one["missing"])
        yield Debt(Why.NEWER, f"{one['release']} is installed, lacks its {lacks} and does not run")


def _row(minion: str, told: Told | None, debts: tuple[Debt, ...]) -> dict[str, Any]:
    kernel = told.status.get("kernel", {}) if told else {}
    candidates = told.candidates if told and told.candidates else {}
    return {
        "minion": minion,
        "why": list(dict.fromkeys(str(debt.why) for debt in debts)),
        "details": [debt.detail for debt in debts],
        "since": min((debt.since for debt in debts if debt.since), default=None),
        "release": kernel.get("release"),
        "newer": candidates.get("newest") if candidates.get("newer") else None,
        "verdict": told.status.get("verdict") if told else None,
    }


def _rank(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """By the most urgent reason, then by how many, then by age, then by name, so that rows never jump."""
    return (RANK[Why(row["why"][0])], -len(row["why"]), row["since"] or "9999", row["minion"])


def _since(told: Told) -> str | None:
    patches = told.status.get("patches", [])
    moving = [one for one in patches if isinstance(one, Mapping) and one.get("transition")]
    return _text(moving[0].get("since")) if moving else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
