"""The entry point of the systemd units: start (at boot), stop (orderly shutdown), tick (in the soak)."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from livepatch_core.errors import LivepatchError
from livepatch_core.host import boot, saltcall, soak
from livepatch_core.host.context import Host
from livepatch_core.host.outcome import Outcome, refused
from livepatch_core.host.settings import Settings, parse_settings

ACTS = {"start": boot.start, "stop": boot.stop, "tick": soak.tick}
KEY = "livepatch"


def main(act: str, config: Path) -> int:
    """The exit status for systemd; one line for the system's journal."""
    outcome = run(act, config)
    print(outcome.comment, file=sys.stdout if outcome.result else sys.stderr)
    return 0 if outcome.result else 1


def run(act: str, config: Path) -> Outcome:
    try:
        ask = functools.partial(saltcall.ask, config) if act == "tick" else None  # a boot waits for no probe
        who = {"user": "root", "jid": "", "id": act}
        host = Host(read_settings(config), lambda name: None, who, ask=ask)
        return ACTS[act](host)
    except LivepatchError as error:
        return refused(error)


def read_settings(config: Path) -> Settings:
    """What ``minion`` and ``minion.d/*.conf`` say under ``livepatch``, as Salt reads them
    (salt/config/__init__.py): the files of ``minion.d`` are merged into each other, the last one winning, and
    what they say stands in the place of all that ``minion`` says."""
    included: dict[str, Any] = {}
    for path in sorted((config / "minion.d").glob("*.conf")):
        _merge(included, _said(path))
    return parse_settings({**_said(config / "minion"), **included}.get(KEY))


def _said(path: Path) -> dict[str, Any]:
    """A file's part under the key; {} where it has none or cannot be read."""
    try:
        document = yaml.safe_load(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, yaml.YAMLError) as problem:
        print(f"{path} was passed over: {problem}", file=sys.stderr)
        return {}
    return {KEY: document[KEY]} if isinstance(document, Mapping) and KEY in document else {}


def _merge(into: dict[str, Any], new: Mapping[str, Any]) -> None:
    """Mappings key by key, lists one after the other without what is there (salt.utils.dictupdate)."""
    for key, value in new.items():
        old = into.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            _merge(old, value)
        elif isinstance(old, list) and isinstance(value, list):
            into[key] = [*old, *(one for one in value if one not in old)]
        else:
            into[key] = value
