"""What a host refuses: each with its own kind and sentence, and the kernel is what it was."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from lab import kernels
from lab.machine import Machine
from tests.kernel import HERE, livepatches
from tests.kernel.patchable import Patchable, digest

FENTRY = HERE / "fentry.py"


@contextlib.contextmanager
def unchanged(host: Patchable) -> Iterator[None]:
    """The block leaves patches, modules and journal as they are."""
    before = (host.patches(), host.modules(), host.journal())
    yield
    assert (host.patches(), host.modules(), host.journal()) == before


def refused(host: Patchable, kind: str, *words: str, **arguments: Any) -> Any:
    """Ask, with test=True first: the prediction must be the same refusal."""
    arguments = arguments or {"level": 1, "reason": "a test"}
    with unchanged(host):
        predicted = host.ask("apply", **arguments, test=True)
        done = host.ask("apply", **arguments)
    assert (done["result"], done.get("kind"), done["changes"]) == (False, kind, {}), done
    assert all(word in done["comment"] for word in words), done["comment"]
    assert (predicted["result"], predicted["kind"]) == (False, kind), predicted
    return done


# -- the file --------------------------------------------------------------------------------------------


def test_wrong_digests(host, modules):
    """Of the catalog, of the approval, and of a file that was changed after it was published."""
    module = modules["lp_level_1"]
    host.publish({1: module}, level1={"sha256": "0" * 64})
    refused(host, "digest", digest(module), "0" * 64)
    host.publish({1: module})
    refused(host, "digest", "approved", approval=host.approval(1, 1, modules["lp_level_2"]))
    name = f"/srv/livepatch/{host.release}/lp_level_1.ko"
    host.guest.put(name, module.read_bytes()[:-1] + b"\1")
    refused(host, "digest", "changed or cut short")


def test_files_that_are_no_modules(host, modules, tmp_path):
    image = modules["lp_level_1"].read_bytes()
    for what, data, kind in [
        ("truncated", image[: len(image) // 2], "module-format"),
        ("text", b"not an ELF file\n", "module-format"),
        ("empty", b"", "module-format"),
    ]:
        path = tmp_path / f"{what}.ko"
        path.write_bytes(data)
        host.publish({1: path})
        refused(host, kind)
    host.publish({1: modules["lp_not_marked"]})
    refused(host, "not-livepatch", "livepatch=Y")


def test_a_file_that_changes_after_it_was_read_changes_nothing(host, modules):
    """The bytes that were digested are the bytes that are loaded, whatever the file is by then."""
    host.publish({1: modules["lp_level_1"]})
    host.guest.put("/root/other.ko", modules["lp_level_2"].read_bytes())
    done = host.to_level(1, swap={"file": f"{host.release}/lp_level_1.ko", "by": "/root/other.ko"})
    assert done["result"] is True
    assert host.patches() == ["lp_level_1"]
    assert host.ask("revert", reason="a test")["result"] is True
    refused(host, "digest", "changed or cut short")  # the swap did happen


# -- the kernel it was made for ---------------------------------------------------------------------------


def test_a_module_of_another_release(start, modules):
    """The kernel itself would take it: symbol CRCs agree between these two releases."""
    other = kernels.kernel("6.1-previous")
    host = start(kernel=other)
    host.publish({1: modules["lp_level_1"]})
    refused(host, "kernel-mismatch", "proven against kernel build")
    host.guest.put("/root/lp.ko", modules["lp_level_1"].read_bytes())
    host.guest.exec("insmod /root/lp.ko", check=True)  # the fact that makes the check necessary


def test_recorded_for_another_build_of_this_release(host, kernel):
    host.publish({1: livepatches.for_other_build(kernel)["lp_level_1"]})
    refused(host, "kernel-mismatch", "0" * 40, host.build_id)


def test_no_recorded_build_is_refused_unless_overridden_by_name(host, kernel):
    module = livepatches.unrecorded(kernel)["lp_level_1"]
    host.publish({1: module})
    refused(host, "kernel-mismatch", "does not record", "kernel-build")
    assert host.to_level(1, override=["nothing"])["kind"] == "argument"
    done = host.to_level(1, override=["kernel-build"])
    assert done["result"] is True
    assert any("overridden by name" in one["reason"] for one in done["warnings"])


def test_vermagic(host, modules, tmp_path):
    image = modules["lp_level_1"].read_bytes()
    flags, release = tmp_path / "flags.ko", tmp_path / "release.ko"
    flags.write_bytes(livepatches.with_other_flags(image))
    release.write_bytes(livepatches.with_other_release(image, host.release))
    host.publish({1: flags})
    refused(host, "kernel-mismatch", "flags", "SMQ")
    host.publish({1: release})
    refused(host, "kernel-mismatch", "is for release")


def test_a_target_module_of_another_build(host, kernel, modules, tmp_path):
    """The loaded lab_busy is not the one that the patch was proven against."""
    other = livepatches.rebuilt(kernel, "lab_busy").read_bytes()
    assert livepatches.file_build_id(other) != livepatches.file_build_id(modules["lab_busy"].read_bytes())
    host.guest.put("/root/lab_busy.ko", other)
    host.guest.exec("insmod /root/lab_busy.ko", check=True)
    host.publish({1: modules["lp_busy"]})
    refused(host, "kernel-mismatch", "lab_busy")


# -- symbols and dependencies -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("lp_missing_symbol", "symbol", ["has no function"]),
        ("lp_ambiguous_symbol", "symbol", ["names no position"]),
        ("lp_far_position", "symbol", ["not 999"]),
        ("lp_needs_provider", "dependency", ["lab_provider", "modprobe"]),
    ],
)
def test_what_it_needs_and_is_not_there(host, modules, name, kind, words):
    host.publish({1: modules[name]})
    refused(host, kind, *words)


def test_the_kernel_would_refuse_the_target_module_later(host, modules):
    """Without the check the patch gets in, and from then on modprobe of its target fails."""
    host.install(modules["lab_late"])
    host.publish({1: modules["lp_late_refused"]})
    refused(host, "symbol", "refuse to load lab_late later")


# -- what the kernel enforces -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameter", "kind"),
    [
        ("module.sig_enforce=1", "signature"),
        ("lockdown=integrity", "lockdown"),
        ("lockdown=confidentiality", "lockdown"),
    ],
)
def test_unsigned_where_signatures_are_enforced(start, modules, parameter, kind):
    host = start(Machine(cmdline=(parameter,)))
    host.publish({1: modules["lp_level_1"]})
    refused(host, kind, "not signed", parameter)


def test_unsigned_where_the_site_demands_signatures(host, modules):
    host.publish({1: modules["lp_level_1"]})
    refused(host, "signature", "require_signature", level=1, reason="x", settings={"require_signature": True})


def test_ftrace_switched_off(host, modules):
    host.publish({1: modules["lp_level_1"]})
    host.guest.exec("echo 0 > /proc/sys/kernel/ftrace_enabled", check=True)
    refused(host, "ftrace", "sysctl kernel.ftrace_enabled=1")


def test_a_function_that_a_kprobe_has_taken(host, modules):
    host.guest.put("/root/lab_kprobe.ko", modules["lab_kprobe"].read_bytes())
    host.guest.exec("insmod /root/lab_kprobe.ko symbol=meminfo_proc_show post=1", check=True)
    host.publish({1: modules["lp_level_1"]})
    refused(host, "conflict", "meminfo_proc_show", "IPMODIFY")


def test_a_plain_probe_and_a_bpf_program_are_accepted_with_a_warning(host, modules):
    host.guest.put("/root/lab_kprobe.ko", modules["lab_kprobe"].read_bytes())
    host.guest.exec("insmod /root/lab_kprobe.ko symbol=meminfo_proc_show", check=True)
    program = host.guest.spawn_python(FENTRY.read_text(), "version_proc_show")
    host.guest.exec("until [ -e /run/fentry-attached ]; do sleep 0.05; done", timeout=60, check=True)
    host.publish({2: modules["lp_level_2"]})

    done = host.to_level(2)

    assert done["result"] is True, done
    warned = " ".join(one["reason"] for one in done["warnings"] if one["name"] == "conflicts")
    assert "a kprobe is on meminfo_proc_show" in warned
    assert "a BPF program is attached to version_proc_show" in warned
    assert "live-patched to level 2" in host.guest.exec("cat /proc/version").text
    program.kill()


def test_states_that_an_older_level_would_lose(host, modules):
    host.publish({2: modules["lp_state_2"], 3: modules["lp_level_1"]})
    assert host.to_level(2)["result"] is True
    refused(host, "state", "system state", level=3, reason="a test")


def test_a_module_that_is_not_cumulative(host, modules):
    host.publish({1: modules["lp_level_1"], 2: modules["lp_stacked"]})
    assert host.to_level(1)["result"] is True
    refused(host, "state", "not cumulative", level=2, reason="a test")


def test_the_same_name_with_other_content(host, kernel, modules):
    other = livepatches.build(kernel, livepatches.replace(livepatches.made_for(kernel), variant="other"))
    host.publish({1: modules["lp_level_1"]})
    host.guest.put("/root/other.ko", other["lp_level_1"].read_bytes())
    host.guest.exec("insmod /root/other.ko", check=True)
    host.ask("wait", timeout=60)
    refused(host, "conflict", "another module of that name")


def test_refused_by_the_kernel_itself(host, modules):
    """What no preflight can know: the module's own init gives up. The log and errno become one sentence."""
    host.publish({1: modules["lp_init_fails"]})
    with unchanged(host):
        done = host.to_level(1)
    assert (done["result"], done["errno"]) == (False, "ENODEV")


# -- approvals and catalog --------------------------------------------------------------------------------


def test_approvals_that_let_nothing_move(host, modules):
    host.publish({1: modules["lp_level_1"], 2: modules["lp_level_2"]})
    refused(host, "unapproved", "no approval", approval=None)
    refused(host, "unapproved", "could not be had", approval={"error": "ledger not readable"})
    refused(
        host,
        "unapproved",
        "names no level",
        approval={**host.approval(1, 1, modules["lp_level_1"]), "builds": {}},
    )
    assert host.ask("apply", approval=host.approval(7, 2, modules["lp_level_2"]))["result"] is True
    refused(host, "superseded", "rev 6", approval=host.approval(6, 1, modules["lp_level_1"]))
    refused(host, "superseded", "same rev", approval=host.approval(7, 1, modules["lp_level_1"]))
    foreign = host.approval(8, 1, modules["lp_level_1"], ledger="another")
    refused(host, "foreign-ledger", "adopt_ledger", approval=foreign)
    assert host.ask("adopt_ledger", ledger="another", reason="a test")["result"] is True
    assert host.ask("apply", approval=foreign)["result"] is True


def test_an_approval_that_could_not_be_carried_out_still_outranks_older_ones(host, modules):
    host.publish({1: modules["lp_level_1"], 2: modules["lp_missing_symbol"]})
    refused(host, "symbol", approval=host.approval(9, 2, modules["lp_missing_symbol"]))
    refused(host, "superseded", "rev 8", approval=host.approval(8, 1, modules["lp_level_1"]))


def test_catalogs_that_cannot_be_used(host, modules):
    refused(host, "uncovered", "no catalog")
    host.publish_text("levels: [")
    refused(host, "catalog", "YAML")
    host.publish({1: modules["lp_level_1"]})
    refused(host, "catalog", "no level 2", level=2, reason="a test")
    host.publish({1: modules["lp_level_1"]}, level1={"status": "blocked", "reason": "crashes hosts"})
    refused(host, "blocked", "crashes hosts")
    host.publish({1: modules["lp_level_1"]}, level1={"module": "gone.ko"})
    refused(host, "catalog", "no such file")
    host.build_id = "f" * 40
    host.publish({1: modules["lp_level_1"]})
    refused(host, "uncovered", "covers 1 kernel builds")


# -- the host ---------------------------------------------------------------------------------------------


def test_not_root(host, modules):
    host.publish({1: modules["lp_level_1"]})
    host.words("status")
    settings = {"state_dir": "/tmp/nobody", "run_dir": "/tmp/nobody"}
    words = host.words("apply", level=1, reason="a test", settings=settings)
    host.guest.exec("chmod 711 /root; chmod -R a+rX /root/lib /root/driver.py /srv", check=True)
    done = host.result(
        host.guest.spawn(["setpriv", "--reuid=65534", "--clear-groups", "python3", "/root/driver.py", *words])
    )
    assert (done["result"], done["kind"], host.patches()) == (False, "privilege", [])


def test_two_applies_at_once(start, modules):
    """Both ask for the same level: one moves the host, the other is told who does; neither does it twice."""
    host = start(Machine(smp=2))
    host.publish({1: modules["lp_level_1"]})
    both = [host.begin("apply", level=1, reason="a test") for _ in range(2)]
    ended = [host.result(one) for one in both]
    busy = [one for one in ended if one["result"] is False]
    assert len(host.ask("history")) == 1
    assert all(one["kind"] == "busy" and "process" in one["comment"] for one in busy)
    assert host.status()["level"] == 1


def test_a_full_disk_stops_it_before_the_kernel_is_touched(host, modules):
    host.publish({1: modules["lp_level_1"]})
    host.guest.exec(
        "mkdir -p /var/lib/livepatch && mount -t tmpfs -o size=4k tmpfs /var/lib/livepatch", check=True
    )
    host.guest.exec("dd if=/dev/zero of=/var/lib/livepatch/full bs=4k count=1", check=True)
    done = host.to_level(1)
    assert (done["result"], done["kind"], host.patches()) == (False, "journal", [])
    host.guest.exec("rm /var/lib/livepatch/full", check=True)
