"""Other people's live patches: the kernel's own sample, one of kpatch-build, one that came with a package.

The package is a STAND-IN: dpkg's database in its documented form, with the real module in it. No distribution
of the lab's kernels brings live patches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab import kbuild
from lab.kernels import Kernel
from livepatch_core.build.target import Target
from tests.kernel.build import kpatch_built
from tests.kernel.patchable import Patchable

ALLOWED = {"allow_load": True}
NAME, VERSION = "kernel-livepatch-sample", "1:2-2.1"
PATCH = "livepatch_sample"
PATCHED = "this has been live patched"


@pytest.fixture
def sample(kernel: Kernel, target_of: Callable[[Kernel], Target]) -> Path:
    """samples/livepatch/livepatch-sample.c of the kernel's own source, unchanged."""
    name = "livepatch-sample.c"
    text = (target_of(kernel).source / "samples/livepatch" / name).read_text(encoding="utf-8")
    return kbuild.build_module(kernel, {name: text})


def cmdline(host: Patchable) -> str:
    return host.guest.exec("cat /proc/cmdline").text.strip()


def test_by_hand_it_is_loaded_shown_and_taken_out_as_ours(host: Patchable, sample: Path) -> None:
    before = cmdline(host)
    host.guest.put("/root/sample.ko", sample.read_bytes())
    order: dict[str, Any] = {"path": "/root/sample.ko", "reason": "a test", "settings": ALLOWED}
    assert host.ask("load", **order)["kind"] == "kernel-mismatch"  # it does not record what it was built for
    done = host.ask("load", **order, override=["kernel-build"])
    assert done["result"] is True, done
    assert cmdline(host) == PATCHED
    status = host.status()
    assert (status["verdict"], status["level"], status["provider"]) == ("patched", None, "klp")
    assert status["in_force"] == {"vmlinux": {"cmdline_proc_show,1": PATCH}}
    gone = host.ask("unload", name=PATCH, reason="a test", settings=ALLOWED)
    assert gone["result"] is True, gone
    assert (cmdline(host), host.patches(), PATCH in host.modules()) == (before, [], False)


def test_a_module_of_kpatch_build_is_loaded_shown_and_taken_out_as_ours(
    host: Patchable, kernel: Kernel
) -> None:
    """Real: made by kpatch-build's own programs (kpatch_built.py)."""
    target, patch = kpatch_built.build(kernel)
    for path in (target, patch):
        host.guest.put(f"/root/{path.name}", path.read_bytes())
    host.guest.exec(f"insmod /root/{target.name}", check=True)
    order: dict[str, Any] = {"path": f"/root/{patch.name}", "reason": "a test", "settings": ALLOWED}
    done = host.ask("load", **order, override=["kernel-build", "target-build"])
    assert done["result"] is True, done
    assert host.guest.exec("cat /proc/lab_busy").text == "new"
    status = host.status()
    assert (status["verdict"], status["level"]) == ("patched", None)
    assert status["in_force"] == {"lab_busy": {"lab_busy_show,1": "kpatch_lab_busy"}}
    gone = host.ask("unload", name="kpatch_lab_busy", reason="a test", settings=ALLOWED)
    assert gone["result"] is True, gone
    assert (host.guest.exec("cat /proc/lab_busy").text, host.patches()) == ("old", [])


def bring_with_a_package(host: Patchable, module: Path) -> None:
    """STAND-IN for installing a package that brings the module and loads it."""
    host.install(module)
    listed = host.installed(module)
    digest = hashlib.md5(module.read_bytes(), usedforsecurity=False).hexdigest()
    info = "/var/lib/dpkg/info"
    host.guest.put(f"{info}/{NAME}.list", f"/.\n{listed}\n")
    host.guest.put(f"{info}/{NAME}.md5sums", f"{digest}  {listed[1:]}\n")
    stanza = f"Package: {NAME}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {VERSION}\n"
    host.guest.put("/var/lib/dpkg/status", stanza)
    load(host, module)


def load(host: Patchable, module: Path) -> None:
    host.guest.exec(f"insmod {host.installed(module)}", check=True)
    assert host.ask("wait", timeout=60)["result"] is True


def give_a_level(host: Patchable, modules: dict[str, Path]) -> None:
    """The catalog: the package amounts to level 5, and there is a level 6 of our own."""
    host.publish({6: modules["lp_level_1"]})
    path = f"/srv/livepatch/{host.release}/catalog.yaml"
    document = yaml.safe_load(host.guest.get(path))
    entry = {"package": NAME, "version": VERSION, "level": 5, "fixes": [{"cve": "CVE-2026-5"}]}
    document["builds"][host.build_id]["packages"] = [entry]
    host.publish_text(yaml.safe_dump(document))


def test_from_a_package_it_has_the_level_that_the_catalog_gives_it(
    host: Patchable, modules: dict[str, Path], sample: Path
) -> None:
    before = cmdline(host)
    bring_with_a_package(host, sample)
    status = host.status()
    assert (status["verdict"], status["level"], status["flags"]) == ("unknown", None, ["drifted"])
    assert f"{PATCH} of package {NAME} {VERSION} is in force" in status["reason"]

    give_a_level(host, modules)
    status = host.status()
    assert (status["verdict"], status["level"], status["flags"]) == ("patched", 5, [])
    assert (status["fixes"], status["patches"][0]["package"]) == (["CVE-2026-5"], f"{NAME} {VERSION}")

    done = host.to_level(6)
    assert (done["result"], done["changes"]["level"]) == (True, {"old": 5, "new": 6}), done
    assert (host.patches(), PATCH in host.modules(), cmdline(host)) == (["lp_level_1"], False, before)
    assert host.ask("revert", reason="a test")["result"] is True
    load(host, sample)
    done = host.ask("revert", reason="a test")
    assert (done["result"], done["changes"]["level"]) == (True, {"old": 5, "new": 0}), done
    assert (host.patches(), cmdline(host)) == ([], before)


def test_a_file_that_was_changed_is_not_the_packages(
    host: Patchable, modules: dict[str, Path], sample: Path
) -> None:
    """Somebody put his own module in the place of the package's."""
    bring_with_a_package(host, sample)
    give_a_level(host, modules)
    host.guest.put(f"/var/lib/dpkg/info/{NAME}.md5sums", f"{'0' * 32}  {host.installed(sample)[1:]}\n")
    status = host.status()
    assert (status["verdict"], status["patches"][0]["package"]) == ("unknown", None)
