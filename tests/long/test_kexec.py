"""From kernel to kernel under Salt: the minion is back under its key, the new kernel's level in force."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab import kernels, systemd
from lab.fixtures import watched
from lab.kernels import Kernel
from lab.master import Master
from tests.conftest import copy_of_the_tree
from tests.kernel.bootable import Bootable
from tests.kernel.booted import Booted
from tests.kernel.livepatches import build, made_for
from tests.kernel.patchable import digest

SECONDS = 240
BACK_SECONDS = 900  # idle 35: an emulated host whose two cores are shared


class Site:
    """A master with a catalog for three kernels, and one host that has them all installed."""

    def __init__(self, place: Path, stack: contextlib.ExitStack) -> None:
        self.roles = {role: kernels.kernel(role) for role in ("6.1", "6.1-cloud", "6.12")}
        catalog = place / "catalog/livepatch"
        for kernel in self.roles.values():
            publish(catalog, kernel)
        tree = copy_of_the_tree(place / "tree")
        (place / "pillar").mkdir()
        patient = {"timeout": 120, "gather_job_timeout": 60}
        self.master = stack.enter_context(Master([tree, place / "catalog"], [place / "pillar"], patient))
        self.guest = systemd.start(
            self.roles["6.1"], "hv", others=(self.roles["6.1-cloud"], self.roles["6.12"])
        )
        stack.callback(self.guest.close)
        stack.enter_context(watched(self.guest))
        Bootable(self.guest, *self.roles.values())
        Booted(self.guest, soak=3.0)
        self.guest.install_minion(self.master, "hv", {"livepatch": {"soak": 3.0}})
        self.call("saltutil.sync_all")

    def call(self, function: str, *arguments: Any, **keywords: Any) -> Any:
        answers = self.master.cmd("hv", function, *arguments, timeout=SECONDS, **keywords)
        assert "hv" in answers, self.guest.exec("tail -50 /var/log/salt/minion").text
        return answers["hv"]

    def leave(self, function: str, *arguments: Any, **keywords: Any) -> Any:
        """Make the host leave; what the call returned, once its minion is back."""
        with self.master.events() as events, self.guest.leaving_by_kexec(BACK_SECONDS):
            answer = self.call(function, *arguments, **keywords)
            events.wait("salt/minion/hv/start", BACK_SECONDS)
        return answer

    def key(self) -> bytes:
        return self.guest.get("/etc/salt/pki/minion/minion.pub")

    def release(self) -> str:
        return self.guest.exec(["uname", "-r"], check=True).text.strip()

    def prove(self) -> None:
        """Level 1 in force, healthy for its soak, and so kept over boots of this kernel."""
        assert self.call("livepatch.apply", level=1, reason="a test")["result"] is True
        assert self.call("livepatch.persist")["result"] is True
        for _ in range(20):
            if self.call("livepatch.status")["next_boot"]["level"] == 1:
                return
            self.call("livepatch.soaked")
        raise AssertionError("level 1 was never proven")


def publish(catalog: Path, kernel: Kernel) -> None:
    module = build(kernel)["lp_level_1"]
    directory = catalog / kernel.release
    directory.mkdir(parents=True)
    (directory / module.name).write_bytes(module.read_bytes())
    entry = {"status": "released", "module": module.name, "name": module.stem, "sha256": digest(module)}
    builds = {str(made_for(kernel).build_id): {"levels": {1: entry}}}
    document = {"schema": 1, "release": kernel.release, "builds": builds}
    (directory / "catalog.yaml").write_text(yaml.safe_dump(document))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with contextlib.ExitStack() as stack:
        yield Site(tmp_path, stack)


def test_under_salt(site: Site) -> None:
    """6.1 to cloud in an orderly way, back without systemd's help, to 6.12 by the state: each time the minion
    is back under its key, and the new kernel's level comes into force."""
    stable, cloud, newer = (site.roles[role].release for role in ("6.1", "6.1-cloud", "6.12"))
    site.prove()
    key, boot_id = site.key(), site.guest.boot_id

    found = site.call("kexec.candidates")
    assert [one["release"] for one in found["kernels"]] == [newer, cloud, stable]
    assert (found["running"], found["newest"], found["newer"]) == (stable, newer, True)
    assert site.call("kexec.load", cloud)["changes"] == {"loaded": {"old": None, "new": cloud}}
    assert site.call("kexec.boot", reason="a test", test=True)["changes"] == {
        "boot": {"old": stable, "new": cloud}
    }
    assert site.guest.boot_id == boot_id

    ordered = site.leave("kexec.boot", reason="a test", delay=15)
    assert (ordered["result"], ordered["departure"]["how"]) == (True, "systemd")
    assert (site.release(), site.key()) == (cloud, key)
    last = site.call("kexec.status")["last"]
    assert (last["ended"], last["as_asked"], last["boot_id_before"]) == ("kexec", True, boot_id)
    assert last["away"]["kernel"] > 0
    assert last["level"]["level"] is None, "no level of this kernel is proven yet"
    assert site.call("livepatch.apply", level=1, reason="a test")["result"] is True
    assert (status := site.call("livepatch.status"))["verdict"] == "patched", status

    boot_id = site.guest.boot_id
    site.leave("kexec.boot", stable, reason="a test", how="direct", delay=15)
    assert (site.release(), site.key()) == (stable, key)
    last = site.call("kexec.status")["last"]
    assert (last["ended"], last["boot_id_before"], last["level"]["level"]) == ("kexec", boot_id, 1), last
    assert last["away"]["level"] >= last["away"]["kernel"]
    status = site.call("livepatch.status")
    assert (status["verdict"], status["level"]) == ("patched", 1), status

    def state(**options: Any) -> Any:
        (answer,) = site.call("state.single", "kexec.booted", name="newest", **options).values()
        return answer["result"], answer["changes"]

    changes = {"boot": {"old": stable, "new": newer}}
    assert state(test=True, reason="a test") == (None, changes)
    assert state(reason=None)[0] is False
    site.leave("state.single", "kexec.booted", name="newest", reason="a test", delay=15)
    assert (site.release(), site.key()) == (newer, key)
    assert state() == (True, {})
    assert site.call("livepatch.apply", level=1, reason="a test")["result"] is True
    assert site.call("livepatch.status")["verdict"] == "patched"
    acts = [one["act"] for one in site.call("livepatch.history") if one["act"] == "kexec"]
    assert len(acts) == 3
    assert site.call("livepatch.verify")["state"] == "whole"
