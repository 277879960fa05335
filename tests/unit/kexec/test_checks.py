"""Which answer each check gives: one fact changed at a time, from a host on which all pass."""

from __future__ import annotations

import dataclasses
import errno
from pathlib import Path
from typing import Any

import pytest

from livepatch_core.errors import LivepatchError
from livepatch_core.kexec import checks
from livepatch_core.kexec.explain import explain_load
from livepatch_core.kexec.facts import Files, Machine
from livepatch_core.kexec.image import Image
from livepatch_core.modulefile.model import Signature
from livepatch_core.words import CheckVerdict, Kind

RELEASE = "6.1.0-57-amd64"
SIGNER = Signature("Debian Secure Boot CA", "01", "sha256", "PKCS#7", "aa")
MACHINE = Machine(
    root=True,
    machine="x86_64",
    release="6.1.0-56-amd64",
    boot_id="b",
    cmdline="quiet",
    lockdown="none",
    file_load=True,
    disabled=False,
    limit=-1,
    loaded=False,
    crash_loaded=False,
    available=2**30,
    sig_force=False,
    systemd=True,
    tool=True,
)
IMAGE = Image(8 * 2**20, RELEASE, 2**25, 2047, True, SIGNER)
FILES = Files(RELEASE, Path("/boot/v"), Path("/boot/i"), IMAGE, "aa", "bb", 4 * 2**20, True, True, True)
READY = checks.Ready(MACHINE, FILES, "quiet", None)


def changed(ready: checks.Ready = READY, **facts: Any) -> checks.Ready:
    """The same with facts of the machine, the files, the image or the question replaced, by their names."""
    parts = {"machine": ready.machine, "files": ready.files}
    for name, value in facts.items():
        if name in vars(IMAGE):
            described = dataclasses.replace(parts["files"].described, **{name: value})
            parts["files"] = dataclasses.replace(parts["files"], described=described)
            continue
        for part in parts:
            if name in vars(parts[part]) and not (name == "release" and part == "machine"):
                parts[part] = dataclasses.replace(parts[part], **{name: value})
    rest = {name: value for name, value in facts.items() if name in ("cmdline", "loaded_by", "no_initrd")}
    return dataclasses.replace(ready, **parts, **rest)


def answers(ready: checks.Ready, *overrides: str) -> dict[str, checks.Check]:
    return {check.name: check for check in checks.examine(ready, overrides)}


def test_all_pass() -> None:
    assert {check.verdict for check in checks.examine(READY)} == {CheckVerdict.PASS}
    assert len(answers(READY)) == len(checks.examine(READY)), "each has a name of its own"


@pytest.mark.parametrize(
    ("facts", "name", "kind"),
    [
        ({"root": False}, "root", Kind.PRIVILEGE),
        ({"file_load": False}, "kexec-support", Kind.UNSUPPORTED),
        ({"disabled": True}, "kexec-disabled", Kind.FORBIDDEN),
        ({"limit": 0}, "kexec-disabled", Kind.FORBIDDEN),
        ({"loaded_by": "other"}, "image-loaded", Kind.CONFLICT),
        ({"unified": True, "problem": "is unified"}, "image", Kind.UNSUPPORTED),
        ({"problem": "is a song"}, "image", Kind.UNSUPPORTED),
        ({"error": "gone"}, "image", Kind.DEPENDENCY),
        ({"initrd": None}, "initrd", Kind.DEPENDENCY),
        ({"modules": False}, "modules", Kind.DEPENDENCY),
        ({"lockdown": "integrity", "trusted": False}, "signature", Kind.LOCKDOWN),
        ({"lockdown": "integrity", "signed": False}, "signature", Kind.LOCKDOWN),
        ({"sig_force": True, "trusted": False}, "signature", Kind.SIGNATURE),
        ({"cmdline": "x" * 2048}, "command-line", Kind.ARGUMENT),
        ({"cmdline": "a\nb"}, "command-line", Kind.ARGUMENT),
        ({"cmdline": ""}, "command-line", Kind.ARGUMENT),
        ({"available": 55 * 2**20}, "memory", Kind.HEALTH),
        ({"livepatch": False}, "livepatch-support", Kind.UNSUPPORTED),
    ],
)
def test_refused(facts: dict[str, Any], name: str, kind: Kind) -> None:
    ready = changed(**facts)
    refusing = [check for check in checks.examine(ready) if check.refuses]
    assert [(check.name, check.kind) for check in refusing] == [(name, kind)]
    assert refusing[0].remedy
    with pytest.raises(LivepatchError) as caught:
        checks.refuse(checks.examine(ready), "Loading it")
    assert (caught.value.kind, caught.value.evidence["check"]) == (kind, name)
    if name in checks.OVERRIDABLE:
        assert answers(ready, name)[name].verdict is CheckVerdict.WARN


def test_a_signature_that_is_not_looked_into_is_the_kernels_to_judge() -> None:
    """arm64, ppc64le and s390x under lockdown were always refused."""
    for demand in ({"lockdown": "integrity"}, {"sig_force": True}):
        ready = changed(machine="aarch64", signed=None, signature=None, trusted=None, **demand)
        answer = answers(ready)["signature"]
        assert (answer.verdict, answer.refuses) == (CheckVerdict.INCONCLUSIVE, False)
        assert "aarch64" in answer.reason


def test_another_kernel_in_the_file() -> None:
    described = dataclasses.replace(IMAGE, release="6.1.0-9-amd64")
    ready = dataclasses.replace(READY, files=dataclasses.replace(FILES, described=described))
    assert answers(ready)["image-release"].refuses


@pytest.mark.parametrize(
    ("facts", "name", "verdict"),
    [
        ({"file_load": None}, "kexec-support", CheckVerdict.INCONCLUSIVE),
        ({"disabled": None}, "kexec-disabled", CheckVerdict.INCONCLUSIVE),
        ({"lockdown": None}, "signature", CheckVerdict.INCONCLUSIVE),
        ({"lockdown": "integrity", "trusted": None}, "signature", CheckVerdict.INCONCLUSIVE),
        ({"lockdown": "integrity"}, "signature", CheckVerdict.PASS),
        ({"available": None}, "memory", CheckVerdict.INCONCLUSIVE),
        ({"available": 56 * 2**20}, "memory", CheckVerdict.PASS),
        ({"livepatch": None}, "livepatch-support", CheckVerdict.WARN),
        ({"tool": False}, "shutdown-tool", CheckVerdict.WARN),
        ({"initrd": None, "no_initrd": True}, "initrd", CheckVerdict.WARN),
        ({"loaded_by": "us"}, "image-loaded", CheckVerdict.PASS),
        ({"crash_loaded": True}, "crash-kernel", CheckVerdict.PASS),
    ],
)
def test_said_and_not_refused(facts: dict[str, Any], name: str, verdict: CheckVerdict) -> None:
    check = answers(changed(**facts))[name]
    assert (check.verdict, check.refuses) == (verdict, False)


def test_nothing_to_override() -> None:
    with pytest.raises(LivepatchError, match="nothing to override by the name of signature"):
        checks.examine(READY, ["signature"])


@pytest.mark.parametrize(
    ("code", "lockdown", "kind"),
    [
        (errno.EPERM, "integrity", Kind.LOCKDOWN),
        (errno.EPERM, "none", Kind.FORBIDDEN),
        (errno.EKEYREJECTED, "none", Kind.SIGNATURE),
        (errno.ENOEXEC, "none", Kind.UNSUPPORTED),
        (errno.EBUSY, "none", Kind.BUSY),
        (errno.ENOMEM, "none", Kind.HEALTH),
        (errno.EXDEV, "none", Kind.INTERNAL),
    ],
)
def test_what_the_kernel_said(code: int, lockdown: str, kind: Kind) -> None:
    said = explain_load(OSError(code, "x"), RELEASE, dataclasses.replace(MACHINE, lockdown=lockdown))
    assert said.kind is kind
    assert RELEASE in said.message and "as it was" in said.message and said.remedy
