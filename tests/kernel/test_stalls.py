"""Transitions that do not end by themselves: who holds them up, and what becomes of them."""

from __future__ import annotations

import pytest

from tests.kernel.patchable import Patchable

# The kernel sends its fake signal after 15 rounds of a second; a deadline below that is a stall before it.
SHORT = {"deadline": 2, "reversal_deadline": 2, "patience": 2}
LONG = {"deadline": 40}
SLEEPERS = """
import os, threading, time
reader = open("/proc/lab_stall/{file}")
def sleep():
    print(threading.get_native_id(), flush=True)
    print(reader.read(), flush=True)
threads = [threading.Thread(target=threading.Event().wait, args=(600,), daemon=True) for _ in range({others})]
for thread in threads: thread.start()
sleeper = threading.Thread(target=sleep)
sleeper.start()
sleeper.join()
os._exit(0)
"""


@pytest.fixture
def stalling(start, modules) -> Patchable:
    """lab_stall is loaded, and level 1 patches the functions that its readers sleep in."""
    host = start()
    bring_stall(host, modules)
    return host


def bring_stall(host: Patchable, modules, parameters: str = "") -> None:
    host.guest.put("/root/lab_stall.ko", modules["lab_stall"].read_bytes())
    host.guest.exec(f"insmod /root/lab_stall.ko {parameters}", check=True)
    host.publish({1: modules["lp_stall"], 2: modules["lp_level_1"]})


def sleeper(host: Patchable, file: str, others: int = 0):
    """A thread asleep in the function behind /proc/lab_stall/<file>, and ``others`` that do nothing."""
    process = host.guest.spawn_python(SLEEPERS.format(file=file, others=others))
    host.guest.exec(
        f"until grep -lqs lab_stall_{file}_show /proc/{process.pid}/task/*/stack; do sleep 0.05; done",
        timeout=60,
        check=True,
    )
    return process


def let_go(host: Patchable) -> None:
    host.guest.exec("echo 1 > /proc/lab_stall/go", check=True)


def test_among_500_threads_exactly_the_right_one_is_named_and_reversed(stalling):
    process = sleeper(stalling, "u", others=500)
    tid = int(
        stalling.guest.exec(f"grep -ls lab_stall_u_show /proc/{process.pid}/task/*/stack").text.split("/")[4]
    )

    done = stalling.to_level(1, settings=SHORT)

    assert (done["result"], done["kind"], done["ending"], done["changes"]) == (
        False,
        "reversed",
        "reversed",
        {},
    )
    [straggler] = done["stragglers"]
    assert (straggler["tid"], straggler["pid"]) == (tid, process.pid)
    assert (straggler["function"], straggler["reason"]) == ("lab_stall_u_show", "sleeping-in")
    assert str(tid) in done["comment"]
    assert "lab_stall_u_show" in done["comment"]
    assert stalling.status()["verdict"] == "unpatched"
    assert "lp_stall" not in stalling.modules()
    [entry] = stalling.ask("history")
    assert (entry["act"], entry["ending"]) == ("load", "reversed")
    let_go(stalling)
    assert process.wait(30).text.endswith("u old")
    assert stalling.to_level(1)["result"] is True


def test_an_interruptible_sleeper_switches_at_the_fake_signal(stalling):
    process = sleeper(stalling, "i")
    done = stalling.to_level(1, settings=LONG)
    assert done["result"] is True, done
    assert 14 < done["seconds"] < 40
    assert any("signaling remaining tasks" in line for line in stalling.ask("history")[0]["log"])
    assert process.wait(30).text.endswith("i new")  # restarted, in the new function


def test_an_act_that_sleeps_in_what_it_patches_does_not_hold_itself_up(host, modules):
    """Each of its sleeps ends, and it switches on its way back to its program. Whoever sleeps on is named."""
    host.publish({1: modules["lp_nanosleep"]})
    process = host.guest.spawn(["sleep", "600"])
    # Functions of the scheduler's section are left out there (kernel/stacktrace.c): the one below is shown.
    asleep = f"until grep -qs hrtimer_nanosleep /proc/{process.pid}/stack; do sleep 0.05; done"
    host.guest.exec(asleep, timeout=60, check=True)
    done = host.to_level(1, settings=SHORT)
    assert (done["kind"], [one["pid"] for one in done["stragglers"]]) == ("reversed", [process.pid])
    assert done["stragglers"][0]["function"] == "do_nanosleep"
    process.kill()
    done = host.to_level(1, settings=SHORT)
    assert done["result"] is True, done


def test_a_killable_sleeper_switches_when_it_is_killed(stalling):
    process = sleeper(stalling, "k")
    begun = stalling.begin("apply", level=1, reason="a test", settings=LONG)
    stalling.until_patching("lp_stall")
    process.kill()
    assert stalling.result(begun)["result"] is True


def test_a_kernel_thread_is_named_as_one(start, modules):
    host = start()
    bring_stall(host, modules, "kthread=1")
    done = host.to_level(1, settings=SHORT)
    assert done["kind"] == "reversed"
    [straggler] = done["stragglers"]
    assert (straggler["kind"], straggler["comm"], straggler["function"]) == (
        "kthread",
        "lab_stall",
        "lab_stall_loop",
    )
    begun = host.begin("apply", level=1, reason="a test", settings=LONG)
    host.until_patching("lp_stall")
    let_go(host)
    assert host.result(begun)["result"] is True


def test_keep_leaves_it_in_transition_and_others_are_told_whose_it_is(stalling):
    process = sleeper(stalling, "u")
    kept = stalling.to_level(1, settings=SHORT, on_stall="keep")
    assert (kept["result"], kept["kind"], kept["ending"]) == (False, "stalled", "in-transition")
    assert "left running" in kept["comment"]

    status = stalling.status()
    assert (status["verdict"], status["level"], status["fixes"]) == ("patching", None, [])
    assert status["stragglers"][0]["function"] == "lab_stall_u_show"
    assert stalling.ask("status", settings={"deadline": 0.01})["verdict"] == "stalled"
    busy = stalling.to_level(2)
    assert (busy["kind"], busy["holder"], busy["changes"]) == ("busy", "lp_stall", {})
    assert "lp_stall" in busy["comment"]
    assert stalling.ask("wait", timeout=1)["kind"] == "stalled"

    let_go(stalling)
    assert stalling.ask("wait", timeout=60)["result"] is True
    process.wait(30)
    assert (stalling.status()["verdict"], stalling.status()["level"]) == ("patched", 1)
    assert stalling.to_level(1)["changes"] == {}


def test_revert_reverses_what_keep_left_running(stalling):
    process = sleeper(stalling, "u")
    stalling.to_level(1, settings=SHORT, on_stall="keep")
    predicted = stalling.ask("revert", reason="a test", test=True)
    reversed_ = stalling.ask("revert", reason="a test")
    assert (reversed_["result"], reversed_["changes"]) == (True, predicted["changes"])
    assert stalling.status()["verdict"] == "unpatched"
    assert [(one["act"], one["ending"]) for one in stalling.ask("history")] == [
        ("load", "in-transition"),
        ("reverse", "complete"),
    ]
    let_go(stalling)
    process.wait(30)


def test_wait_sees_it_through_when_it_ends_in_time(stalling):
    process = sleeper(stalling, "u")
    begun = stalling.begin(
        "apply", level=1, reason="a test", on_stall="wait", settings={"deadline": 1, "patience": 60}
    )
    stalling.until_patching("lp_stall", seconds=2)
    let_go(stalling)
    done = stalling.result(begun)
    assert done["result"] is True
    assert done["stragglers"][0]["function"] == "lab_stall_u_show"
    process.wait(30)


def test_a_reversal_with_a_sleeper_in_the_new_code_stalls_too(stalling):
    """One thread asleep in the old code holds the patch up, one in the new code the reversal."""
    old = sleeper(stalling, "u")
    begun = stalling.begin(
        "apply", level=1, reason="a test", settings={"deadline": 6, "reversal_deadline": 2}
    )
    stalling.until_patching("lp_stall")
    stalling.guest.exec("echo 1 > /sys/module/lp_stall/parameters/hold", check=True)
    new = stalling.guest.spawn(["cat", "/proc/lab_stall/k"])
    done = stalling.result(begun)

    assert (done["result"], done["kind"], done["ending"]) == (False, "reverse-stalled", "reverse-stalled")
    assert [one["pid"] for one in done["stragglers"]] == [new.pid]
    assert "still in transition" in done["comment"]
    assert stalling.status()["verdict"] == "reverting"
    stalling.guest.exec("echo 0 > /sys/module/lp_stall/parameters/hold", check=True)
    assert new.wait(30).text == "k new"
    assert stalling.ask("wait", timeout=60)["result"] is True
    let_go(stalling)
    old.wait(30)
    assert stalling.to_level(1)["result"] is True  # also takes out the module that the reversal left


def test_a_stall_that_no_visible_task_causes_is_said_as_such(start, modules):
    """The scan does not see the thread, as in a container or under hidepid; the kernel waits for it."""
    host = start()
    bring_stall(host, modules)
    process = sleeper(host, "u")
    found = host.guest.exec(f"grep -ls lab_stall_u_show /proc/{process.pid}/task/*/stack", check=True).text
    sleeping = int(found.split("/")[4])
    hidden = ["unshare", "--pid", "--fork", "--mount-proc", "python3", "/root/driver.py"]
    done = host.result(
        host.guest.spawn([*hidden, *host.words("apply", level=1, reason="a test", settings=SHORT)])
    )
    assert (done["kind"], done["stragglers"]) == ("reversed", [])
    assert "No visible task holds it up" in done["comment"]
    assert [one["tid"] for one in done["unseen"]] == [sleeping]  # but the kernel itself names it
    let_go(host)
    process.wait(30)
