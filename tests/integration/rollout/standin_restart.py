"""
A stand-in for the execution module ``livepatch_restart``, for tests only
========================================================================

It keeps what the real one keeps in the file of the stand-in for ``livepatch`` (standin.py). The boot takes a
second, and is a change of that file; drain and undrain are called.
"""

import json
import os
import time

RELEASE = "6.1.0-56-amd64"
BUILD = "00112233445566778899aabbccddeeff00112233"  # tests/unit/catalog/modules.py
AWAY = 1.0

__virtualname__ = "livepatch_restart"


def __virtual__():
    return __virtualname__


def _path():
    return os.path.join(__opts__["livepatch_standin"]["place"], "state.json")


def _state():
    with open(_path()) as stream:
        state = json.load(stream)
    restart = state.get("restart")
    if restart and restart["stage"] == "leaving" and time.time() >= state["leaves_at"]:
        state.update(boot_id="boot-2", release=RELEASE, build_id=BUILD)
        _write(state)
    return state


def _write(state):
    with open(f"{_path()}.{os.getpid()}", "w") as stream:
        json.dump(state, stream)
    os.replace(f"{_path()}.{os.getpid()}", _path())


def _answer(restart):
    said = {"result": restart["result"] is not False, "comment": restart["comment"], "restart": restart}
    if restart["result"] is False:
        __context__["retcode"] = 1
        said["kind"] = restart["kind"]
    return said


def check(method, kernel="newest", drain=None, undrain=None, **kwargs):
    answer = {"result": True, "comment": "It could.", "kernel": RELEASE, "running": _state()["release"]}
    return {**answer, "look": __salt__["livepatch.brief"](health=True)}


def leave(method, approval, kernel="newest", drain=None, undrain=None, reason="", deadline=0, **kwargs):
    state = _state()
    if state.get("restart") and state["restart"]["rev"] == approval["rev"]:
        return _answer(state["restart"])
    assert kernel in approval["builds"]
    restart = {
        "ledger_id": approval["ledger_id"],
        "rev": approval["rev"],
        "method": method,
        "kernel": kernel,
        "boot_id": state["boot_id"],
        "stage": "leaving",
        "owed": bool(undrain),
        "result": None,
        "kind": "",
        "comment": reason,
        "evidence": {},
    }
    drained = drain is None or __salt__[drain["fun"]](*drain["args"], **drain["kwargs"])
    if not drained:
        __salt__[undrain["fun"]](*undrain["args"], **undrain["kwargs"])
        restart.update(stage="done", owed=False, result=False, kind="health", comment="The drain failed.")
    state.update(restart=restart, undrain=undrain, approval=approval, leaves_at=time.time() + AWAY)
    state.update(rev=approval["rev"], ledger_id=approval["ledger_id"])
    _write(state)
    return _answer(restart)


def finish(**kwargs):
    state = _state()
    restart, undrain = state["restart"], state["undrain"]
    if restart["stage"] != "done":
        if restart["owed"]:
            __salt__[undrain["fun"]](*undrain["args"], **undrain["kwargs"])
        evidence = {"release": RELEASE, "boot_id": state["boot_id"], "as_asked": True, "away": AWAY}
        restart.update(stage="done", owed=False, result=True, comment="It is back.", evidence=evidence)
        state["level"] = state["approval"]["builds"][state["build_id"]]["level"]
        _write(state)
    return {**_answer(restart), "look": __salt__["livepatch.brief"](health=True)}
