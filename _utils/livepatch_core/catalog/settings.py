"""What the master's configuration says (key ``livepatch``): where the catalog and the ledger are."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from livepatch_core.durable import Owner
from livepatch_core.errors import LivepatchError
from livepatch_core.words import Kind

STATE_DIR = "/var/lib/livepatch-master"
KEYS = ("catalog_dir", "state_dir", "sign_key")
SERVED = "livepatch"  # below catalog_dir: what hosts read as salt://livepatch


@dataclass(frozen=True)
class Master:
    """state_dir: ledger, lock and withheld levels, never served. catalog_dir: a file root of its own.

    user: as whom the master runs. owner: None where this process runs as that user anyway. sign_key: the
    publisher's private key, a PEM file.
    """

    state_dir: Path
    user: str
    owner: Owner | None = None
    catalog_dir: Path | None = None
    sign_key: Path | None = None

    @property
    def served(self) -> Path:
        """The directory that hosts see; raises LivepatchError (argument) where none is configured."""
        if self.catalog_dir is None:
            raise _bad(
                "the master's configuration names no livepatch:catalog_dir, so there is nowhere to publish"
            )
        return self.catalog_dir / SERVED

    @property
    def withheld(self) -> Path:
        """Levels in testing: beside the ledger, where no file server looks."""
        return self.state_dir / "withheld"

    @property
    def catalog_lock(self) -> Path:
        return self.state_dir / "catalog.lock"

    @property
    def ledger_lock(self) -> Path:
        return self.state_dir / "ledger.lock"


def parse_master(value: object, cachedir: str, user: str, file_roots: object = None) -> Master:
    """``value`` is what stands under ``livepatch`` in the master's configuration, or None. file_roots: as the
    configuration has them, where secrets are to be kept out of what the fleet can read.

    Raises LivepatchError (argument) that names the key.
    """
    given = {} if value is None else value
    if not isinstance(given, Mapping):
        raise _bad("the key 'livepatch' of the master's configuration must hold a mapping")
    unknown = sorted(str(key) for key in given if key not in KEYS)
    if unknown:
        raise _bad(f"the master's configuration has an unknown key livepatch:{unknown[0]}")
    paths = {key: _path(key, given[key]) for key in KEYS if given.get(key) is not None}
    state_dir = paths.get("state_dir", Path(STATE_DIR))
    catalog_dir = paths.get("catalog_dir")
    served = {f"the file root {root}": root for root in _roots(file_roots)}
    if catalog_dir is not None:
        served["catalog_dir"] = catalog_dir
    for key, path in {"state_dir": state_dir, **paths}.items():
        _apart(path, key, Path(cachedir), "Salt's cachedir, which people wipe")
        for what, root in served.items() if key != "catalog_dir" else ():
            _apart(path, key, root, f"{what}, which the fleet can read")
    return Master(state_dir, user, _owner(user), catalog_dir, paths.get("sign_key"))


def _roots(file_roots: object) -> list[Path]:
    environments = file_roots.values() if isinstance(file_roots, Mapping) else ()
    return [Path(str(one)) for listed in environments if isinstance(listed, list) for one in listed]


def _path(key: str, given: object) -> Path:
    if not isinstance(given, str) or not Path(given).is_absolute():
        raise _bad(f"livepatch:{key} in the master's configuration is {given!r}, not an absolute path")
    return Path(given)


def _apart(path: Path, key: str, outer: Path, what: str) -> None:
    """Refuse what lies in another directory, also by way of a symbolic link."""
    inside, around = os.path.realpath(path), os.path.realpath(outer)
    if os.path.commonpath([inside, around]) == around:
        raise _bad(f"livepatch:{key} ({path}) lies in {what}")


def _owner(user: str) -> Owner | None:
    """Files that root writes go to the master's user, or the master could not write them again."""
    if os.geteuid() != 0 or user == "root":
        return None
    try:
        entry = pwd.getpwnam(user)
    except KeyError as problem:
        raise _bad(f"the master's user {user!r} does not exist on this machine") from problem
    return Owner(entry.pw_uid, entry.pw_gid)


def _bad(text: str) -> LivepatchError:
    return LivepatchError(
        Kind.ARGUMENT,
        f"{text[0].upper()}{text[1:]}; nothing was changed.",
        remedy="Correct the master's configuration and restart the master.",
    )
