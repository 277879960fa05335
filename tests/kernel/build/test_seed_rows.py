"""What Ksplice could do and what kGraft promised, with this project (docs/comparison.md lists the rest)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lab.kernels import Kernel
from lab.machine import Machine
from livepatch_core.build.builder import Built, Options, build
from livepatch_core.build.refusals import Refusal, Refused
from livepatch_core.build.target import Target
from livepatch_core.build.tree import source_view
from tests.kernel.build.edits import Edits, diff
from tests.kernel.build.test_effects import EXAMPLES
from tests.kernel.patchable import Patchable
from tests.kernel.test_stalls import bring_stall, let_go, sleeper

Make = Callable[..., Built]
Start = Callable[..., Patchable]

# The developer's own code looks whether the fix may go in, and says no.
VETO: Edits = {
    "fs/proc/version.c": [
        (
            "static int version_proc_show",
            "#include <livepatch/hooks.h>\nstatic int lp_veto(struct klp_object *object)\n{\n"
            "\treturn -EBUSY;\n}\nLIVEPATCH_PRE_PATCH(lp_veto);\n\nstatic int version_proc_show",
        ),
        (
            "\tseq_printf(m, linux_proc_banner",
            '\tseq_puts(m, "patched ");\n\tseq_printf(m, linux_proc_banner',
        ),
    ]
}
# Calls the function without pause, once this task has switched; what it says and how often. The file
# `transition` says 1 before any task can switch: klp_init_transition() names the patch, and
# klp_start_transition() comes after all functions are hooked, which takes an emulated processor long enough
# for a caller to begin in the old function.
CALLER = """
import json, time
while True:
    with open("/proc/self/patch_state") as state:
        if int(state.read()) == 1:
            break
    time.sleep(0.02)
said = {}
while sum(said.values()) < 500:
    with open("/proc/lab_stall/u") as file:
        answer = file.read().strip()
    said[answer] = said.get(answer, 0) + 1
with open("/sys/kernel/livepatch/lp_stall/transition") as moving:
    print(json.dumps({"said": said, "moving": int(moving.read())}))
"""


def written_to(folder: Path, built: Built) -> Path:
    path = folder / f"{built.manifest.name}.ko"
    path.write_bytes(built.module or b"")
    return path


def test_ksplice_create_apply_view_undo(host: Patchable, make: Make, tmp_path: Path) -> None:
    text = (EXAMPLES / "meminfo-1.patch").read_text(encoding="utf-8")
    host.publish({1: written_to(tmp_path, make("livepatch_1", [text], level=1))})
    assert host.to_level(1)["result"] is True
    status = host.status()
    assert (status["verdict"], status["level"], status["fixes"]) == ("patched", 1, ["CVE-2026-0001"])
    assert status["in_force"] == {"vmlinux": {"meminfo_proc_show,1": "livepatch_1"}}
    assert "LivepatchLevel:" in host.guest.exec("cat /proc/meminfo").text
    assert host.ask("revert", reason="a test")["result"] is True
    assert host.status()["verdict"] == "unpatched"
    assert "LivepatchLevel:" not in host.guest.exec("cat /proc/meminfo").text
    undone = host.ask("revert", reason="a test")  # Ksplice: already_reversed
    assert (undone["result"], undone["changes"]) == (True, {})


def test_ksplice_running_code_that_the_source_does_not_give(
    kernel: Kernel, target_of: Callable[[Kernel], Target], cache: Path, tmp_path: Path
) -> None:
    """Run-pre matching, Ksplice: no_match. The kernel was built from a source with a smaller array."""
    target, file = target_of(kernel), "fs/proc/meminfo.c"
    text = (target.source / file).read_text(encoding="utf-8")
    array = "unsigned long pages[NR_LRU_LISTS];"
    assert text.count(array) == 1
    source_view(target.source, tmp_path / "source", {file: text.replace(array, array.replace("]", " + 1]"))})
    other = replace(target, source=tmp_path / "source")
    fix = (EXAMPLES / "meminfo-1.patch").read_text(encoding="utf-8")
    with pytest.raises(Refused) as caught:
        build(other, [fix], Options("lp_no_match", cache=cache), scratch=cache / "scratch")
    assert (caught.value.refusal, caught.value.function) == (Refusal.IMAGE_DIFFERS, "meminfo_proc_show")


def test_ksplice_code_of_the_developer_can_refuse(
    host: Patchable, make: Make, target_of: Callable[..., Target], tmp_path: Path
) -> None:
    """Ksplice: call_failed."""
    text = diff(target_of(host.guest.kernel).source, VETO)
    host.publish({1: written_to(tmp_path, make("livepatch_1", [text], level=1))})
    done = host.to_level(1)
    assert (done["result"], done["kind"], done["changes"]) == (False, "state", {}), done
    assert (host.patches(), "livepatch_1" in host.modules()) == ([], False)
    assert not host.guest.exec("cat /proc/version").text.startswith("patched ")


def test_kgraft_each_task_by_itself(start: Start, modules: dict[str, Path]) -> None:
    """A sleeper goes on in the old function for as long as it sleeps; a busy caller uses the new one
    meanwhile, without being stopped."""
    host = start(Machine(smp=2))
    bring_stall(host, modules)
    asleep = sleeper(host, "u")
    patience = {"deadline": 2, "patience": 120}
    begun = host.begin("apply", level=1, reason="a test", on_stall="wait", settings=patience)
    host.until_patching("lp_stall")

    seen = json.loads(host.guest.spawn_python(CALLER).wait(120).stdout)

    assert seen == {"said": {"u new": 500}, "moving": 1}
    state = host.guest.exec(f"cat /proc/{asleep.pid}/task/*/patch_state", check=True).text.split()
    assert "0" in state, "the sleeper has not switched"
    let_go(host)
    assert asleep.wait(60).text.endswith("u old"), "what began in the old function ended in it"
    assert host.result(begun)["result"] is True
    assert (host.status()["verdict"], host.status()["level"]) == ("patched", 1)
