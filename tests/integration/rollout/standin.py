"""
A stand-in for the execution module ``livepatch``, for tests only
=================================================================

It is synced to minions of the integration tests, whose kernel (the machine's own) is nobody's to patch. It
answers as the real one does and keeps what the real one would in the kernel and beside it in one file under
``livepatch_standin:place`` of the minion's configuration; a file ``behaviour`` there, one word, says how the
next acts end.
"""

import json
import os
import time

from livepatch_core.host import calls

__virtualname__ = "livepatch"
BUILD = "00112233445566778899aabbccddeeff00112233"  # tests/unit/catalog/modules.py
RELEASE = "6.1.0-56-amd64"


def __virtual__():
    return __virtualname__


def _place():
    return __opts__["livepatch_standin"]["place"]


def _read(name, default):
    try:
        with open(os.path.join(_place(), name)) as stream:
            return json.load(stream)
    except FileNotFoundError:
        return default


def _write(name, value):
    path = os.path.join(_place(), name)
    with open(f"{path}.{os.getpid()}", "w") as stream:
        json.dump(value, stream)
    os.replace(f"{path}.{os.getpid()}", path)
    with open(os.path.join(_place(), "trace"), "a") as stream:  # for people, where a test fails
        stream.write(f"{time.time():.3f} {os.getpid()} {name} {json.dumps(value)}\n")


def _state():
    return _read("state.json", {"level": 0, "rev": 0, "ledger_id": "", "boot_id": "boot-1", "last": {}})


def _behaviour():
    return _read("behaviour.json", "well")


def _log(line):
    """What reached this minion, one line each: tests compare it."""
    with open(os.path.join(_place(), "log"), "a") as stream:
        stream.write(json.dumps(line) + "\n")


def brief(health=False, grains=None, kernel=None, **kwargs):
    """As the real one; ``health`` is what ``behaviour`` says."""
    state = _state()
    level = state["level"]
    answer = {
        "verdict": "patched" if level else "unpatched",
        "comment": "a stand-in",
        "flags": [],
        "level": level,
        "boot_id": state["boot_id"],
        "drift": [],
        "warded": [],
        "boot_is_news": False,
        "release": state.get("release", RELEASE),
        "build_id": state.get("build_id", BUILD),
        "restart": state.get("restart"),
        "ledger_id": state["ledger_id"],
        "rev": state["rev"],
        "last": state["last"],
        "version": __opts__["livepatch_standin"].get("version", "0.1.0"),
    }
    if health:
        bad = _behaviour() == "ill" and level
        finding = {"name": "stand-in", "verdict": "fail" if bad else "pass", "reason": _behaviour()}
        answer["health"] = {"verdict": finding["verdict"], "findings": [finding]}
    if kernel:
        answer["kernel"] = {"release": RELEASE}
    if grains:
        answer["grains"] = {name: __grains__.get(name) for name in grains}
    return answer


def stage(builds=None, payloads=None, spread=0, **kwargs):
    """Fetches nothing."""
    _log(["stage", builds[BUILD]["level"], sorted(payloads or {})])
    if _behaviour() == "mute":
        time.sleep(3600)
    return {"result": True, "comment": "Staged.", "look": brief(health=True)}


def apply(approval=None, **kwargs):
    """Goes where the approval says, in a moment; or ends as ``behaviour`` says. Notes in whose job."""
    approval = approval or __pillar__["livepatch"]["approval"]
    _write("who.json", calls.who(kwargs, __opts__))
    state = _state()
    rev, wanted = approval["rev"], approval["builds"][BUILD]["level"]
    _log(["apply", rev, wanted])
    if rev < state["rev"]:
        __context__["retcode"] = 1
        return {"result": False, "comment": "Superseded.", "changes": {}, "kind": "superseded"}
    state.update(rev=rev, ledger_id=approval["ledger_id"])
    _write("state.json", state)
    behaviour, old = _behaviour(), state["level"]
    time.sleep(float(__opts__["livepatch_standin"].get("seconds", 0)))
    if wanted and behaviour in ("health", "reversed", "garbage"):
        return _bad(behaviour, state)
    state["level"] = wanted
    changes = {"level": {"old": old, "new": wanted}} if old != wanted else {}
    outcome = {"result": True, "kind": "", "comment": f"At level {wanted}."}
    state["last"] = {"rev": rev, **outcome, "level": changes.get("level", {})}
    _write("state.json", state)
    if wanted and behaviour == "forgets":  # the act is done, its return never comes
        time.sleep(3600)
    return {"result": True, "comment": outcome["comment"], "changes": changes}


def _bad(behaviour, state):
    if behaviour == "garbage":
        return ["garbage"]
    __context__["retcode"] = 1
    outcome = {"result": False, "kind": behaviour, "comment": "It did not go well, and was undone."}
    state["last"] = {"rev": state["rev"], **outcome, "level": {}}
    _write("state.json", state)
    return {"result": False, "comment": outcome["comment"], "changes": {}, "kind": behaviour}


def health(**kwargs):
    """As in ``brief``."""
    return brief(health=True)["health"]


def status(**kwargs):
    """As the real one, as far as reboot debt goes: ``behaviour`` is ``forced`` where a patch was forced."""
    forced = _behaviour() == "forced"
    why = ["patch livepatch_1 was forced: ticket 42"] if forced else []
    return {
        "verdict": brief()["verdict"],
        "reason": "a stand-in",
        "level": _state()["level"],
        "kernel": {"release": RELEASE, "build_id": BUILD},
        "fixes": [],
        "patches": [],
        "providers": [],
        "reboot": {"owed": forced, "why": why, "since": "2026-11-01T10:00:00Z" if forced else None},
    }
