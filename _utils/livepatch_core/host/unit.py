"""The entry point of the systemd units: start (at boot), stop (orderly shutdown), tick (in the soak)."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

from livepatch_core.errors import LivepatchError
from livepatch_core.host import boot, saltcall, soak
from livepatch_core.host.context import Host
from livepatch_core.host.outcome import Outcome, refused
from livepatch_core.host.settings import Settings, parse_settings

ACTS = {"start": boot.start, "stop": boot.stop, "tick": soak.tick}


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
    """What ``minion`` and ``minion.d/*.conf`` say under ``livepatch``, the last file winning, as in Salt."""
    chosen: object = None
    for path in (config / "minion", *sorted((config / "minion.d").glob("*.conf"))):
        try:
            document = yaml.safe_load(path.read_bytes())
        except FileNotFoundError:
            continue
        except (OSError, yaml.YAMLError) as problem:
            print(f"{path} was passed over: {problem}", file=sys.stderr)
            continue
        if isinstance(document, Mapping) and "livepatch" in document:
            chosen = document["livepatch"]
    return parse_settings(chosen)
