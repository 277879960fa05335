"""An order out of what a call and a configuration say, where both are whatever somebody typed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from livepatch_core.build.builder import FAN_OUT
from livepatch_core.build.refusals import Refusal, Refused
from livepatch_core.build.service import Order
from livepatch_core.build.target import Target

PARTS = ("source", "headers", "kbuild", "image", "modules")
KEYS = ("cache", "output", "jobs", "key", "certificate")


@dataclass(frozen=True)
class Settings:
    """What the configuration says under ``livepatch_build``. output: None puts modules below the cache; a
    folder of its release either way, since the levels of every kernel are numbered from 1."""

    cache: Path
    output: Optional[Path] = None
    jobs: int = 2
    key: Optional[Path] = None
    certificate: Optional[Path] = None

    def place(self, release: str, output: object) -> Path:
        """Where the module goes: as the call says, or to the folder of its release."""
        return path("output", output) or (self.output or self.cache / "modules") / release


def parse_settings(value: object, cachedir: str) -> Settings:
    """``value`` is what stands under ``livepatch_build``, or None. Raises Refused (argument)."""
    given = {} if value is None else value
    if not isinstance(given, Mapping):
        raise refuse("The key 'livepatch_build' of the configuration must hold a mapping")
    unknown = sorted(str(key) for key in given if key not in KEYS)
    if unknown:
        raise refuse(f"The configuration has an unknown key livepatch_build:{unknown[0]}")
    cache = path("livepatch_build:cache", given.get("cache")) or Path(cachedir) / "livepatch-build"
    return Settings(
        cache,
        path("livepatch_build:output", given.get("output")),
        _number("livepatch_build:jobs", given.get("jobs", 2), 1),
        path("livepatch_build:key", given.get("key")),
        path("livepatch_build:certificate", given.get("certificate")),
    )


def order(
    release: object, diffs: Sequence[tuple[str, str]], settings: Settings, given: Mapping[str, Any]
) -> Order:
    """The order for ``release``. given: ``name``, ``level``, ``replace``, ``accept``, ``fan_out`` and the
    kernel's parts, each as typed; what is None is not said. Raises Refused (argument).
    """
    if not isinstance(release, str) or not release or "/" in release:
        raise refuse(f"kernel is {release!r}, not a release as uname -r prints it")
    accept = given.get("accept") or {}
    if not isinstance(accept, Mapping):
        raise refuse(f"accept is {accept!r}, not a mapping of what was refused to the reason why it is safe")
    return Order(
        release=release,
        diffs=diffs,
        name=str(given.get("name") or ""),
        level=_number("level", given.get("level") or 0, 0),
        replace=given.get("replace") is not False,
        accept={str(what): str(why) for what, why in accept.items()},
        fan_out=_number("fan_out", given.get("fan_out") or FAN_OUT, 1),
        jobs=settings.jobs,
        parts=_parts(release, given),
        key=settings.key,
        certificate=settings.certificate,
    )


def _parts(release: str, given: Mapping[str, Any]) -> Optional[Target]:
    found = {name: value for name in PARTS if (value := path(name, given.get(name))) is not None}
    if not found:
        return None
    if len(found) != len(PARTS):
        raise refuse(f"Give all of {', '.join(PARTS)} by path, or none of them")
    source, headers, kbuild, image, modules = (found[name] for name in PARTS)
    return Target(release, source, headers, kbuild, image, modules)


def path(name: str, value: object) -> Optional[Path]:
    """An absolute path or None; nobody knows the working directory of a daemon."""
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not Path(value).is_absolute():
        raise refuse(f"{name} is {value!r}, not an absolute path")
    return Path(value)


def _number(name: str, value: object, least: int) -> int:
    if type(value) is not int or value < least:
        raise refuse(f"{name} is {value!r}, not an integer from {least}")
    return value


def read_diff(address: str, place: str) -> tuple[str, str]:
    """The name and the text of the diff that was asked for as ``address`` and lies at ``place``."""
    try:
        text = Path(place).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as problem:
        raise refuse(f"The diff {address} cannot be read ({problem.strerror})") from problem
    return Path(address).name, text


def refuse(sentence: str) -> Refused:
    """The call or the configuration is wrong."""
    remedy = "The arguments: salt MINION sys.doc livepatch_build.build, or salt-run -d livepatch.build."
    return Refused(Refusal.ARGUMENT, f"{sentence}; nothing was built.", remedy=remedy)
