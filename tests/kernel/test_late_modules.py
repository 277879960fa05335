"""A target module that is not loaded yet: the patch waits for it, and status says so."""

from __future__ import annotations

from tests.kernel import livepatches


def test_waits_for_its_target_and_patches_it_when_it_comes(host, modules):
    host.install(modules["lab_late"])
    host.publish({1: modules["lp_late"]})

    done = host.to_level(1)
    assert done["result"] is True
    assert "waits for lab_late" in done["comment"]
    status = host.status()
    assert (status["verdict"], status["waiting"]) == ("patched", ["lab_late"])
    assert "lab_late" not in status["in_force"]

    host.guest.exec(["insmod", host.installed(modules["lab_late"])], check=True)
    assert host.guest.exec("cat /proc/lab_late").text == "new"
    status = host.status()
    assert (status["verdict"], status["waiting"]) == ("patched", [])
    assert status["in_force"]["lab_late"] == {"lab_late_show,1": "lp_late"}

    assert host.to_level(0)["result"] is True
    assert host.guest.exec("cat /proc/lab_late").text == "old"


def test_a_target_that_comes_as_another_build(host, kernel, modules):
    """Upgraded on disk since the level was loaded: the kernel patches it by name, and status says so."""
    host.install(modules["lab_late"])
    host.publish({1: modules["lp_late"]})
    assert host.to_level(1)["result"] is True
    other = livepatches.rebuilt(kernel, "lab_late").read_bytes()
    host.guest.put("/root/lab_late.ko", other)
    host.guest.exec("insmod /root/lab_late.ko", check=True)
    status = host.status()
    assert (status["verdict"], status["fixes"], "doubtful" in status["flags"]) == ("unknown", [], True)
    assert livepatches.file_build_id(other) in status["reason"]
    assert host.to_level(1)["kind"] == "kernel-mismatch"

    host.guest.exec("rmmod lab_late", check=True)
    host.guest.exec(["insmod", host.installed(modules["lab_late"])], check=True)
    assert host.status()["verdict"] == "patched"


def test_a_target_that_is_not_even_installed_is_said(host, modules):
    host.publish({1: modules["lp_late"]})
    done = host.to_level(1)
    assert done["result"] is True
    assert any("neither loaded nor installed" in one["reason"] for one in done["warnings"])
