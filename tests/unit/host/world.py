"""A host with a stand-in kernel, a catalog and its own state directory, for tests of whole acts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from livepatch_core.errors import LivepatchError
from livepatch_core.host import boot, byhand, crash, journal, move, offer, revert
from livepatch_core.host.byhand import Order
from livepatch_core.host.context import Host
from livepatch_core.host.move import Wish
from livepatch_core.host.outcome import Outcome, refused
from livepatch_core.host.record import Record, read_record
from livepatch_core.host.settings import Settings
from livepatch_core.modulefile.model import ModuleFile
from livepatch_core.words import OnStall
from tests.unit.host.fakekernel import BUILD_ID, RELEASE, FakeKernel

# Short: every poll is a turn of the stand-in. Scaled by the 2 CPUs and 100 threads that it shows.
DEADLINE = 0.05


@dataclass
class World:
    kernel: FakeKernel
    directory: Path
    levels: dict[int, ModuleFile] = field(default_factory=dict)
    entries: dict[int, dict[str, Any]] = field(default_factory=dict)  # what stands in the catalog beside
    packages: list[dict[str, Any]] = field(default_factory=list)  # to which the catalog gives levels
    builds: dict[str, dict[str, Any]] = field(default_factory=dict)  # other kernel builds in the catalog
    sign: Callable[[bytes], bytes] = bytes  # what the publisher makes of the catalog
    options: dict[str, Any] = field(default_factory=dict)

    def enable_units(self) -> None:
        for name in ("livepatch-boot.service", "livepatch-disarm.service"):
            (self.directory / name).touch()
        unit = self.directory / "livepatch-boot.service"
        self.options.update(boot_unit=unit, off_file=self.directory / "off", soak=600.0)

    def publish(self, number: int, file: ModuleFile) -> None:
        self.kernel.make(file)
        self.levels[number] = file

    @property
    def host(self) -> Host:
        values = {"deadline": DEADLINE, "reversal_deadline": DEADLINE, "patience": DEADLINE, **self.options}
        settings = Settings(self.directory / "state", self.directory / "run", **values)
        kernel = self.kernel
        who = {"user": "root", "id": "minion"}
        return Host(settings, self.fetch, who, kernel.roots, kernel.clock, kernel.clock, kernel.pause)

    def fetch(self, path: str) -> bytes | None:
        if path == f"{RELEASE}/catalog.yaml":
            levels = {
                number: {
                    "status": "released",
                    "module": f"{file.name}.ko",
                    "name": file.name,
                    "sha256": file.sha256,
                    **self.entries.get(number, {}),
                }
                for number, file in self.levels.items()
            }
            ours = {"version": "#1", "levels": levels, "packages": self.packages}
            builds = {BUILD_ID: ours, **self.builds}
            return self.sign(yaml.safe_dump({"schema": 1, "release": RELEASE, "builds": builds}).encode())
        name = path.rpartition("/")[2].removesuffix(".ko")
        return next((data for data, file in self.kernel.images.items() if file.name == name), None)

    def approval(self, rev: int, level: int, ledger: str = "ledger-1") -> dict[str, Any]:
        grant: dict[str, Any] = {"level": level}
        if level:
            grant["sha256"] = self.levels[level].sha256
        return {"ledger_id": ledger, "rev": rev, "builds": {BUILD_ID: grant}}

    def apply(self, level: int | None = None, **wish: Any) -> Outcome:
        """As the execution module does: by hand, when a level is given; a refusal is an outcome."""
        if level is not None:
            wish = {"reason": "a test", **wish}
        return self.outcome(lambda: move.move(self.host, Wish(level=level, **wish)))

    def revert(self, level: int | None = None, **wish: Any) -> Outcome:
        asked = Wish(level=level, **{"reason": "a test", **wish})
        return self.outcome(lambda: revert.revert(self.host, asked))

    def force(self, patch: str, test: bool = False) -> Outcome:
        return self.outcome(lambda: byhand.force(self.host, patch, Order("a test", test=test)))

    def load(self, file: ModuleFile, test: bool = False, on_stall: OnStall | None = None) -> Outcome:
        data = self.kernel.make(file)
        return self.outcome(lambda: byhand.load(self.host, data, Order("a test", on_stall, test=test)))

    def unload(self, name: str, test: bool = False) -> Outcome:
        return self.outcome(lambda: byhand.unload(self.host, name, Order("a test", test=test)))

    @staticmethod
    def outcome(act: Any) -> Outcome:
        try:
            return act()  # type: ignore[no-any-return]
        except LivepatchError as error:
            return refused(error)

    @property
    def record(self) -> Record:
        return read_record(self.host.settings.record_file)

    @property
    def journal(self) -> list[dict[str, Any]]:
        data = journal.read_bytes(self.host.settings.journal_file)
        return [dict(entry.body) for entry in journal.entries(data)]

    @property
    def verified(self) -> journal.JournalState:
        data = journal.read_bytes(self.host.settings.journal_file)
        return journal.verify(data, self.record.journal).state

    @property
    def patches(self) -> list[str]:
        return sorted(self.kernel.patches)


def build_world(directory: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(FakeKernel(directory / "kernel"), directory)
    put_in_place(world, monkeypatch)
    return world


def put_in_place(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """This world's kernel is the one that acts meet, and no archive of this machine holds a crash."""
    world.kernel.install(monkeypatch)

    def read(data: bytes) -> tuple[ModuleFile, bytes]:
        return world.kernel.images[data], data

    # Reading ELF is tests/unit/modulefile's; here bytes stand for a module.
    for reader in (offer, byhand, boot):
        monkeypatch.setattr(reader, "read_with_payload", read)
    monkeypatch.setattr(crash, "ARCHIVES", ())
