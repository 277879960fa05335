"""What the minion's own configuration says (key ``livepatch``); pillar cannot change any of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from livepatch_core.errors import LivepatchError
from livepatch_core.host import journal
from livepatch_core.words import Kind, OnStall, Word


class Policy(Word):
    """Where a host that is told no level takes it from."""

    APPROVED = "approved"  # from an approval, or it holds
    NEWEST = "newest"  # from the catalog: the site wants no approvals


class OnUnhealthy(Word):
    """What follows when a probe fails after a move."""

    REVERT = "revert"
    KEEP = "keep"  # said, no more


@dataclass(frozen=True)
class Settings:
    """One field per configuration key; the defaults are the safe choice.

    deadline, reversal_deadline, patience, soak: seconds. The deadline is scaled up with CPUs and threads
    (kernel/transition.py); ``patience`` bounds ``on_stall: wait``.
    """

    state_dir: Path = Path("/var/lib/livepatch")
    run_dir: Path = Path("/run/livepatch")
    catalog: str = "salt://livepatch"
    policy: Policy = Policy.APPROVED
    on_stall: OnStall = OnStall.REVERSE
    deadline: float = 75.0  # 15 s to the kernel's signal plus the 60 s that kpatch waits after it
    reversal_deadline: float = 75.0
    patience: float = 600.0
    require_signature: bool = False
    publisher_key: str = ""  # his Ed25519 public key: PEM, base64, or the absolute path of a file with either
    allow_load: bool = False
    allow_force: bool = False
    soak: float = 900.0  # seconds a level has to be healthy before it counts as proven
    on_unhealthy: OnUnhealthy = OnUnhealthy.REVERT
    services: tuple[str, ...] = ()  # systemd units that must stay active
    probes: tuple[Mapping[str, Any], ...] = ()  # execution functions and what they have to answer
    off_file: Path = Path("/etc/livepatch/off")  # while it exists nothing is loaded at boot
    boot_unit: Path = Path("/etc/systemd/system/sysinit.target.wants/livepatch-boot.service")

    @property
    def disarm_unit(self) -> Path:
        """Beside the boot unit, which enables it."""
        return self.boot_unit.with_name("livepatch-disarm.service")

    @property
    def record_file(self) -> Path:
        return self.state_dir / "record.json"

    @property
    def armed_file(self) -> Path:
        return self.state_dir / "armed.json"

    @property
    def quarantine_file(self) -> Path:
        return self.state_dir / "quarantine.json"

    @property
    def blocks_file(self) -> Path:
        return self.state_dir / "blocks.json"

    @property
    def proven_file(self) -> Path:
        return self.state_dir / "proven.json"

    @property
    def health_file(self) -> Path:
        return self.state_dir / "health.json"

    @property
    def boot_file(self) -> Path:
        return self.state_dir / "boot.json"

    @property
    def told_file(self) -> Path:
        return self.state_dir / "told.json"

    @property
    def journal_file(self) -> Path:
        return self.state_dir / journal.FILE_NAME

    @property
    def lock_file(self) -> Path:
        return self.run_dir / "lock"

    @property
    def looked_file(self) -> Path:
        return self.run_dir / "beacon.json"


def parse_settings(value: object) -> Settings:
    """``value`` is what stands under ``livepatch`` in the minion's configuration, or None.

    Raises LivepatchError (argument) that names the key: a misspelt safety option must not pass unseen.
    """
    if value is None:
        return Settings()
    if not isinstance(value, Mapping):
        raise _bad("the key 'livepatch' of the minion configuration must hold a mapping")
    known = {field.name: field.default for field in fields(Settings)}
    chosen: dict[str, Any] = {}
    for key, given in value.items():
        if key not in known:
            raise _bad(f"the minion configuration has an unknown key livepatch:{key}")
        chosen[key] = _convert(key, given, known[key])
    return Settings(**chosen)


def _convert(key: str, given: object, default: object) -> object:
    try:
        if isinstance(default, bool):
            if not isinstance(given, bool):
                raise ValueError("must be true or false")
            return given
        if isinstance(default, float):
            return _positive_seconds(given)
        if isinstance(default, (Policy, OnStall, OnUnhealthy)):
            return type(default)(given)
        if isinstance(default, tuple):
            return _names(given) if key == "services" else _probes(given)
        if not isinstance(given, str) or not given:
            raise ValueError("must be a text")
        if not isinstance(default, Path):
            return given
        if not Path(given).is_absolute():
            raise ValueError("must be an absolute path")  # or two callers would not share one lock
        return Path(given)
    except ValueError as problem:
        text = f"the value of livepatch:{key} in the minion configuration is {given!r}: {problem}"
        raise _bad(text) from problem


def _positive_seconds(given: object) -> float:
    seconds = float(str(given))
    if isinstance(given, bool) or not 0 < seconds < 86_400:
        raise ValueError("must be seconds, more than 0 and less than a day")
    return seconds


def _names(given: object) -> tuple[str, ...]:
    if not isinstance(given, list) or not all(isinstance(one, str) and one for one in given):
        raise ValueError("must be a list of names")
    return tuple(given)


def _probes(given: object) -> tuple[Mapping[str, Any], ...]:
    known = {"fun", "args", "equals", "contains", "below", "above"}
    if not isinstance(given, list) or not all(isinstance(one, Mapping) for one in given):
        raise ValueError("must be a list of mappings")
    for one in given:
        if not isinstance(one.get("fun"), str) or not isinstance(one.get("args", []), list):
            raise ValueError("each needs fun (module.function), and args is a list")
        if set(one) - known:
            raise ValueError(f"unknown key {', '.join(sorted(map(str, set(one) - known)))}")
    return tuple(given)


def _bad(text: str) -> LivepatchError:
    return LivepatchError(
        Kind.ARGUMENT,
        f"{text[0].upper()}{text[1:]}; nothing was changed.",
        remedy="Correct the minion configuration and restart the minion.",
    )
