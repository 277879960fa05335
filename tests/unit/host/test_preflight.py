"""Every check of preflight: passes, fails, warns, and is inconclusive where something could not be read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from livepatch_core.errors import LivepatchError
from livepatch_core.host import preflight
from livepatch_core.host.checks.check import Check
from livepatch_core.host.facts import Facts, TargetModule
from livepatch_core.host.preflight import OVERRIDABLE, Subject, examine, refusal
from livepatch_core.host.record import Forced, Loaded, Record
from livepatch_core.kernel.conflicts import Conflicts, FtraceUser, Kprobe
from livepatch_core.kernel.environment import Environment
from livepatch_core.kernel.identity import Identity
from livepatch_core.kernel.modules import Module
from livepatch_core.kernel.patches import Patch
from livepatch_core.kernel.running import Kernel
from livepatch_core.modulefile.model import Function, PatchedObject, Signature, State
from livepatch_core.words import CheckVerdict, Kind
from tests.unit.host.fakekernel import BUILD_ID, FUNCTION, RELEASE, module

PASS, FAIL, WARN, OPEN = CheckVerdict.PASS, CheckVerdict.FAIL, CheckVerdict.WARN, CheckVerdict.INCONCLUSIVE
BOOT = "boot-1"
FLAGS = "SMP preempt mod_unload modversions"
ENVIRONMENT = Environment(True, True, False, "none", True, False, 10, 0, 2, 100, "", ())
KERNEL = Kernel(Identity(RELEASE, "#1", "x86_64", BUILD_ID, BOOT), ENVIRONMENT, (), {}, True)
FACTS = Facts(
    KERNEL,
    {},
    frozenset(),
    {("vmlinux", FUNCTION): 1},
    frozenset(),
    Conflicts((), ()),
    None,
    FLAGS,
    None,
    Record(),
)
IN_FORCE = Patch("old", True, False, True, None, ())
OLD = Loaded("old", 1, "", "cc", BOOT, "", (), True, states=((7, 2),))
NFS = PatchedObject("nfs", (Function("nfs_read", 0),))
SIGNED = Signature("Debian", "aa", "sha256", "PKCS#7")
BPF = "direct-->bpf_trampoline_6442508684+0x0/0x1000"
USER = FtraceUser(FUNCTION, None, 1, True, False, "")


def environment(**changes: Any) -> Facts:
    return replace(FACTS, kernel=replace(KERNEL, environment=replace(ENVIRONMENT, **changes)))


def kernel(**changes: Any) -> Facts:
    return replace(FACTS, kernel=replace(KERNEL, **changes))


def identity(**changes: Any) -> Facts:
    return kernel(identity=replace(KERNEL.identity, **changes))


def target(
    loaded: bool, build_id: str | None, *, file: bool = True, error: str = "", count: int | None = 1
) -> Facts:
    found = TargetModule("nfs", loaded, build_id, Path("nfs.ko") if file else None, error)
    positions = {} if count is None else {("nfs", "nfs_read"): count}
    return replace(FACTS, targets={"nfs": found}, positions=positions)


def for_nfs(**changes: Any) -> dict[str, Any]:
    built_for = {"vmlinux": BUILD_ID, "nfs": "dd"}
    return {"objects": (NFS,), "built_for": built_for, **changes}


def named(sympos: int) -> dict[str, Any]:
    return {"objects": (PatchedObject("vmlinux", (Function(FUNCTION, sympos),)),)}


def counted(count: int | None) -> Facts:
    return replace(FACTS, positions={} if count is None else {("vmlinux", FUNCTION): count})


def leftover(taint: str, build_id: str = "ee", in_force: bool = False) -> Facts:
    loaded = Module("lp_9", "live", taint)
    patches = (replace(IN_FORCE, name="lp_9"),) if in_force else ()
    return replace(kernel(modules={"lp_9": loaded}, patches=patches), loaded_build_id=build_id)


def with_old(**changes: Any) -> Facts:
    return replace(kernel(patches=(IN_FORCE,)), **{"record": Record(loaded=(OLD,)), **changes})


CARRIES = {"states": (State(7, 2),)}

# name of the check, facts, changes of the module, verdict, whether it refuses
TABLE: list[tuple[str, Facts, dict[str, Any], CheckVerdict, bool]] = [
    ("root", FACTS, {}, PASS, False),
    ("root", kernel(root=False), {}, FAIL, True),
    ("support", FACTS, {}, PASS, False),
    ("support", environment(livepatch=False), {}, FAIL, True),
    ("support", environment(livepatch=None), {}, OPEN, True),
    ("support", environment(modules_disabled=True), {}, FAIL, True),
    ("support", environment(modules_disabled=None), {}, OPEN, False),
    ("managers", FACTS, {}, PASS, False),
    ("managers", environment(other_managers=("kernelcare",)), {}, FAIL, True),
    ("forced", FACTS, {}, PASS, False),
    ("forced", replace(FACTS, record=Record(forced=(Forced("x", "r", BOOT, ""),))), {}, FAIL, True),
    ("forced", replace(FACTS, record=Record(forced=(Forced("x", "r", "boot-0", ""),))), {}, PASS, False),
    ("transition-free", FACTS, {}, PASS, False),
    ("transition-free", kernel(patches=(replace(IN_FORCE, transition=True),)), {}, FAIL, True),
    ("transition-free", kernel(patches=(replace(IN_FORCE, transition=None),)), {}, OPEN, True),
    ("transition-free", kernel(patches=(replace(IN_FORCE, enabled=None),)), {}, OPEN, True),
    ("ftrace", FACTS, {}, PASS, False),
    ("ftrace", environment(ftrace_enabled=False), {}, FAIL, True),
    ("ftrace", environment(ftrace_enabled=None), {}, OPEN, False),
    ("reliable-stacks", FACTS, {}, PASS, False),
    ("reliable-stacks", environment(reliable_stacks=False), {}, FAIL, True),
    ("reliable-stacks", environment(reliable_stacks=None), {}, OPEN, True),
    ("panic-timeout", FACTS, {}, PASS, False),
    ("panic-timeout", environment(panic_timeout=0), {}, WARN, False),
    ("panic-timeout", environment(panic_timeout=None), {}, OPEN, False),
    ("livepatch", FACTS, {}, PASS, False),
    ("livepatch", FACTS, {"livepatch": False}, FAIL, True),
    ("livepatch", FACTS, {"objects": ()}, OPEN, True),
    ("identity", FACTS, {}, PASS, False),
    ("identity", FACTS, {"build_id": None}, FAIL, True),
    ("kernel-build", FACTS, {}, PASS, False),
    ("kernel-build", identity(build_id="ff" * 20), {}, FAIL, True),
    ("kernel-build", identity(build_id=None), {}, OPEN, True),
    ("kernel-build", FACTS, {"built_for": {}}, OPEN, True),
    ("vermagic", FACTS, {}, PASS, False),
    ("vermagic", FACTS, {"release": "6.1.0-55-amd64"}, FAIL, True),
    ("vermagic", replace(FACTS, kernel_flags="SMP mod_unload"), {}, FAIL, True),
    ("vermagic", replace(FACTS, kernel_flags=None), {}, OPEN, False),
    ("target-build", target(True, "dd"), for_nfs(), PASS, False),
    ("target-build", target(True, "d0"), for_nfs(), FAIL, True),
    ("target-build", target(True, None), for_nfs(), OPEN, True),
    ("target-build", target(True, "dd"), for_nfs(built_for={"vmlinux": BUILD_ID}), OPEN, True),
    ("target-build", target(False, "dd"), for_nfs(), PASS, False),
    ("target-build", target(False, "d0"), for_nfs(), FAIL, True),
    ("target-build", target(False, None, error="is a directory"), for_nfs(), OPEN, True),
    ("target-build", target(False, None, file=False), for_nfs(), WARN, False),
    ("symbols", FACTS, {}, PASS, False),
    ("symbols", counted(0), {}, FAIL, True),
    ("symbols", counted(2), {}, FAIL, True),  # ambiguous
    ("symbols", counted(None), {}, OPEN, True),
    ("symbols", replace(counted(None), proven=frozenset({"vmlinux"})), {}, PASS, False),
    ("symbols", replace(counted(2), proven=frozenset({"nfs"})), {}, FAIL, True),
    ("symbols", counted(2), named(2), PASS, False),
    ("symbols", counted(2), named(3), FAIL, True),
    ("symbols", target(True, "dd", count=0), for_nfs(), FAIL, True),
    ("symbols", target(False, "dd", count=0), for_nfs(), FAIL, True),  # the kernel would refuse nfs later
    ("symbols", target(False, None, file=False, count=None), for_nfs(), PASS, False),
    ("symbols", target(False, None, error="x", count=None), for_nfs(), OPEN, True),
    ("dependencies", FACTS, {}, PASS, False),
    ("dependencies", FACTS, {"depends": ("kvm-intel",)}, FAIL, True),
    ("signature", FACTS, {}, WARN, False),
    ("signature", environment(sig_enforce=True), {}, FAIL, True),
    ("signature", environment(lockdown="integrity"), {}, FAIL, True),
    ("signature", environment(sig_enforce=None), {}, OPEN, False),
    ("signature", environment(lockdown=None), {}, OPEN, False),
    ("signature", replace(FACTS, trusted=True), {"signature": SIGNED}, PASS, False),
    ("signature", replace(FACTS, trusted=False), {"signature": SIGNED}, WARN, False),
    ("signature", replace(environment(sig_enforce=True), trusted=False), {"signature": SIGNED}, FAIL, True),
    ("signature", replace(FACTS, trusted=None), {"signature": SIGNED}, OPEN, False),
    ("same-name", FACTS, {}, PASS, False),
    ("same-name", leftover("OEK"), {}, WARN, False),
    ("same-name", leftover("OE"), {}, FAIL, True),  # a driver that only has the name
    ("same-name", leftover("OEK", in_force=True), {}, FAIL, True),
    ("cumulative", FACTS, {"replace": False}, PASS, False),
    ("cumulative", with_old(), {}, PASS, False),
    ("cumulative", with_old(), {"replace": False}, FAIL, True),
    ("cumulative", with_old(), {"replace": None}, FAIL, True),
    ("cumulative", with_old(record=Record()), {}, PASS, False),
    ("takeover", FACTS, {}, PASS, False),
    ("takeover", with_old(), {}, PASS, False),
    ("takeover", with_old(foreign=("old",)), {}, OPEN, True),
    ("states", FACTS, {}, PASS, False),
    ("states", with_old(), CARRIES, PASS, False),
    ("states", with_old(), {}, FAIL, True),
    ("states", with_old(), {"states": (State(7, 1),)}, FAIL, True),
    ("states", with_old(record=Record()), {}, OPEN, False),
    ("conflicts", FACTS, {}, PASS, False),
    ("conflicts", replace(FACTS, conflicts=Conflicts(None, None)), {}, OPEN, False),
    ("conflicts", replace(FACTS, conflicts=Conflicts((USER,), ())), {}, FAIL, True),
    (
        "conflicts",  # a livepatch has the function: the mark is its own
        replace(FACTS, conflicts=Conflicts((USER,), ()), patched=frozenset({("vmlinux", FUNCTION)})),
        {},
        PASS,
        False,
    ),
    (
        "conflicts",
        replace(FACTS, conflicts=Conflicts((replace(USER, ipmodify=False, direct=True, ops=BPF),), ())),
        {},
        WARN,
        False,
    ),
    (
        "conflicts",  # direct, and no BPF: it would be bent by the patch, or bend it
        replace(FACTS, conflicts=Conflicts((replace(USER, ipmodify=False, direct=True),), ())),
        {},
        FAIL,
        True,
    ),
    (
        "conflicts",
        replace(FACTS, conflicts=Conflicts((), (Kprobe("0", "k", FUNCTION, 0, None, ()),))),
        {},
        WARN,
        False,
    ),
]


def checks_of(facts: Facts, changes: dict[str, Any], name: str, **options: Any) -> list[Check]:
    found = examine(Subject(module("lp_9", **changes)), facts, **options)
    return [check for check in found if check.name == name]


@pytest.mark.parametrize(("name", "facts", "changes", "verdict", "refuses"), TABLE)
def test_the_answer(
    name: str, facts: Facts, changes: dict[str, Any], verdict: CheckVerdict, refuses: bool
) -> None:
    (check,) = checks_of(facts, changes, name)
    assert (check.verdict, check.refuses) == (verdict, refuses), check.reason
    assert check.reason
    if verdict is FAIL:
        assert check.remedy


def test_every_check_is_in_the_table() -> None:
    found = (*examine(Subject(module("x")), FACTS), *examine(Subject(module("x")), target(True, "dd")))
    assert {row[0] for row in TABLE} == {check.name for check in found}


def test_a_sound_module_on_a_sound_kernel_is_not_refused() -> None:
    assert refusal(examine(Subject(module("lp_9")), FACTS)) is None


def test_the_site_may_demand_a_signature() -> None:
    unsigned = Subject(module("lp_9"), require_signature=True)
    (check,) = [one for one in examine(unsigned, FACTS) if one.name == "signature"]
    assert check.refuses
    signed = Subject(module("lp_9", signature=SIGNED), require_signature=True)
    (check,) = [one for one in examine(signed, FACTS) if one.name == "signature"]
    assert (check.verdict, check.refuses) == (OPEN, True)  # unknown does not do


def test_lockdown_has_its_own_kind() -> None:
    assert checks_of(environment(lockdown="integrity"), {}, "signature")[0].kind is Kind.LOCKDOWN
    assert checks_of(environment(sig_enforce=True), {}, "signature")[0].kind is Kind.SIGNATURE


def test_only_ignorance_is_overridden_and_only_by_name() -> None:
    unknown, wrong = {"built_for": {}}, identity(build_id="ff" * 20)
    (check,) = checks_of(FACTS, unknown, "kernel-build", overrides=["kernel-build"])
    assert (check.verdict, check.refuses) == (WARN, False)
    assert checks_of(FACTS, unknown, "kernel-build", overrides=["target-build"])[0].refuses
    assert checks_of(wrong, {}, "kernel-build", overrides=["kernel-build"])[0].refuses
    for name in {row[0] for row in TABLE} - OVERRIDABLE:
        with pytest.raises(LivepatchError) as caught:
            examine(Subject(module("lp_9")), FACTS, [name])
        assert caught.value.kind is Kind.ARGUMENT


def test_a_refusal_carries_its_kind_and_what_else_did_not_pass() -> None:
    checks = examine(Subject(module("lp_9", livepatch=False)), environment(panic_timeout=0))
    with pytest.raises(LivepatchError) as caught:
        preflight.refuse(checks, "lp_9")
    assert caught.value.kind is Kind.NOT_LIVEPATCH
    assert {"panic-timeout", "livepatch"} <= {check["name"] for check in caught.value.evidence["checks"]}
